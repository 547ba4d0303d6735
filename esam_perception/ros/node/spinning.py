"""Spinning an executor of several threads, in which one may destroy what the others are about to wait for."""

from __future__ import annotations

import threading

from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor


def spin(executor: Executor, over: threading.Event) -> None:
    """Spin until `over` is set (see `stop`), or the executor's context ends.

    rclpy's executor lists what to wait for and then waits; where a callback in another thread destroys a subscription in
    between (deactivate does), it raises InvalidHandle (ros2/rclpy issues 1142 and 1206, open). That must not end the node:
    nothing was taken yet, and the next turn no longer lists what is gone. (Executor.spin_until_future_complete would do the
    same, but Humble's and Jazzy's remember something with every callback, for as long as they spin.)
    """
    while executor.context.ok() and not over.is_set():
        try:
            executor.spin_once()
        except InvalidHandle:
            continue
        except RuntimeError:  # rclpy's RCLError: of what a context takes with it when it ends
            if executor.context.ok():
                raise


def stop(executor: Executor, over: threading.Event) -> None:
    """Let `spin` return at once; from any thread."""
    over.set()
    # it waits for something to do: merely woken it would wait on
    executor.create_task(lambda: None)
