"""The scene node with a rig's configuration; RViz and a viewer for clicks if wanted.

ros2 launch wildseg3d scene.launch.py config:=/path/to/rig.yaml rviz:=true
"""

import os
from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

CONFIG = PathJoinSubstitution([FindPackageShare("wildseg3d"), "config"])
SLOTS = ("front", "left", "right", "back")  # the cameras that config/scene.rviz has displays for


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
                description="namespace of the node's actions, services and topics; also of its "
                "cameras' topics, where the configuration does not name them with a leading /",
            ),
            DeclareLaunchArgument(
                "device",
                default_value="",
                description="where networks and solver run: auto, cpu, cuda or cuda:N; empty: as "
                "the configuration says",
            ),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                choices=["true", "false"],
                description="configure and activate the node; false: a lifecycle manager does",
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
                description="show scene, selection and overlays in RViz; Publish Point selects",
            ),
            DeclareLaunchArgument(
                "viewer",
                default_value="false",
                choices=["true", "false"],
                description="show the first camera's overlay in rqt_image_view, for clicks",
            ),
            DeclareLaunchArgument(
                "cameras",
                default_value=",".join(SLOTS),
                description="cameras that RViz and the viewer show: up to four names, by commas",
            ),
            *large_data(),
            OpaqueFunction(function=start),
        ]
    )


def start(context):
    """The nodes, by the values of the arguments."""
    given = LaunchConfiguration("cameras").perform(context)
    cameras = [name.strip() for name in given.split(",") if name.strip()]
    settings = {
        "autostart": LaunchConfiguration("autostart").perform(context) == "true",
        "use_sim_time": LaunchConfiguration("use_sim_time").perform(context) == "true",
    }
    device = LaunchConfiguration("device").perform(context)
    if device:
        from wildseg3d_ros.config import SceneConfig
        from wildseg3d_ros.core.settings import walk

        names = [each.name for each in walk(SceneConfig())]
        settings |= {name: device for name in names if name.endswith(".device")}
    namespace = LaunchConfiguration("namespace").perform(context).strip("/")
    shown = "/".join(["", *filter(None, [namespace]), *cameras[:1], "overlay"])
    return [
        Node(
            package="wildseg3d",
            executable="scene_node",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("config"), settings],
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            output="screen",
            emulate_tty=True,
        ),
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=LaunchConfiguration("namespace"),
            arguments=["-d", PathJoinSubstitution([CONFIG, "scene.rviz"])],
            parameters=[{"use_sim_time": settings["use_sim_time"]}],
            remappings=[
                (f"{slot}/overlay", f"{camera}/overlay")
                for slot, camera in zip(SLOTS, cameras, strict=False)
            ],
            condition=IfCondition(LaunchConfiguration("rviz")),
        ),
        Node(
            package="rqt_image_view",
            executable="rqt_image_view",
            arguments=[shown],
            condition=IfCondition(LaunchConfiguration("viewer")),
        ),
    ]


def large_data():
    """Transports that images and clouds fit through, unless the user chose some."""
    # Fast DDS 3, of ROS 2 after Jazzy, has another name for the variable.
    old = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    transports = "FASTDDS_BUILTIN_TRANSPORTS"
    files = ["FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"]
    if {transports, *files} & set(os.environ) or Path("DEFAULT_FASTDDS_PROFILES.xml").exists():
        return []
    return [
        SetEnvironmentVariable(files[old], PathJoinSubstitution([CONFIG, "fastdds.xml"])),
        SetEnvironmentVariable(transports, "LARGE_DATA"),
    ]
