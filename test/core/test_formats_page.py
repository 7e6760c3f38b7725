"""docs/reference/formats.md says what is so of recordings, and names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.io.images import SUFFIXES
from wildseg3d_testing.formats_page import rows_of_page
from wildseg3d_testing.recording_folder import SIZE, write_png

ROWS = rows_of_page()


def test_formats_page_names_tests_that_exist():
    text = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
    assert len(ROWS) > 30
    for row in ROWS:
        assert row.tests, f"no test holds {row.what}"
        assert set(row.tests) <= there, row.what


def test_formats_page_lists_the_image_files_that_are_read(folder):
    (row,) = [row for row in ROWS if row.names[:1] == (".png",)]
    suffixes = [name for name in row.names if name.startswith(".")]
    assert {s.replace("jpeg", "jpg").replace("tiff", "tif") for s in SUFFIXES} <= {
        s.replace("tiff", "tif") for s in suffixes
    }
    for suffix in suffixes:
        write_png(folder.path / f"images/right{suffix}", folder.bgr[1])
        folder.frame["file_path"] = f"images/right{suffix}"
        assert folder.load().views[1].size == SIZE


@pytest.mark.parametrize("refused", [False, True])
def test_formats_page_lists_the_camera_models_that_are_read(folder, refused):
    rows = [row for row in ROWS if row.names[:1] == ("camera_model",) and row.refused == refused]
    models = [model for row in rows for model in row.names[1:]]
    assert len(models) > 2
    for model in models:
        folder.meta["camera_model"] = model
        if not refused:
            assert folder.load().views[1].size == SIZE
            continue
        with pytest.raises(InputError, match=f"unknown camera_model '{model}'; known are") as said:
            folder.load()
        known = str(said.value).partition("known are ")[2].split(", ")
    if refused:
        read = {name for row in ROWS for name in row.names if "camera_model" in row.names}
        assert set(known) <= read


def test_formats_page_lists_keys_that_are_warned_of(folder):
    (row,) = [row for row in ROWS if "c2w" in row.names]
    del folder.meta["fl_x"], folder.meta["fl_y"], folder.meta["cx"], folder.meta["cy"]
    for frame in folder.meta["frames"]:
        frame.pop("depth_file_path")
        frame.pop("transform_matrix")
    for key in row.names:
        folder.frame[key] = 1
    warnings = "\n".join(folder.load().warnings)
    for key in row.names:
        assert f"a key '{key}', which is not read (did you mean" in warnings
