"""The node `esam`, and RViz if asked for: ros2 launch esam_perception esam.launch.py image:=/camera/color/image_raw

An argument that is given wins over params_file; one that is not given leaves the parameter as params_file says.
"""

import os
import time
from pathlib import Path

from ament_index_python.packages import get_package_share_directory, get_packages_with_prefixes
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    PopLaunchConfigurations,
    PushLaunchConfigurations,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from esam_perception.environment.distro import distro_name, transport_environment
from launch import LaunchDescription

SHARE = Path(get_package_share_directory("esam_perception"))
# Arguments that are parameters of the node too.
BOOLEANS = ("use_sim_time", "autostart", "keep_queries")
STRINGS = ("image", "depth", "camera_info", "image_transport", "reliability", "target_frame", "model", "device")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
# Kept queries are those of this launch: a later one begins with its own.
RUN = f"{os.getpid()}-{time.time_ns()}"
# What config/esam.rviz shows, by the names it has without a namespace.
SHOWN = ("overlay", "overlay/compressed", "mask_view", "heatmap", "targets", "target_poses", "points")


def generate_launch_description():
    given = {}

    def note_given(context):
        # before the defaults are filled in below, only what the user gave is there
        given.update(context.launch_configurations)

    return LaunchDescription([
        OpaqueFunction(function=note_given),
        # and popped below: in a file that includes this one twice, the second time must not take the defaults that were
        # filled in the first time for what the user gave
        PushLaunchConfigurations(),
        DeclareLaunchArgument("namespace", default_value="", description="puts esam/... topics below it"),
        DeclareLaunchArgument("cameras", default_value="",
                              description="names, separated by commas: one node each, in a namespace of its name; topics "
                                          "may say {camera}, the image's default is then /{camera}/image_raw"),
        DeclareLaunchArgument("params_file", default_value=str(SHARE / "config" / "esam.yaml"),
                              description="the node's parameters, under /**: a key `esam` applies without a namespace only"),
        DeclareLaunchArgument("use_sim_time", default_value="false", description="take the time from /clock"),
        DeclareLaunchArgument("autostart", default_value="true", description="configure and activate at start"),
        DeclareLaunchArgument("log_level", default_value="info",
                              description="of the node's own log: debug, info, warn, error or fatal"),
        DeclareLaunchArgument("image", default_value="/camera/image_raw", description="topic of the camera's images"),
        DeclareLaunchArgument("depth", default_value="", description="topic of registered depth images; empty: off"),
        DeclareLaunchArgument("camera_info", default_value="", description="topic of intrinsics; empty: beside image"),
        DeclareLaunchArgument("image_transport", default_value="raw", description="raw, or compressed"),
        DeclareLaunchArgument("reliability", default_value="best_effort",
                              description="of the image and depth subscriptions: best_effort, or reliable"),
        DeclareLaunchArgument("target_frame", default_value="",
                              description="frame of esam/targets and esam/target_poses, by TF; empty: the image's"),
        DeclareLaunchArgument("model", default_value="auto",
                              description="tabletop, blip_base, blip_large, auto, or a directory"),
        DeclareLaunchArgument("device", default_value="auto", description="auto, cpu, or cuda[:N]"),
        DeclareLaunchArgument("rviz", default_value="false", description="start RViz with the package's view"),
        DeclareLaunchArgument("respawn", default_value="false", description="start the node again when it dies"),
        DeclareLaunchArgument("keep_queries", default_value="false",
                              description="restore the active queries when the node is started again; true under respawn"),
        DeclareLaunchArgument("fastdds_profile", default_value=str(SHARE / "config" / "fastdds.xml"),
                              description="XML with shared memory for large images; empty: none"),
        OpaqueFunction(function=lambda context: start(context.launch_configurations, given)),
        PopLaunchConfigurations(),
    ])  # fmt: skip


