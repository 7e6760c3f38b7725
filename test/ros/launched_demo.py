"""A test of launch_testing, run by test_launch.py: the demo as `ros2 launch` starts it."""

import unittest
from pathlib import Path

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_testing import post_shutdown_test
from launch_testing.actions import ReadyToTest
from launch_testing.asserts import assertExitCodes

from launch import LaunchDescription

DEMO = Path(__file__).resolve().parents[2] / "launch/demo.launch.py"


def generate_test_description():
    """The demo, in a namespace."""
    return LaunchDescription(
        [
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(DEMO)),
                launch_arguments={"namespace": "cell", "device": "cpu", "rate": "5.0"}.items(),
            ),
            ReadyToTest(),
        ]
    )


class WhileItRuns(unittest.TestCase):
    """Beside the launched processes."""

    def test_it_builds_and_answers(self, proc_output):
        """The whole way, with the arguments in effect."""
        from wildseg3d_ros.ros.client import SceneClient

        with SceneClient("cell", timeout=60.0) as client:
            report = client.build()
            found = client.segment([("cam_3", 175, 180)], target_frame="world")
        assert report.objects > 3
        assert len(found.points) > 100
        proc_output.assertWaitFor("activate: done", timeout=10)

    def test_transports(self, proc_info):
        """LARGE_DATA for every process, replay included."""
        for process in proc_info.processes():
            variables = Path(f"/proc/{proc_info[process].pid}/environ").read_text().split("\0")
            assert "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA" in variables
            assert any(variable.endswith("/config/fastdds.xml") for variable in variables)


@post_shutdown_test()
class AfterIt(unittest.TestCase):
    """When launch has interrupted them."""

    def test_they_end_well(self, proc_info):
        """Nobody had to be killed."""
        assertExitCodes(proc_info)
