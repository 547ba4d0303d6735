"""The parameters of the node `esam`: one table of name, default, meaning and range. config/esam.yaml holds the same."""

from __future__ import annotations

from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name

TOPICS = ("image", "depth", "camera_info")


@dataclass(frozen=True)
class Parameter:
    """low, high: inclusive range of numbers. choices: the words a string may be. read_only: fixed at start."""

    name: str
    default: bool | int | float | str
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """What ROS shows of it and enforces."""
        described = ParameterDescriptor(description=self.description, read_only=self.read_only)
        if self.choices:
            described.additional_constraints = "one of: " + ", ".join(self.choices)
        if self.low is not None and isinstance(self.default, float):
            described.floating_point_range = [FloatingPointRange(from_value=float(self.low), to_value=float(self.high))]
        elif self.low is not None:
            described.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high), step=1)]
        return described


PARAMETERS = (
    Parameter("autostart", True, "configure and activate at start; false: wait for a lifecycle manager", read_only=True),
    Parameter("model", "auto", "profile: auto, tabletop, blip_base, blip_large, or a directory with a profile.yaml"),
    Parameter("device", "auto", "auto (CUDA if there is one), cpu, or cuda[:N]"),
    Parameter("precision", "auto", "of matrix products: auto (bfloat16 on CUDA, float32 on CPU), float32, bfloat16", choices=("auto", "float32", "bfloat16")),
    Parameter("threads", 0, "CPU threads of torch; 0: chosen by a short measurement in configure", 0, 256),
    Parameter("image", "/camera/image_raw", "topic of the camera's images"),
    Parameter("image_transport", "raw", "raw (sensor_msgs/Image) or compressed (<image>/compressed)", choices=("raw", "compressed")),
    Parameter("camera_info", "", "topic of the intrinsics; empty: camera_info beside the image topic"),
    Parameter("depth", "", "topic of depth images registered to the image; empty: no 3D targets"),
    Parameter("sync_tolerance", 0.02, "seconds that the stamps of a depth image and its image may differ", 0.0, 1.0),
    Parameter("min_target_pixels", 50, "a segment needs this many pixels with a valid depth to have a 3D target", 3, 1_000_000),
    Parameter("target_frame", "", "frame of esam/targets and esam/target_poses, by TF at the image's stamp; empty: the image's"),
    Parameter("tf_wait", 0.3, "seconds that esam/targets and esam/target_poses wait for a transform that TF does not know yet; 0: never", 0.0, 60.0),
    Parameter("reliability", "best_effort", "of the image and depth subscriptions: best_effort takes from any camera", choices=("best_effort", "reliable")),
    Parameter("queries", "", "queries that are active at start, separated by ;"),
    Parameter("match_threshold", 0.0, "ITM scores from here on are a MATCH; 0: the profile's", 0.0, 1.0),
    Parameter("reject_threshold", 0.0, "ITM scores below are a NO_MATCH; 0: the profile's", 0.0, 1.0),
    Parameter("segment_always", False, "give segments whatever the verdict"),
    Parameter("region_scores", False, "score every segment's masked crop by itself (one more BLIP image encoding each)"),
    Parameter("hysteresis", 0.0, "a verdict stays until the score passes its threshold by this much; 0: off", 0.0, 0.5),
    Parameter("stable_labels", False, "a segment keeps its label while its thing stays in view"),
    Parameter("frame_budget", 0.0, "seconds a frame may take: beyond, only a part of the queries is asked, in rotation; 0: all, always", 0.0, 3600.0),
    Parameter("frame_buffer", 10, "frames that are kept for /esam/locate to ask about by stamp", 1, 1000),
    Parameter("locate_queue", 4, "calls of /esam/locate that may wait; those beyond are refused", 1, 64, read_only=True),
    Parameter("max_age", 0.0, "seconds; frames older than this when their turn comes are dropped and counted; 0: never", 0.0, 3600.0),
    Parameter("jpeg_quality", 85, "of overlay/compressed", 1, 100),
)  # fmt: skip


def declare(node) -> None:
    """Declare all of them on a node, with their descriptions and ranges; later changes are checked."""
    for parameter in PARAMETERS:
        node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())
    node.add_on_set_parameters_callback(_checked)


def _checked(changes) -> SetParametersResult:
    """Refuse words that are not among a parameter's choices, and topics that are no names. (ROS itself refuses wrong types
    and numbers out of range.) A change of a topic, model or device takes effect with the next configure or activate."""
    known = {parameter.name: parameter for parameter in PARAMETERS}
    for change in changes:
        parameter = known.get(change.name)
        if parameter and parameter.choices and change.value not in parameter.choices:
            return SetParametersResult(successful=False, reason=_not_a_choice(parameter, change.value))
        if change.name in TOPICS and change.value:
            try:
                validate_topic_name(change.value)
            except InvalidTopicNameException as error:
                reason = f"parameter {change.name}: {' '.join(str(error).split())}"
                return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def _not_a_choice(parameter: Parameter, given: object) -> str:
    return f"parameter {parameter.name} is '{given}', it must be one of: {', '.join(parameter.choices)}"


def value(node, name: str):
    """The value of a declared parameter. Raises ValueError for a word that is not among its choices."""
    parameter = next(p for p in PARAMETERS if p.name == name)
    given = node.get_parameter(name).value
    if parameter.choices and given not in parameter.choices:
        raise ValueError(_not_a_choice(parameter, given))
    return given
