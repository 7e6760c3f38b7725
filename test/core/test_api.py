"""The package in Python: what users pass, the examples of its docstrings, and the notebook."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import wildseg3d_ros as ws
from wildseg3d_ros import pipeline
from wildseg3d_ros.core.errors import ConfigError, FileError, InputError, PromptError
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.io.folder import write_folder
from wildseg3d_ros.scene.file.snapshot import save_scene
from wildseg3d_testing.exact import exact_scene
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import merged_cache, true_tree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, arc_degrees=60, objects=4)


@pytest.fixture(scope="module")
def scene(truth):
    return ws.Scene(exact_scene(truth))


def pixel(truth, object_id, view=0):
    return (f"cam_{view}", *most_interior_pixel(truth.labels[view] == object_id))


def test_import_is_quick_and_shows_the_public_names():
    code = (
        "import sys; before = set(sys.modules); import wildseg3d_ros as ws; names = dir(ws);"
        "print(len(set(sys.modules) - before)); print(*names)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded, names = answer.stdout.splitlines()
    assert int(loaded) < 10
    assert names.split() == sorted([*ws._PUBLIC, "__version__"])
    for name in ws._PUBLIC:
        assert getattr(ws, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'segment'; it has Box, Click"):
        _ = ws.segment


def test_public_names_have_types():
    """The stub names what is imported when it is asked for."""
    stub = (ROOT / "wildseg3d_ros" / "__init__.pyi").read_text()
    for name, module in ws._PUBLIC.items():
        assert f"from {module} import {name} as {name}\n" in stub


def test_segment_takes_what_users_pass(truth, scene):
    one, two = pixel(truth, 1), pixel(truth, 2)
    for where in (
        (one,),
        one,  # without its brackets
        (list(one),),
        ([one],),
        ((one,),),
        (ws.Click(*one),),
        ((one[0], np.int64(one[1]), np.float32(one[2])),),
        ((one[0], np.array(one[1]), one[2]),),
        (1,),
        (np.int32(1),),
        ([1],),
        (scene.objects[0],),
    ):
        assert scene.segment(*where).object_ids == (1,), where
    for both in ((one, two), ([one, two],), (1, 2), ([1], two), ((one, two),)):
        assert scene.segment(*both).object_ids == (1, 2), both
    rows, columns = np.nonzero(truth.labels[0] == 2)
    box = ("cam_0", columns.min(), rows.min(), columns.max(), rows.max())
    assert scene.segment(box).object_ids == (2,)
    cloud = scene.segment(one)
    snapshot = scene.snapshot
    np.testing.assert_array_equal(cloud.points, snapshot.index.points[snapshot.index.rows(1)])
    assert repr(cloud) == f"<cloud of object 1: {len(cloud)} points in 'base', score 1.00>"
    with pytest.raises(PromptError, match="excludes"):
        scene.segment(one, without=[pixel(truth, 1, view=1)])
    with pytest.raises(PromptError, match="'without' takes pixels"):
        scene.segment(one, without=[2])


@pytest.mark.parametrize(
    "where",
    [(320, 240), (320, 240, "cam_0"), ("cam_0", 1), ("cam_0", "a", 4), 1.5, True, None, "cam_0"],
)
def test_segment_says_what_it_takes(scene, where):
    with pytest.raises(PromptError, match="cannot tell what .* expected .camera, u, v."):
        scene.segment(where)


def test_edits_give_another_scene_and_can_be_taken_back(truth, tmp_path):
    """A thing that is no object becomes one; two that are one object are told apart."""
    cache = merged_cache(truth, true_tree(truth), {1: (1, 3)})
    before = ws.Scene(exact_scene(truth, cache=cache))
    added, cloud = before.add(pixel(truth, 2))
    (new,) = cloud.object_ids
    refined, cloud = added.refine(1, without=[pixel(truth, 3)])
    assert np.array_equal(cloud.masks["cam_0"], truth.labels[0] == 1)
    assert len(cloud) < len(added.segment(1)) == len(before.segment(1))
    refined.save(tmp_path / "scene.ws3d")
    assert ws.load(tmp_path / "scene.ws3d").segment(new, 1).object_ids == (1, new)
    assert len(refined.undo().segment(1)) == len(added.segment(1))
    assert [each.object_id for each in refined.undo().undo().objects] == [1]
    with pytest.raises(PromptError, match="nothing to undo"):
        before.undo()


def test_segment_says_what_there_is(scene):
    with pytest.raises(PromptError, match="no camera 'left'.* its cameras are: cam_0, cam_1"):
        scene.segment(("left", 3, 4))
    with pytest.raises(PromptError, match="pixel .200, 3. is outside .* which is 160x120"):
        scene.segment(("cam_0", 200, 3))
    with pytest.raises(PromptError, match="has no object 9"):
        scene.segment(9)
    for nothing in ((), ((),), ([],)):
        with pytest.raises(PromptError, match="nothing is pointed at; expected .camera, u, v"):
            scene.segment(*nothing, without=[("cam_0", 75, 66)])
    with pytest.raises(PromptError, match="needs at least one click"):
        scene.segment(ws.Click("cam_0", 75, 66, 0))
    with pytest.raises(PromptError, match="no camera 'left'"):
        scene.image("left")


def test_build_says_what_it_takes(truth):
    with pytest.raises(InputError, match="from a folder or from two or more views, got 5"):
        ws.build(5)
    with pytest.raises(InputError, match=r"got an array of shape \(3, 4, 3\); make them: View"):
        ws.build([np.zeros((3, 4, 3), np.uint8)])
    with pytest.raises(InputError, match="from two or more views, got <view 'cam_0': 160x120, K"):
        ws.build(truth.views[0])
    with pytest.raises(ConfigError, match=r"unknown configuration key 'mask' \(did you mean 'mas"):
        ws.build(truth.views, mask={"backend": "sam2"})
    with pytest.raises(ConfigError, match="index.click_radius"):
        ws.build(truth.views, **{"index.click_radius": -1})
    with pytest.raises(FileError, match="cannot read scene"):
        ws.load("nowhere.ws3d")


IMAGE = np.zeros((4, 4, 3), np.uint8)
CALLS = {
    "load": lambda scene, odd: ws.load(odd),
    "build max_views": lambda scene, odd: ws.build("nowhere", max_views=odd),
    "build group": lambda scene, odd: ws.build("nowhere", index=odd),
    "image": lambda scene, odd: scene.image(odd),
    "labels": lambda scene, odd: scene.labels(odd),
    "segment": lambda scene, odd: scene.segment(odd),
    "camera": lambda scene, odd: scene.segment(ws.Click(odd, 1, 1)),
    "without": lambda scene, odd: scene.segment(1, without=odd),
    "level": lambda scene, odd: scene.segment(1, level=odd),
    "find": lambda scene, odd: scene.find(odd),
    "find weights": lambda scene, odd: scene.find("mug", weights=odd),
    "find device": lambda scene, odd: scene.find("mug", device=odd),
    "save": lambda scene, odd: scene.save(odd),
    "export": lambda scene, odd: scene.export(odd, "json"),
    "export format": lambda scene, odd: scene.export("nowhere", odd),
    "write_cloud path": lambda scene, odd: ws.write_cloud(odd, scene.segment(1)),
    "write_cloud": lambda scene, odd: ws.write_cloud("nowhere.ply", odd),
    "Click": lambda scene, odd: ws.Click("cam_0", odd, 1),
    "Click label": lambda scene, odd: ws.Click("cam_0", 1, 1, odd),
    "Box": lambda scene, odd: ws.Box("cam_0", odd, 1, 2, 3),
    "View name": lambda scene, odd: ws.View(odd, IMAGE),
    "View image": lambda scene, odd: ws.View("a", odd),
    "View K": lambda scene, odd: ws.View("a", IMAGE, K=odd),
    "View pose": lambda scene, odd: ws.View("a", IMAGE, world_from_cam_prior=odd),
}


@pytest.mark.parametrize("call", CALLS)
def test_whatever_is_given_errors_are_those_of_the_package(call, scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for odd in ([None], {}, b"x", np.zeros(3), object()):
        with pytest.raises(ws.WildSeg3DError):
            CALLS[call](scene, odd)
    assert not list(tmp_path.iterdir())


def test_find_wants_a_text_before_weights(scene):
    for text, found in (("", "empty"), (3, "3")):
        with pytest.raises(PromptError, match=f"the text is {found}; name .*, as 'red mug'"):
            scene.find(text)


def test_show_serves_the_page(scene, monkeypatch):
    pytest.importorskip("nicegui", reason="EXTRA ABSENT: make setup EXTRAS=viewer")
    # NiceGUI serves otherwise where it believes itself in a test.
    for name in [name for name in os.environ if name.startswith("PYTEST")]:
        monkeypatch.delenv(name)
    with scene.show(port=21000, browser=False) as shown:
        with urllib.request.urlopen(shown.address) as page:
            assert b"wildseg3d" in page.read()
        assert shown.address in repr(shown) and shown.address in shown._repr_html_()
        process = shown._process
    assert process.poll() is not None
    assert repr(shown) == "<page, closed>"


def test_show_says_why_there_is_no_page(scene, monkeypatch):
    """What the command says that would have served it."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(FileError, match="the page cannot be served: it ended without a word"):
        scene.show(browser=False)


