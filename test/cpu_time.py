"""A pytest plugin: what the run cost, at its end. Wall time says little of a test on a shared machine; CPU time says it."""

import os
import time

import pytest

SHOWN = 5


def cpu_seconds() -> tuple[float, float]:
    """(of this process, of its children), user and system; of children only what was waited for, their own included."""
    times = os.times()
    return times.user + times.system, times.children_user + times.children_system


class CpuTime:
    """Sums up the run and names the slowest tests, the fixtures that they set up and tore down included."""

    def __init__(self) -> None:
        self._tests: list[tuple[float, float, str]] = []

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        began, before = time.monotonic(), sum(cpu_seconds())
        yield
        self._tests.append((time.monotonic() - began, sum(cpu_seconds()) - before, item.nodeid))

    def pytest_terminal_summary(self, terminalreporter):
        own, children = cpu_seconds()
        terminalreporter.section("cost")
        terminalreporter.write_line(f"CPU time: {own + children:.0f} s, {children:.0f} s of it in child processes")
        for wall, cpu, name in sorted(self._tests, reverse=True)[:SHOWN]:
            terminalreporter.write_line(f"{wall:6.1f} s ({cpu:.1f} s CPU)  {name}")
