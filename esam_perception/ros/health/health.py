"""What the node says of itself on /diagnostics: counters, latencies, what is wrong and what mends it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from esam_perception.ros.health.graph_check import Wanted, check
from esam_perception.ros.health.statistics import Statistics, diagnostic_message, resident_megabytes

NO_IMAGE_SECONDS = 3.0


@dataclass(frozen=True)
class NodeState:
    """What the node is at the moment. fatal: why it cannot work, else empty. active: whether it waits for images on
    image_topic. model, device: of the pipeline, "none" without one; warnings: of what it runs on and of the pipeline.
    degradation: see QueryRotation.text. wanted: all its subscriptions."""

    fatal: str
    active: bool
    image_topic: str
    model: str
    device: str
    warnings: Sequence[str]
    queries: int
    frames_dropped: int
    degradation: str
    wanted: Sequence[Wanted]


class Health:
    """The publisher of a node's status, and the eye on its connections."""

    def __init__(self, node, statistics: Statistics) -> None:
        self._node, self._statistics = node, statistics
        self._connections: list[str] = []
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, state: NodeState) -> None:
        """Look at the connections and publish the status."""
        node = self._node
        self._look(state.wanted)
        values = self._statistics.values()
        values["frames_dropped"] = str(state.frames_dropped)
        values["model"], values["device"] = state.model, state.device
        values["memory_mb"] = f"{resident_megabytes():.0f}"
        values["active_queries"] = str(state.queries)
        values["degradation"] = state.degradation
        values.update({f"connection/{number}": problem for number, problem in enumerate(self._connections)})
        level, text = self._judge(state)
        name = f"{node.get_namespace().rstrip('/')}/{node.get_name()}".lstrip("/")
        stamp = node.get_clock().now().to_msg()
        self._publisher.publish(diagnostic_message(stamp, f"{name}: perception", level, text, values))

    def _look(self, wanted: Sequence[Wanted]) -> None:
        """Compare the subscriptions with the publishers that are there; what is new is logged, once."""
        problems = [problem for one in wanted for problem in check(self._node, one)]
        for problem in problems:
            if problem not in self._connections:
                self._node.get_logger().warning(problem)
        self._connections = problems

    def _judge(self, state: NodeState) -> tuple[bytes, str]:
        if state.fatal:
            return DiagnosticStatus.ERROR, state.fatal
        if state.model == "none":
            return DiagnosticStatus.WARN, "not configured"
        if self._statistics.recently_wrong:
            return DiagnosticStatus.WARN, self._statistics.last_error
        if not state.active:
            return DiagnosticStatus.OK, "inactive"
        silent = time.monotonic() - self._statistics.last_frame_in
        if silent > NO_IMAGE_SECONDS:
            why = f"; {self._connections[0]}" if self._connections else ""
            return DiagnosticStatus.WARN, f"no image on {state.image_topic} for {silent:.0f} s{why}"
        if self._connections:
            return DiagnosticStatus.WARN, self._connections[0]
        if state.warnings:
            return DiagnosticStatus.WARN, "; ".join(state.warnings)
        return DiagnosticStatus.OK, "active"
