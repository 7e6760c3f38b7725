"""Folders of images without a description, and folders that are none."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import ErrorCode, FileError
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_testing.recording_folder import SIZE, rotated_jpeg, write_png


def test_load_folder_plain_names_what_it_leaves_out(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for name in ("a.png", "b.png", "c.jpg"):
        write_png(tmp_path / name, image)
    write_png(tmp_path / "depth.png", np.ones(SIZE, np.uint16))
    (tmp_path / "IMG.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(40))
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    recording = load_folder(tmp_path)
    assert [view.name for view in recording.views] == ["a", "b", "c"]
    (warning,) = recording.warnings
    for part in (
        "IMG.HEIC (it is HEIC or AVIF",
        "depth.png (16 bits of one channel: depth or labels)",
        "folder.png (it is there and no file)",
        "gone.png (No such file",
        "notes.txt (no image) and 1 more",
    ):
        assert part in warning
    (tmp_path / "b.png").write_bytes(b"\x89PNG")
    assert "one of 3 frames was left out" in load_folder(tmp_path).warnings[1]
    with pytest.raises(FileError, match=r"b.png"):
        load_folder(tmp_path, strict=True)


def test_load_folder_plain_gives_uncalibrated_views_in_natural_order(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for name in ("view10.png", "view9.JPG", "view1.png"):
        write_png(tmp_path / name, image)
    write_png(tmp_path / "view1.depth.png", np.ones(SIZE, np.uint16))
    (tmp_path / "notes.txt").write_text("not an image")
    write_png(tmp_path / ".hidden.png", image)
    recording = load_folder(tmp_path)
    assert [view.name for view in recording.views] == ["view1", "view9", "view10"]
    view = recording.views[0]
    np.testing.assert_array_equal(view.image, image[..., ::-1])
    assert view.K is None
    assert view.depth is None
    assert view.world_from_cam_prior is None
    assert [v.name for v in load_folder(tmp_path, max_views=2).views] == ["view1", "view10"]


def test_load_folder_missing_empty_or_without_images(tmp_path):
    with pytest.raises(FileError, match=r"does not exist; expected a folder.*\.mcap or \.db3"):
        load_folder(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="is a file; expected a folder"):
        load_folder(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=r"is empty; expected transforms.json or images") as caught:
        load_folder(tmp_path / "empty")
    assert caught.value.code == ErrorCode.NO_IMAGES
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.txt").write_text("")
    with pytest.raises(FileError, match=r"holds neither .*it holds: readme.txt") as caught:
        load_folder(tmp_path / "other")
    assert caught.value.code == ErrorCode.NO_IMAGES


@pytest.mark.parametrize("orientation", [1, 6])
def test_load_folder_plain_turns_images(tmp_path, orientation):
    smooth = np.add.outer(np.arange(0, 48), np.arange(0, 128, 2)).astype(np.uint8)
    image = np.dstack([smooth, smooth, smooth])
    (tmp_path / "phone.jpg").write_bytes(rotated_jpeg(image, orientation))
    found = load_folder(tmp_path).views[0].image
    upright = image if orientation == 1 else cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() < 3


def test_load_folder_plain_pictures_of_depth_are_no_views(tmp_path):
    """rs-convert writes depth as coloured images beside the others."""
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for name in ("r_Color_1.5.png", "r_Depth_1.5.png", "depth0001.png", "depths.png"):
        write_png(tmp_path / name, image)
    recording = load_folder(tmp_path)
    assert [view.name for view in recording.views] == ["depths", "r_Color_1.5"]
    assert "r_Depth_1.5.png (named as depth)" in recording.warnings[0]
