"""Solved poses as files: a repaired recording, static transforms, and the JSON of a build."""

from __future__ import annotations

import dataclasses
import json
import shlex

import numpy as np
import pytest
import yaml

from wildseg3d_ros import cli
from wildseg3d_ros.core.geometry.transforms import (
    make_transform,
    rotation_from_quaternion,
    rotation_from_vector,
)
from wildseg3d_ros.io.folder import Recording, load_folder, write_folder
from wildseg3d_testing.scenes import construct_scene

KNOCK = make_transform(rotation_from_vector(np.array([0.0, 0.02, 0.0])), np.array([0.01, 0, 0]))
"""By how much one camera's given pose is wrong: about 1 degree and 10 mm."""


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=4, width=320, height=240, objects=6, seed=3)


@pytest.fixture(scope="module")
def folder(truth, tmp_path_factory):
    """A recording of which one camera of four was knocked."""
    views = [dataclasses.replace(v, frame_id=f"{v.name}_optical") for v in truth.views]
    pose = views[1].world_from_cam_prior @ KNOCK
    views[1] = dataclasses.replace(views[1], world_from_cam_prior=pose)
    path = tmp_path_factory.mktemp("rig") / "recording"
    write_folder(path, Recording(tuple(views), truth.labels))
    return path


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    """What `build` wrote."""
    out = tmp_path_factory.mktemp("built")
    words = ["build", folder, "-o", out / "scene.ws3d", "--json", out / "built.json", "--quiet"]
    words += ["--write-poses", out / "repaired" / "transforms.json"]
    assert cli.main([str(word) for word in words]) == 0
    return out


def errors(truth, views):
    """Metres by which the views' poses are wrong, against the first one's."""
    true = [v.world_from_cam_prior for v in truth.views]
    given = [v.world_from_cam_prior for v in views]
    to_true = true[0] @ np.linalg.inv(given[0])
    return [float(np.linalg.norm((to_true @ g)[:3, 3] - t[:3, 3])) for g, t in zip(given, true,
            strict=True)]  # fmt: skip


def test_write_poses_repairs_a_recording(truth, folder, built):
    repaired = load_folder(built / "repaired")
    before = load_folder(folder)
    for one, other in zip(repaired.views, before.views, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.depth, other.depth)
    assert errors(truth, before.views)[1] > 0.009
    assert max(errors(truth, repaired.views)) < 0.004


def test_build_json_says_which_camera_moved(built):
    found = json.loads((built / "built.json").read_text())
    cameras = {camera["name"]: camera for camera in found["cameras"]}
    assert len(cameras) == 4
    moved = {name: camera["translation"] for name, camera in cameras.items()}
    assert max(moved, key=moved.get) == "cam_1"
    for camera in cameras.values():
        assert camera["agreement"] > 0.5
        assert set(camera["overlap"]) <= set(cameras) - {camera["name"]}
        assert np.array(camera["world_from_cam"]).shape == (4, 4)


def test_write_poses_static_transforms(folder, built, tmp_path):
    """Their numbers are those of the JSON, and so are those of the commands in the comments."""
    path = tmp_path / "poses.yaml"
    scene, figures = tmp_path / "scene.ws3d", tmp_path / "built.json"
    words = ["build", folder, "-o", scene, "--write-poses", path, "--json", figures, "--quiet"]
    assert cli.main([str(word) for word in words]) == 0
    entries = yaml.safe_load(path.read_text())
    cameras = json.loads(figures.read_text())["cameras"]
    commands = [line for line in path.read_text().splitlines() if "ros2 run" in line]
    for entry, camera, command in zip(entries, cameras, commands, strict=True):
        assert entry["child"] == f"{camera['name']}_optical"
        assert entry["parent"] == "world"
        place = [entry["translation"][k] for k in "xyz"]
        turn = [entry["rotation"][k] for k in "xyzw"]
        pose = make_transform(rotation_from_quaternion(np.array(turn)), np.array(place))
        np.testing.assert_allclose(pose, camera["world_from_cam"], atol=2e-6)
        words = shlex.split(command.lstrip("# "))
        options = dict(zip(words[4::2], words[5::2], strict=True))
        assert [float(options[f"--{k}"]) for k in "xyz"] == place
        assert [float(options[f"--q{k}"]) for k in "xyzw"] == turn
        assert options["--child-frame-id"] == entry["child"]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("poses.txt", "must end in .yaml or .json"),
        ("poses.json", "written as transforms.json to another folder"),
    ],
)
def test_write_poses_refuses_other_files(folder, tmp_path, capsys, target, says):
    words = ["build", folder, "-o", tmp_path / "s.ws3d", "--write-poses", tmp_path / target]
    assert cli.main([str(word) for word in words]) == 2
    assert says in capsys.readouterr().err


def test_write_poses_never_writes_over_the_recording(folder, tmp_path, capsys):
    before = (folder / "transforms.json").read_text()
    words = ["build", folder, "-o", tmp_path / "s.ws3d", "--write-poses"]
    assert cli.main([str(word) for word in (*words, folder / "transforms.json")]) == 2
    assert "another folder" in capsys.readouterr().err
    assert (folder / "transforms.json").read_text() == before
