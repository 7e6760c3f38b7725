"""Registration of two RGB-D views against the poses they were made with."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_angle,
    rotation_from_vector,
    vector_from_rotation,
)
from wildseg3d_ros.pointmaps.confidence import UNIT_SIGMA
from wildseg3d_ros.pointmaps.depth.backend import DepthPointmaps
from wildseg3d_ros.pointmaps.depth.noise import DepthNoise, depth_confidence
from wildseg3d_ros.pointmaps.depth.registration.dense import refine
from wildseg3d_ros.pointmaps.depth.registration.features import (
    detect_keypoints,
    pose_from_features,
)
from wildseg3d_ros.pointmaps.depth.registration.frame import Frame, sample_texture
from wildseg3d_ros.pointmaps.depth.registration.objective import (
    associate,
    both_directions,
    brightness,
    point_to_plane,
)
from wildseg3d_ros.pointmaps.depth.registration.pair import (
    register_from_features,
    register_from_prior,
)
from wildseg3d_ros.pointmaps.depth.registration.prior import PosePrior
from wildseg3d_ros.pointmaps.features import match, match_places
from wildseg3d_ros.sim.cameras import look_at
from wildseg3d_testing.scenes import cast, construct_scene, fan_poses
from wildseg3d_testing.solids import Solid

H, W = 180, 240
K = np.array([[230.0, 0.0, 120.0], [0.0, 230.0, 90.0], [0.0, 0.0, 1.0]])
CENTRE = np.array([0.0, 0.05, 0.04])
EYES = np.array([[0.25, -0.6, 0.5], [-0.1, -0.6, 0.52]])

COLORFUL = np.array([[40.0, 60.0, 90.0], [230.0, 220.0, 190.0]])
GREY = np.full((2, 3), 150.0)


def slab(colors, point=(0, 0, -0.05), half=(3, 3, 0.05), rotation=(0, 0, 0), grain=0.02):
    pose = make_transform(rotation_from_vector(rotation), point)
    return Solid("box", pose, np.array(half, dtype=np.float64), colors, grain)


def room(colors=COLORFUL):
    """A table, a wall, two boxes and two balls."""
    return (
        slab(colors, grain=0.03),
        slab(colors, point=(0, 0.6, 0), half=(3, 0.05, 3), grain=0.04),
        slab(colors, (0.1, 0.1, 0.08), (0.08, 0.06, 0.08), (0, 0, 0.5)),
        slab(colors, (-0.2, 0.2, 0.05), (0.06, 0.1, 0.05), (0, 0, -0.3)),
        Solid("ball", make_transform(np.eye(3), (-0.05, -0.1, 0.06)), np.full(3, 0.06), colors),
        Solid("ball", make_transform(np.eye(3), (0.25, 0.25, 0.05)), np.full(3, 0.05), colors),
    )


def prepare(image, depth, intrinsics=K, samples=2000):
    confidence, planes = depth_confidence(depth, intrinsics, DepthNoise())
    sigma = np.full(depth.shape, np.inf, np.float32)
    np.divide(np.float32(UNIT_SIGMA), confidence, out=sigma, where=confidence > 0)
    points = back_project(depth, intrinsics)
    return Frame.create(image, intrinsics, points, planes, sigma, samples)


def capture(solids, eye, seed=0, noise=1.0, size=(H, W), intrinsics=K):
    """A frame with depth noise of the model's size and two grey levels of image noise."""
    pose = look_at(np.asarray(eye, dtype=np.float64), CENTRE)
    image, depth, _, _ = cast(solids, pose, intrinsics, *size)
    rng = np.random.default_rng(seed)
    if noise:
        sigma = noise * DepthNoise().sigma(depth)
        depth = np.where(depth > 0, depth + rng.normal(size=size) * sigma, 0).astype(np.float32)
        image = np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
    return prepare(image, depth, intrinsics), pose


def colourless(frame):
    """The frame without any texture, so that only its geometry can be registered."""
    return replace(
        frame,
        texture=tuple(np.zeros_like(level) for level in frame.texture),
        texture_noise=(0.0, 0.0),
        sample_brightness=tuple(np.zeros_like(level) for level in frame.sample_brightness),
    )


def perturbed(pose, rng, translation, rotation):
    """The camera's pose with errors of the given sizes in random directions, in its own axes."""
    twist, shift = rng.normal(size=(2, 3))
    twist *= rotation / np.linalg.norm(twist)
    shift *= translation / np.linalg.norm(shift)
    return pose @ make_transform(rotation_from_vector(twist), shift)


