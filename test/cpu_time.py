"""A pytest plugin: what the run cost, at its end. Wall time says little of a test on a shared machine; CPU time says it."""

import glob
import os
import time

import pytest

SHOWN = 5
LOOK_SECONDS = 1.0  # a look at all processes takes milliseconds: not for a test that takes less


def own_and_waited_for() -> tuple[float, float]:
    """CPU seconds, user and system, of this process, and of its descendants that ended and were waited for."""
    times = os.times()
    return times.user + times.system, times.children_user + times.children_system


def running_descendants(ancestor: int) -> float:
    """CPU seconds of the descendants of a process that run now, with those of theirs that they waited for."""
    parent, used = {}, {}
    for path in glob.iglob("/proc/[0-9]*/stat"):
        try:
            with open(path) as file:
                # after the name in brackets, which may hold anything: state, parent, 9 more, then the four times
                fields = file.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile: its parent's account has it by now, or will
        pid = int(path.split("/")[2])
        parent[pid], used[pid] = int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def descends(pid: int) -> bool:
        return pid in parent and (parent[pid] == ancestor or descends(parent[pid]))

    return sum(seconds for pid, seconds in used.items() if descends(pid))


class CpuTime:
    """Sums up the run and names the slowest tests, the fixtures that they set up and tore down included."""

    def __init__(self) -> None:
        self._tests: list[tuple[float, float, str]] = []
        self._running = 0.0  # CPU seconds that descendants had used when they were last looked at

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        began, before = time.monotonic(), sum(own_and_waited_for())
        yield
        wall, used = time.monotonic() - began, sum(own_and_waited_for()) - before
        if wall > LOOK_SECONDS:
            running = running_descendants(os.getpid())
            used, self._running = used + running - self._running, running
        self._tests.append((wall, used, item.nodeid))

    def pytest_terminal_summary(self, terminalreporter):
        own, children = own_and_waited_for()
        children += running_descendants(os.getpid())
        terminalreporter.section("cost")
        terminalreporter.write_line(f"CPU time: {own + children:.0f} s, {children:.0f} s of it in child processes")
        for wall, cpu, name in sorted(self._tests, reverse=True)[:SHOWN]:
            terminalreporter.write_line(f"{wall:6.1f} s ({cpu:.1f} s CPU)  {name}")
