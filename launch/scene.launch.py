"""The scene node with a rig's configuration; RViz and a viewer for clicks if wanted.

ros2 launch wildseg3d scene.launch.py config:=/path/to/rig.yaml rviz:=true
"""

import os
import tempfile
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import evaluate_condition_expression
from launch.event_handlers import OnShutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

CONFIG = PathJoinSubstitution([FindPackageShare("wildseg3d"), "config"])
FLAGS = ["true", "false", "True", "False", "1", "0"]
RESPAWN_DELAY = 2.0  # seconds


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
                choices=FLAGS,
                description="true: configure and activate the node; false: a lifecycle manager "
                "does",
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="false",
                choices=FLAGS,
                description="true: take the time from /clock",
            ),
            DeclareLaunchArgument(
                "respawn",
                default_value="false",
                choices=FLAGS,
                description="true: start the node again when it dies; false: its death ends the "
                "launch",
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
                choices=FLAGS,
                description="true: show scene, selection and overlays in RViz; Publish Point "
                "selects",
            ),
            DeclareLaunchArgument(
                "rviz_fixed_frame",
                default_value="",
                description="TF frame that RViz draws in; empty: the configuration's world_frame",
            ),
            DeclareLaunchArgument(
                "viewer",
                default_value="false",
                choices=FLAGS,
                description="true: show the first camera's overlay in rqt_image_view, for clicks",
            ),
            DeclareLaunchArgument(
                "cameras",
                default_value="",
                description="cameras that RViz and the viewer show, by commas; empty: all of the "
                "configuration",
            ),
            *large_data(),
            OpaqueFunction(function=start),
        ]
    )


def start(context):
    """The nodes, by the values of the arguments."""

    def text(name):
        return LaunchConfiguration(name).perform(context).strip()

    def flag(name):
        return evaluate_condition_expression(context, [LaunchConfiguration(name)])

    settings = {"autostart": flag("autostart"), "use_sim_time": flag("use_sim_time")}
    if text("device"):
        from wildseg3d_ros.config import SceneConfig
        from wildseg3d_ros.core.settings import walk

        names = [each.name for each in walk(SceneConfig())]
        settings |= {name: text("device") for name in names if name.endswith(".device")}
    respawn = flag("respawn")
    node = Node(
        package="wildseg3d",
        executable="scene_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("config"), settings],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        emulate_tty=True,
        respawn=respawn,
        respawn_delay=RESPAWN_DELAY,
        on_exit=None if respawn else [Shutdown(reason="the scene node has ended")],
    )
    shown = {"rviz": flag("rviz"), "viewer": flag("viewer")}
    if not any(shown.values()):
        return [node]
    return [node, *windows(context, text, shown, settings["use_sim_time"])]


def windows(context, text, shown, use_sim_time):
    """RViz and the viewer, where they are installed; else a line that says what to install."""
    from wildseg3d_ros.ros.rviz import rig_of

    cameras, frame = rig_of(text("config"))
    cameras = [name.strip() for name in text("cameras").split(",") if name.strip()] or cameras
    actions = []
    if shown["rviz"]:
        actions += installed("rviz2") or rviz(
            context, cameras, text("rviz_fixed_frame") or frame, use_sim_time
        )
    if shown["viewer"]:
        topic = "/".join(["", *filter(None, [text("namespace").strip("/")]), *cameras[:1]])
        view = Node(
            package="rqt_image_view", executable="rqt_image_view", arguments=[f"{topic}/overlay"]
        )
        actions += installed("rqt_image_view") or [view]
    return actions


def installed(package):
    """Nothing, or the line that says that the rest runs without it."""
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        debian = f"ros-{os.environ.get('ROS_DISTRO', '$ROS_DISTRO')}-{package.replace('_', '-')}"
        return [
            LogInfo(
                msg=f"{package} is not installed, the rest runs without it. To have it: "
                f"sudo apt-get install {debian}"
            )
        ]
    return []


def rviz(context, cameras, fixed_frame, use_sim_time):
    """RViz with a configuration of these cameras, which is removed when the launch ends."""
    from wildseg3d_ros.ros.rviz import write_rviz_config

    folder = tempfile.TemporaryDirectory(prefix="wildseg3d_rviz_")
    path = Path(folder.name) / "scene.rviz"
    template = PathJoinSubstitution([CONFIG, "scene.rviz"]).perform(context)
    write_rviz_config(path, template, cameras, fixed_frame)
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=LaunchConfiguration("namespace"),
            arguments=["-d", str(path)],
            parameters=[{"use_sim_time": use_sim_time}],
        ),
        RegisterEventHandler(OnShutdown(on_shutdown=lambda *_: folder.cleanup())),
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
