"""`python -m test.numerics.child REPORT PYTEST-ARGUMENTS`: run tests in this process and write to REPORT, as JSON, what
the arithmetic libraries of this very process say they run on, and how the tests went."""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest
import torch


def said(statement) -> str:
    """What `statement` makes libraries write to standard output, past Python."""
    sys.stdout.flush()
    held = os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        try:
            statement()
        finally:
            os.dup2(held, 1)
            os.close(held)
        file.seek(0)
        return file.read().decode()


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1].strip() if match else ""


def libraries() -> dict[str, object]:
    """aten, threads; onednn (its instruction set); mkl (its conditional numerical reproducibility), the threads of one
    product of its and the processor it takes this for. Empty where a library is not there."""
    matrix, image, kernels = torch.rand(300, 300), torch.rand(1, 8, 64, 64), torch.rand(16, 8, 3, 3)
    mkl = onednn = ""
    if torch.backends.mkl.is_available():
        with torch.backends.mkl.verbose(torch.backends.mkl.VERBOSE_ON):
            mkl = said(lambda: matrix @ matrix)
    if torch.backends.mkldnn.is_available():
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            onednn = said(lambda: torch.nn.functional.conv2d(image, kernels, padding=1))
    return {
        "aten": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "onednn": found(r"cpu,isa:(.*)", onednn),
        "mkl": found(r"CNR:(\w+)", mkl),
        "mkl_threads": found(r"NThr:(\d+)", mkl),
        "mkl_processor": found(r"Intel\(R\) 64 architecture (.*?) processors", mkl),
    }


class Outcomes:
    """Counts passed, failed and skipped tests."""

    def __init__(self) -> None:
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1


if __name__ == "__main__":
    outcomes, ran = Outcomes(), libraries()
    code = pytest.main(sys.argv[2:], plugins=[outcomes])
    Path(sys.argv[1]).write_text(json.dumps({"libraries": ran, "code": int(code), **outcomes.counts}))
