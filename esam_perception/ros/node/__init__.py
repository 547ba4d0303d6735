"""The lifecycle node `esam`: worker, parameters, services, outputs; and its program."""

from __future__ import annotations

import threading
import traceback

from esam_perception.environment.allocation import one_arena
from esam_perception.ros.node.ending import catch_signals, leave


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to end; then this does not return, but ends the process (see ending)."""
    one_arena()
    # the node and what it needs take seconds to import: a signal meanwhile must find somebody who minds it
    signals, over = catch_signals(), threading.Event()
    import rclpy
    from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from esam_perception.ros.node.node import EsamNode
    from esam_perception.ros.node.spinning import spin, stop

    # rclpy's own handlers would take ROS away under the threads that work with it
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    signals.tell(over.set)
    node = EsamNode()
    # one thread for everything that must stay in order, one for each call of locate that may wait
    executor = MultiThreadedExecutor(num_threads=2 + node.get_parameter("locate_queue").value)
    executor.add_node(node)
    signals.tell(lambda: stop(executor, over))
    code = 1
    try:
        spin(executor, over)
        code = 0
    except ExternalShutdownException:
        code = 0
    except Exception:  # the program ends here either way
        traceback.print_exc()
    node.destroy_node()
    rclpy.try_shutdown()
    leave(code)
