"""sensor_msgs' fields in plain classes: what reads a message asks for no more, so that most tests of it need no ROS."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Image:
    """The fields of sensor_msgs/Image."""

    header: Any = None
    height: int = 0
    width: int = 0
    encoding: str = ""
    is_bigendian: int = 0
    step: int = 0
    data: Any = b""


@dataclass
class CompressedImage:
    """The fields of sensor_msgs/CompressedImage."""

    header: Any = None
    format: str = ""
    data: Any = b""
