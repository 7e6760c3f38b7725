from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.grasping.normals import fit_normals, neighbourhood_radius

EYES = np.array([[0.6, 0.0, 0.5], [-0.4, 0.5, 0.6], [-0.3, -0.6, 0.5]])


def ball(rng, radius=0.04, noise=0.0, count=8000):
    """Points of a ball that an eye sees, their true normals, and the way to their eyes."""
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return seen(radius * normals, normals, rng, noise)


def box(rng, half=(0.04, 0.03, 0.025), noise=0.0, count=12000):
    face = rng.integers(0, 6, count)
    axis, sign = face // 2, 2.0 * (face % 2) - 1.0
    points = rng.uniform(-1, 1, (count, 3)) * half
    rows = np.arange(count)
    points[rows, axis] = sign * np.array(half)[axis]
    normals = np.zeros((count, 3))
    normals[rows, axis] = sign
    return seen(points, normals, rng, noise)


def seen(points, normals, rng, noise):
    way = EYES[rng.integers(0, len(EYES), len(points))] - points
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    front = (way * normals).sum(axis=1) > 0.1
    points, normals, way = points[front], normals[front], way[front]
    points = points + way * rng.normal(0, noise, (len(points), 1))  # as depth cameras err
    return points.astype(np.float32), normals, way.astype(np.float32)


def degrees_off(found, true):
    return np.degrees(np.arccos(np.clip((found * true).sum(axis=1), -1, 1)))


@pytest.mark.parametrize("shape", [ball, box])
@pytest.mark.parametrize(("noise", "median", "p90"), [(0.0, 1.5, 4.0), (0.001, 6.0, 17.0)])
def test_fit_normals_of_known_shapes(shape, noise, median, p90):
    points, true, toward = shape(np.random.default_rng(0), noise=noise)
    found = fit_normals(points, toward, 0.008)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    off = degrees_off(found, true)
    assert np.median(off) < median
    assert np.percentile(off, 90) < p90
    assert ((found * toward).sum(axis=1) >= 0).all()


def test_fit_normals_two_sides_of_a_thin_plate_do_not_mix():
    rng = np.random.default_rng(1)
    sides = np.where(rng.random(6000) < 0.5, 1.0, -1.0)
    points = rng.uniform(-0.05, 0.05, (6000, 3))
    points[:, 2] = 0.0005 * sides
    points = points.astype(np.float32)
    toward = np.zeros((6000, 3), np.float32)
    toward[:, 2], toward[:, 0] = 0.8 * sides, 0.6
    found = fit_normals(points, toward, 0.008)
    inner = np.abs(points[:, :2]).max(axis=1) < 0.04
    np.testing.assert_allclose(found[inner, 2], sides[inner], atol=0.01)


def test_fit_normals_against_planes_fitted_one_by_one():
    """On a smooth surface the cells change nothing: a plain least-squares fit says the same."""
    points, _, toward = ball(np.random.default_rng(2), radius=0.1, count=20000)
    found = fit_normals(points, toward, 0.012)
    for row in range(0, len(points), 997):
        near = points[np.linalg.norm(points - points[row], axis=1) < 0.012].astype(float)
        if (near @ toward[row] > 0).mean() < 1:
            continue
        plain = np.linalg.svd(near - near.mean(axis=0))[2][2]
        plain *= np.sign(plain @ toward[row])
        assert degrees_off(found[[row]], plain[None])[0] < 4.0


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_fit_normals_of_hardly_a_point(count):
    points = np.arange(3.0 * count).reshape(count, 3).astype(np.float32)
    toward = np.tile(np.array([0, 0.6, 0.8], np.float32), (count, 1))
    np.testing.assert_allclose(fit_normals(points, toward, 0.1), toward, atol=1e-6)


def test_neighbourhood_radius_follows_the_object_and_its_points():
    points = np.array([[0, 0, 0], [0.1, 0.0, 0.0]], np.float32)
    assert neighbourhood_radius(points, 0.001) == pytest.approx(0.006)
    assert neighbourhood_radius(points, 0.003) == pytest.approx(0.009)
    assert neighbourhood_radius(10 * points, 0.001) == pytest.approx(0.01)
