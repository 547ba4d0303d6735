"""Ctrl-C at any moment: the real node ends within the contract's 3 s, with exit code 0 and without a word of trouble."""

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from esam_perception import srv
from esam_perception.environment.domains import claimed_domain
from esam_perception.environment.processes import Child
from esam_perception.ros.wire.messages import ROS
from test.ros.client import PATIENCE, own_environment
from test.ros.forgetful_node import GATE, SLOW
from test.ros.slow_node import PIPE

NODE = "esam_perception.ros.node"
# Ten times the 3 s of the contract: what waits for the model or for an inference that hangs never ends, and a machine that
# others use may be so much slower.
ENDS_WITHIN = 30.0
TROUBLE = ("Traceback", "Segmentation", "processing_failed", "Exception", "never retrieved")


def wait(condition: Callable[[], object], child: Child, what: str, seconds: float = PATIENCE) -> None:
    """Until it holds, while the process lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert child.exit_code is None, f"it ended before {what}:\n{child.log_tail(40)}"
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}:\n{child.log_tail(40)}"
        time.sleep(0.01)


def ended_well(child: Child) -> None:
    """Wait for the end, and look at it."""
    end = time.monotonic() + ENDS_WITHIN
    while child.exit_code is None:
        assert time.monotonic() < end, f"it did not end:\n{child.log_tail(40)}"
        time.sleep(0.01)
    said = child.log.read_text(errors="replace")
    assert child.exit_code == 0 and not [word for word in TROUBLE if word in said], (child.exit_code, said[-4000:])


def has_loaded(child: Child, library: str) -> bool:
    return library in Path(f"/proc/{child.pid}/maps").read_text()


@pytest.fixture
def fresh(tmp_path):
    """A function that starts the node with an interpreter of its own."""
    with claimed_domain() as domain_id:
        children = []

        def begin(parameters: dict) -> Child:
            children.append(
                Child(NODE, {"device": "cpu", **parameters}, tmp_path / "n.log", own_environment(domain_id))
            )
            return children[-1]

        yield begin
        for child in children:
            child.stop()


class SlowModel:
    """The named pipe that keeps a model from being loaded (see slow_node)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing: int | None = None
        os.mkfifo(path)

    def reached(self) -> bool:
        """Whether somebody reads it; from then on the reader waits for its end."""
        if self._writing is None:
            try:
                self._writing = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody reads yet
                    raise
        return self._writing is not None

    def let_go(self) -> None:
        """Let the reader go on, and the model be loaded."""
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None


@pytest.fixture
def slow_model(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"
    monkeypatch.setenv(PIPE, str(pipe))
    model = SlowModel(pipe)
    yield model
    model.let_go()


@pytest.mark.parametrize("library", ["_multiarray_umath", "_rclpy"])
def test_while_the_interpreter_imports(fresh, tiny_profile, library):
    child = fresh({"model": str(tiny_profile)})
    wait(lambda: has_loaded(child, library), child, f"{library} to be loaded")
    child.signal(signal.SIGINT)
    ended_well(child)


def test_while_torch_is_imported(fresh):
    child = fresh({"model": "tabletop"})
    wait(lambda: has_loaded(child, "libtorch_cpu"), child, "torch to be loaded")
    child.signal(signal.SIGINT)
    ended_well(child)


@pytest.mark.parametrize("after", [None, 0.0, pytest.param(0.3, marks=pytest.mark.long)])
def test_while_the_model_loads(start, tiny_profile, slow_model, after):
    """after: seconds from Ctrl-C to the end of the loading; None: never."""
    _, child = start({"model": str(tiny_profile)}, module="test.ros.slow_node")
    wait(slow_model.reached, child, "the model to be loaded")
    child.signal(signal.SIGINT)
    if after is not None:
        time.sleep(after)
        slow_model.let_go()
    ended_well(child)


def test_while_the_model_loads_at_a_clients_wish_and_twice(start, tiny_profile, slow_model):
    client, child = start({"model": str(tiny_profile), "autostart": False}, module="test.ros.slow_node")
    asked = ChangeState.Request()
    asked.transition.id = Transition.TRANSITION_CONFIGURE
    client.service(ChangeState, "/esam/change_state").call_async(asked)
    client.wait(slow_model.reached, "the model to be loaded")
    child.signal(signal.SIGINT)
    time.sleep(0.2)
    child.signal(signal.SIGINT)
    slow_model.let_go()
    ended_well(child)


def slow_image(client):
    return ROS.image(np.full((48, SLOW, 3), 90, np.uint8), "rgb8", client.next_header())


@pytest.fixture
def working(start, tiny_profile, tmp_path, monkeypatch):
    """(client, child, gate) of a node that is in the middle of a frame for as long as the file `gate` is there."""
    gate = tmp_path / "gate"
    monkeypatch.setenv(GATE, str(gate))
    client, child = start({"model": str(tiny_profile)}, module="test.ros.forgetful_node")
    client.wait_until_active()
    client.ask("the red ring")
    gate.touch()

    def begun():
        client.image_publisher.publish(slow_image(client))
        return gate.with_suffix(".begun").exists()

    client.wait(begun, "the inference to begin")
    return client, child, gate


@pytest.mark.parametrize("after", [None, 0.3])
def test_while_a_frame_is_worked_on(working, after):
    """after: seconds from Ctrl-C to the end of the inference; None: never."""
    _, child, gate = working
    child.signal(signal.SIGINT)
    if after is not None:
        time.sleep(after)
        gate.unlink()
    ended_well(child)


def test_while_calls_wait_and_twice(working):
    client, child, gate = working
    service = client.service(srv.Locate, "/esam/locate")
    for _ in range(2):
        service.call_async(srv.Locate.Request(texts=["a mug"], image=slow_image(client)))
    client.spin(0.5)  # to arrive
    for _ in range(2):
        child.signal(signal.SIGINT)
        time.sleep(0.2)
    gate.unlink()
    ended_well(child)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_nothing_happens(start, tiny_profile, number):
    client, child = start({"model": str(tiny_profile)})
    client.wait_until_active()
    child.signal(number)
    ended_well(child)
