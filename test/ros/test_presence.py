"""Says loudly that the ROS layer was not tested where there is no ROS."""

from __future__ import annotations

import pytest


def test_rclpy_importable():
    rclpy = pytest.importorskip(
        "rclpy",
        reason="ROS 2 ABSENT, its layer is NOT TESTED: source a ROS 2 set-up file or run "
        "`make test`, which gets one",
    )
    assert callable(rclpy.init)
