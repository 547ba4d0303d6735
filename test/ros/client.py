"""What a robot does with the node, for tests: publishes images and queries, keeps what comes back."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String

from esam_perception import msg, srv
from esam_perception.contract import to_nanoseconds
from esam_perception.environment.distro import loopback_environment
from esam_perception.environment.domains import claimed_domain
from esam_perception.environment.processes import Child, ros_environment
from esam_perception.ros.wire.messages import ROS
from test.ros.forked import ForkedChild

PYTHONPATH = os.environ.get("PYTHONPATH")
PATIENCE = 60.0  # of waiting for something that must come; these machines are slow and shared


class Client:
    """One rclpy node in a context of its own."""

    def __init__(self, domain_id: int, image_topic: str = "/camera/image_raw") -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.node = Node("test_client", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._services: dict = {}
        self.arrays: list[msg.MatchArray] = []
        names = ("mask", "mask_view", "confidence", "heatmap", "overlay")
        self.images: dict[str, list[Image]] = {name: [] for name in names}
        self.diagnostics: list = []
        self.active: list[msg.QueryArray] = []
        self.node.create_subscription(msg.MatchArray, "/esam/matches", self.arrays.append, 10)
        for name, kept in self.images.items():
            self.node.create_subscription(Image, f"/esam/{name}", kept.append, 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(msg.QueryArray, "/esam/active_queries", self.active.append, latched)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: self.diagnostics.extend(m.status), 50)
        self.query_publisher = self.node.create_publisher(String, "/esam/query", 10)
        self.queries_publisher = self.node.create_publisher(msg.QueryArray, "/esam/queries", 10)
        self.image_topic = image_topic
        self.image_publisher = self.node.create_publisher(Image, image_topic, 5)
        self.stamp = 1_000_000_000 * 1_700_000_000

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def wait(self, condition, what: str, seconds: float = PATIENCE):
        """Spin until the condition holds; returns its value."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
            self.executor.spin_once(timeout_sec=0.05)
        return value

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)

    def service(self, kind, name: str):
        """The client of a service, once it is there; one for all calls."""
        if name not in self._services:
            self._services[name] = self.node.create_client(kind, name)
        self.wait(self._services[name].service_is_ready, f"service {name}")
        return self._services[name]

    def call(self, kind, name: str, request):
        """The answer of a service."""
        future = self.service(kind, name).call_async(request)
        return self.wait(lambda: future.done() and future.result(), f"an answer of {name}")

    def state(self) -> str:
        return self.call(GetState, "/esam/get_state", GetState.Request()).current_state.label

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition
        return self.call(ChangeState, "/esam/change_state", request).success

    def wait_until_active(self) -> None:
        self.wait(lambda: self.state() == "active", "the node to be active")
        self.wait(lambda: self.image_publisher.get_subscription_count() > 0, "the node to subscribe to images")
        self.wait(lambda: self.query_publisher.get_subscription_count() > 0, "the node to subscribe to queries")
        self.wait(lambda: self.node.count_publishers("/esam/matches") > 0, "the node's publishers")

    def ask(self, text: str) -> None:
        """Publish a query and wait until it is the active one."""
        wanted = list(dict.fromkeys(part.strip() for part in re.split("[;\n]", text) if part.strip()))
        self.active.clear()
        self.query_publisher.publish(String(data=text))
        # an older latched message may still be on its way
        self.wait(
            lambda: self.active and [query.text for query in self.active[-1].queries] == wanted,
            f"the queries {text[:40]!r} to be active",
        )

    def next_header(self, frame_id: str = "some_camera"):
        self.stamp += 33_333_333
        return ROS.header(self.stamp, frame_id)

    def show(self, rgb: np.ndarray) -> msg.MatchArray:
        """Publish an image (best effort: again, until it arrives) and wait for its matches."""
        header = self.next_header()
        wanted = to_nanoseconds(header.stamp)
        message = ROS.image(rgb, "rgb8", header)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.image_publisher.publish(message)
            again = time.monotonic() + 5
            while time.monotonic() < again:
                for array in self.arrays:
                    if to_nanoseconds(array.header.stamp) == wanted:
                        return array
                self.executor.spin_once(timeout_sec=0.05)
        raise AssertionError(f"no matches for an image within {PATIENCE:.0f} s")

    def image_of(self, name: str, array: msg.MatchArray) -> Image:
        """The image of that topic that belongs to the matches."""

        def found():
            return [image for image in self.images[name] if image.header == array.header]

        return self.wait(found, f"esam/{name}")[-1]

    def status(self) -> dict[str, str]:
        """The next diagnostics as a dictionary, with the level and the message under ''."""
        self.diagnostics.clear()
        status = self.wait(lambda: self.diagnostics, "diagnostics")[-1]
        return {"level": status.level, "message": status.message, **{pair.key: pair.value for pair in status.values}}

    def locate(self, texts: list[str], image: Image | None = None):
        request = srv.Locate.Request(texts=texts)
        if image is not None:
            request.image = image
        return self.call(srv.Locate, "/esam/locate", request)


def own_environment(domain_id: int) -> dict[str, str]:
    """What a ROS process of a test finds: the domain, on loopback, and the shared memory that this process has too."""
    os.environ.update(loopback_environment())
    return {**ros_environment(domain_id), "ROS_DOMAIN_ID": str(domain_id)}


@contextmanager
def running_node(
    log: Path,
    parameters: dict,
    kind: type = Client,
    module: str = "esam_perception.ros.node",
    process: type[Child] | None = None,
) -> Iterator[tuple[Client, Child]]:
    """The real node in a process of its own, and a client of that kind, in a domain of their own until the block ends.

    process: by default a fork, or a Child where PYTHONPATH was changed since, so that other modules are to be imported."""
    process = process or (ForkedChild if os.environ.get("PYTHONPATH") == PYTHONPATH else Child)
    with claimed_domain() as domain_id, ExitStack() as ending:
        child = process(
            module, {"device": "cpu", "image": "/camera/image_raw", **parameters}, log, own_environment(domain_id)
        )
        ending.callback(child.stop)
        client = kind(domain_id)
        ending.callback(client.close)
        try:
            yield client, child
        except BaseException:
            print(child.log_tail(40))
            raise
