"""The scene node with a rig's configuration, and RViz if wanted.

ros2 launch wildseg3d scene.launch.py config:=/path/to/rig.yaml rviz:=true
"""

import os
from pathlib import Path

from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

CONFIG = PathJoinSubstitution([FindPackageShare("wildseg3d"), "config"])


def generate_launch_description():
    """Declares the arguments and starts the nodes."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "config",
                default_value=PathJoinSubstitution([CONFIG, "four_rgbd.yaml"]),
                description="parameter file of the rig: cameras, topics, settings of the pipeline",
            ),
            DeclareLaunchArgument(
                "namespace",
                default_value="",
                description="namespace of the node's action, service and topics",
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="false",
                choices=["true", "false"],
                description="take the time from /clock",
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
                executable="scene_node",
                namespace=LaunchConfiguration("namespace"),
                parameters=[
                    LaunchConfiguration("config"),
                    {"use_sim_time": LaunchConfiguration("use_sim_time")},
                ],
                ros_arguments=["--log-level", LaunchConfiguration("log_level")],
                output="screen",
                emulate_tty=True,
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=LaunchConfiguration("namespace"),
                arguments=["-d", PathJoinSubstitution([CONFIG, "scene.rviz"])],
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