def start(arguments, given):
    """The nodes for these values of the arguments. given: those that the user gave."""
    cameras = [name.strip() for name in arguments["cameras"].split(",") if name.strip()]
    if len(set(cameras)) < len(cameras):
        raise ValueError(f"launch argument cameras: a name is there twice in '{arguments['cameras']}'")
    if not cameras:
        return start_one(arguments, given)
    return [node for camera in cameras for node in start_one(*of_camera(camera, arguments, given))]


def of_camera(camera, arguments, given):
    """(arguments, given) of the node of one camera among several: nothing is shared but the values."""
    mine = {**arguments, "namespace": f"{arguments['namespace'].strip('/')}/{camera}"}
    told = {**given, "image": given.get("image", "/{camera}/image_raw")}
    for name in ("image", "depth", "camera_info"):
        text = told.get(name)
        if text and "{camera}" not in text:
            raise ValueError(f"launch argument {name} is '{text}': with several cameras it must say {{camera}}")
        if text:
            mine[name] = told[name] = text.replace("{camera}", camera)
    return mine, told


def start_one(arguments, given):
    """One node, and RViz for it if it was asked for."""
    namespace = arguments["namespace"].strip("/")
    environment = transport_environment(arguments["fastdds_profile"])
    if not Path(arguments["params_file"]).is_file():
        raise FileNotFoundError(f"launch argument params_file: there is no file '{arguments['params_file']}'")
    overrides = {name: is_true(name, arguments[name]) for name in BOOLEANS if name in given}
    # a bare string would be read as YAML: "" as nothing, "1" as a number
    overrides.update({name: ParameterValue(arguments[name], value_type=str) for name in STRINGS if name in given})
    respawn = is_true("respawn", arguments["respawn"])
    if respawn and "keep_queries" not in given:
        overrides["keep_queries"] = True
    nodes = [
        Node(
            package="esam_perception",
            executable="esam",
            name="esam",
            namespace=namespace,
            parameters=[arguments["params_file"], overrides],
            arguments=["--ros-args", "--log-level", log_level(namespace, arguments)],
            # the parameter `image` wins over this, also where params_file sets it
            remappings=[("image", arguments["image"])],
            additional_env={**environment, "ESAM_RUN": RUN},
            output="screen",
            respawn=respawn,
            respawn_delay=2.0,
        )
    ]
    if is_true("rviz", arguments["rviz"]):
        nodes.append(rviz(namespace, is_true("use_sim_time", arguments["use_sim_time"]), environment))
    return nodes


def log_level(namespace, arguments):
    """LOGGER:=LEVEL for the node's own logger: a level alone would turn on ROS' logs too, a thousand lines a minute.

    The logger's name holds the namespace, and a file that includes this one may push its own before it."""
    level = arguments["log_level"].lower()
    if level not in LOG_LEVELS:
        raise ValueError(f"launch argument log_level is '{level}', it must be one of: {', '.join(LOG_LEVELS)}")
    names = f"{arguments.get('ros_namespace', '')}/{namespace}/esam".split("/")
    return f"{'.'.join(name for name in names if name)}:={level}"


def rviz(namespace, use_sim_time, environment):
    """RViz with config/esam.rviz, or a line that says how to get it."""
    if "rviz2" not in get_packages_with_prefixes():
        distro = distro_name() or "<distro>"
        return LogInfo(msg=f"rviz2 is not installed: sudo apt-get install -y ros-{distro}-rviz2")
    remappings = [(f"/esam/{topic}", f"/{namespace}/esam/{topic}") for topic in SHOWN if namespace]
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(SHARE / "config" / "esam.rviz")],
        parameters=[{"use_sim_time": use_sim_time}],
        remappings=remappings,
        additional_env=environment,
        output="log",
    )


def is_true(name, text):
    """A launch argument as bool. Raises ValueError for what is neither true nor false."""
    words = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in words:
        raise ValueError(f"launch argument {name} is '{text}', it must be true or false")
    return words[text.lower()]
