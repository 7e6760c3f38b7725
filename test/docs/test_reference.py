"""The pages of docs/reference that are made from the code are those that it makes now."""

from pathlib import Path

import pytest

from wildseg3d_ros.core.errors import ErrorCode

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("command-line.md", "parameters.md", "messages.md", "errors.md")


@pytest.mark.parametrize("name", NAMES)
def test_page_is_current(reference, name):
    assert set(NAMES) == set(reference.PAGES)
    text = (ROOT / "docs" / "reference" / name).read_text()
    assert text == reference.page(name), "run python docs/generate_reference.py"


def test_every_code_has_a_way_out(reference):
    assert set(reference.WAYS_OUT) == set(ErrorCode)
    assert [code for code, text in reference.WAYS_OUT.items() if not text] == [ErrorCode.OK]