def scene_pair(solids, seed=0, eyes=EYES, translation=0.005, rotation=0.0087, noise=1.0):
    """Two frames, the true a_from_b, and one spoiled by perturbing camera b."""
    frame_a, world_from_a = capture(solids, eyes[0], 2 * seed, noise)
    frame_b, world_from_b = capture(solids, eyes[1], 2 * seed + 1, noise)
    truth = invert(world_from_a) @ world_from_b
    spoiled = perturbed(world_from_b, np.random.default_rng(seed + 50), translation, rotation)
    return frame_a, frame_b, truth, invert(world_from_a) @ spoiled


def errors(a_from_b, truth, eye=EYES[0]):
    """Metres by which the scene's centre moves, and radians."""
    centre = apply(invert(look_at(np.asarray(eye, dtype=np.float64), CENTRE)), CENTRE)
    off = a_from_b @ invert(truth)
    return np.linalg.norm(apply(off, centre) - centre), rotation_angle(off[:3, :3])


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.3, 2.0, 3.1])
def test_vector_from_rotation_is_scipys(angle):
    rotation = Rotation.from_rotvec(angle * np.array([0.48, -0.6, 0.64]))
    assert vector_from_rotation(rotation.as_matrix()) == pytest.approx(
        rotation.as_rotvec(), abs=1e-9
    )


def moved_by(xi, a_from_b, pivot):
    """The pose after the perturbation that registration solves for."""
    rotation = rotation_from_vector(xi[:3])
    return make_transform(rotation, pivot + xi[3:] - rotation @ pivot) @ a_from_b


def differences(value_at, step):
    """(M, 6) central differences."""
    return np.stack(
        [(value_at(step * axis) - value_at(-step * axis)) / (2 * step) for axis in np.eye(6)], 1
    )


@pytest.mark.parametrize("way", [0, 1])
def test_point_to_plane_derivatives(way):
    frame_a, frame_b, truth, _ = scene_pair(room(), noise=0.0)
    pivot = np.array([0.02, 0.05, 0.7])
    start = both_directions(frame_a, frame_b, truth, pivot)[way]
    found = associate(start, 400)

    def value_at(xi):
        direction = both_directions(frame_a, frame_b, moved_by(xi, truth, pivot), pivot)[way]
        points = apply(direction.target_from_source, direction.source.sample_points[found.chosen])
        # The same pixels at every step: only the samples move.
        return point_to_plane(direction, replace(found, points=points), gate).value

    # Hidden samples are far off, and there the whitening's own derivative counts.
    gate = 0.03
    near = np.abs(found.depth_error) < 0.01
    pixels = {name: getattr(found, name)[near] for name in ("chosen", "points", "uv", "rows")}
    found = replace(found, **pixels, cols=found.cols[near], depth_error=found.depth_error[near])
    analytic = point_to_plane(start, found, gate).jacobian
    numeric = differences(value_at, 1e-5)
    assert len(analytic) > 100
    scale = np.abs(analytic).mean(axis=0)
    assert (np.abs(numeric - analytic).max(axis=0) < 0.2 * scale).all()
    assert (np.abs(numeric - analytic).mean(axis=0) < 0.02 * scale).all()


@pytest.mark.parametrize("way", [0, 1])
def test_brightness_derivatives(way):
    coarse_pattern = (slab(COLORFUL, grain=0.1),)
    frame_a, frame_b, truth, _ = scene_pair(coarse_pattern, noise=0.0)
    pivot = np.array([0.02, 0.05, 0.7])
    start = both_directions(frame_a, frame_b, truth, pivot)[way]
    found = associate(start, 400)
    analytic = brightness(start, found, 0.5, level=0)

    def sampled(direction):
        source = direction.source.sample_points[found.chosen]
        points = apply(direction.target_from_source, source)
        uv = points[:, :2] / points[:, 2:] * [K[0, 0], K[1, 1]] + [K[0, 2], K[1, 2]]
        return sample_texture(direction.target.texture[0], uv, 1)[:, 0].astype(np.float64)

    raw = sampled(start) - start.source.sample_brightness[0][found.chosen]
    whitening = np.median(analytic.value / raw)

    def value_at(xi):
        moved = moved_by(xi, truth, pivot)
        return whitening * sampled(both_directions(frame_a, frame_b, moved, pivot)[way])

    # Steps of about half a pixel: the look-up is quantised to 1/32 of one.
    numeric = differences(value_at, 1.5e-3)
    for k in range(6):
        slope = numeric[:, k] @ analytic.jacobian[:, k] / (analytic.jacobian[:, k] ** 2).sum()
        assert np.corrcoef(numeric[:, k], analytic.jacobian[:, k])[0, 1] > 0.95
        assert slope == pytest.approx(1.0, abs=0.15)


