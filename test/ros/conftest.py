"""Fixtures of the ROS tests: a domain of one's own, nodes in this process, real processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip(
    "rclpy", reason="ROS 2 ABSENT: source a ROS 2 set-up file or run `make test`, which gets one"
)

HERE = Path(__file__).resolve().parent

# Before rclpy reads them. Runs beside each other on one machine must not hear each other; domains
# above 101 collide with the ports that Linux hands out.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
# Builders of the tests are named `table:...`, here and in the build process.
sys.path.insert(0, str(HERE))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
)
