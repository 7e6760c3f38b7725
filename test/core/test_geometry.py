"""Geometry against SciPy and against its own inverses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.geometry import cameras, transforms
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.planes import fit_planes
from wildseg3d_ros.core.geometry.similarity import umeyama

finite = st.floats(-3.0, 3.0)
vectors = st.tuples(finite, finite, finite)


@given(vectors)
@settings(max_examples=60, deadline=None)
def test_rotation_from_vector_is_scipys(vector):
    expected = Rotation.from_rotvec(vector).as_matrix()
    assert transforms.rotation_from_vector(vector) == pytest.approx(expected, abs=1e-9)


@given(vectors)
@settings(max_examples=60, deadline=None)
def test_rotation_angle_is_scipys(vector):
    rotation = Rotation.from_rotvec(vector)
    assert transforms.rotation_angle(rotation.as_matrix()) == pytest.approx(
        rotation.magnitude(), abs=1e-7
    )


def test_quaternion_from_rotation_is_scipys_including_half_turns():
    rotations = [*Rotation.random(50, random_state=1), *Rotation.from_rotvec(np.pi * np.eye(3))]
    for rotation in rotations:
        matrix = rotation.as_matrix()
        quat = transforms.quaternion_from_rotation(matrix)
        assert quat[3] >= 0
        assert Rotation.from_quat(quat).as_matrix() == pytest.approx(matrix, abs=1e-9)
        assert transforms.rotation_from_quaternion(3.0 * quat) == pytest.approx(matrix, abs=1e-9)


@pytest.mark.parametrize("quat", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [0, 0, 1]])
def test_rotation_from_quaternion_refuses_one_without_length(quat):
    with pytest.raises(ValueError, match="quaternion"):
        transforms.rotation_from_quaternion(quat)


def test_invert_and_apply_agree_with_matrices():
    rng = np.random.default_rng(0)
    pose = transforms.make_transform(
        Rotation.random(random_state=2).as_matrix(), rng.normal(size=3)
    )
    points = rng.normal(size=(5, 7, 3))
    assert transforms.invert(pose) == pytest.approx(np.linalg.inv(pose))
    stacked = np.stack([pose, np.eye(4)])
    assert transforms.invert(stacked) == pytest.approx(np.linalg.inv(stacked))
    expected = np.einsum("ij,hwj->hwi", pose[:3, :3], points) + pose[:3, 3]
    assert transforms.apply(pose, points) == pytest.approx(expected)
    assert transforms.apply(pose, points.astype(np.float32)).dtype == np.float32


def test_nearest_rotation_never_returns_a_reflection():
    matrix = np.diag([1.0, 1.0, -0.1])
    assert np.linalg.det(transforms.nearest_rotation(matrix)) == pytest.approx(1.0)


def test_project_undoes_back_projection_with_skew_and_unequal_focals():
    K = np.array([[500.0, 3.0, 30.2], [0, 450.0, 22.7], [0, 0, 1]])
    depth = np.random.default_rng(0).uniform(0.3, 3.0, (48, 64)).astype(np.float32)
    uv, z = cameras.project(cameras.back_project(depth, K), K)
    u, v = cameras.pixel_grid(48, 64)
    assert uv[..., 0] == pytest.approx(u, abs=1e-3)
    assert uv[..., 1] == pytest.approx(v, abs=1e-3)
    assert z == pytest.approx(depth)


def test_project_points_behind_the_camera_have_no_pixel():
    uv, _ = cameras.project(np.array([[0.0, 0.0, -1.0], [1.0, 1.0, 0.0]]), np.eye(3))
    assert np.isnan(uv).all()


@pytest.mark.parametrize("with_scale", [True, False])
def test_umeyama_recovers_a_similarity_and_ignores_weightless_points(with_scale):
    rng = np.random.default_rng(3)
    source = rng.normal(size=(40, 3))
    rotation = Rotation.random(random_state=4).as_matrix()
    scale = 2.5 if with_scale else 1.0
    target = scale * source @ rotation.T + [1.0, -2.0, 3.0]
    target[-1] += 100.0
    weights = np.ones(40)
    weights[-1] = 0.0
    got, pose = umeyama(source, target, weights, with_scale)
    assert got == pytest.approx(scale)
    assert pose[:3, :3] == pytest.approx(rotation)
    assert pose[:3, 3] == pytest.approx([1.0, -2.0, 3.0])


def test_umeyama_is_optimal_among_perturbations():
    rng = np.random.default_rng(5)
    source = rng.normal(size=(30, 3))
    target = source + rng.normal(scale=0.3, size=(30, 3))
    weights = rng.uniform(0.1, 1.0, 30)

    def cost(scale, pose):
        residual = scale * source @ pose[:3, :3].T + pose[:3, 3] - target
        return float(weights @ (residual**2).sum(axis=1))

    scale, pose = umeyama(source, target, weights)
    best = cost(scale, pose)
    for _ in range(50):
        nudge = transforms.make_transform(
            transforms.rotation_from_vector(rng.normal(scale=0.02, size=3)),
            rng.normal(scale=0.02, size=3),
        )
        assert cost(scale * np.exp(rng.normal(scale=0.02)), nudge @ pose) >= best


def test_umeyama_on_mirrored_points_returns_a_rotation():
    source = np.random.default_rng(6).normal(size=(20, 3))
    _, pose = umeyama(source, source * [1, 1, -1])
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "points, text",
    [(np.eye(3)[:2], "3 or more"), (np.outer(np.arange(5.0), [1.0, 2.0, 3.0]), "one line")],
)
def test_umeyama_names_what_is_degenerate(points, text):
    with pytest.raises(ValueError, match=text):
        umeyama(points, points)


def test_fit_planes_have_the_smallest_singular_vectors():
    rng = np.random.default_rng(7)
    points, weights = rng.normal(size=(5, 12, 3)) * [1, 1, 0.1], rng.uniform(0, 1, (5, 12))
    normals, centres, variances = fit_planes(points, weights)
    for i in range(5):
        centre = np.average(points[i], axis=0, weights=weights[i])
        offset = (points[i] - centre) * np.sqrt(weights[i])[:, None]
        _, singular, vt = np.linalg.svd(offset)
        np.testing.assert_allclose(centres[i], centre)
        assert abs(normals[i] @ vt[2]) == pytest.approx(1.0)
        assert variances[i] == pytest.approx(singular[2] ** 2 / weights[i].sum())


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e300])
def test_lens_of_numbers_that_no_camera_has(wrong):
    K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
    with pytest.raises(InputError, match="distortion must be numbers below"):
        Lens(K, (480, 640), np.array([0, wrong, 0, 0]))
    K[0, 0] = wrong
    with pytest.raises(InputError, match="intrinsics must be numbers below"):
        Lens(K, (480, 640))
