"""Every QoS profile that this package publishes and subscribes with, by what it is for."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

# What the parameter `reliability` may say.
RELIABILITY = {"best_effort": ReliabilityPolicy.BEST_EFFORT, "reliable": ReliabilityPolicy.RELIABLE}

# What is published about a frame.
RELIABLE = QoSProfile(depth=5)
# What holds until it changes: whoever comes later is told too.
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Queries come seldom, in bursts at most, and none may be lost.
QUERY = QoSProfile(depth=10)
# What our cameras publish: reliable publishers serve reliable and best-effort subscribers alike.
CAMERA = QoSProfile(depth=2)
# The newest of a camera, from every camera, reliable or not.
SENSOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# Intrinsics are small and come with every image: one that is lost is no loss.
CAMERA_INFO = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def image(reliability: str) -> QoSProfile:
    """Of a subscription to images: the newest alone. reliability: a key of RELIABILITY."""
    return QoSProfile(depth=1, reliability=RELIABILITY[reliability])


def depth(reliability: str) -> QoSProfile:
    """Of a subscription to depth images: a burst of them must not cost the one that belongs to an image. reliability: a key
    of RELIABILITY."""
    return QoSProfile(depth=5, reliability=RELIABILITY[reliability])
