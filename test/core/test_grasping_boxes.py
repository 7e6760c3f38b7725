from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_from_vector,
)
from wildseg3d_ros.grasping.boxes import OrientedBox, fit_box
from wildseg3d_ros.grasping.coverage import face_coverage

SIZE = np.array([0.12, 0.08, 0.05])
POSE = make_transform(rotation_from_vector([0.5, -0.7, 0.3]), [0.4, -0.2, 0.9])
FACES = ("-x", "+x", "-y", "+y", "-z", "+z")


def box_points(faces=FACES, size=SIZE, pose=POSE, noise=0.0, count=3000, seed=0):
    """Points on some faces of a box, and their normals."""
    rng = np.random.default_rng(seed)
    points, normals = [], []
    for face in faces:
        axis, sign = "xyz".index(face[1]), 1.0 if face[0] == "+" else -1.0
        on_face = rng.uniform(-0.5, 0.5, (count, 3)) * size
        on_face[:, axis] = sign * size[axis] / 2
        normal = np.zeros((count, 3))
        normal[:, axis] = sign
        points.append(on_face + normal * rng.normal(0, noise, (count, 1)))
        normals.append(normal)
    return (
        apply(pose, np.concatenate(points)).astype(np.float32),
        (np.concatenate(normals) @ pose[:3, :3].T).astype(np.float32),
    )


def is_pose_of_a_box(box: OrientedBox, true=POSE, degrees=1.0):
    """Whether every axis is one of the true ones, forwards or backwards."""
    R = box.frame_from_box[:3, :3]
    assert np.linalg.det(R) == pytest.approx(1.0)
    along = np.abs(R.T @ true[:3, :3]).max(axis=1)
    return (along > np.cos(np.radians(degrees))).all()


def test_fit_box_in_any_pose_to_the_millimetre():
    box = fit_box(box_points()[0])
    np.testing.assert_allclose(box.size, SIZE, atol=0.001)  # longest first
    np.testing.assert_allclose(box.frame_from_box[:3, 3], POSE[:3, 3], atol=0.0005)
    assert is_pose_of_a_box(box)


@pytest.mark.parametrize(
    "faces",
    [("+x", "+y", "+z"), ("+x", "+z"), ("-x", "+x", "-y", "+y", "+z")],
    ids=["three", "two", "all but the bottom"],
)
def test_fit_box_unseen_faces_do_not_tilt_it(faces):
    box = fit_box(box_points(faces)[0])
    assert is_pose_of_a_box(box, degrees=2.0)
    np.testing.assert_allclose(box.size, SIZE, atol=0.003)


def test_fit_box_with_noise_and_outliers():
    points, _ = box_points(noise=0.001)
    rng = np.random.default_rng(1)
    strays = apply(POSE, rng.uniform(-0.09, 0.09, (10, 3))).astype(np.float32)
    box = fit_box(np.concatenate([points, strays]))
    np.testing.assert_allclose(box.size, SIZE, atol=0.008)
    np.testing.assert_allclose(box.frame_from_box[:3, 3], POSE[:3, 3], atol=0.003)


def test_fit_box_of_what_stands_is_upright():
    """An octahedron on its tip: the smallest boxes lean, an upright one is hardly larger."""
    turn = make_transform(rotation_from_vector([0.0, 0.0, 0.4]), [0.1, 0.2, 0.3])
    points, _ = box_points(size=np.array([0.06, 0.05, 0.2]), pose=turn)
    box = fit_box(points, up=[0, 0, 1])
    np.testing.assert_allclose(box.frame_from_box[:3, 2], [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(box.size, [0.06, 0.05, 0.2], atol=0.001)
    assert box.frame_from_box[:3, 0] @ [1, 0, 0] > 0
    # What clearly leans is not forced upright, and its z is the axis nearest to up.
    leaning = make_transform(rotation_from_vector([0.6, 0.0, 0.0]), [0.1, 0.2, 0.3])
    box = fit_box(box_points(size=np.array([0.06, 0.05, 0.2]), pose=leaning)[0], up=[0, 0, 1])
    np.testing.assert_allclose(box.frame_from_box[:3, 2], leaning[:3, 2], atol=0.02)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fit_box_of_hardly_a_point(count):
    points = np.eye(3, dtype=np.float32)[np.arange(count) % 3] + np.arange(count)[:, None]
    box = fit_box(points.astype(np.float32))
    assert np.isfinite(box.frame_from_box).all()
    assert (box.size >= 0).all()
    inside = apply(invert(box.frame_from_box), points.astype(float))
    assert (np.abs(inside) <= box.size / 2 + 0.02).all()


def test_fit_box_of_flat_and_straight_things():
    rng = np.random.default_rng(3)
    flat = np.zeros((500, 3), np.float32)
    flat[:, :2] = rng.uniform(-0.5, 0.5, (500, 2)) * [0.3, 0.1]
    np.testing.assert_allclose(fit_box(flat).size, [0.3, 0.1, 0.0], atol=0.01)
    line = np.zeros((500, 3), np.float32)
    line[:, 1] = np.linspace(0, 0.4, 500)
    np.testing.assert_allclose(fit_box(line).size, [0.4, 0.0, 0.0], atol=0.005)


@pytest.mark.parametrize(
    "faces", [("+z",), ("+x", "+z"), ("-x", "+x", "-y", "+y", "+z"), FACES], ids="".join
)
def test_face_coverage_is_the_share_of_the_faces_seen(faces):
    points, normals = box_points(faces)
    found = face_coverage(points, normals, OrientedBox(POSE, SIZE))
    np.testing.assert_allclose(found, [face in faces for face in FACES], atol=0.06)
    areas = np.repeat(np.prod(SIZE) / SIZE, 2)
    seen = sum(a for a, face in zip(areas, FACES, strict=True) if face in faces) / areas.sum()
    assert OrientedBox(POSE, SIZE, found).coverage == pytest.approx(seen, abs=0.03)


def test_face_coverage_of_half_a_face_is_half():
    points, normals = box_points(FACES)
    local = apply(invert(POSE), points.astype(float))
    on_top = local[:, 2] > SIZE[2] / 2 - 1e-4
    kept = ~on_top | (local[:, 0] > 0)
    found = face_coverage(points[kept], normals[kept], OrientedBox(POSE, SIZE))
    assert found[5] == pytest.approx(0.5, abs=0.06)
    assert found[4] > 0.94


def test_face_coverage_of_a_ball_seen_all_around():
    rng = np.random.default_rng(4)
    normals = rng.normal(size=(20000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    box = OrientedBox(np.eye(4), np.full(3, 0.1))
    found = face_coverage((0.05 * normals).astype(np.float32), normals, box)
    assert found.min() > 0.9
