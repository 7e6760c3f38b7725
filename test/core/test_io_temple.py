"""The converter of Middlebury's multi-view scenes, on a constructed scene."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.geometry.transforms import invert
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_testing.scenes import construct_scene

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def temple():
    spec = importlib.util.spec_from_file_location("temple", ROOT / "examples" / "temple.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path):
    """A constructed scene, written as the published ones are."""
    truth = construct_scene(views=3, width=64, height=48, with_depth=False)
    lines = [str(len(truth.views))]
    for view in truth.views:
        cam_from_world = invert(view.world_from_cam_prior)
        numbers = [*view.K.ravel(), *cam_from_world[:3, :3].ravel(), *cam_from_world[:3, 3]]
        lines.append(" ".join([f"{view.name}.png", *(f"{x:.17g}" for x in numbers)]))
        cv2.imwrite(str(tmp_path / f"{view.name}.png"), view.image[..., ::-1])
    (tmp_path / "made_par.txt").write_text("\n".join(lines) + "\n")
    return tmp_path, truth


def test_convert_keeps_the_views(temple, source, tmp_path):
    folder, truth = source
    assert temple.main([str(folder), str(tmp_path / "out")]) == 0
    views = load_folder(tmp_path / "out").views
    assert [view.name for view in views] == [view.name for view in truth.views]
    for view, expected in zip(views, truth.views, strict=True):
        np.testing.assert_allclose(
            view.world_from_cam_prior, expected.world_from_cam_prior, atol=1e-9
        )
        np.testing.assert_allclose(view.K, expected.K)
        np.testing.assert_array_equal(view.image, expected.image)
        assert view.depth is None


def test_load_middlebury_scene_names_a_wrong_line(temple, source, capsys):
    folder, _ = source
    path = folder / "made_par.txt"
    path.write_text(path.read_text().replace("0 0 1 ", "0 ", 1))
    with pytest.raises(FileError, match="line 2: expected a name and 21 numbers, got 19"):
        temple.load_middlebury_scene(folder)
    path.unlink()
    assert temple.main([str(folder), "nowhere"]) == 2
    assert "expected one" in capsys.readouterr().err
