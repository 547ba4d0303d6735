"""The other process of bench.transport: publishes images, waits for what answers them, reads the child's CPU and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image

from esam_perception.contract import to_nanoseconds
from esam_perception.ros.wire.messages import ROS

PATIENCE = 60.0  # for a node to come up
LOST_AFTER = 2.0


@dataclass
class Exchange:
    """Of the images of one way: milliseconds from before publish to the answer, and (echo) to the child's callback; the
    child's CPU milliseconds an image; how many got no answer."""

    answer_ms: list[float] = field(default_factory=list)
    callback_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    lost: int = 0


class Peer:
    """One node that publishes to `image_topic` and listens to `answer_topic`, whose messages have a stamp."""

    def __init__(self, image_topic: str, answer_topic: str, answer_type: Any) -> None:
        self.node = Node("bench_" + image_topic.strip("/").replace("/", "_"))
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.publisher = self.node.create_publisher(Image, image_topic, 5)
        self.answers: dict[int, tuple[int, Any]] = {}
        self._answer = self.node.create_subscription(answer_type, answer_topic, self._on_answer, 5)
        self._stamp = 1_700_000_000_000_000_000

    def _on_answer(self, message: Any) -> None:
        now = time.monotonic_ns()
        stamp = message.stamp if hasattr(message, "stamp") else message.header.stamp
        self.answers[to_nanoseconds(stamp)] = (now, message)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Spin until the condition holds. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {PATIENCE:.0f} s for {what}")
            self._executor.spin_once(timeout_sec=0.1)

    def wait_until_connected(self) -> None:
        """Until somebody takes the images."""
        self.wait(lambda: self.publisher.get_subscription_count() > 0, f"a subscriber of {self.publisher.topic}")

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def publish(self, message: Image) -> tuple[int, int]:
        """(stamp, time before publishing, monotonic ns)."""
        self._stamp += 33_333_333
        message.header = ROS.header(self._stamp, "bench")
        began = time.monotonic_ns()
        self.publisher.publish(message)
        return self._stamp, began

    def ask(self, message: Image) -> tuple[int, int, Any] | None:
        """Publish and wait for the answer: (before publishing, at the answer's callback, answer), times in monotonic ns; None
        where it was lost."""
        stamp, began = self.publish(message)
        end = time.monotonic() + LOST_AFTER
        while stamp not in self.answers:
            if time.monotonic() > end:
                return None
            self._executor.spin_once(timeout_sec=0.1)
        arrived, answer = self.answers.pop(stamp)
        return began, arrived, answer

    def measure(self, message: Image, count: int, pid: int, into: Exchange, pause: float = 0.02) -> None:
        """Ask `count` times, with a pause after each answer."""
        before = cpu_seconds(pid)
        for _ in range(count):
            asked = self.ask(message)
            if asked is None:
                into.lost += 1
            else:
                began, arrived, answer = asked
                into.answer_ms.append((arrived - began) / 1e6)
                if not hasattr(answer, "header"):
                    # the echo says when its callback was called, on the clock that both processes have
                    into.callback_ms.append((int(answer.frame_id) - began) / 1e6)
            self.spin(pause)
        into.cpu_ms.append(1000 * (cpu_seconds(pid) - before) / count)


def noise(width: int, height: int) -> Image:
    """An rgb8 image message."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return ROS.image(pixels, "rgb8", ROS.header(0, "bench"))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    """Resident set of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024
