"""The executor outlives what is destroyed under it."""

import threading
import time

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.waitable import NumberOfEntities, Waitable
from std_msgs.msg import String

from esam_perception.ros.node.spinning import spin, stop
from test.ros.client import PATIENCE


class Gone(Waitable):
    """What the event handlers of a destroyed subscription are to an executor that had listed them already."""

    raised = 0

    def __enter__(self):  # newer rclpy marks what it waits for as in use
        pass

    def __exit__(self, *_):
        pass

    def get_num_entities(self):
        return NumberOfEntities()

    def is_ready(self, wait_set):
        return False

    def add_to_wait_set(self, wait_set):
        if self.raised < 3:
            self.raised += 1
            raise InvalidHandle("cannot use Destroyable because destruction was requested")


@pytest.fixture
def node(domain_id):
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    yield Node("spinning", context=context)
    rclpy.try_shutdown(context=context)


def spinning(node) -> threading.Thread:
    executor = MultiThreadedExecutor(num_threads=3, context=node.context)
    executor.add_node(node)
    thread = threading.Thread(target=spin, args=(executor, threading.Event()), daemon=True)
    thread.start()
    return thread


def wait(condition, thread):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert thread.is_alive() and time.monotonic() < end
        time.sleep(0.01)


def test_what_is_gone_does_not_end_it(node):
    gone, ticks = Gone(MutuallyExclusiveCallbackGroup()), []
    node.add_waitable(gone)
    node.create_timer(0.01, lambda: ticks.append(gone.raised))
    thread = spinning(node)
    wait(lambda: 3 in ticks, thread)
    node.context.shutdown()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_subscriptions_that_come_and_go_in_another_thread(node):
    publisher = node.create_publisher(String, "told", 10)
    node.create_timer(0.001, lambda: publisher.publish(String()), callback_group=MutuallyExclusiveCallbackGroup())
    group, heard, thread = MutuallyExclusiveCallbackGroup(), [], spinning(node)
    for _ in range(60):
        subscription = node.create_subscription(String, "told", heard.append, 5, callback_group=group)
        time.sleep(0.002)
        node.destroy_subscription(subscription)
    heard.clear()
    node.create_subscription(String, "told", heard.append, 5, callback_group=group)
    wait(lambda: heard, thread)


def test_it_returns_when_it_is_told_to(node):
    """It is told in the middle of nothing, where no timer would wake it."""
    executor, over = MultiThreadedExecutor(num_threads=2, context=node.context), threading.Event()
    executor.add_node(node)
    ticks = []
    timer = node.create_timer(0.001, lambda: ticks.append(1))
    thread = threading.Thread(target=spin, args=(executor, over), daemon=True)
    thread.start()
    wait(lambda: len(ticks) >= 20, thread)
    timer.cancel()
    thread.join(0.2)
    assert thread.is_alive()
    stop(executor, over)
    thread.join(PATIENCE)
    assert not thread.is_alive()
