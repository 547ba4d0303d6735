"""The suite about itself: what skips may do, and what a run says of its cost, each seen on a small project of its own."""

import re

import pytest

from test.conftest import ROOT

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
from test.cpu_time import CpuTime
from test.skip_guard import Allowed, SkipGuard

ALLOWED = (
    Allowed("test_it", "no arm", "there is none", lambda: True),
    Allowed("test_it", "no GPU", "there is none", lambda: False),
    Allowed("test_other", "no leg", "there is none", lambda: True),
)

def pytest_configure(config):
    config.pluginmanager.register(SkipGuard(ALLOWED))
    config.pluginmanager.register(CpuTime())

@pytest.fixture
def gpu():
    pytest.skip("no GPU here")
"""


@pytest.fixture
def run(pytester):
    """A function that runs pytest on one module, test_it.py: (exit code, what it said)."""
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\n")

    def run(code, *arguments):
        pytester.makepyfile(test_it="import pytest\n" + code)
        result = pytester.runpytest_inprocess("-ra", "-p", "no:cacheprovider", *arguments)
        return result.ret, result.stdout.str()

    return run


def test_an_allowed_skip_passes_and_an_expected_failure_is_none(run):
    code, said = run(
        "def test_one(): pytest.skip('no arm here')\n"
        "def test_two(): pass\n"
        "@pytest.mark.xfail(reason='known')\ndef test_three(): assert 0\n"
    )
    assert code == 0 and "1 passed, 1 skipped, 1 xfailed" in said.splitlines()[-1]


def test_any_other_skip_fails_and_says_why(run):
    unknown = "is not among the allowed ones (test/allowed_skips.py)"
    tests = {
        "def test_called(): pytest.skip('no time')": unknown,
        "@pytest.mark.skip(reason='no time')\ndef test_marked(): pass": unknown,
        "@pytest.mark.skipif(True, reason='no leg')\ndef test_allowed_to_another(): pass": unknown,
        "def test_import(): pytest.importorskip('nowhere')": unknown,
        "def test_fixture(gpu): pass": "is allowed where there is none, which is not so on this machine",
    }
    code, said = run("\n".join(tests) + "\ndef test_good(): pass\n")
    assert code == 1 and "2 failed, 1 passed, 3 errors in" in said.splitlines()[-1]
    for test, why in tests.items():
        (name,) = re.findall(r"def (test_\w+)", test)
        assert f"test_it.py::{name}: this skip {why}: " in said


@pytest.mark.parametrize(
    "skip, code, last",
    [
        ("pytest.importorskip('nowhere', reason='no arm')", 5, "1 skipped in"),  # 5: pytest's "nothing was run"
        ("pytest.skip('no time', allow_module_level=True)", 2, "1 error in"),
    ],
)
def test_a_whole_module_is_judged_too(run, skip, code, last):
    found, said = run(f"{skip}\ndef test_one(): pass\n")
    assert found == code and last in said.splitlines()[-1]
    assert (code == 5) or "test_it.py: this skip is not among the allowed ones" in said


def test_the_cost_of_a_run_counts_its_children_and_its_fixtures(run):
    burn = "import time\nwhile time.process_time() < {}: pass"
    code, said = run(
        "import subprocess, sys, time\n"
        "@pytest.fixture\n"
        "def child():\n"
        f"    subprocess.run([sys.executable, '-c', {burn.format(1)!r}], check=True)\n"
        "def test_burns(child): pass\n"
        "def test_rests(): pass\n"
    )
    total, children = re.search(r"CPU time: (\d+) s, (\d+) s of it in child processes", said).groups()
    assert code == 0 and int(total) >= int(children) >= 1
    wall, cpu, name = re.search(r"([\d.]+) s \(([\d.]+) s CPU\)  (\S+)", said).groups()  # the first line: the slowest
    assert name == "test_it.py::test_burns" and float(cpu) >= 1


def test_the_default_run_leaves_out_what_is_long_and_nothing_else(run, pytester):
    """Under the project's own pytest.ini."""
    ini = "-c", str(ROOT / "pytest.ini"), "--rootdir", str(pytester.path), str(pytester.path)
    code = "@pytest.mark.long\ndef test_long(): pass\ndef test_short(): pass\n"
    for arguments, told in (
        ((), "test_short"), (("-m", "long"), "test_long"), (("-m", "long or not long"), "test_long test_short"),
    ):  # fmt: skip
        exit_code, said = run(code, "-v", *arguments, *ini)
        assert exit_code == 0 and " ".join(re.findall(r"::(\w+) PASSED", said)) == told
    assert run("@pytest.mark.lnog\ndef test_long(): pass\n", *ini)[0] == 2
