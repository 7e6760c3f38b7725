"""What the tests of the pages share."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def reference():
    """The module that makes the reference pages; it knows each command's parser."""
    for module in ("rclpy", "mujoco", "nicegui", "torch"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"EXTRA ABSENT: '{module}' is needed to know all commands")
    path = ROOT / "docs" / "generate_reference.py"
    spec = importlib.util.spec_from_file_location("generate_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def parsers(reference):
    """The parser of every command, by its name."""
    return reference.command_parsers()
