"""Local planes and depth confidence on analytic surfaces."""

import numpy as np
import pytest

from wildseg3d_ros.core.geometry.cameras import rays
from wildseg3d_ros.core.geometry.surface import local_planes
from wildseg3d_ros.pointmaps.confidence import UNIT_SIGMA, edge_quality
from wildseg3d_ros.pointmaps.depth.noise import DepthNoise, depth_confidence

H, W = 120, 160
K = np.array([[150.0, 0.0, 80.0], [0.0, 152.0, 58.0], [0.0, 0.0, 1.0]])
NOISE = DepthNoise()


def plane_depth(normal, distance):
    """Depth of the plane normal . X = distance, and its unit normal towards the camera."""
    normal = np.asarray(normal, dtype=np.float64)
    normal = normal / np.linalg.norm(normal)
    depth = distance / (rays(K, H, W).astype(np.float64) @ normal)
    return depth.astype(np.float32), -normal * np.sign(distance)


def angles(normals, expected):
    return np.rad2deg(np.arccos(np.clip((normals * expected).sum(axis=-1), -1.0, 1.0)))


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.8, 0.1, 1), (-0.3, 1.2, 1)])
def test_local_planes_normals_of_a_plane_are_exact(normal):
    depth, expected = plane_depth(normal, 1.0)
    planes = local_planes(depth, K, NOISE.sigma(depth))
    assert angles(planes.normals, expected).max() < 0.1
    assert np.abs(planes.offset).max() < 1e-4
    assert planes.roughness.max() < 1e-4


def test_local_planes_normals_with_skewed_pixels():
    skewed = K.copy()
    skewed[0, 1] = 12.0
    normal = np.array([0.4, -0.3, 1.0]) / np.linalg.norm([0.4, -0.3, 1.0])
    depth = (1.0 / (rays(skewed, H, W).astype(np.float64) @ normal)).astype(np.float32)
    planes = local_planes(depth, skewed, NOISE.sigma(depth))
    assert angles(planes.normals, -normal).max() < 0.1


def test_local_planes_normals_of_a_sphere():
    centre, radius = np.array([0.0, 0.0, 1.0]), 0.3
    direction = rays(K, H, W).astype(np.float64)
    a, b = (direction**2).sum(-1), direction @ centre
    inside = b**2 - a * (centre @ centre - radius**2)
    depth = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, 0.0)
    points = direction * depth[..., None]
    expected = (points - centre) / radius
    planes = local_planes(depth.astype(np.float32), K, NOISE.sigma(depth), radius=2)
    # The rim is seen at grazing angles.
    facing = (depth > 0) & (-(expected * direction).sum(-1) > 0.5 * np.sqrt(a))
    assert facing.sum() > 2000
    assert angles(planes.normals, expected)[facing].max() < 3.0


def test_local_planes_normal_sigma_is_that_of_repeated_measurements():
    exact, expected = plane_depth((0.3, 0.2, 1), 1.0)
    rng = np.random.default_rng(0)
    errors, claimed = [], []
    for _ in range(5):
        depth = exact + rng.normal(0, 0.003, exact.shape).astype(np.float32)
        planes = local_planes(depth, K, NOISE.sigma(depth))
        inner = np.s_[20:-20, 20:-20]
        errors.append(np.deg2rad(angles(planes.normals, expected))[inner])
        claimed.append(planes.normal_sigma[inner])
    # Two independent tilts of that deviation each.
    measured = np.sqrt(np.mean(np.square(errors)) / 2)
    assert measured == pytest.approx(np.mean(claimed), rel=0.3)


