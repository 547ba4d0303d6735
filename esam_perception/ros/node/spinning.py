"""Spinning an executor of several threads, in which one may destroy what the others are about to wait for."""

from __future__ import annotations

from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor
from rclpy.task import Future


def spin(executor: Executor, until: Future) -> None:
    """Spin until the future is done, or the executor's context ends.

    rclpy's executor lists what to wait for and then waits; where a callback in another thread destroys a subscription in
    between (deactivate does), it raises InvalidHandle (ros2/rclpy issues 1142 and 1206, open). That must not end the node:
    nothing was taken yet, and the next turn no longer lists what is gone.
    """
    while executor.context.ok() and not until.done():
        try:
            executor.spin_until_future_complete(until)
            return
        except InvalidHandle:
            continue
