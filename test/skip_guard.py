"""A pytest plugin: a skip that is not allowed fails, for a test that should have run on this machine did not."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Allowed:
    """A skip that is allowed on some machines.

    node: which tests may skip so, a regular expression that is searched for in the node id. reason: likewise, in the
    reason that the test gives. where: on which machines, in words that follow "where". holds: whether this is one, found
    out by other means than the test's own, so that neither can be wrong alone.
    """

    node: str
    reason: str
    where: str
    holds: Callable[[], bool]


class SkipGuard:
    """Judges every skip, of a test or of a whole module, by the first moment that pytest knows of it."""

    def __init__(self, allowed: Sequence[Allowed]) -> None:
        self._allowed = allowed

    def _judge(self, report) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        _, _, reason = report.longrepr
        named = [a for a in self._allowed if re.search(a.node, report.nodeid) and re.search(a.reason, reason)]
        if any(a.holds() for a in named):
            return
        said = "is not among the allowed ones (test/allowed_skips.py)"
        if named:
            said = f"is allowed where {' or '.join(a.where for a in named)}, which is not so on this machine"
        report.outcome, report.longrepr = "failed", f"{report.nodeid}: this skip {said}: {reason}"

    # outermost: they see what pytest's own plugins made of the skip
    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item, call):
        outcome = yield
        self._judge(outcome.get_result())

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_make_collect_report(self, collector):
        outcome = yield
        self._judge(outcome.get_result())
