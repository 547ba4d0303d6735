"""The simulated tabletop, or its recorded clip, before the node `esam`, and RViz: ros2 launch esam_perception demo.launch.py

Then ask: ros2 topic pub --once /esam/query std_msgs/msg/String "{data: 'the red mug; a banana'}"
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    PopLaunchConfigurations,
    PushLaunchConfigurations,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from esam_perception.environment.distro import transport_environment
from launch import LaunchDescription

SHARE = Path(get_package_share_directory("esam_perception"))
CAMERAS = ("auto", "simulated", "clip")
# What simulated_camera ends with where it cannot render: no off-screen GL, or a package of the simulator is missing.
CANNOT_RENDER = 3


def generate_launch_description():
    environment = transport_environment(SHARE / "config" / "fastdds.xml")
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "esam.launch.py")),
        launch_arguments={
            "image": "/camera/image_raw",
            "depth": "/camera/depth/image_raw",
            "camera_info": "/camera/camera_info",
            "model": LaunchConfiguration("model"),
            "device": LaunchConfiguration("device"),
            "log_level": LaunchConfiguration("log_level"),
            "rviz": LaunchConfiguration("rviz"),
        }.items(),
    )
    return LaunchDescription([
        PushLaunchConfigurations(),  # and popped below: whatever is launched after this knows nothing of these values
        DeclareLaunchArgument("camera", default_value="auto", choices=CAMERAS,
                              description="simulated (needs requirements-tabletop.txt and GL), clip (recorded; needs "
                                          "neither), or auto: simulated, and clip where that cannot render"),
        DeclareLaunchArgument("model", default_value="tabletop", description="tabletop was trained on these scenes"),
        DeclareLaunchArgument("device", default_value="auto", description="auto, cpu, or cuda[:N]"),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
        DeclareLaunchArgument("rviz", default_value="true", description="start RViz with the package's view"),
        DeclareLaunchArgument("seed", default_value="900000", description="which scene"),
        DeclareLaunchArgument("rate", default_value="5.0", description="images a second"),
        DeclareLaunchArgument("scene_period", default_value="20.0", description="seconds of a scene; 0: one scene"),
        OpaqueFunction(function=lambda context: [start_camera(context.launch_configurations, environment)]),
        perception,
        PopLaunchConfigurations(),
    ])  # fmt: skip


def start_camera(arguments, environment):
    """The camera that the arguments choose. The demo never goes on without one: what ends is replaced, or ends it all."""
    rate = number("rate", arguments["rate"], float)
    clip = camera_node("file_camera", {"source": "clip", "rate": rate}, environment, end_without)
    if arguments["camera"] == "clip":
        return clip
    scene = {
        "seed": number("seed", arguments["seed"], int),
        "rate": rate,
        "scene_period": number("scene_period", arguments["scene_period"], float),
    }

    def replay_instead(event, context):
        if event.returncode != CANNOT_RENDER or context.is_shutdown:
            return end_without(event, context)
        told = "nothing can be rendered here (see above): replaying the recorded clip, as camera:=clip does at once"
        return [LogInfo(msg=told), clip]

    when_it_ends = replay_instead if arguments["camera"] == "auto" else end_without
    return camera_node("simulated_camera", scene, environment, when_it_ends)


def camera_node(executable, parameters, environment, when_it_ends):
    """A process of one of the package's cameras. when_it_ends: launch's on_exit."""
    return Node(
        package="esam_perception",
        executable=executable,
        name=executable,
        parameters=[parameters],
        additional_env=environment,
        output="screen",
        on_exit=when_it_ends,
    )


def end_without(event, context):
    """End the demo, because its camera has ended; nothing, where the demo is ending anyway."""
    if context.is_shutdown:
        return None
    told = f"the camera ended (exit code {event.returncode}), and the demo with it"
    return [LogInfo(msg=told), Shutdown(reason=told)]


def number(name, text, kind):
    """A launch argument as a number. Raises ValueError that names it."""
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"launch argument {name} is '{text}', it must be a number") from error
