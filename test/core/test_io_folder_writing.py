"""Recordings that are written, and read back."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.errors import FileError, InputError
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording, load_folder, write_folder
from wildseg3d_testing.scenes import construct_scene


def test_write_folder_is_read_back(tmp_path):
    scene = construct_scene(views=3, width=64, height=48)
    recording = scene.recording()
    write_folder(tmp_path / "a" / "b", recording)
    again = load_folder(tmp_path / "a" / "b")
    assert again.object_names == recording.object_names
    for one, other in zip(recording.views, again.views, strict=True):
        assert (one.name, one.stamp_ns, one.frame_id) == (
            other.name, other.stamp_ns, other.frame_id,
        )  # fmt: skip
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.K, other.K)
        np.testing.assert_allclose(one.depth, other.depth, atol=0.5001e-4)
        np.testing.assert_allclose(
            one.world_from_cam_prior, other.world_from_cam_prior, atol=1e-12
        )
    for one, other in zip(recording.object_masks, again.object_masks, strict=True):
        np.testing.assert_array_equal(one, other)


def test_write_folder_large_depth_gets_a_coarser_unit_or_an_error(tmp_path):
    image = np.zeros((4, 5, 3), np.uint8)
    far = Recording((View("a", image, np.eye(3), np.full((4, 5), 20.0, np.float32)),))
    write_folder(tmp_path, far)
    np.testing.assert_allclose(load_folder(tmp_path).views[0].depth, 20.0, atol=1e-3)
    with pytest.raises(InputError, match=r"20.0 m does not fit into 16 bits of 0.0001 m"):
        write_folder(tmp_path, far, depth_unit=1e-4)


def test_write_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    recording = Recording((View("a", np.zeros((4, 5, 3), np.uint8), np.eye(3)),))
    with pytest.raises(FileError, match="cannot write"):
        write_folder(tmp_path / "file", recording)
