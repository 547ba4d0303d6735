"""What the tests of nodes share."""

from contextlib import ExitStack

import pytest


@pytest.fixture
def domain_id():
    """A DDS domain of the test's own."""
    from esam_perception.environment.domains import claimed_domain

    with claimed_domain() as claimed:
        yield claimed


@pytest.fixture
def start(tmp_path):
    """A function that starts a node for one test, with running_node's arguments after the log: (client, child)."""
    from test.ros.client import running_node  # it needs ROS

    with ExitStack() as running:
        yield lambda *given, **named: running.enter_context(running_node(tmp_path / "node.log", *given, **named))


@pytest.fixture
def client(running):
    """The client of the node that a module's `running` has started: (client, child). No test may end that node."""
    client, child = running
    yield client
    assert child.exit_code is None, child.log_tail(40)
