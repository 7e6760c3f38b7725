"""The check of a rig as a user sees it: what is given, and how far the alignment moves it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from wildseg3d_ros.rig.aligned import check_rig
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.rigs import with_pose_error
from wildseg3d_testing.scenes import construct_scene

MILLIMETRES, DEGREES = 1e-3, np.radians(1.0)


@pytest.fixture(scope="module")
def truth():
    return construct_scene(4, 320, 240, seed=41, arc_degrees=111.0, depth_noise=DepthNoise())


def checked(truth, millimetres, degrees, seed=3):
    random = np.random.default_rng(seed)
    size, turn = millimetres * MILLIMETRES, degrees * DEGREES
    return check_rig(with_pose_error(truth.views, random, size, turn))


def test_poses_of_a_calibration_are_ok(truth):
    rig = checked(truth, 5.0, 0.5)
    assert rig.verdict == "ok"
    assert [camera.verdict for camera in rig.cameras] == ["ok"] * 4
    assert rig.warnings == []


def test_poses_that_are_all_off_are_told_with_what_that_leaves_unknown(truth):
    rig = checked(truth, 20.0, 2.0)
    assert rig.verdict == "suspect"
    assert [camera.verdict for camera in rig.cameras].count("moved") >= 3
    said = " ".join(rig.warnings)
    assert "off by more than a careful calibration leaves" in said
    told = float(re.search(r"than to some (\d+) mm", said)[1])
    # Where the scene really lies, by the middle of what each camera sees.
    middle = np.array([0.0, 0.0, 0.7, 1.0])
    found, right = rig.aligned.cameras.world_from_cam, truth.world_from_cam
    off = 1e3 * np.linalg.norm(((found - right) @ middle)[:, :3], axis=1)
    assert np.median(off) < 2.0 * told
    assert 10.0 < told < 20.0, "four of 20 mm, and of 2 degrees at 0.7 m: 14 mm"


def test_one_camera_that_was_moved_is_named_alone(truth):
    views = list(truth.views)
    views[1] = with_pose_error([views[1]], np.random.default_rng(1), 0.02, DEGREES)[0]
    rig = check_rig(views)
    assert rig.verdict == "suspect"
    assert [camera.verdict for camera in rig.cameras] == ["ok", "moved", "ok", "ok"]
    assert views[1].name in " ".join(rig.warnings)
    assert rig.to_dict()["cameras"][1]["verdict"] == "moved"
