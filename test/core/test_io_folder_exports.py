"""What apps and other tools write into transforms.json."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.errors import FileError, InputError


def test_load_folder_windows_paths(folder):
    for frame in folder.meta["frames"]:
        for key in ("file_path", "depth_file_path", "object_mask_path"):
            frame[key] = frame[key].replace("/", "\\")
    recording = folder.load()
    assert [view.name for view in recording.views] == ["left", "right"]
    assert recording.views[1].depth is not None
    assert recording.warnings == ()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (
            r"C:\shots\0.png",
            r"names 'C:\\shots\\0.png', which does not exist here: it is of a Win",
        ),
        ("images/RIGHT.png", "'right.png' does: the case differs"),
    ],
)
def test_load_folder_hints_at_the_path_that_was_meant(folder, path, says):
    folder.frame["file_path"] = path
    with pytest.raises(FileError, match=says):
        folder.load(strict=True)


@pytest.mark.parametrize("where", ["frame_id", "object_names", "file_path"])
def test_load_folder_names_a_text_that_cannot_be_written(folder, where):
    text = "base\ud800"
    (folder.meta if where == "object_names" else folder.frame)[where] = (
        {"1": text} if where == "object_names" else text
    )
    with pytest.raises(FileError, match="has half of a character .a lone surrogate.: 'base"):
        folder.load()


def test_load_folder_rounded_matrix(folder):
    """Three decimals are a rotation to 0.1 degrees; it is brought back to one."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        pose = np.eye(4)
        exact = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        exact *= np.linalg.det(exact)
        pose[:3, :3] = np.round(exact, 3)
        folder.frame["transform_matrix"] = pose.tolist()
        found = folder.load().views[1].world_from_cam_prior[:3, :3] @ np.diag([1, -1, -1])
        np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(found, exact, atol=2e-3)
    pose[0, 0] += 0.01
    folder.frame["transform_matrix"] = pose.tolist()
    with pytest.raises(InputError, match="not a rotation"):
        folder.load()


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("integer_depth_scale", "depth_unit_scale_factor"),
        ("depth_scale", "depth_unit_scale_factor"),
        ("depth_unit_scale_facter", "depth_unit_scale_factor"),
        ("depth_path", "depth_file_path"),
        ("c2w", "transform_matrix"),
        ("transfrom_matrix", "transform_matrix"),
        ("intrinsics", "fl_x"),
        ("Fl_x", "fl_x"),
    ],
)
def test_load_folder_names_a_key_that_is_not_read(folder, key, meant):
    folder.meta.pop(meant, None)
    folder.frame.pop(meant, None)
    folder.meta["frames"][0].pop(meant, None)
    for known in ("fl_x", "fl_y", "cx", "cy") if meant == "fl_x" else ():
        folder.meta.pop(known, None)
    folder.frame[key] = 1
    (warning,) = folder.load().warnings
    assert f"a key '{key}', which is not read (did you mean '{meant}'?)" in warning


def test_load_folder_keys_that_say_nothing_of_views(folder):
    folder.meta.update(aabb_scale=16, ply_file_path="sparse.ply", applied_transform=[[1]], my=1)
    folder.frame.update(sharpness=20.5)
    assert folder.load().warnings == ()


@pytest.mark.parametrize(
    ("said", "off"), [({}, 0.0), ({"colmap_im_id": 3}, 0.5), ({"pixel_center": 0.5}, 0.5)]
)
def test_load_folder_principal_point_of_nerfstudio(folder, said, off):
    folder.meta["frames"][1].update(said)
    left, right = folder.load().views
    np.testing.assert_allclose(right.K[:2, 2], left.K[:2, 2] - off)
    folder.meta["pixel_center"] = 0.25
    with pytest.raises(InputError, match=r"pixel_center in .* must be 0 .* or 0\.5"):
        folder.load()


@pytest.mark.parametrize("stem", ["r_0", "1403636579.763555"])
def test_load_folder_paths_without_a_suffix(folder, stem):
    """Blender's, and names that are times."""
    (folder.path / "images/right.png").rename(folder.path / f"images/{stem}.png")
    folder.frame["file_path"] = f"./images/{stem}"
    found = folder.load().views[1].image
    np.testing.assert_array_equal(found, folder.bgr[1][..., ::-1])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda pose: pose.T, r"its translation in the last column"),
        (lambda pose: pose.ravel(), r"must be 4x4 numbers"),
        (lambda pose: pose * [-1, 1, 1, 1], r"not a rotation.*det -1"),
        (lambda pose: pose * [[2.0], [2.0], [2.0], [1.0]], r"not a rotation"),
        (lambda pose: pose @ [[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "not a"),
    ],
    ids=["columns", "flat", "mirrored", "scaled", "sheared"],
)
def test_load_folder_matrices_of_other_conventions(folder, change, says):
    pose = np.eye(4)
    pose[:3] = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3]]
    folder.frame["transform_matrix"] = change(pose).tolist()
    with pytest.raises(InputError, match=rf"camera 'right'.*{says}"):
        folder.load()
