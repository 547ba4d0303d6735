"""The parameters of the node `esam`: one table of name, default, meaning, range, and when a change applies.

config/esam.yaml holds the same. The node reads them as one immutable `Settings`, which a change replaces.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, cast

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name

from esam_perception.errors import EsamError
from esam_perception.ros.node.private import parameter_overrides
from esam_perception.stream.session import Options

Value = bool | int | float | str
# What ROS itself gives every node.
ROS_PARAMETERS = ("use_sim_time", "start_type_description_service", "qos_overrides")


class BadParameter(EsamError):
    """A parameter that cannot be taken; the text names it, what it is and what it must be."""


class Applies(Enum):
    """When a change of a parameter takes effect, as its description says."""

    AT_ONCE = "applies at once"
    ACTIVATE = "applies at the next activation; refused while active"
    CONFIGURE = "applies at the next configure; refused while configured"
    START = "fixed at start"


def _parameter(
    default: Any,
    applies: Applies,
    description: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    topic: bool = False,
) -> Any:
    told = {"applies": applies, "description": description, "range": (low, high), "choices": choices, "topic": topic}
    return dataclasses.field(default=default, metadata=told)


ONCE, ACTIVATE, CONFIGURE, START = Applies.AT_ONCE, Applies.ACTIVATE, Applies.CONFIGURE, Applies.START


@dataclass(frozen=True)
class Settings:
    """The values of all parameters at one moment."""

    autostart: bool = _parameter(True, START, "configure and activate at start; false: wait for a lifecycle manager")
    model: str = _parameter(
        "auto", CONFIGURE, "profile: auto, tabletop, blip_base, blip_large, or a directory with a profile.yaml"
    )
    device: str = _parameter("auto", CONFIGURE, "auto (CUDA if there is one), cpu, or cuda[:N]")
    precision: str = _parameter(
        "auto",
        CONFIGURE,
        "of matrix products: auto (bfloat16 on CUDA, float32 on CPU), float32, bfloat16",
        choices=("auto", "float32", "bfloat16"),
    )
    threads: int = _parameter(
        0, CONFIGURE, "CPU threads of torch; 0: chosen by a short measurement in configure", 0, 256
    )
    image: str = _parameter(
        "", ACTIVATE, "topic of the camera's images; empty: the relative topic image, which can be remapped", topic=True
    )
    image_transport: str = _parameter(
        "raw", ACTIVATE, "raw (sensor_msgs/Image) or compressed (<image>/compressed)", choices=("raw", "compressed")
    )
    camera_info: str = _parameter(
        "",
        ACTIVATE,
        "topic of the intrinsics; empty: the topic camera_info where that is remapped, else camera_info beside the images",
        topic=True,
    )
    depth: str = _parameter(
        "",
        CONFIGURE,
        "topic of depth images registered to the image; empty: the topic depth where that is remapped, else no 3D targets",
        topic=True,
    )
    sync_tolerance: float = _parameter(
        0.02, ONCE, "seconds that the stamps of a depth image and its image may differ", 0.0, 1.0
    )
    min_target_pixels: int = _parameter(
        50, ONCE, "a segment needs this many pixels with a valid depth to have a 3D target", 3, 1_000_000
    )
    target_frame: str = _parameter(
        "", CONFIGURE, "frame of targets and target_poses, by TF at the image's stamp; empty: the image's"
    )
    tf_wait: float = _parameter(
        0.3,
        ONCE,
        "seconds that targets and target_poses wait for a transform that TF does not know yet; 0: never",
        0.0,
        60.0,
    )
    reliability: str = _parameter(
        "best_effort",
        ACTIVATE,
        "of the image and depth subscriptions: best_effort takes from any camera",
        choices=("best_effort", "reliable"),
    )
    queries: str = _parameter("", ONCE, "the active queries, separated by ; (as a message on query)")
    keep_queries: bool = _parameter(
        False,
        START,
        "keep the active queries in a file below ROS_HOME and restore them at start: for nodes that are started again when they die",
    )
    match_threshold: float = _parameter(0.0, ONCE, "ITM scores from here on are a MATCH; 0: the profile's", 0.0, 1.0)
    reject_threshold: float = _parameter(
        0.0, ONCE, "ITM scores below are a NO_MATCH, at most the match threshold; 0: the profile's", 0.0, 1.0
    )
    segment_always: bool = _parameter(False, ONCE, "give segments whatever the verdict")
    region_scores: bool = _parameter(
        False, ONCE, "score every segment's masked crop by itself (one more BLIP image encoding each)"
    )
    hysteresis: float = _parameter(
        0.0, ONCE, "a verdict stays until the score passes its threshold by this much; 0: off", 0.0, 0.5
    )
    stable_labels: bool = _parameter(False, ONCE, "a segment keeps its label while its thing stays in view")
    frame_budget: float = _parameter(
        0.0,
        ONCE,
        "seconds a frame may take: beyond, only a part of the queries is asked, in rotation; 0: all, always",
        0.0,
        3600.0,
    )
    frame_buffer: int = _parameter(10, ACTIVATE, "frames that are kept for locate to ask about by stamp", 1, 1000)
    locate_queue: int = _parameter(4, START, "calls of locate that may wait; those beyond are refused", 1, 64)
    max_age: float = _parameter(
        0.0,
        ONCE,
        "seconds; frames older than this when their turn comes are dropped and counted; 0: never",
        0.0,
        3600.0,
    )
    jpeg_quality: int = _parameter(85, ONCE, "of overlay/compressed", 1, 100)

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """The settings with these values, checked. Names that are none of ours are left out. Raises BadParameter."""
        ours: dict[str, Any] = {
            name: BY_NAME[name].checked(value) for name, value in changes.items() if name in BY_NAME
        }
        return dataclasses.replace(self, **ours)  # fmt: skip

    def options(self) -> Options:
        """Those that frames are worked on with."""
        return Options(**{option.name: getattr(self, option.name) for option in fields(Options)})


@dataclass(frozen=True)
class Parameter:
    """A row of the table. low, high: inclusive range of numbers. choices: the words a string may be."""

    name: str
    default: Value
    applies: Applies
    description: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    is_topic: bool

    def descriptor(self) -> ParameterDescriptor:
        """What ROS shows of it and enforces. A float's type is left to `checked`, which takes an integer for one."""
        described = ParameterDescriptor(
            description=f"{self.description}; {self.applies.value}",
            read_only=self.applies is START,
            dynamic_typing=isinstance(self.default, float),
        )
        if self.choices:
            described.additional_constraints = "one of: " + ", ".join(self.choices)
        if self.low is not None and self.high is not None:
            if isinstance(self.default, float):
                limits = FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
                described.floating_point_range = [limits]
            else:
                described.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high), step=1)]
        return described

    def checked(self, value: Any) -> Any:
        """The value as the parameter's own type. Raises BadParameter."""
        wanted: type = type(self.default)
        if wanted is float and type(value) is int:
            value = float(value)
        is_right = type(value) is wanted
        if not is_right:
            raise BadParameter(f"parameter {self.name} is {value!r}: wrong type, it must be a {wanted.__name__}")
        if self.low is not None and self.high is not None and not self.low <= value <= self.high:
            raise BadParameter(
                f"parameter {self.name} is {value}: out of range, it must be in {self.low:g}..{self.high:g}"
            )
        if self.choices and value not in self.choices:
            raise BadParameter(f"parameter {self.name} is '{value}', it must be one of: {', '.join(self.choices)}")
        if self.is_topic and value:
            try:
                validate_topic_name(value)
            except InvalidTopicNameException as error:
                raise BadParameter(f"parameter {self.name}: {' '.join(str(error).split())}") from error
        return value


