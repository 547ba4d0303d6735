"""What the node says of itself on /diagnostics: counters, latencies, what is wrong and what mends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType

from esam_perception.ros.health.graph_check import Wanted, check
from esam_perception.ros.health.statistics import Statistics, diagnostic_message, resident_megabytes

NO_IMAGE_SECONDS = 3.0
# A person who looks sees a new problem at once; a flood of refused inputs costs five messages a second.
TICK_SECONDS = 0.2
TICKS = 5  # from one regular message to the next, and from one look at the graph to the next


@dataclass(frozen=True)
class NodeState:
    """What the node is at the moment. fatal: why it cannot work, else empty. active: whether it waits for images on
    image_topic. model, device: of the pipeline, "none" without one; warnings: of what it runs on and of the pipeline.
    queries: active ones; restored: how many of them come from a state file. degradation: see QueryRotation.text. wanted: all
    its subscriptions."""

    fatal: str
    active: bool
    image_topic: str
    model: str
    device: str
    warnings: Sequence[str]
    queries: int
    restored: int
    degradation: str
    wanted: Sequence[Wanted]


class Health:
    """The publisher of a node's status, and the eye on its connections. state: what the node is, asked in the executor's
    thread only. Nothing that goes wrong here reaches the caller of `soon`, which any thread may be."""

    def __init__(self, node: Any, statistics: Statistics, state: Callable[[], NodeState]) -> None:
        self._node, self._statistics, self._state = node, statistics, state
        self._connections: list[str] = []
        self._asked = threading.Event()
        self._ticks = 0
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # the machine's clock: under use_sim_time the node's own stands still until somebody publishes /clock
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(TICK_SECONDS, self._tick, clock=steady)

    def soon(self) -> None:
        """Publish at the next tick: something is worth knowing now."""
        self._asked.set()

    def _tick(self) -> None:
        regular = self._ticks % TICKS == 0
        self._ticks += 1
        if not regular and not self._asked.is_set():
            return
        self._asked.clear()
        with self._node.under_way:
            self._tell(regular)

    def _tell(self, regular: bool) -> None:
        try:
            state = self._state()
            if regular:
                self._look(state.wanted)
            self._publish(state)
        except Exception as error:
            if self._node.context.ok():
                self._node.get_logger().error(
                    f"diagnostics failed: {type(error).__name__}: {error}", throttle_duration_sec=5.0
                )

    def _publish(self, state: NodeState) -> None:
        node, values = self._node, self._statistics.values()
        values["model"], values["device"] = state.model, state.device
        values["memory_mb"] = f"{resident_megabytes():.0f}"
        values["active_queries"] = str(state.queries)
        values["restored_queries"] = str(state.restored)
        values["degradation"] = state.degradation
        values.update({f"connection/{number}": problem for number, problem in enumerate(self._connections)})
        values.update({f"remark/{number}": remark for number, remark in enumerate(state.warnings)})
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
