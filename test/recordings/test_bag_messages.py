"""The contract's messages for bags, beside those of ROS."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")

from esam_perception.recordings.bag_messages import bag_types
from esam_perception.types import Verdict
from test.matches import make_match
from test.recordings.bag_maker import START
from test.recordings.replaying import QUERIES


def test_messages_for_bags_are_those_of_ros():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from rclpy.serialization import serialize_message

    from esam_perception.contract import Counts, Messages
    from esam_perception.ros.wire.messages import ROS
    from esam_perception.types import Provenance, Target3D, Timing

    found = [make_match(3, Verdict.MATCH, slice(2, 5), 0.9), make_match(4, Verdict.UNSURE, slice(1, 2), 0.5)]
    target = Target3D(
        np.array([0.1, 0.2, 0.9]), np.eye(3), np.array([0.3, 0.2, 0.1]), np.zeros(3), np.eye(6) * 1e-4, 50
    )
    found[0] = replace(found[0], segments=(replace(found[0].segments[0], target=target),))
    by, counts = Provenance("p", "abc"), Counts(2**40, 1, 2)
    timing, types = Timing(preprocess=1.5, total=7.25), bag_types()
    ros = ROS.match_array(found, timing, ROS.header(START + 5, "cam"), by, counts)
    bag = Messages(types)
    ours = bag.match_array(found, timing, bag.header(START + 5, "cam"), by, counts)
    # ROS leaves garbage in the padding of its CDR: read and written again, it is zero
    by_ros = types.store.deserialize_cdr(serialize_message(ros), types.full_name("MatchArray"))
    expected = bytes(types.serialize(by_ros, "MatchArray"))
    assert bytes(types.serialize(ours, "MatchArray")) == expected and len(expected) == len(serialize_message(ros))
    assert by_ros.matches[0].segments[0].has_target and by_ros.matches[0].segments[0].target.pose.position.z == 0.9
    # any object with the fields will do
    assert bytes(types.serialize(ros, "MatchArray")) == expected
    queries = bag.query_array(QUERIES, types.Header())
    told = types.store.deserialize_cdr(types.serialize(queries, "QueryArray"), types.full_name("QueryArray"))
    assert [(q.id, q.text) for q in told.queries] == [("mug", "the red mug"), ("a banana", "a banana")]