def _row(field: dataclasses.Field[Any]) -> Parameter:
    told = field.metadata
    low, high = told["range"]
    return Parameter(
        field.name,
        cast(Value, field.default),
        told["applies"],
        told["description"],
        low,
        high,
        told["choices"],
        told["topic"],
    )


PARAMETERS = tuple(_row(field) for field in fields(Settings))
BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


def declare(node: Any) -> tuple[Settings, dict[str, str]]:
    """Declare all parameters on a node. Returns the settings that it starts with, and by name what cannot be taken of
    what it was given: the default stands in, and configure must not go on."""
    given = parameter_overrides(node)
    problems: dict[str, str] = {}
    values: dict[str, Any] = {}
    for parameter in PARAMETERS:
        value = parameter.default
        if parameter.name in given:
            try:
                value = parameter.checked(given[parameter.name])
            except BadParameter as error:
                problems[parameter.name] = str(error)
        values[parameter.name] = value
        node.declare_parameter(parameter.name, value, parameter.descriptor(), ignore_override=True)
    return Settings(**values), problems


def unknown_names(node: Any) -> list[str]:
    """The parameters that the node was given and does not have, as they are spelt."""
    known = (*BY_NAME, *ROS_PARAMETERS)
    return sorted(name for name in parameter_overrides(node) if name.split(".")[0] not in known)


def check_time(changes: Mapping[str, Any], configured: bool, active: bool) -> None:
    """Raise BadParameter for a change that cannot apply in the node's state."""
    for name in changes:
        applies = BY_NAME[name].applies if name in BY_NAME else ONCE
        if applies is CONFIGURE and configured:
            raise BadParameter(f"parameter {name} {ONLY[CONFIGURE]}: deactivate and clean up first")
        if applies is ACTIVATE and active:
            raise BadParameter(f"parameter {name} {ONLY[ACTIVATE]}: deactivate first")


ONLY = {CONFIGURE: "applies at the next configure", ACTIVATE: "applies at the next activation"}