def test_pose_prior_covariance_is_that_of_perturbed_cameras():
    rng = np.random.default_rng(0)
    world_from_a, world_from_b = (look_at(eye, CENTRE) for eye in EYES)
    truth = invert(world_from_a) @ world_from_b
    prior = PosePrior(truth, 0.01, 0.02)
    pivot = np.array([0.1, 0.0, 0.7])
    deviations = []
    for _ in range(4000):
        a, b = (
            pose @ make_transform(rotation_from_vector(w), t)
            for pose, w, t in zip(
                (world_from_a, world_from_b),
                rng.normal(0, 0.02, (2, 3)),
                rng.normal(0, 0.01, (2, 3)),
                strict=True,
            )
        )
        deviations.append(prior.deviation(invert(a) @ b, pivot))
    sampled = np.cov(np.array(deviations).T)
    expected = np.linalg.inv(prior.information(pivot))
    sigma = np.sqrt(np.diag(expected))
    assert np.abs(sampled - expected).max() < 0.1 * np.outer(sigma, sigma).max()
    assert (sampled / np.outer(sigma, sigma)) == pytest.approx(
        expected / np.outer(sigma, sigma), abs=0.08
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_refine_recovers_a_perturbed_pose(seed):
    frame_a, frame_b, truth, spoiled = scene_pair(room(), seed)
    result = refine(frame_a, frame_b, PosePrior(spoiled, 0.01, 0.01))
    before, after = errors(spoiled, truth), errors(result.a_from_b, truth)
    assert after[0] < 0.0005 < 0.1 * before[0]
    assert after[1] < np.deg2rad(0.08) < 0.2 * before[1]
    assert result.converged
    assert result.after.overlap > result.before.overlap


def test_refine_sigma_is_that_of_the_errors():
    deviations = []
    for seed in range(4):
        frame_a, frame_b, truth, spoiled = scene_pair(room(), seed)
        result = refine(frame_a, frame_b, PosePrior(spoiled, 0.01, 0.01))
        deviations.append(errors(result.a_from_b, truth)[0] / np.linalg.norm(result.sigma[3:]))
    assert max(deviations) < 3.0


def test_refine_by_geometry_alone():
    frame_a, frame_b, truth, spoiled = scene_pair(room(GREY))
    frame_a, frame_b = colourless(frame_a), colourless(frame_b)
    result = refine(frame_a, frame_b, PosePrior(spoiled, 0.01, 0.01))
    assert errors(result.a_from_b, truth)[0] < 0.001


def test_refine_recovers_a_larger_error_that_the_prior_allows():
    frame_a, frame_b, truth, spoiled = scene_pair(room(), 3, EYES, 0.03, np.deg2rad(3))
    result = refine(frame_a, frame_b, PosePrior(spoiled, 0.03, 0.05))
    assert errors(spoiled, truth)[0] > 0.03
    assert errors(result.a_from_b, truth)[0] < 0.001


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_refine_a_bare_plane_does_not_slide(seed):
    """Against the exact conditional mean: a plane tells two tilts and a distance, nothing else."""
    frame_a, frame_b, truth, spoiled = scene_pair((slab(GREY),), seed)
    prior = PosePrior(spoiled, 0.01, 0.01)
    result = refine(frame_a, frame_b, prior)
    a_from_world = invert(look_at(EYES[0], CENTRE))
    centre = apply(a_from_world, np.array([0.0, 0.05, 0.0]))
    across, along, normal = a_from_world[:3, :3].T
    observed = np.zeros((3, 6))
    observed[0, :3], observed[1, :3], observed[2, 3:] = across, along, normal
    covariance = np.linalg.inv(prior.information(centre))
    gain = covariance @ observed.T @ np.linalg.inv(observed @ covariance @ observed.T)
    expected = gain @ (observed @ prior.deviation(truth, centre))
    found = prior.deviation(result.a_from_b, centre)
    assert np.abs(found[:3] - expected[:3]).max() < np.deg2rad(0.1)
    assert np.abs(found[3:] - expected[3:]).max() < 0.001
    assert result.sigma[3:].max() > 0.005, "the answer must know that it does not know"


def test_refine_texture_recovers_the_motion_along_a_plane():
    frame_a, frame_b, truth, spoiled = scene_pair((slab(COLORFUL),))
    prior = PosePrior(spoiled, 0.01, 0.01)
    with_colour = refine(frame_a, frame_b, prior)
    without = refine(colourless(frame_a), colourless(frame_b), prior)
    assert errors(spoiled, truth)[0] > 0.003
    assert errors(with_colour.a_from_b, truth)[0] < 0.0005
    assert errors(without.a_from_b, truth)[0] > 0.002


def test_refine_a_sharp_prior_outweighs_the_images():
    frame_a, frame_b, _, spoiled = scene_pair(room())
    result = refine(frame_a, frame_b, PosePrior(spoiled, 1e-6, 1e-6))
    assert result is not None
    assert np.abs(result.a_from_b - spoiled).max() < 1e-5


def test_register_from_prior_refuses_an_implausible_refinement():
    frame_a, frame_b, _, spoiled = scene_pair(room(), translation=0.012, rotation=0.0)
    kept = register_from_prior(frame_a, frame_b, PosePrior(spoiled, 0.001, 0.001))
    # The images pull 12 mm away; a prior of 1 mm holds against it or refuses it.
    assert np.linalg.norm(kept.a_from_b[:3, 3] - spoiled[:3, 3]) == 0.0
    assert kept.origin == "prior"
    assert "standard deviations" in kept.note
    accepted = register_from_prior(frame_a, frame_b, PosePrior(spoiled, 0.01, 0.01))
    assert accepted.origin == "refined"
    assert accepted.note == ""


def test_register_from_prior_views_of_different_places_do_not_overlap():
    frame_a, world_from_a = capture(room(), EYES[0])
    elsewhere = look_at(np.array([0.0, 0.0, 0.5]), np.array([0.0, -3.0, 0.2]))
    frame_b, _ = capture(room(), EYES[1])
    result = register_from_prior(
        frame_a, frame_b, PosePrior(invert(world_from_a) @ elsewhere, 0.01, 0.01)
    )
    assert result.overlap == 0.0
    assert "few common points" in result.note


def test_register_from_prior_contradicting_pixels_are_no_overlap():
    """Two walls back to back: all of a's points project into b, none is seen by it."""
    wall = (slab(COLORFUL, (0, 0.3, 0), (2, 0.2, 2)),)
    front, world_from_front = capture(wall, (0.0, -0.6, 0.04))
    behind, world_from_behind = capture(wall, (0.0, 1.2, 0.04))
    prior = PosePrior(invert(world_from_front) @ world_from_behind, 0.01, 0.01)
    assert register_from_prior(front, behind, prior).overlap == 0.0


def test_refine_frames_of_different_sizes_and_cameras():
    solids = room()
    wide = np.array([[300.0, 0.0, 170.0], [0.0, 290.0, 110.0], [0.0, 0.0, 1.0]])
    frame_a, world_from_a = capture(solids, EYES[0], 1)
    frame_b, world_from_b = capture(solids, EYES[1], 2, size=(240, 320), intrinsics=wide)
    truth = invert(world_from_a) @ world_from_b
    spoiled = perturbed(truth, np.random.default_rng(0), 0.005, 0.009)
    result = refine(frame_a, frame_b, PosePrior(spoiled, 0.01, 0.01))
    assert errors(result.a_from_b, truth)[0] < 0.0007


def test_refine_exposure_and_shading_do_not_matter():
    frame_a, _, truth, spoiled = scene_pair((slab(COLORFUL),))
    image_b, depth_b, _, _ = cast((slab(COLORFUL),), look_at(EYES[1], CENTRE), K, H, W)
    vignette = np.linspace(0.4, 0.8, W)[None, :, None]
    darker = prepare((image_b * vignette + 20).astype(np.uint8), depth_b)
    result = refine(frame_a, darker, PosePrior(spoiled, 0.01, 0.01))
    assert errors(result.a_from_b, truth)[0] < 0.001


def test_refine_is_repeatable():
    poses = []
    for _ in range(2):
        frame_a, frame_b, _, spoiled = scene_pair(room())
        poses.append(refine(frame_a, frame_b, PosePrior(spoiled, 0.01, 0.01)).a_from_b)
    assert np.array_equal(*poses)


@pytest.fixture(scope="module")
def pair():
    return scene_pair(room(), 4)


class TestFeatures:
    def test_register_from_features_finds_the_pose(self, pair):
        frame_a, frame_b, truth, _ = pair
        result = register_from_features(
            frame_a, frame_b, detect_keypoints(frame_a), detect_keypoints(frame_b)
        )
        assert result.origin == "features"
        off = errors(result.a_from_b, truth)
        assert off[0] < 0.001
        assert off[1] < np.deg2rad(0.15)

    def test_match_is_mutual_and_mostly_true(self, pair):
        frame_a, frame_b, truth, _ = pair
        a, b = detect_keypoints(frame_a), detect_keypoints(frame_b)
        index_a, index_b = match(a.descriptors, b.descriptors)
        assert len(set(index_a)) == len(index_a) == len(set(index_b))
        distance = np.linalg.norm(a.points[index_a] - apply(truth, b.points[index_b]), axis=1)
        assert (distance < 0.01).mean() > 0.5

    def test_pose_from_features_survives_wrong_matches(self, pair):
        frame_a, frame_b, truth, _ = pair
        a, b = detect_keypoints(frame_a), detect_keypoints(frame_b)
        _, index_b = match(a.descriptors, b.descriptors)
        rng = np.random.default_rng(0)
        # Three quarters of the matches are sent to a random feature.
        wrong = rng.random(len(index_b)) < 0.75
        descriptors = b.descriptors.copy()
        descriptors[index_b[wrong]] = b.descriptors[rng.permutation(index_b[wrong])]
        index_a, _ = match(a.descriptors, descriptors)
        a_from_b, inliers = pose_from_features(a, replace(b, descriptors=descriptors), K, W)
        assert inliers < 0.5 * len(index_a)
        assert errors(a_from_b, truth)[0] < 0.005

    def test_pose_from_features_unrelated_views_have_no_pose(self, pair):
        frame_a = pair[0]
        rng = np.random.default_rng(5)
        blotches = rng.integers(0, 255, (H // 4, W // 4, 3), dtype=np.uint8)
        image = np.kron(blotches, np.ones((4, 4, 1), np.uint8))
        stranger = prepare(image, np.full((H, W), 0.8, np.float32))
        result = register_from_features(
            frame_a, stranger, detect_keypoints(frame_a), detect_keypoints(stranger)
        )
        assert result.origin == "none"
        assert result.a_from_b is None
        assert result.note

    def test_wide_keypoints_place_a_view_far_aside(self):
        """45 degrees: what SIFT alone matches agrees on no pose."""
        truth = construct_scene(2, 320, 240, 6, seed=3, poses=fan_poses(2, 45.0))
        backend = DepthPointmaps()
        frames = [backend._prepare(view, with_keypoints=False).frame for view in truth.views]
        plain = register_from_features(*frames, *map(detect_keypoints, frames))
        assert plain.a_from_b is None
        wide = [detect_keypoints(frame, wide=True) for frame in frames]
        result = register_from_features(*frames, *wide)
        assert not result.is_doubtful
        expected = invert(truth.world_from_cam[0]) @ truth.world_from_cam[1]
        np.testing.assert_allclose(result.a_from_b, expected, atol=2e-3)

    def test_match_places_takes_a_place_once_and_compares_with_other_places(self):
        """Two descriptors of one place are no second-best match to each other."""
        rng = np.random.default_rng(0)
        kinds = rng.normal(size=(3, 128)).astype(np.float32)
        kinds /= np.linalg.norm(kinds, axis=1, keepdims=True)
        uv_a = np.array([[10.0, 10.0], [50.0, 50.0], [90.0, 20.0]])
        uv_b = np.array([[30.0, 30.0], [31.0, 30.5], [70.0, 70.0]])
        b = kinds[[0, 0, 1]]
        index_a, index_b = match_places(uv_a, kinds, uv_b, b)
        assert index_a.tolist() == [0, 1]
        assert index_b[0] in (0, 1) and index_b[1] == 2
        assert len(match(kinds, b)[0]) == 1, "by descriptors alone the first is ambiguous"

    def test_detect_keypoints_of_a_blank_image(self):
        blank = prepare(np.full((H, W, 3), 90, np.uint8), np.full((H, W), 1.0, np.float32))
        keypoints = detect_keypoints(blank)
        assert len(keypoints.points) == 0
        result = register_from_features(blank, blank, keypoints, keypoints)
        assert result.a_from_b is None

    def test_detect_keypoints_leaves_out_holes_of_the_depth(self, pair):
        frame = pair[0]
        keypoints = detect_keypoints(frame)
        assert len(keypoints.points) > 50
        assert (keypoints.points[:, 2] > 0).all()
        assert np.isfinite(keypoints.sigma).all()
