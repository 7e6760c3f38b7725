from __future__ import annotations

import json

import numpy as np
import pytest

from wildseg3d_ros import cli
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_testing.clouds import read_ply
from wildseg3d_testing.exact import exact_cache, exact_scene
from wildseg3d_testing.scenes import construct_scene


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, arc_degrees=120, objects=4)


@pytest.fixture(scope="module")
def scene_file(truth, tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes") / "scene.ws3d"
    save_scene(exact_scene(truth), path)
    return path


@pytest.fixture(scope="module")
def empty_file(truth, tmp_path_factory):
    cache = exact_cache(truth)
    for labels in cache.labels:
        labels[:] = 0
    cache = type(cache)(cache.labels, cache.scores, ())
    path = tmp_path_factory.mktemp("scenes") / "empty.ws3d"
    save_scene(exact_scene(truth, cache=cache), path)
    return path


def run(*words):
    return cli.main([str(word) for word in words])


def test_list_has_a_line_for_each_object(scene_file, capsys):
    scene = load_scene(scene_file)
    assert run("list", scene_file) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "size", "[mm]", "points", "views"]  # scores are not known
    assert [int(line.split()[0]) for line in lines] == list(scene.object_ids)
    points = [int(line.split()[6]) for line in lines]
    assert points == [scene.index.count(i) for i in scene.object_ids]
    assert run("list", scene_file, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["metric"] is True
    for line, each in zip(lines, said["objects"], strict=True):
        edges = [float(word) for word in line.split()[1:6:2]]
        np.testing.assert_allclose(edges, 1000 * np.array(each["box"]["size"]), rtol=0.01)


def test_list_of_a_scene_without_objects_says_why(empty_file, capsys):
    assert run("list", empty_file) == 0
    assert "no object was found in any view" in capsys.readouterr().out
    assert run("segment", empty_file, "--all") == 2
    assert "the scene has no object" in capsys.readouterr().err
    assert run("list", empty_file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["objects"] == []


def test_segment_by_id_and_all(scene_file, tmp_path, capsys):
    index = load_scene(scene_file).index
    for words, ids in (("--id 2", (2,)), ("--id 1 --id 3", (1, 3)), ("--all", (1, 2, 3, 4))):
        assert run("segment", scene_file, *words.split(), "-o", tmp_path / "a.ply") == 0
        assert f"objects  {', '.join(map(str, ids))}, score" in capsys.readouterr().out
        points = read_ply(tmp_path / "a.ply")["points"]
        np.testing.assert_array_equal(points, index.points[index.rows(*ids)])


def test_segment_json_is_all_that_is_printed(scene_file, tmp_path, capsys):
    scene = load_scene(scene_file)
    assert run("segment", scene_file, "--id", 2, "--json", "-o", tmp_path / "a.ply") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["object_ids"] == [2]
    assert said["points"] == scene.index.count(2)
    assert [each["id"] for each in said["objects"]] == [2]
    assert said["objects"][0]["views"] == list(scene.view_names)
    assert (tmp_path / "a.ply").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--id 77", "has no object 77; its objects are 1, 2, 3, 4"),
        ("--all --id 1", "--all selects every object"),
        ("--id 1 --add", "--add makes an object of what is clicked"),
        ("--refine 1 --view cam_0 --box 1 1 9 9", "--refine N corrects object N by --pixel"),
        ("--refine 1", "--refine N corrects object N by --pixel"),
        ("--id 1 --alternative larger", "the answer has no larger alternative"),
        ("", "nothing was clicked"),
    ],
)
def test_segment_refuses_selections_that_contradict(scene_file, capsys, words, said):
    assert run("segment", scene_file, *words.split()) == 2
    assert said in capsys.readouterr().err


def test_export_command(scene_file, tmp_path, capsys):
    out = tmp_path / "out"
    formats = ["--format", "labels", "coco", "--format", "json"]
    assert run("export", scene_file, "-o", out, *formats) == 0
    printed = capsys.readouterr().out
    # An image, a label image and one of parts' levels for each view; coco.json, scene.json.
    assert f"wrote    {out} (8 files, " in printed
    assert run("export", scene_file, "-o", out, "--id", 3, "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in out.iterdir()) == [
        "clouds", "index.html", "scene.json", "wildseg3d-export.json",
    ]  # fmt: skip
    assert [path.name for path in (out / "clouds").iterdir()] == ["object_0003.ply"]
    assert run("export", scene_file, "-o", scene_file.parent) == 2
    assert "it holds files that no export wrote" in capsys.readouterr().err
    assert run("export", scene_file, "-o", out, "--format", "obj") == 2
    assert "no format 'obj'" in capsys.readouterr().err
