"""Why nothing arrives: the node's subscriptions against the publishers that are there."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible

RELIABILITY = {ReliabilityPolicy.RELIABLE: "reliable", ReliabilityPolicy.BEST_EFFORT: "best_effort"}
DURABILITY = {DurabilityPolicy.VOLATILE: "volatile", DurabilityPolicy.TRANSIENT_LOCAL: "transient_local"}
COMPRESSED, RAW = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"


@dataclass(frozen=True)
class Wanted:
    """A subscription of the node: topic, type (package/msg/Name), QoS; `parameter`: the one that names the topic, empty
    where it is fixed. must: whether it is a fault that nobody publishes."""

    topic: str
    kind: str
    qos: QoSProfile
    parameter: str = ""
    must: bool = False


def check(node, wanted: Wanted) -> list[str]:
    """What is wrong with a subscription, a sentence each: topic, what is offered, what is requested, what mends it."""
    publishers = node.get_publishers_info_by_topic(wanted.topic)
    if not publishers:
        return [_missing(node, wanted)] if wanted.must else []
    found = []
    for publisher in publishers:
        by = f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
        if publisher.topic_type != wanted.kind:
            found.append(
                f"{wanted.topic}: {by} publishes {publisher.topic_type}, wanted is {wanted.kind}; {_cure_of_type(wanted, publisher.topic_type)}"
            )
            continue
        compatible, reason = qos_check_compatible(publisher.qos_profile, wanted.qos)
        if compatible == QoSCompatibility.ERROR:
            offered, requested = _said(publisher.qos_profile), _said(wanted.qos)
            cure = (
                "set parameter reliability:=best_effort"
                if wanted.parameter and "reliab" in reason.lower()
                else "let the publisher offer that"
            )
            found.append(f"{wanted.topic}: {by} offers {offered}, requested is {requested}; {cure}")
    return found


def _missing(node, wanted: Wanted) -> str:
    kinds = {wanted.kind, COMPRESSED if wanted.kind == RAW else wanted.kind}
    own = f"{node.get_fully_qualified_name()}/"
    others = sorted(
        topic
        for topic, types in node.get_topic_names_and_types()
        if kinds & set(types) and not topic.startswith(own) and node.count_publishers(topic)
    )
    there = f"published are {', '.join(others[:5])}" if others else "no such topic is published anywhere"
    return f"{wanted.topic}: nobody publishes it ({there}); set parameter {wanted.parameter}, or start the camera"


def _cure_of_type(wanted: Wanted, offered: str) -> str:
    if {wanted.kind, offered} == {RAW, COMPRESSED}:
        transport = "compressed" if offered == COMPRESSED else "raw"
        return f"set parameter image_transport:={transport} (and image to the topic without /compressed)"
    return (
        f"set parameter {wanted.parameter} to another topic"
        if wanted.parameter
        else "another node uses the topic's name"
    )


def _said(qos: QoSProfile) -> str:
    words = (RELIABILITY.get(qos.reliability), DURABILITY.get(qos.durability))
    return " ".join(word for word in words if word)
