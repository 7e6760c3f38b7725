"""What recordings hold: views, poses, depth and labels of a folder with transforms.json."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording, evenly_spaced, load_folder, write_folder
from wildseg3d_ros.pipeline import build_scene
from wildseg3d_testing.recording_folder import write_png


def test_load_folder_reads_what_nerfstudio_defines(folder):
    # A camera at (1, 2, 3) that looks along the world's +x with z up, in OpenGL axes:
    # its x (right) is the world's -y, its y (up) is z, its z (backwards) is -x.
    folder.frame["transform_matrix"] = [[0, 0, -1, 1], [-1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 0, 1]]
    folder.frame.update({"stamp_ns": 1_700_000_000_123_456_789, "frame_id": "right_optical"})
    recording = folder.load()
    assert [view.name for view in recording.views] == ["left", "right"]
    assert recording.object_names == {1: "mug", 3: "box"}
    view = recording.views[1]
    np.testing.assert_array_equal(view.image, folder.bgr[1][..., ::-1])
    np.testing.assert_array_equal(view.K, [[70, 0, 31], [0, 71, 23.5], [0, 0, 1]])
    np.testing.assert_allclose(view.depth, folder.depth[1] * 0.001, atol=1e-6)
    np.testing.assert_array_equal(recording.object_masks[1], folder.mask[1])
    assert view.stamp_ns == 1_700_000_000_123_456_789
    assert view.frame_id == "right_optical"
    # OpenCV axes: 5 m ahead, 1 m to the right, 2 m down.
    world = view.world_from_cam_prior @ [1, 2, 5, 1]
    np.testing.assert_allclose(world, [1 + 5, 2 - 1, 3 - 2, 1])
    np.testing.assert_array_equal(
        recording.views[0].world_from_cam_prior, np.diag([1.0, -1, -1, 1])
    )


def test_load_folder_prefers_intrinsics_of_the_frame(folder):
    folder.frame.update({"fl_x": 80.0, "cx": 30.0})
    left, right = folder.load().views
    assert (left.K[0, 0], left.K[0, 2]) == (70, 31)
    assert (right.K[0, 0], right.K[0, 2], right.K[1, 1]) == (80, 30, 71)


def test_load_folder_depth_unit_and_npy(folder):
    folder.meta["depth_unit_scale_factor"] = 0.0001
    np.save(folder.path / "depth/right.npy", folder.depth[1].astype(np.float32))
    folder.frame["depth_file_path"] = "depth/right.npy"
    for view, stored in zip(folder.load().views, folder.depth, strict=True):
        np.testing.assert_allclose(view.depth, stored * 0.0001, atol=1e-6)


def test_load_folder_without_optional_keys(folder):
    for key in ("depth_file_path", "object_mask_path", "transform_matrix"):
        del folder.frame[key]
    for key in ("w", "h", "object_names", "camera_model"):
        del folder.meta[key]
    recording = folder.load()
    assert recording.views[1].depth is None
    assert recording.views[1].world_from_cam_prior is None
    assert recording.object_masks[1] is None
    assert recording.object_masks[0] is not None
    assert recording.object_names == {}


def test_load_folder_pose_of_three_rows_and_missing_suffix(folder):
    folder.frame["transform_matrix"] = np.eye(4)[:3].tolist()
    folder.frame["file_path"] = "images/right"
    view = folder.load().views[1]
    assert view.name == "right"
    np.testing.assert_array_equal(view.world_from_cam_prior, np.diag([1.0, -1, -1, 1]))


def test_load_folder_names_equal_stems_by_their_path(folder):
    for camera in ("cam_a", "cam_b"):
        write_png(folder.path / camera / "0001.png", folder.bgr[0])
    for frame, camera in zip(folder.meta["frames"], ("cam_a", "cam_b"), strict=True):
        frame["file_path"] = f"./{camera}/0001.png"
    assert [view.name for view in folder.load().views] == ["cam_a_0001", "cam_b_0001"]


def test_load_folder_takes_the_json_file(folder):
    folder.load()
    assert len(load_folder(folder.path / "transforms.json").views) == 2


def test_load_folder_max_views(folder):
    folder.meta["frames"] = []
    for i in range(10):
        write_png(folder.path / f"images/{i}.png", folder.bgr[0])
        folder.meta["frames"].append({"file_path": f"images/{i}.png"})
    told = []
    progress = Progress(lambda _, fraction: told.append(fraction))
    names = [view.name for view in folder.load(max_views=4, progress=progress).views]
    assert names == ["0", "3", "6", "9"]
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert len(folder.load(max_views=50).views) == 10
    with pytest.raises(InputError, match="max_views must be 1 or more, got 0"):
        folder.load(max_views=0)


@pytest.mark.parametrize("count", [1, 2, 7, 15])
@pytest.mark.parametrize("max_views", [1, 2, 5, None])
def test_evenly_spaced_takes_distinct_items_in_order(count, max_views):
    chosen = evenly_spaced(count, max_views)
    assert len(chosen) == min(count, max_views or count)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(count))


def test_load_folder_views_without_intrinsics_beside_others(folder, tmp_path):
    for key in ("fl_x", "fl_y", "cx", "cy"):
        folder.frame[key] = None
    left, right = folder.load().views
    assert left.K is not None
    assert right.K is None
    assert right.depth is not None
    np.testing.assert_array_equal(right.world_from_cam_prior, np.diag([1.0, -1.0, -1.0, 1.0]))
    for key in ("fl_x", "fl_y", "cx", "cy"):
        del folder.meta[key]
    assert [view.K for view in folder.load().views] == [None, None]
    write_folder(tmp_path / "again", Recording((left, right)))
    again = load_folder(tmp_path / "again").views
    np.testing.assert_array_equal(again[0].K, left.K)
    assert again[1].K is None


@pytest.mark.parametrize("backend", ["depth", "stereo"])
def test_build_scene_names_the_view_without_intrinsics(folder, backend):
    for key in ("fl_x", "fl_y", "cx", "cy"):
        folder.frame[key] = None
    config = SceneConfig.from_mapping({"pointmaps": {"backend": backend}})
    with pytest.raises(InputError, match=f"'right' has no intrinsics; the '{backend}'") as error:
        build_scene(folder.load().views, config)
    assert error.value.code == ErrorCode.BAD_CALIBRATION


def test_recording_masks_must_match_the_views():
    view = View("a", np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(InputError, match="1 views but 2 object masks"):
        Recording((view,), (None, None))
