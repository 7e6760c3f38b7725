"""``wildseg3d inspect-masks`` with a small random checkpoint, on a folder of images."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from wildseg3d_ros.cli import main
from wildseg3d_testing.sam2_weights import images_by_rule

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recording")
    frames = []
    for k, image in enumerate(images_by_rule(2)):
        cv2.imwrite(str(folder / f"cam_{k}.png"), image[:96, :, ::-1])
        frames.append({"file_path": f"cam_{k}.png"})
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
    return folder


def test_inspect_masks_says_what_every_filter_dropped(folder, small_sam2, tmp_path, capsys):
    settings = {"weights": small_sam2, "device": "cpu", "grid": 4, "predicted_iou": 0.3,
                "stability": 0.3}  # fmt: skip
    given = [f"--set=masks.sam2.{key}={value}" for key, value in settings.items()]
    out, picture = tmp_path / "masks.json", tmp_path / "masks.png"
    given += ["--json", str(out), "--picture", str(picture)]
    assert main(["inspect-masks", str(folder), *given]) == 0
    figures = json.loads(out.read_text())
    assert list(figures) == ["cam_0", "cam_1"]
    for each in figures.values():
        assert each["candidates"] == 3 * 4 * 4
        assert each["candidates"] - sum(each["dropped"].values()) >= each["kept"] > 0
        for values in each["quantiles"].values():
            assert values == sorted(values)
            assert values[0] >= 0 and values[-1] <= 1
    printed = capsys.readouterr().out
    assert "-predicted_iou" in printed
    assert "stability 0.3, box_overlap 0.7" in printed
    image = cv2.imread(str(picture))
    assert image.shape == (2 * 310, 3 * 410, 3)
    assert len(np.unique(image[:290, :400].reshape(-1, 3), axis=0)) > 50


def test_inspect_masks_where_nothing_passes(folder, small_sam2, capsys):
    given = [f"--set=masks.sam2.{s}" for s in ("device=cpu", "grid=2", "predicted_iou=1.0")]
    given.append(f"--set=masks.sam2.weights={small_sam2}")
    assert main(["inspect-masks", str(folder), "--max-views", "1", *given]) == 0
    said = capsys.readouterr()
    assert "nothing reached it" in said.out
    assert "no mask was found: of 12 masks were dropped 12 by predicted_iou" in said.err