def examples() -> Iterator[tuple[str, list[doctest.DocTest]]]:
    """Each public name, and each that docs/reference/python-api.md shows, with its examples and
    those of its members."""
    page = (ROOT / "docs" / "reference" / "python-api.md").read_text()
    names = re.findall(r"^\.\. auto(?:class|function):: ([\w.]+)$", page, re.MULTILINE)
    names += [f"{pipeline.__name__}.{each}" for each in ("build_scene", "segment")]
    names += [f"{getattr(ws, each).__module__}.{each}" for each in ws._PUBLIC]
    for name in sorted({*names}):
        if ".ros." in name:
            continue  # needs a node: test/ros/test_prompts.py
        module, _, attribute = name.rpartition(".")
        value = getattr(importlib.import_module(module), attribute)
        home = importlib.import_module(value.__module__)
        yield name, doctest.DocTestFinder().find(value, attribute, home)


def without_example(found: list[doctest.DocTest]) -> list[str]:
    """Of a name and its public members, those that no example of it uses."""
    text = "".join(example.source for each in found for example in each.examples)
    members = [each.name.rpartition(".")[2] for each in found[1:]]
    return [name for name in members if name[0] != "_" and not re.search(rf"\.{name}\b", text)] + (
        [] if text else [found[0].name]
    )


def test_docstrings_are_true(truth, tmp_path, monkeypatch):
    """Each name and each of its members has an example, and it runs where there are a recording
    and its scene."""
    save_scene(exact_scene(truth), tmp_path / "scene.ws3d")
    write_folder(tmp_path / "recording", truth.recording())
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    bare = []
    for name, found in examples():
        bare += [f"{name}: {each}" for each in without_example(found)]
        for each in found:
            runner.run(each)
    assert (bare, runner.failures) == ([], 0)


def test_notebook_runs(tmp_path, monkeypatch):
    """Its cells, one after the other, as a kernel runs them."""
    notebook = json.loads((ROOT / "examples" / "first_scene.ipynb").read_text())
    shutil.copytree(ROOT / "examples" / "tabletop", tmp_path / "tabletop")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == []
                exec("".join(cell["source"]), names)
    assert "<cloud of object" in printed.getvalue()
    assert "is outside the image of camera 'cam_2'" in printed.getvalue()
    assert (names["out"] / "export" / "index.html").is_file()
    shutil.rmtree(names["out"])
