"""A small share of the hostile files; all of them: python test/hostile."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_hostile_files_are_refused_in_one_line_in_time_and_in_memory():
    """In a process without threads, which are not forked; with every way of every kind."""
    kinds = ["scene", "recording", "pairs", "yaml", "dataset", "bomb"]
    kinds += ["bag"] if find_spec("rosbags") else []
    command = [sys.executable, HERE, "--count", "10", "--kinds", *kinds]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert f"{10 * len(kinds)} files, 0 faults" in run.stdout
