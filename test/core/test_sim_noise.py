"""The noise model against its own physics: constructed surfaces, brute force."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.geometry.cameras import rays
from wildseg3d_ros.sim.noise import (
    DepthNoise,
    hidden_from_right_eye,
    incidence,
    kinematic_pose,
    sense_color,
    sense_depth,
)

K = np.array([[580.0, 0, 159.5], [0, 580.0, 119.5], [0, 0, 1]])
SHAPE = (240, 320)
INNER = np.s_[20:-20, 80:-20]
"""Away from the image's borders and from what the right eye's image does not contain."""


def wall(distance: float, slant_degrees: float = 0.0) -> np.ndarray:
    """Depth of a plane at ``distance`` on the axis, rotated about the vertical."""
    slant = np.radians(slant_degrees)
    normal = np.array([np.sin(slant), 0.0, np.cos(slant)])
    return (distance * normal[2] / (rays(K, *SHAPE) @ normal)).astype(np.float32)


@pytest.mark.parametrize("slant", [0.0, 30.0, 60.0])
def test_incidence_of_a_slanted_wall(slant):
    angle = incidence(wall(1.0, slant), K)
    assert np.degrees(angle[120, 160]) == pytest.approx(slant, abs=0.3)


def test_sense_depth_error_is_unbiased_and_grows_with_the_range_squared():
    sigma = {}
    for distance in (0.5, 1.0, 2.0):
        exact = wall(distance)
        errors = []
        for seed in range(4):
            depth = sense_depth(exact, K, np.random.default_rng(seed))
            error = (depth - exact)[INNER][depth[INNER] > 0]
            assert error.size > 0.97 * exact[INNER].size
            errors.append(error)
        error = np.concatenate(errors)
        # Noise is correlated over a few pixels, so the mean of n pixels is worth far fewer.
        assert abs(error.mean()) < 0.1 * error.std()
        sigma[distance] = error.std()
    assert sigma[1.0] / sigma[0.5] == pytest.approx(4.0, rel=0.15)
    assert sigma[2.0] / sigma[1.0] == pytest.approx(4.0, rel=0.15)
    noise = DepthNoise()
    pixels = np.hypot(noise.disparity_sigma, noise.disparity_step / np.sqrt(12)) * SHAPE[1] / 640
    assert sigma[1.0] == pytest.approx(pixels / (K[0, 0] * noise.baseline), rel=0.15)


def test_smooth_noise_is_correlated_over_neighbours_only():
    exact = wall(1.0)
    error = (sense_depth(exact, K, np.random.default_rng(0)) - exact)[INNER]
    error -= error.mean()
    near = (error[:, :-1] * error[:, 1:]).mean() / error.var()
    far = (error[:, :-20] * error[:, 20:]).mean() / error.var()
    assert near > 0.6
    assert abs(far) < 0.1


def test_sense_depth_disparities_are_multiples_of_the_step():
    noise = DepthNoise()
    depth = sense_depth(wall(0.8, 40.0), K, np.random.default_rng(0))
    disparity = K[0, 0] * noise.baseline / depth[depth > 0].astype(np.float64)
    steps = disparity / (noise.disparity_step * SHAPE[1] / 640)
    assert np.abs(steps - np.rint(steps)).max() < 1e-3


def test_hidden_from_right_eye_equals_a_brute_force_search():
    rng = np.random.default_rng(0)
    disparity = np.repeat(rng.uniform(0, 12, (6, 8)), 5, axis=1).astype(np.float32)
    expected = np.zeros(disparity.shape, dtype=bool)
    for row in range(disparity.shape[0]):
        for u in range(disparity.shape[1]):
            at = u - disparity[row, u]
            expected[row, u] = any(
                other - disparity[row, other] <= at for other in range(u + 1, disparity.shape[1])
            )
    np.testing.assert_array_equal(hidden_from_right_eye(disparity), expected)
    assert expected.any()
    assert not expected.all()


def test_sense_depth_box_before_a_wall_casts_a_shadow_to_its_left_only():
    exact = np.full(SHAPE, 1.2, dtype=np.float32)
    exact[60:180, 150:230] = 0.6
    depth = sense_depth(exact, K, np.random.default_rng(0))
    noise = DepthNoise()
    width = K[0, 0] * noise.baseline * (1 / 0.6 - 1 / 1.2)
    rows = depth[80:160]
    lost_left = (rows[:, 150 - int(width) + 3 : 147] == 0).mean()
    lost_right = (rows[:, 233 : 233 + int(width)] == 0).mean()
    assert lost_left > 0.95
    assert lost_right < 0.05


def test_sense_depth_some_pixels_fly_between_the_surfaces_at_an_edge():
    exact = np.full(SHAPE, 1.2, dtype=np.float32)
    exact[60:180, 150:230] = 0.6
    depth = sense_depth(exact, K, np.random.default_rng(0))
    between = (depth > 0.65) & (depth < 1.1)
    assert between.sum() > 20
    rows, columns = np.nonzero(between)
    distance = np.minimum.reduce(
        [np.abs(columns - 150), np.abs(columns - 229), np.abs(rows - 60), np.abs(rows - 179)]
    )
    assert distance.max() <= 2


def test_sense_depth_of_grazing_and_far_surfaces():
    slant = np.radians(78.0)
    normal = np.array([np.sin(slant), 0.0, np.cos(slant)])
    ray = rays(K, *SHAPE)
    angle = np.degrees(np.arccos(np.abs(ray @ normal) / np.linalg.norm(ray, axis=-1)))[INNER]
    exact = wall(0.5, 78.0)
    kept = (sense_depth(exact, K, np.random.default_rng(0)) > 0)[INNER]
    near = (exact < 2.0)[INNER]
    assert kept[near & (angle < 70.0)].mean() > 0.95
    assert kept[near & (angle > 84.0)].mean() < 0.25
    assert (near & (angle > 84.0)).sum() > 500
    assert not sense_depth(wall(8.0), K, np.random.default_rng(0)).any()


def test_sense_depth_of_nothing():
    exact = wall(1.0)
    exact[100:140, 150:200] = 0.0
    depth = sense_depth(exact, K, np.random.default_rng(0))
    assert not depth[103:137, 153:197].any()
    assert np.isfinite(depth).all()


def test_sense_color_keeps_the_mean_over_cameras_and_stays_in_range():
    image = np.full((60, 80, 3), [0.2, 0.5, 0.98], dtype=np.float32)
    pictures = [sense_color(image, np.random.default_rng(seed)) for seed in range(40)]
    means = np.array([picture[..., :2].mean(axis=(0, 1)) for picture in pictures])
    np.testing.assert_allclose(means.mean(axis=0), [51, 127.5], rtol=0.04)
    assert 0.02 < (means[:, 0] / means[:, 0].mean()).std() < 0.1
    perfect = sense_color(image, np.random.default_rng(0), strength=0.0)
    np.testing.assert_array_equal(perfect, np.rint(image * 255).astype(np.uint8))


def test_kinematic_pose_rotates_about_the_camera_and_moves_it():
    pose = np.eye(4)
    pose[:3, 3] = [5.0, -3.0, 2.0]
    moved = np.array(
        [
            kinematic_pose(pose, np.random.default_rng(s), 0.002, 0.005)[:3, 3] - pose[:3, 3]
            for s in range(200)
        ]
    )
    # A rotation about the world's origin would move this camera by centimetres.
    assert moved.std() == pytest.approx(0.002, rel=0.15)
    same = kinematic_pose(pose, np.random.default_rng(0), 0.0, 0.0)
    np.testing.assert_allclose(same, pose, atol=1e-12)
