"""The common error of a moving camera's poses, against constructed ones."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.geometry.transforms import (
    make_transform,
    rotation_angle,
    rotation_from_vector,
)
from wildseg3d_ros.rig.hand_eye import hand_eye_correction


def motion(rng, turned, moved):
    """A random rigid motion of given standard deviations [rad, m] per axis."""
    return make_transform(
        rotation_from_vector(rng.normal(scale=turned, size=3)), rng.normal(scale=moved, size=3)
    )


def error_of(rng, turned, moved):
    """A rigid motion of given sizes [rad, m] in random directions."""
    axis, step = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    return make_transform(rotation_from_vector(turned * axis), moved * step)


def tour(rng, count):
    """Poses of a camera on an arm that looks at a table from many sides."""
    poses = []
    for _ in range(count):
        eye = np.array([*rng.uniform(-0.5, 0.5, 2), rng.uniform(0.4, 0.7)])
        z = rng.normal(scale=0.05, size=3) - eye
        z /= np.linalg.norm(z)
        x = np.cross(z, rng.normal(size=3))
        x /= np.linalg.norm(x)
        poses.append(make_transform(np.stack([x, np.cross(z, x), z], axis=1), eye))
    return poses


@pytest.mark.parametrize("seed", range(5))
def test_hand_eye_correction_finds_what_was_put_in(seed):
    rng = np.random.default_rng(seed)
    given = tour(rng, 8)
    true, world = error_of(rng, 0.015, 0.010), motion(rng, 0.01, 0.01)
    noise = [motion(rng, 0.0005, 0.0005) for _ in given]
    solved = [world @ g @ true @ n for g, n in zip(given, noise, strict=True)]
    found = hand_eye_correction(given, solved)
    assert found.is_clear
    error = np.linalg.inv(found.given_from_true) @ true
    assert np.linalg.norm(error[:3, 3]) < 5 * found.translation_sigma
    assert rotation_angle(error[:3, :3]) < 5 * found.rotation_sigma
    assert found.translation == pytest.approx(np.linalg.norm(true[:3, 3]), abs=2e-3)
    assert found.translation_sigma < 2e-3


def test_hand_eye_correction_sees_none_in_errors_of_each_view():
    """Each view is off by 5 mm and 0.5 degrees of its own; chance may make a tour clear."""
    clear = 0
    for seed in range(40):
        rng = np.random.default_rng(100 + seed)
        given = tour(rng, 8)
        solved = [g @ motion(rng, 0.009, 0.005) for g in given]
        clear += hand_eye_correction(given, solved).is_clear
    assert clear <= 2


def test_hand_eye_correction_leaves_good_calibrations_alone():
    """Off by 2 mm and 0.1 degrees in all views, as errors of the depth alone make it."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        given, true = tour(rng, 8), error_of(rng, 0.0017, 0.002)
        found = hand_eye_correction(given, [g @ true for g in given])
        assert found.translation == pytest.approx(0.002, abs=1e-5)
        assert not found.is_clear


def test_hand_eye_correction_needs_views_that_turn():
    rng = np.random.default_rng(0)
    assert hand_eye_correction(tour(rng, 4), tour(rng, 4)) is None
    slid = [make_transform(np.eye(3), np.array([0.1 * k, 0.05 * k * k, 0.0])) for k in range(8)]
    assert hand_eye_correction(slid, slid) is None
