"""A recording as live cameras, and the scene node listening to them.

ros2 launch wildseg3d demo.launch.py rviz:=true
ros2 action send_goal --feedback /build_scene wildseg3d_msgs/action/BuildScene "{}"
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

SHARE = FindPackageShare("wildseg3d")


def generate_launch_description():
    """Declares the arguments and starts the nodes; scene.launch.py has further arguments."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "data",
                default_value=PathJoinSubstitution([SHARE, "examples", "tabletop"]),
                description="folder with transforms.json that is published as live cameras",
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
                "namespace", default_value="", description="namespace of both nodes"
            ),
            DeclareLaunchArgument(
                "config",
                default_value=PathJoinSubstitution([SHARE, "config", "demo.yaml"]),
                description="parameter file of the scene node; its cameras are those of the data",
            ),
            # First: it sets the transports, for the replay as well.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([SHARE, "launch", "scene.launch.py"])
                ),
                launch_arguments={
                    "namespace": LaunchConfiguration("namespace"),
                    "config": LaunchConfiguration("config"),
                }.items(),
            ),
            Node(
                package="wildseg3d",
                executable="replay_node",
                namespace=LaunchConfiguration("namespace"),
                arguments=[
                    LaunchConfiguration("data"),
                    "--rate",
                    LaunchConfiguration("rate"),
                    "--tf",
                    LaunchConfiguration("tf"),
                ],
                output="screen",
                emulate_tty=True,
                on_exit=[Shutdown(reason="the replay has ended")],
            ),
        ]
    )
