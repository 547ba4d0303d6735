"""The gate between the work of the node's threads and the end of its process."""

import subprocess
import sys
import threading

import pytest

from esam_perception.ros.node.ending import LIMIT_SECONDS, WORK_SECONDS, Gate
from test.conftest import ROOT

CONTRACT_SECONDS = 3.0
PATIENCE = 30.0
SHORTLY = 0.2  # for what must not happen: it would at once


def test_the_end_is_in_the_contracts_time():
    assert 0 < WORK_SECONDS < LIMIT_SECONDS < CONTRACT_SECONDS


class Work(threading.Thread):
    """Work inside a gate, which goes on until it is let go; a part of it is work of its own inside the same gate."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(daemon=True)
        self.gate, self.began, self.go, self.passed = gate, threading.Event(), threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self.gate:
            self.began.set()
            assert self.go.wait(PATIENCE)
            with self.gate:
                self.gate.pass_by()
            self.passed.set()


def test_work_that_ends_in_time_ends_as_ever_and_no_other_begins():
    gate = Gate()
    works = [Work(gate) for _ in range(3)]
    for work in works:
        assert work.began.wait(PATIENCE)
    closing = threading.Timer(SHORTLY, lambda: [work.go.set() for work in works])
    closing.start()
    assert gate.close(PATIENCE)
    for work in works:
        work.join(PATIENCE)
        assert work.passed.is_set() and not work.is_alive()
    late = Work(gate)
    assert not late.began.wait(SHORTLY)


def test_work_that_takes_longer_stands_still_where_it_is():
    gate = Gate()
    work = Work(gate)
    assert work.began.wait(PATIENCE)
    assert not gate.close(0.0)
    work.go.set()
    assert not work.passed.wait(SHORTLY) and work.is_alive()


def test_an_error_passes_the_gate_and_leaves_it():
    gate = Gate()
    with pytest.raises(KeyError), gate:
        raise KeyError("told")
    assert gate.close(PATIENCE)


def test_what_must_be_at_work_first_imports_nothing_large():
    code = "import sys, esam_perception.ros.node; print(*[m for m in ('rclpy', 'numpy', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.strip() == "", done.stderr
