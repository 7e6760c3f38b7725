"""A small share of the random requests; all of them: python test/fuzz."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(find_spec("rclpy") is None, reason="ROS ABSENT: source a ROS 2")
def test_node_answers_random_requests_while_it_is_built_edited_and_restarted():
    command = [sys.executable, HERE, "--requests", "250", "--seed", "1", "--longest", "60"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert re.search(r"250 requests, \d+ verified, 0 faults", run.stdout)
