"""Faults put into the code under test for the length of one test (test/matching/mutations.py, test/segmentation/
mutations.py), and the order in which tests of one golden run."""

import pytest
from _pytest.mark import ParameterSet
from torch import nn


def put(monkeypatch, module: nn.Module, name: str, value) -> None:
    """`module.name = value` until the test ends; parts, weights and buffers of a module are no attributes of its own."""
    for table in (module._modules, module._parameters, module._buffers):
        if name in table:
            monkeypatch.setitem(table, name, value)
            return
    monkeypatch.setattr(module, name, value)


def pairs(faults: dict) -> list:
    """Parameters (case, fault) for every case that a fault is looked for in."""
    found = []
    for fault, cases in faults.items():
        for case in cases:
            name, marks = (case.values[0], case.marks) if isinstance(case, ParameterSet) else (case, ())
            found.append(pytest.param(name, fault, id=f"{name}-{fault.__name__}", marks=marks))
    return found


def long(case: str) -> ParameterSet:
    """A case that is left out unless long tests are asked for."""
    return pytest.param(case, marks=pytest.mark.long)


def by_case(items: list) -> None:
    """Sort tests so that those of one case (parameter `official`) run together: a case's network is large."""

    def case_of(item):
        return (getattr(item, "callspec", None) and item.callspec.params.get("official")) or ""

    mine = [i for i, item in enumerate(items) if case_of(item)]
    order = {case: i for i, case in enumerate(dict.fromkeys(case_of(items[i]) for i in mine))}
    for i, item in zip(mine, sorted((items[i] for i in mine), key=lambda item: order[case_of(item)])):
        items[i] = item
