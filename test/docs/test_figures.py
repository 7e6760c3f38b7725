"""Pictures and tables of the pages have the shape that `make figures` makes; not the values."""

import importlib.util
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import figures, moving_picture
from benchmarks.__main__ import BENCHMARKS
from wildseg3d_ros.io.pictures import object_colors
from wildseg3d_ros.rig import overview, pictures

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page: page.read_text() for page in (ROOT / "docs").rglob("*.md")}


@pytest.mark.parametrize("name", figures.FIGURES)
def test_picture_is_there_and_shown(name):
    picture = cv2.imread(str(ROOT / "docs" / "images" / f"{name}.jpg"))
    assert picture is not None, f"make figures ARGS={name}"
    assert picture.shape[1] == pytest.approx(1100, abs=2)  # 10 inches of 110 dots
    assert any(f"images/{name}.jpg" in text for text in PAGES.values())


def test_every_picture_has_its_command():
    """And every command its picture."""
    made = [f"{name}.jpg" for name in figures.FIGURES]
    made += [name for names in figures.RECORDED.values() for name in names]
    made += [name for each in figures.MEASUREMENTS for name in each.pictures]
    assert sorted(made) == sorted(path.name for path in (ROOT / "docs" / "images").iterdir())


def test_measurements_name_benchmarks_that_exist():
    for each in figures.MEASUREMENTS:
        bench = re.fullmatch(r'make bench ARGS="?([\w ]+)"?', each.command)
        if bench:
            assert set(bench[1].split()) <= set(BENCHMARKS), each
        elif each.command.startswith("python -m "):
            assert importlib.util.find_spec(each.command.split()[2]), each
        else:
            assert each.command == "make evaluation"


# Machado, Oliveira and Fernandes (2009), severity 1: what a dichromat sees of linear RGB.
SEEN = {
    "all": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                        [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                        [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                        [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip


@pytest.mark.parametrize("eye", SEEN)
def test_colours_can_be_told_apart_by_everybody(eye):
    """Of objects, of verdicts on cameras, and of what becomes of points."""
    drawn = [[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in figures.COLORS]
    objects, points = [*object_colors(range(10)).values()], [*pictures.COLORS.values()]
    verdicts = [*{*overview.COLORS.values()}]  # two mean the same
    for colors in (drawn, objects, verdicts, [*points, pictures.NEARLY]):
        share = np.array(colors) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        seen = np.clip(linear @ SEEN[eye].T, 0, 1).astype(np.float32)
        lab = cv2.cvtColor(seen[None] ** np.float32(1 / 2.2), cv2.COLOR_RGB2Lab)[0]
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(len(lab), 1)]
        assert apart.min() > 14  # 2.3 is just noticeable on large areas


@pytest.mark.parametrize("name", figures.TABLES)
def test_table_has_its_columns_and_rows(name):
    page, columns, rows = figures.TABLES[name]
    text = (ROOT / page).read_text()
    table = re.search(rf"<!-- table: {name} -->\n\n((?:\|.*\n)+)", text)[1].splitlines()
    assert table[0] == "| " + " | ".join(columns) + " |"
    objects = json.loads((figures.TABLETOP / "truth.json").read_text())["objects"]
    if name == "objects":  # whose values a build gives
        assert {row.split("|")[1].strip() for row in table[2:]} == set(objects)
    else:
        assert table[2:] == ["| " + " | ".join(row) + " |" for row in rows()]


def test_moving_picture_moves_and_is_small():
    path = moving_picture.TARGET
    assert path.stat().st_size < moving_picture.MOST_BYTES
    with Image.open(path) as picture:
        assert picture.n_frames > moving_picture.STEPS
        assert picture.width == moving_picture.WIDTH
        first = np.asarray(picture.convert("RGB"), np.int16)
        picture.seek(picture.n_frames - 1)
        assert np.abs(np.asarray(picture.convert("RGB"), np.int16) - first).mean() > 1


def test_disagreement_is_that_of_a_shifted_camera():
    """Two cameras that look straight at a plane, one of them said to be 5 mm too far back."""
    from wildseg3d_ros.core.types import View

    K = np.array([[100.0, 0, 31.5], [0, 100.0, 23.5], [0, 0, 1]])
    depth = np.full((48, 64), 1.0, np.float32)
    views = [View(name, np.zeros((48, 64, 3), np.uint8), K, depth) for name in ("a", "b")]
    moved = np.eye(4)
    moved[2, 3] = -0.005
    error = figures.disagreement(views, [np.eye(4), moved], 0)
    inside = error[6:-6, 6:-6]
    np.testing.assert_allclose(inside, 0.005, atol=1e-6)
    far = np.eye(4)
    far[2, 3] = -2 * figures.GATE
    assert np.isnan(figures.disagreement(views, [np.eye(4), far], 0)).all()


def test_distance_to_box_inside_outside_and_at_a_corner():
    size = np.array([0.2, 0.1, 0.3])
    points = np.array([[0.1, 0, 0.1], [0.15, 0, 0.1], [0.13, 0.09, 0.1], [0, 0, 0.15]])
    found = figures.distance_to_box(points, size)
    np.testing.assert_allclose(found, [0, 0.05, 0.05, 0.05], atol=1e-9)
