"""The numeric tests again under other instruction sets and numbers of threads, each in a process of its own: PyTorch's
kernels, oneDNN and MKL read these settings once. The suite itself runs on the machine's best, on one thread.

A setting that a library does not heed must not pass for a test of it: each process says what it really ran on.
"""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
X86 = platform.machine() in ("x86_64", "AMD64")


@dataclass(frozen=True)
class Machine:
    """Settings of a process, and what its libraries must then say (see child.libraries)."""

    name: str
    threads: int
    settings: dict[str, str] = field(default_factory=dict)
    expected: dict[str, tuple[str, ...]] = field(default_factory=dict)


BASELINE = Machine(
    "baseline", 2,
    {
        "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "MKL_CBWR": "COMPATIBLE",
    },
    {"aten": ("DEFAULT",), "onednn": ("Intel SSE4.1",), "mkl": ("COMPATIBLE",)},
)  # fmt: skip
# AUTO: what MKL says where the processor is not Intel's. It then takes its AVX2 code anyway; OFF would be: not heard.
AVX2 = Machine(
    "avx2", 2,
    {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "MKL_CBWR": "AVX2"},
    {"aten": ("AVX2",), "onednn": ("Intel AVX2",), "mkl": ("AVX2", "AUTO")},
)  # fmt: skip
BEST = Machine("best", 2, {}, {"mkl": ("OFF",)})


def machines() -> list[Machine]:
    """What this processor can run besides the suite's own setting."""
    if not X86:
        return [Machine("best", 2)]
    best = torch.backends.cpu.get_cpu_capability()
    if best == BASELINE.expected["aten"][0]:
        return [BASELINE, BEST]
    return [BASELINE, AVX2] if best == AVX2.expected["aten"][0] else [BASELINE, AVX2, BEST]


# The tests, by what they take: each in a process of its own, so that none is long. "small" needs no goldens.
SMALL = ["test/matching/test_matcher.py", "test/segmentation/test_efficient_sam.py", "test/numerics/test_float64.py"]
GROUPS = {
    "portrait": ["test/matching/test_goldens.py", "-k", "portrait"],
    "vitt_eps and small": ["test/segmentation/test_goldens.py", *SMALL, "-k", "vitt_eps or not goldens"],
}
# the same code under other weights and on other images; bfloat16, which some instruction sets have in hardware
LONG = {
    "bfloat16": ["test/test_computing.py"],
    "eps": ["test/matching/test_goldens.py", "-k", "eps"],
    "lavis_names": ["test/matching/test_goldens.py", "-k", "lavis_names"],
    "hf_names": ["test/matching/test_goldens.py", "-k", "hf_names"],
    "vitt": ["test/segmentation/test_goldens.py", "-k", "vitt and not eps"],
    "vits": ["test/segmentation/test_goldens.py", "-k", "vits"],
}
PASSED: dict[str, int] = {}


@pytest.fixture(scope="module")
def weights(golden_weights) -> Path:
    """The folder with the goldens' weights, drawn here once."""
    golden_weights("blip_itm", "lavis_names"), golden_weights("efficient_sam", "vitt")
    return golden_weights.files


def run(machine: Machine, arguments: list[str], report: Path, **variables: str) -> dict:
    own = ("ATEN_", "ONEDNN_", "DNNL_", "MKL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    # threads that wait spin otherwise: on a busy machine that takes more time than the work
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(machine.threads)) | {
        "OMP_WAIT_POLICY": "PASSIVE"
    }
    done = subprocess.run(
        [sys.executable, "-m", "test.numerics.child", str(report), "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT, env={**kept, **threads, **machine.settings, **variables}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and report.exists(), f"{machine}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    said = json.loads(report.read_text())
    ran = said["libraries"]
    assert ran["threads"] == machine.threads, ran
    for library, allowed in machine.expected.items():
        assert ran[library] in allowed, f"{library} did not heed {machine.settings}: {ran}"
    assert said["code"] == 0 and not said["failed"], f"{ran}\n{done.stdout[-5000:]}"
    return said


def check_group(machine, name, arguments, report, marks, weights):
    variables = {"ESAM_GOLDEN_WEIGHTS": str(weights)} if weights else {}
    said = run(machine, [*arguments, "-m", marks], report, **variables)
    assert said["passed"] > 0 and not said["skipped"], said
    assert said["passed"] == PASSED.setdefault(name, said["passed"]), "other tests than under the other settings"


def cases() -> list:
    """(machine, group). What is but another number of threads than the suite's own takes BLIP's group among the long."""
    best = torch.backends.cpu.get_cpu_capability()
    found = []
    for machine in machines():
        same = machine.expected.get("aten", (best,)) == (best,)
        for group in GROUPS:
            marks = [pytest.mark.long] if same and group == "portrait" else []
            found.append(
                pytest.param(machine, group, id=f"{group}-{machine.name}-{machine.threads}_threads", marks=marks)
            )
    return found


EVERY_MACHINE = pytest.mark.parametrize("machine", machines(), ids=lambda one: f"{one.name}-{one.threads}_threads")


@pytest.mark.parametrize("machine, group", cases())
def test_numeric_tests_pass(machine, group, tmp_path, request):
    try:
        weights, arguments = request.getfixturevalue("weights"), GROUPS[group]
    except pytest.skip.Exception:  # no goldens at hand
        if not set(SMALL) <= set(GROUPS[group]):
            raise
        weights, arguments = None, SMALL
    check_group(machine, group, arguments, tmp_path / "report.json", "numeric and not long", weights)


@pytest.mark.long
@EVERY_MACHINE
@pytest.mark.parametrize("group", LONG)
def test_the_other_numeric_tests_pass(group, machine, tmp_path, weights):
    check_group(machine, group, LONG[group], tmp_path / "report.json", "numeric", weights)


def test_a_setting_that_is_not_heeded_is_found(tmp_path):
    misspelt = Machine("misspelt", 1, {"ATEN_CPU_CAPABILITTY": "default"}, BASELINE.expected)
    with pytest.raises(AssertionError, match="did not heed"):
        run(misspelt, ["--collect-only", "test/test_losses.py"], tmp_path / "report.json")