def test_local_planes_stay_sharp_at_a_crease():
    left, towards_left = plane_depth((-1, 0, 1), 1.0)
    right, towards_right = plane_depth((1, 0, 1), 1.0)
    # The nearer plane hides the farther: a ridge that points at the camera.
    ridge = np.minimum(left, right)
    planes = local_planes(ridge, K, NOISE.sigma(ridge), radius=4)
    on_left = left < right
    expected = np.where(on_left[..., None], towards_left, towards_right)
    at = np.argmax(~on_left[H // 2])
    columns = np.abs(np.arange(W) - at)
    off = angles(planes.normals, expected)
    assert off[:, columns > 1].max() < 1.0


def test_local_planes_pixels_without_neighbours_have_none():
    depth = np.zeros((H, W), np.float32)
    depth[60, 80] = 1.0
    planes = local_planes(depth, K, NOISE.sigma(depth))
    assert not planes.normals.any()
    assert np.isinf(planes.roughness).all()
    confidence, _ = depth_confidence(depth, K, NOISE)
    assert not confidence.any(), "a single pixel is a speckle"


def test_depth_confidence_is_one_centimetre_over_sigma():
    for z in (0.5, 1.0, 2.0, 4.0):
        depth = np.full((H, W), z, np.float32)
        confidence, _ = depth_confidence(depth, K, NOISE)
        # At the image's centre the ray meets the wall head on.
        expected = UNIT_SIGMA / (0.0012 + 0.0019 * max(z - 0.4, 0) ** 2)
        assert confidence[58, 80] == pytest.approx(expected, rel=1e-3)


def test_depth_confidence_falls_with_incidence():
    values = []
    for slant in (0, 45, 70, 80):
        depth, _ = plane_depth((np.tan(np.deg2rad(slant)), 0, 1), 1.0)
        confidence, _ = depth_confidence(depth, K, NOISE)
        values.append(confidence[58, 80])
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.5 * values[0]


def test_depth_confidence_follows_the_measured_roughness():
    rng = np.random.default_rng(1)
    depth = np.full((H, W), 1.0, np.float32)
    rough = depth + rng.normal(0, 0.01, depth.shape).astype(np.float32)
    smooth_confidence, _ = depth_confidence(depth, K, NOISE)
    rough_confidence, _ = depth_confidence(rough, K, NOISE)
    assert np.median(rough_confidence) < 0.5 * np.median(smooth_confidence)


def test_depth_confidence_of_flying_pixels_is_zero():
    depth = np.full((H, W), 1.5, np.float32)
    depth[30:90, 50:110] = 1.0
    depth[30:90, 49] = 1.2  # between the two surfaces
    depth[29, 50:110] = np.linspace(1.1, 1.4, 60)
    confidence, _ = depth_confidence(depth, K, NOISE)
    assert confidence[31:89, 49].max() == 0.0
    assert np.mean(confidence[29, 51:109] < 0.05 * confidence[60, 80]) > 0.95
    inside, beside = confidence[60, 80], confidence[60, 50]
    assert 0 < beside < inside, "beside an edge a pixel is less certain, but counts"


def test_depth_confidence_of_a_ramp_of_flying_pixels_is_zero():
    depth = np.full((H, W), 1.5, np.float32)
    depth[:, :60] = 1.0
    depth[:, 60:64] = [1.1, 1.2, 1.3, 1.4]
    confidence, _ = depth_confidence(depth, K, NOISE)
    assert confidence[:, 60:64].max() == 0.0
    assert confidence[:, 50].min() > 1.0


def test_edge_quality_slanted_plane_is_no_edge():
    depth, _ = plane_depth((np.tan(np.deg2rad(75)), 0, 1), 1.0)
    depth[(depth <= 0) | (depth > 5)] = 0.0
    quality = edge_quality(depth, K, NOISE.sigma(depth))
    inside = np.zeros_like(depth, bool)
    inside[2:-2, 2:-2] = True
    # Away from where it leaves the range.
    inside[:, :-1] &= depth[:, 1:] > 0
    inside[:, 1:] &= depth[:, :-1] > 0
    assert (quality[inside & (depth > 0)] == 1.0).mean() > 0.98


def test_depth_confidence_of_pixels_without_depth_is_zero():
    depth = np.full((H, W), 1.0, np.float32)
    depth[40:50, 40:60] = 0.0
    confidence, planes = depth_confidence(depth, K, NOISE)
    assert (confidence[40:50, 40:60] == 0).all()
    assert not planes.normals[40:50, 40:60].any()
    assert np.isfinite(confidence).all()
    assert (confidence[60:100] > 0).all()
