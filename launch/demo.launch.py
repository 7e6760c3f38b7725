"""A recording as live cameras, and the scene node listening to them.

ros2 launch wildseg3d demo.launch.py rviz:=true
ros2 action send_goal --feedback /build_scene wildseg3d_msgs/action/BuildScene
"""

import os
from pathlib import Path

from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

SHARE = FindPackageShare("wildseg3d")


def generate_launch_description():
    """Declares the arguments and starts the nodes."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "data",
                default_value=PathJoinSubstitution([SHARE, "examples", "tabletop"]),
                description="folder with transforms.json that is published as live cameras",
            ),
            DeclareLaunchArgument(
                "config",
                default_value=PathJoinSubstitution([SHARE, "config", "demo.yaml"]),
                description="parameter file of the scene node; its cameras are those of the data",
            ),
            DeclareLaunchArgument(
                "rate", default_value="2.0", description="frames per second of every camera [Hz]"
            ),
            DeclareLaunchArgument(
                "tf",
                default_value="static",
                choices=["static", "dynamic", "none"],
                description="how the cameras' poses are published",
            ),
            DeclareLaunchArgument(
                "namespace",
                default_value="",
                description="namespace of the node's action, service and topics",
            ),
            DeclareLaunchArgument(
                "log_level",
                default_value="info",
                choices=["debug", "info", "warn", "error", "fatal"],
                description="how much the node logs",
            ),
            DeclareLaunchArgument(
                "rviz",
                default_value="false",
                choices=["true", "false"],
                description="show the scene in RViz",
            ),
            *large_data(),
            Node(
                package="wildseg3d",
                executable="replay_node",
                arguments=[
                    LaunchConfiguration("data"),
                    "--rate",
                    LaunchConfiguration("rate"),
                    "--tf",
                    LaunchConfiguration("tf"),
                ],
                output="screen",
                emulate_tty=True,
            ),
            Node(
                package="wildseg3d",
                executable="scene_node",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("config")],
                ros_arguments=["--log-level", LaunchConfiguration("log_level")],
                output="screen",
                emulate_tty=True,
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=LaunchConfiguration("namespace"),
                arguments=["-d", PathJoinSubstitution([SHARE, "config", "scene.rviz"])],
                # The displays are set up for a camera named front.
                remappings=[
                    ("/front/color/image_raw", "/cam_0/color/image_raw"),
                    ("front/labels", "cam_0/labels"),
                ],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )


def large_data():
    """Transports that camera images fit through, unless the user chose some."""
    name = "FASTDDS_BUILTIN_TRANSPORTS"
    chosen = {name, "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"}
    if chosen & set(os.environ) or Path("DEFAULT_FASTDDS_PROFILES.xml").exists():
        return []
    return [SetEnvironmentVariable(name, "LARGE_DATA")]
