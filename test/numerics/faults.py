"""What the faults of test/matching/*_mutations.py and test/segmentation/mutations.py are put into the code with."""

import pytest
from _pytest.mark import ParameterSet
from torch import nn


def put(monkeypatch, module: nn.Module, name: str, value) -> None:
    """`module.name = value` until the test ends; parts, weights and buffers of a module are no own attributes of it."""
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
