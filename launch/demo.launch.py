"""The simulated tabletop before the node `esam`, and RViz: ros2 launch esam_perception demo.launch.py

Then ask: ros2 topic pub --once /esam/query std_msgs/msg/String "{data: 'the red mug; a banana'}"
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    PopLaunchConfigurations,
    PushLaunchConfigurations,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from esam_perception.ros.distro import transport_environment

SHARE = Path(get_package_share_directory("esam_perception"))


def generate_launch_description():
    camera = Node(
        package="esam_perception",
        executable="simulated_camera",
        name="simulated_camera",
        parameters=[{
            "seed": ParameterValue(LaunchConfiguration("seed"), value_type=int),
            "rate": ParameterValue(LaunchConfiguration("rate"), value_type=float),
            "scene_period": ParameterValue(LaunchConfiguration("scene_period"), value_type=float),
        }],
        additional_env=transport_environment(SHARE / "config" / "fastdds.xml"),
        output="screen",
    )  # fmt: skip
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
        DeclareLaunchArgument("model", default_value="tabletop", description="tabletop was trained on these scenes"),
        DeclareLaunchArgument("device", default_value="auto", description="auto, cpu, or cuda[:N]"),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
        DeclareLaunchArgument("rviz", default_value="true", description="start RViz with the package's view"),
        DeclareLaunchArgument("seed", default_value="900000", description="which scene"),
        DeclareLaunchArgument("rate", default_value="5.0", description="images a second"),
        DeclareLaunchArgument("scene_period", default_value="20.0", description="seconds of a scene; 0: one scene"),
        camera,
        perception,
        PopLaunchConfigurations(),
    ])  # fmt: skip
