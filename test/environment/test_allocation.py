"""Memory that threads have freed goes back to the system."""

import subprocess
import sys

from esam_perception.environment.distro import ALLOCATION
from test.conftest import ROOT

# Eight threads, each of which frees 16 MB, in pieces small enough to come from an arena's heap, and lives on.
CODE = """
import sys, threading
from esam_perception.environment.allocation import one_arena, trim
if sys.argv[1] == "one":
    one_arena()

def anonymous():
    fields = dict(line.split(":") for line in open("/proc/self/smaps_rollup").read().splitlines()[1:])
    return int(fields["Anonymous"].split()[0]) // 1024

def work(done):
    [bytearray(16384) for _ in range(1024)]
    done.set()
    over.wait()

over, before = threading.Event(), anonymous()
for _ in range(8):
    done = threading.Event()
    threading.Thread(target=work, args=(done,)).start()
    done.wait()
trim()
print(anonymous() - before)
over.set()
"""


def left_by_threads(arenas: str, **environment: str) -> int:
    """Megabytes that are still the process' when the threads have freed theirs, under the demo's and launch's variables."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, arenas],
        cwd=ROOT, env={**ALLOCATION, **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_what_threads_free_goes_back_where_they_share_an_arena():
    # of 128; a megabyte or two is the interpreter's own, and 116 are left where each thread has an arena
    assert left_by_threads("one") < 16


def test_a_users_own_number_of_arenas_stays():
    """As if the program had not asked: to within what two of the eight threads hold."""
    assert abs(left_by_threads("one", MALLOC_ARENA_MAX="8") - left_by_threads("many", MALLOC_ARENA_MAX="8")) <= 32
