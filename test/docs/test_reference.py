"""The pages of docs/reference that are made from the code are those that it makes now."""

import importlib.util
from pathlib import Path

import pytest

from wildseg3d_ros.core.errors import ErrorCode

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("command-line.md", "parameters.md", "messages.md", "errors.md")


@pytest.fixture(scope="module")
def reference():
    for module in ("rclpy", "mujoco", "nicegui", "torch"):
        pytest.importorskip(module)
    path = ROOT / "docs" / "generate_reference.py"
    spec = importlib.util.spec_from_file_location("generate_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_page_is_current(reference, name):
    assert set(NAMES) == set(reference.PAGES)
    text = (ROOT / "docs" / "reference" / name).read_text()
    assert text == reference.page(name), "run python docs/generate_reference.py"


def test_every_code_has_a_way_out(reference):
    assert set(reference.WAYS_OUT) == set(ErrorCode)
    assert [code for code, text in reference.WAYS_OUT.items() if not text] == [ErrorCode.OK]
