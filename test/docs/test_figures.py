"""Pictures and tables of the pages have the shape that `make figures` makes; not the values."""

import importlib.util
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import moving_picture
from benchmarks.__main__ import BENCHMARKS
from benchmarks.evaluation import plots
from benchmarks.figures import __main__ as runner
from benchmarks.figures import built_scenes, errors, pictures, sections, tables
from wildseg3d_ros.io.pictures import object_colors
from wildseg3d_ros.rig import overview
from wildseg3d_ros.rig import pictures as rig_pictures

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page: page.read_text() for page in (ROOT / "docs").rglob("*.md")}


@pytest.mark.parametrize("name", pictures.FIGURES)
def test_picture_is_there_and_shown(name):
    picture = cv2.imread(str(ROOT / "docs" / "images" / f"{name}.jpg"))
    assert picture is not None, f"make figures ARGS={name}"
    assert picture.shape[1] == pytest.approx(1100, abs=2)  # 10 inches of 110 dots
    assert any(f"images/{name}.jpg" in text for text in PAGES.values())


def test_every_picture_has_its_section():
    """And every section its picture."""
    made = [name for each in sections.SECTIONS for name in each.pictures]
    assert sorted(made) == sorted(path.name for path in (ROOT / "docs" / "images").iterdir())
    drawn = {each.name for each in sections.SECTIONS if not each.module}
    assert drawn == set(pictures.FIGURES)


def test_sections_name_programs_that_exist():
    names = [each.name for each in sections.SECTIONS]
    assert len(set(names)) == len(names)
    for each in sections.SECTIONS:
        if each.module == "benchmarks":
            assert set(each.arguments) <= set(BENCHMARKS), each
        elif each.module:
            assert importlib.util.find_spec(each.module), each


def test_a_stopped_run_goes_on_and_says_how_long_it_took(tmp_path, capsys):
    made = []
    broken = {"b": "no camera"}

    def maker(name):
        return lambda: made.append(name) or broken.get(name, "")

    steps = {name: maker(name) for name in "abc"}
    path = tmp_path / "progress.json"
    runner.Progress(path).finish("a", 61.2)
    failed = runner.run(steps, list(steps), runner.Progress(path), whole=True)
    assert made == ["b", "c"] and failed == {"b": "no camera"}
    said = capsys.readouterr().out
    assert "1 of 3: a: done before" in said and "not made: no camera" in said
    made.clear()
    runner.run(steps, list(steps), runner.Progress(path), whole=True)
    assert made == list("abc")  # the run before was whole
    assert "1 of 3: a: took 61 s last" in capsys.readouterr().out


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
    drawn = [[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in built_scenes.COLORS]
    objects, points = [*object_colors(range(10)).values()], [*rig_pictures.COLORS.values()]
    verdicts = [*{*overview.COLORS.values()}]  # two mean the same
    for colors in (drawn, objects, verdicts, [*points, rig_pictures.NEARLY]):
        share = np.array(colors) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        seen = np.clip(linear @ SEEN[eye].T, 0, 1).astype(np.float32)
        lab = cv2.cvtColor(seen[None] ** np.float32(1 / 2.2), cv2.COLOR_RGB2Lab)[0]
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(len(lab), 1)]
        assert apart.min() > 14  # 2.3 is just noticeable on large areas


def table_of(page, name):
    text = (ROOT / page).read_text()
    return re.search(rf"<!-- table: {name} -->\n\n((?:\|.*\n)+)", text)[1].splitlines()


@pytest.mark.parametrize("name", tables.ROWS)
def test_table_has_its_columns_and_rows(name):
    page, columns, rows = tables.ROWS[name]
    table = table_of(page, name)
    assert table[0] == "| " + " | ".join(columns) + " |"
    objects = json.loads((built_scenes.TABLETOP / "truth.json").read_text())["objects"]
    if name == "objects":  # whose values a build gives
        assert {row.split("|")[2].strip() for row in table[2:]} == set(objects)
    else:
        assert table[2:] == ["| " + " | ".join(row) + " |" for row in rows()]


@pytest.mark.parametrize("name", tables.TEMPLATES)
def test_table_has_the_shape_of_its_template(name):
    """Whatever was measured."""
    template = tables.TEMPLATES[name]
    assert template.section in {each.name for each in sections.SECTIONS}
    table = "\n".join(table_of(template.page, name))
    if template.text.strip():
        assert re.fullmatch(template.shape(), table), table
    else:  # the section prints it
        columns = table.splitlines()[0].count("|")
        assert {row.count("|") for row in table.splitlines()} == {columns}


def test_every_marked_table_is_made():
    marked = {
        each for text in PAGES.values() for each in re.findall(r"<!-- table: (.+) -->", text)
    }
    evaluation = {f"evaluation {name}" for name in [*plots.GROUPS, "identity"]}
    assert marked == {*tables.ROWS, *tables.TEMPLATES} | evaluation


def test_a_template_is_filled_by_what_a_benchmark_prints():
    found = {"machine": {"cpu": "Some(R) CPU", "cores": 2, "load_1min": 0.4}}
    found["it / s [ms]"] = None  # no name is taken for a path
    found["it"] = {"share: all, one [s]": [0.5, 0.25]}
    template = tables.Template("", "", "| {ON} |\n| {it / share: all, one [s] / 1:.1f} s |")
    assert template.filled(found) == ["| 2 cores of Some, load 0 |", "| 0.2 s |"]
    assert re.fullmatch(template.shape(), "| 4 cores of Other, load 12 |\n| 1,000.7 s |")
    assert not re.fullmatch(template.shape(), "| 4 cores of Other, load 12 |\n| much s |")


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
    error = errors.disagreement(views, [np.eye(4), moved], 0)
    inside = error[6:-6, 6:-6]
    np.testing.assert_allclose(inside, 0.005, atol=1e-6)
    far = np.eye(4)
    far[2, 3] = -2 * errors.GATE
    assert np.isnan(errors.disagreement(views, [np.eye(4), far], 0)).all()


def test_distance_to_box_inside_outside_and_at_a_corner():
    size = np.array([0.2, 0.1, 0.3])
    points = np.array([[0.1, 0, 0.1], [0.15, 0, 0.1], [0.13, 0.09, 0.1], [0, 0, 0.15]])
    found = errors.distance_to_box(points, size)
    np.testing.assert_allclose(found, [0, 0.05, 0.05, 0.05], atol=1e-9)
