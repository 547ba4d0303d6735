"""The contract's messages as ROS' own classes (see contract.py); clouds and markers are in target_messages."""

from __future__ import annotations

from types import SimpleNamespace

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point32
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from esam_perception import msg
from esam_perception.contract import Messages

ROS = Messages(
    SimpleNamespace(
        Time=Time, Point32=Point32, CompressedImage=CompressedImage, Image=Image, Header=Header, Match=msg.Match,
        MatchArray=msg.MatchArray, Query=msg.Query, QueryArray=msg.QueryArray, Segment=msg.Segment, Timing=msg.Timing,
    )
)  # fmt: skip
