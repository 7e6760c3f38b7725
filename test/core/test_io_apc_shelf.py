"""The converter under examples/, on a constructed scene and on the real one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_testing.scenes import construct_scene

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def apc():
    spec = importlib.util.spec_from_file_location("apc_shelf", ROOT / "examples" / "apc_shelf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path):
    """A constructed scene, written as the published ones are."""
    folder = tmp_path / "scene-0000"
    (folder / "segm").mkdir(parents=True)
    truth = construct_scene(views=2, width=64, height=48)
    info = ["# Environment: shelf", '# Objects: ["a","b"]', ""]
    info += ["# Color camera intrinsic matrix", rows_of(truth.views[0].K), ""]
    info += ["# Bin-to-world transformation matrix", rows_of(np.eye(4)), ""]
    for i, view in enumerate(truth.views):
        name = f"frame-{i:06d}"
        title = f"# Camera-to-world extrinsic matrix (camera pose) for {name}"
        info += [title, rows_of(view.world_from_cam_prior), ""]
        # Rotated left by three bits, written out bit by bit.
        steps = np.rint(view.depth * 10000).astype(int)
        rotated = np.zeros_like(steps)
        for bit in range(16):
            rotated |= ((steps >> bit) & 1) << ((bit + 3) % 16)
        cv2.imwrite(str(folder / f"{name}.color.png"), view.image[..., ::-1])
        cv2.imwrite(str(folder / f"{name}.depth.png"), rotated.astype(np.uint16))
        cv2.imwrite(str(folder / "segm" / f"{name}.segm.png"), truth.labels[i].astype(np.uint8))
    (folder / "cam.info.txt").write_text("\n".join(info))
    return folder, truth


def rows_of(matrix):
    return "\n".join(" ".join(f"{x: .12e}\t " for x in row) for row in matrix)


def test_convert_keeps_the_scene(apc, source, tmp_path, capsys):
    folder, truth = source
    assert apc.is_apc_scene(folder)
    assert not apc.is_apc_scene(tmp_path)
    assert apc.main([str(folder), str(tmp_path / "out")]) == 0
    assert "wrote" in capsys.readouterr().out
    recording = load_folder(tmp_path / "out")
    assert [view.name for view in recording.views] == ["frame-000000", "frame-000001"]
    for view, true, mask, labels in zip(
        recording.views, truth.views, recording.object_masks, truth.labels, strict=True
    ):
        np.testing.assert_array_equal(view.image, true.image)
        np.testing.assert_allclose(view.depth, true.depth, atol=0.51e-4)
        np.testing.assert_allclose(view.K, true.K, rtol=1e-10)
        np.testing.assert_allclose(
            view.world_from_cam_prior, true.world_from_cam_prior, atol=1e-10
        )
        np.testing.assert_array_equal(mask, labels)


def test_load_apc_scene_without_masks(apc, source):
    folder, _ = source
    for mask in (folder / "segm").iterdir():
        mask.unlink()
    assert apc.load_apc_scene(folder).object_masks == (None, None)


def test_load_apc_scene_names_what_is_missing(apc, source, tmp_path, capsys):
    folder, _ = source
    info = (folder / "cam.info.txt").read_text()
    (folder / "cam.info.txt").write_text(info.replace("for frame-000001", "for frame-000009"))
    with pytest.raises(FileError, match="no camera pose for frame-000001"):
        apc.load_apc_scene(folder)
    (folder / "cam.info.txt").write_text(info.replace("Color camera", "Other camera"))
    with pytest.raises(FileError, match="no 3x3 colour camera intrinsic matrix"):
        apc.load_apc_scene(folder)
    (folder / "cam.info.txt").unlink()
    assert apc.main([str(folder), str(tmp_path / "out")]) == 2
    assert "apc_shelf: error: cannot read" in capsys.readouterr().err


def test_load_apc_scene_reads_the_real_one(apc, real_data):
    recording = apc.load_apc_scene(real_data("apc_shelf"))
    assert len(recording.views) == 15
    assert recording.object_names == apc.OBJECT_NAMES
    assert recording.views[7].K[0, 0] == pytest.approx(615.195, abs=1e-3)
    depths = np.concatenate([view.depth[view.depth > 0] for view in recording.views])
    assert 0.25 < depths.size / (15 * 480 * 640) < 0.3  # README of the data: 27 % of the pixels
    # The gripper at 0.1 m, the shelf behind it. With the bits as stored, depths would be all over
    # 6.5 m.
    assert 0.3 < np.median(depths) < 0.8
    assert np.percentile(depths, 99) < 1.6
