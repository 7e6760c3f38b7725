"""The stereo back end against constructed truth, and on real frames where they are at hand."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.config import PairingConfig, SceneConfig
from wildseg3d_ros.errors import ErrorCode, InputError
from wildseg3d_ros.geometry.cameras import project
from wildseg3d_ros.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_angle,
    rotation_from_vector,
)
from wildseg3d_ros.pipeline import build_scene, segment
from wildseg3d_ros.pointmaps import load_pointmaps
from wildseg3d_ros.pointmaps.depth_noise import UNIT_SIGMA
from wildseg3d_ros.pointmaps.stereo_confidence import supported
from wildseg3d_ros.pointmaps.stereo_match import brightness_ratio
from wildseg3d_ros.pointmaps.stereo_poses import (
    Camera,
    Matches,
    epipolar_errors,
    refine_poses,
    triangulate,
)
from wildseg3d_ros.pointmaps.stereo_rectify import rectify, turned_rotations
from wildseg3d_ros.progress import Progress
from wildseg3d_ros.sim.noise import kinematic_pose
from wildseg3d_ros.testing.scenes import cast, construct_scene, fan_poses
from wildseg3d_ros.types import Click, Prompt, View

ROOT = Path(__file__).resolve().parents[2]
SIZE = (300, 400)


def backend(**stereo):
    mapping = {"pointmaps": {"backend": "stereo", "stereo": stereo}}
    return load_pointmaps(SceneConfig.from_mapping(mapping).pointmaps)


def predict(views, **stereo):
    (pair,) = backend(**stereo).predict(views, [(0, 1)], Progress())
    return pair


def construct(count, degrees_apart, width=SIZE[1], height=SIZE[0], **changes):
    poses = fan_poses(count, degrees_apart)
    values = {"objects": 6, "seed": 1, "with_depth": False, **changes}
    return construct_scene(count, width, height, poses=poses, **values)


@pytest.fixture(scope="module")
def truth():
    return construct(2, 10.0)


@pytest.fixture(scope="module")
def pair(truth):
    return predict(truth.views)


def noise(seed):
    """Of a camera, in grey levels."""
    return np.random.default_rng(seed).normal(0.0, 2.0, (*SIZE, 3))


def replace_image(view, image):
    return dataclasses.replace(view, image=np.clip(np.rint(image), 0, 255).astype(np.uint8))


def sides(pair):
    return (pair.pointmap_a, pair.confidence_a), (pair.pointmap_b, pair.confidence_b)


def recast(truth, poses, intrinsics, sizes):
    """Views of the scene's solids by other cameras, their depth and labels."""
    views, depths, labels = [], [], []
    for k, (pose, K, (height, width)) in enumerate(zip(poses, intrinsics, sizes, strict=True)):
        image, depth, label, _ = cast(truth.solids, pose, K, height, width)
        views.append(View(f"cam_{k}", image, K, None, pose))
        depths.append(depth)
        labels.append(label)
    return views, depths, labels


def without_rim(objects, rim=3):
    """The objects without their outermost pixels, which mix the light of two surfaces."""
    return cv2.erode(objects.astype(np.uint8), np.ones((2 * rim + 1,) * 2, np.uint8)) > 0


def check_accuracy(pair, depths, labels, median=0.004, coverage=0.75):
    for v, (points, confidence) in enumerate(sides(pair)):
        there, on_object = confidence > 0, labels[v] > 0
        error = np.abs(points[..., 2] / np.maximum(depths[v], 1e-6) - 1.0)[there & on_object]
        assert np.median(error) < median
        assert (error > 0.02).mean() < 0.04
        assert there[on_object].mean() > coverage


def test_ten_degrees_give_the_depth_of_objects(truth, pair):
    check_accuracy(pair, truth.depths, truth.labels, median=0.0025, coverage=0.8)
    covered = [
        (sure > 0)[without_rim(label > 0)].mean()
        for (_, sure), label in zip(sides(pair), truth.labels, strict=True)
    ]
    assert np.mean(covered) > 0.88
    assert pair.metric
    np.testing.assert_allclose(
        pair.a_from_map_b, invert(truth.world_from_cam[0]) @ truth.world_from_cam[1], atol=1e-9
    )


def test_points_lie_on_the_rays_of_their_own_pixels(truth, pair):
    for view, (points, confidence) in zip(truth.views, sides(pair), strict=True):
        uv, _ = project(points.astype(np.float64), view.K)
        rows, cols = np.nonzero(confidence > 0)
        np.testing.assert_allclose(uv[rows, cols], np.stack([cols, rows], 1), atol=2e-2)


def test_confidence_ranks_errors_and_foretells_their_size(truth, pair):
    for depth, (points, confidence) in zip(truth.depths, sides(pair), strict=True):
        there = (confidence > 0) & (depth > 0)
        error = np.abs(points[..., 2] - depth)[there]
        sigma = UNIT_SIGMA / confidence[there]
        order = np.argsort(sigma)
        surest, least = np.array_split(error[order], 4)[::3]
        assert np.median(surest) < 0.5 * np.median(least)
        assert 0.3 < np.median(error / sigma) < 1.5


def surprises(pair, depths):
    """Share of the points that are off by more than five expected deviations."""
    beyond, points = 0, 0
    for depth, (found, confidence) in zip(depths, sides(pair), strict=True):
        there = (confidence > 0) & (depth > 0)
        error = np.abs(found[..., 2] - depth)[there]
        beyond += np.count_nonzero(error > 5.0 * UNIT_SIGMA / confidence[there])
        points += len(error)
    return beyond / points


def test_few_points_are_far_from_where_they_are_said_to_be(truth, pair):
    """Plain parts, outlines and what lies beyond the searched range included."""
    assert surprises(pair, truth.depths) < 0.03
    noisy = [replace_image(v, v.image + noise(k)) for k, v in enumerate(truth.views)]
    assert surprises(predict(noisy), truth.depths) < 0.04


def test_objects_have_no_fringe_on_a_plain_background(truth):
    """Where nothing contradicts it, a matcher continues an object beyond its outline."""
    views = [
        replace_image(view, np.where(label[..., None] > 0, view.image, 8.0) + noise(k))
        for k, (view, label) in enumerate(zip(truth.views, truth.labels, strict=True))
    ]
    for (_, sure), label in zip(sides(predict(views)), truth.labels, strict=True):
        on_object = label > 0
        outside = ~(cv2.dilate(on_object.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
        assert np.count_nonzero(outside & (sure > 0)) < 0.005 * np.count_nonzero(on_object)
        assert (sure > 0)[on_object].mean() > 0.8


@pytest.mark.parametrize("gain", [0.75, 1.25])
def test_cameras_expose_each_for_themselves(truth, pair, gain):
    brighter = replace_image(truth.views[1], gain * truth.views[1].image)
    other = predict([truth.views[0], brighter])
    check_accuracy(other, truth.depths, truth.labels)
    assert (other.confidence_a > 0).mean() > 0.95 * (pair.confidence_a > 0).mean()


def test_brightness_is_told_by_well_lit_points_alone():
    random = np.random.default_rng(0)
    image = cv2.blur(random.integers(0, 120, (60, 80, 3), dtype=np.uint8), (9, 9))
    uv = random.uniform(5, 50, (80, 2))
    twice = image * 2
    twice[:, :20] = 255
    assert brightness_ratio(image, twice, uv, uv) == pytest.approx(2.0, abs=0.05)
    assert brightness_ratio(twice, image, uv, uv) == pytest.approx(0.5, abs=0.05)
    assert brightness_ratio(image, twice, uv[:10], uv[:10]) == 1.0
    assert brightness_ratio(image, np.full_like(image, 255), uv, uv) == 1.0


class TestSupport:
    """A textured square in a plain image, everything said to be matched."""

    @pytest.fixture
    def image(self):
        random = np.random.default_rng(0)
        image = np.full((80, 100), 20, np.uint8)
        image[20:60, 30:70] = random.integers(0, 255, (40, 40))
        return image

    def kept(self, image, disparity):
        return supported(np.ones(image.shape, bool), disparity.astype(np.float32), image)

    def test_reaches_as_far_as_the_texture(self, image):
        kept = self.kept(image, np.full(image.shape, 30.0))
        # Corners are rounded off.
        assert kept[22:58, 32:68].mean() > 0.98
        outside = np.ones_like(kept)
        outside[19:61, 29:71] = False
        assert not kept[outside].any()

    def test_bridges_plain_gaps_of_one_surface(self, image):
        image[37:43, 47:53] = 128
        assert self.kept(image, np.full(image.shape, 30.0))[34:56, 44:56].all()

    def test_bridges_none_between_two_surfaces(self, image):
        image[:, 48:56] = 128
        columns = np.arange(100)[None] + 0 * image
        kept = self.kept(image, np.where(columns < 52, 30.0, 60.0))
        assert not kept[22:58, 51:53].any()
        assert kept[24:56, 33:44].mean() > 0.95
        assert kept[24:56, 60:67].mean() > 0.95


def test_pixels_that_the_other_camera_does_not_see_are_rejected(truth, pair):
    other_from_world = invert(truth.world_from_cam[1])
    seen = apply(other_from_world, truth.points[0].astype(np.float64))
    uv, z = project(seen, truth.views[1].K)
    inside = np.isfinite(uv).all(-1) & (uv >= 0).all(-1)
    inside &= (uv[..., 0] <= SIZE[1] - 1) & (uv[..., 1] <= SIZE[0] - 1)
    cols, rows = np.rint(np.where(inside[..., None], uv, 0)).astype(int).transpose(2, 0, 1)
    hidden = inside & (z > 1.02 * truth.depths[1][rows, cols] + 0.01)
    visible = inside & (np.abs(z - truth.depths[1][rows, cols]) < 0.002) & (truth.labels[0] > 0)
    # Beside an edge the matcher's window sees the other surface.
    inner = cv2.erode(hidden.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert inner.sum() > 500
    assert (pair.confidence_a[inner] > 0).mean() < 0.1
    assert (pair.confidence_a[without_rim(visible, 1)] > 0).mean() > 0.85


def test_the_order_of_the_cameras_does_not_matter(truth, pair):
    swapped = predict(truth.views[::-1])
    for (points, sure), (points_2, sure_2) in zip(
        sides(pair), reversed(sides(swapped)), strict=True
    ):
        assert ((sure > 0) == (sure_2 > 0)).mean() > 0.95
        both = (sure > 0) & (sure_2 > 0)
        assert np.median(np.abs(points - points_2)[both]) < 5e-4


def rolled(pose, angle):
    return pose @ make_transform(rotation_from_vector([0, 0, angle]), np.zeros(3))


def test_a_vertical_baseline_in_portrait_images(truth):
    height, width = 400, 300
    K = truth.views[0].K.copy()
    K[:2, 2] = (width - 1) / 2, (height - 1) / 2
    poses = [rolled(pose, np.pi / 2) for pose in truth.world_from_cam]
    between = invert(poses[0]) @ poses[1]
    assert abs(between[1, 3]) > 5 * abs(between[0, 3])
    views, depths, labels = recast(truth, poses, [K, K], [(height, width)] * 2)
    check_accuracy(predict(views), depths, labels)


def test_cameras_of_different_size_focal_length_and_roll(truth):
    big, small = truth.views[0].K.copy(), truth.views[1].K.copy()
    big[:2] *= 1.5
    small[0, 0] *= 0.9
    small[:2, 2] += (7.0, -12.0)
    poses = [truth.world_from_cam[0], rolled(truth.world_from_cam[1], 0.4)]
    sizes = [(450, 600), (320, 380)]
    views, depths, labels = recast(truth, poses, [big, small], sizes)
    check_accuracy(predict(views), depths, labels, coverage=0.75)


def test_a_depth_range_can_be_given(truth):
    pair = predict(truth.views, min_depth=0.45, max_depth=1.2)
    check_accuracy(pair, truth.depths, truth.labels)
    beyond = predict(truth.views, min_depth=0.6, max_depth=3.0)
    for points, confidence in sides(beyond):
        # The range is that of the common image plane, 5 degrees from either camera's.
        z = points[confidence > 0][:, 2]
        assert z.min() > 0.9 * 0.6
        assert z.max() < 3.0 * 1.1


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "code", "reason"),
        [
            ({"K": None}, ErrorCode.BAD_CALIBRATION, "no intrinsics.*camera_info"),
            ({"world_from_cam_prior": None}, ErrorCode.MISSING_TF, "no pose.*transform_matrix"),
            (
                {"image": np.zeros((16, 16, 3), np.uint8)},
                ErrorCode.BAD_IMAGE,
                "16x16 pixels is too small",
            ),
        ],
    )
    def test_what_a_view_lacks_is_said_with_its_name(self, truth, changes, code, reason):
        views = [truth.views[0], dataclasses.replace(truth.views[1], **changes)]
        with pytest.raises(InputError, match=f"'cam_1'.*{reason}") as error:
            backend().check(views)
        assert error.value.code == code

    def test_plain_images_have_nothing_to_match(self, truth):
        grey = [dataclasses.replace(v, image=np.full_like(v.image, 128)) for v in truth.views]
        with pytest.raises(InputError, match="hardly a pixel matches") as error:
            predict(grey)
        assert error.value.code == ErrorCode.DISCONNECTED_VIEWS

    def test_one_camera_behind_the_other_is_left_out_and_named(self, truth):
        pose = truth.world_from_cam[0]
        ahead = pose @ make_transform(np.eye(3), [0.05, 0.0, 0.15])
        views, _, _ = recast(truth, [pose, ahead], [truth.views[0].K] * 2, [SIZE] * 2)
        with pytest.raises(InputError, match="one camera stands behind the other"):
            predict(views, min_angle=0.5)

    def test_a_pose_that_the_images_contradict_is_left_out_with_the_figure(self, truth):
        turned = truth.world_from_cam[1] @ make_transform(
            rotation_from_vector([np.deg2rad(3.0), 0, 0]), np.zeros(3)
        )
        wrong = dataclasses.replace(truth.views[1], world_from_cam_prior=turned)
        settings = {"prior_rotation_sigma": 1e-4, "prior_translation_sigma": 1e-4}
        with pytest.raises(InputError, match=r"'cam_0' - 'cam_1' is left out: of \d+ matched"):
            predict([truth.views[0], wrong], **settings)

    def test_views_too_far_apart_are_grouped_with_their_angles(self):
        wide = construct(4, 45.0, 160, 120)
        with pytest.raises(InputError, match=r"4 groups.*\d\d degrees.*up to 35") as error:
            backend().choose_pairs(wide.views, PairingConfig())
        assert error.value.code == ErrorCode.DISCONNECTED_VIEWS
        for view in wide.views:
            assert f"'{view.name}'" in str(error.value)

    def test_a_pair_outside_the_limits_is_left_out_with_a_note(self, caplog):
        made = construct(3, 15.0, 200, 150)
        with caplog.at_level(logging.INFO):
            found = backend().predict(made.views, [(0, 1), (1, 2), (0, 2)], Progress())
        assert [(p.a, p.b) for p in found] == [(0, 1), (1, 2)]
        assert "'cam_0' - 'cam_2' is left out" in caplog.text

    def test_a_wide_pair_bridges_groups_with_a_warning(self, truth):
        far = construct(2, 26.0)
        progress = Progress()
        assert backend().choose_pairs(far.views, PairingConfig()) == [(0, 1)]
        backend().predict(far.views, [(0, 1)], progress)
        assert any("wider than 20 degrees" in warning for warning in progress.warnings)
        with pytest.raises(InputError, match="2 groups"):
            backend(bridge_angle=20.0).choose_pairs(far.views, PairingConfig())


class TestPoses:
    def matches(self, count=200, seed=0):
        random = np.random.default_rng(seed)
        K = np.array([[500.0, 0, 200], [0, 520.0, 150], [0, 0, 1]])
        poses = [
            make_transform(rotation_from_vector([0, -0.1 * k, 0.02 * k]), [0.1 * k, 0.01 * k, 0])
            for k in range(3)
        ]
        points = random.uniform([-0.3, -0.3, 0.8], [0.5, 0.3, 1.4], (count, 3))
        uv = [project(apply(invert(pose), points), K)[0] for pose in poses]
        found = {(a, b): Matches(uv[a], uv[b], count) for a, b in ((0, 1), (1, 2), (0, 2))}
        return K, np.stack(poses), points, found

    def test_derivatives_are_those_of_the_distance(self):
        K, poses, _, found = self.matches(20)
        random = np.random.default_rng(1)
        m = Matches(
            found[0, 1].uv_a + random.normal(0, 1e-3, (20, 2)),
            found[0, 1].uv_b + random.normal(0, 1e-3, (20, 2)),
        )
        _, slope = epipolar_errors(m, Camera(K, poses[0]), Camera(K, poses[1]))

        def moved(step):
            out = []
            for pose, part in zip(poses[:2], step.reshape(2, 6), strict=True):
                turn = rotation_from_vector(part[:3]) @ pose[:3, :3]
                out.append(Camera(K, make_transform(turn, pose[:3, 3] + part[3:])))
            return epipolar_errors(m, *out)[0]

        h = 1e-6
        numeric = np.stack([(moved(h * e) - moved(-h * e)) / (2 * h) for e in np.eye(12)], 1)
        np.testing.assert_allclose(slope, numeric, rtol=1e-3, atol=0.2)

    def test_features_undo_errors_across_the_epipolar_lines_but_not_the_scale(self):
        K, poses, points, found = self.matches()
        random = np.random.default_rng(2)
        given = np.stack([kinematic_pose(pose, random, 0.002, np.deg2rad(0.4)) for pose in poses])
        sigma = np.tile([0.002, np.deg2rad(0.4)], (3, 1))
        refined = refine_poses([K] * 3, given, sigma, found)
        assert refined.agreeing == dict.fromkeys(found, (200, 200))

        def turn_error(solved):
            pairs = [(0, 1), (1, 2), (0, 2)]
            return np.mean(
                [
                    rotation_angle(
                        (invert(solved[a]) @ solved[b])[:3, :3]
                        @ (invert(poses[a]) @ poses[b])[:3, :3].T
                    )
                    for a, b in pairs
                ]
            )

        assert turn_error(refined.world_from_cam) < 0.3 * turn_error(given)
        length = np.linalg.norm(
            refined.world_from_cam[2, :3, 3] - refined.world_from_cam[0, :3, 3]
        )
        expected = np.linalg.norm(given[2, :3, 3] - given[0, :3, 3])
        assert length == pytest.approx(expected, rel=0.02)
        np.testing.assert_allclose(
            triangulate(found[0, 1], Camera(K, poses[0]), Camera(K, poses[1])), points, atol=1e-9
        )

    def test_given_poses_that_fit_are_left_alone(self):
        K, poses, _, found = self.matches()
        sigma = np.tile([0.01, 0.01], (3, 1))
        refined = refine_poses([K] * 3, poses, sigma, found)
        np.testing.assert_array_equal(refined.world_from_cam, poses)

    def test_refinement_wins_back_what_bad_rows_lose(self):
        made = construct(2, 10.0, 640, 480)
        shift = make_transform(rotation_from_vector(np.deg2rad([0.4, 0.0, 0.4])), np.zeros(3))
        views = [
            made.views[0],
            dataclasses.replace(
                made.views[1], world_from_cam_prior=made.world_from_cam[1] @ shift
            ),
        ]
        on_object = made.labels[0] > 0

        def covered(**settings):
            pair = predict(views, **settings)
            return (pair.confidence_a[on_object] > 0).mean()

        # Poses that are held hard stay as they are, and are found out.
        with pytest.raises(InputError, match=r"of \d+ matched features \d lie"):
            covered(prior_rotation_sigma=1e-5, prior_translation_sigma=1e-5)
        assert covered() > 0.8


class TestRectification:
    @pytest.mark.parametrize("roll", [0.0, np.pi / 2, np.pi, 2.2])
    def test_a_point_has_one_row_and_a_disparity_that_tells_its_depth(self, roll):
        random = np.random.default_rng(0)
        K_a = np.array([[600.0, 0, 310], [0, 610.0, 250], [0, 0, 1]])
        K_b = np.array([[450.0, 1.0, 200], [0, 455.0, 160], [0, 0, 1]])
        turn = rotation_from_vector([0, 0, roll])
        camera_b = make_transform(rotation_from_vector([0.02, -0.2, 0.3]), [0.15, 0.02, 0.01])
        a_from_b = make_transform(turn, np.zeros(3)) @ camera_b
        pair = rectify(K_a, K_b, (480, 640), (320, 400), a_from_b, 0.5, 1.5)
        assert not isinstance(pair, str)
        rotation_a, _ = turned_rotations(a_from_b)
        points = random.uniform(-0.2, 0.2, (50, 3)) + [0.0, 0.0, 0.9]
        places = []
        for second, K, seen in (
            (False, K_a, points),
            (True, K_b, apply(invert(a_from_b), points)),
        ):
            matrix = pair._canvas_from_image(second) @ K
            image = seen @ matrix.T
            places.append(image[:, :2] / image[:, 2:])
        np.testing.assert_allclose(places[0][:, 1], places[1][:, 1], atol=1e-6)
        disparity = places[0][:, 0] - places[1][:, 0]
        assert (disparity >= 0).all()
        assert (disparity < pair.disparities).all()
        np.testing.assert_allclose(pair.depth(disparity), (points @ rotation_a.T)[:, 2], rtol=1e-5)

    def test_large_images_are_matched_at_a_resolution_that_fits_the_memory(self):
        K = np.array([[3000.0, 0, 2000], [0, 3000.0, 1500], [0, 0, 1]])
        a_from_b = make_transform(rotation_from_vector([0, -0.17, 0]), [0.17, 0, 0.01])
        pair = rectify(K, K, (3000, 4000), (3000, 4000), a_from_b, 0.5, 2.0)
        height, width = pair.size
        assert height * (width - 2 * pair.disparities) * pair.disparities < 1.7e8
        assert pair.focal < 1500


def test_the_whole_chain_runs_by_configuration_alone():
    made = construct(5, 12.0, objects=5, seed=3)
    config = SceneConfig.from_mapping({"pointmaps": {"backend": "stereo"}})
    scene = build_scene(made.views, config)
    assert scene.frame_id == "world"
    assert scene.alignment.scale_sources == ("camera poses",)
    assert scene.alignment.registration_residual < 0.002
    rows, cols = np.nonzero(made.labels[2] == 3)
    click = Click("cam_2", float(np.median(cols)), float(np.median(rows)))
    cloud = segment(scene, Prompt((click,)))
    assert len(cloud) > 1000
    assert np.median(made.distance_to_object(3, cloud.points)) < 0.003


def test_two_views_cannot_confirm_their_own_poses(truth, pair):
    """The metre comes from the poses, and the one pair agrees with whatever they say."""
    longer = [
        dataclasses.replace(
            view,
            world_from_cam_prior=make_transform(pose[:3, :3], 1.1 * pose[:3, 3]),
            prior_translation_sigma=0.01,
            prior_rotation_sigma=0.01,
        )
        for view, pose in zip(truth.views, truth.world_from_cam, strict=True)
    ]
    for views, found in ((truth.views, pair), (longer, predict(longer))):
        alignment = align([found], views, SceneConfig().alignment)
        assert alignment.scale_sources == ("camera poses",)
        assert np.isnan(alignment.registration_residual)
        assert "nothing to compare it with" in alignment.scale_text
        assert any("no third view confirms" in warning for warning in alignment.warnings)


def module_of(path):
    spec = importlib.util.spec_from_file_location(f"stereo_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_neighbouring_pairs_of_the_real_temple_agree_to_less_than_a_millimetre(real_data):
    temple = module_of(ROOT / "examples" / "temple.py")
    benchmark = module_of(ROOT / "benchmarks" / "stereo.py")
    config = SceneConfig.from_mapping({"pointmaps": {"backend": "stereo"}})
    recording = temple.load_middlebury_scene(real_data("templeSparseRing"))
    matcher = load_pointmaps(config.pointmaps)
    views = matcher.with_deviations(recording.views[5:10])
    pairs = matcher.choose_pairs(views, config.pairing)
    predictions = matcher.predict(views, pairs, Progress())
    alignment = align(predictions, views, config.alignment)
    between = benchmark.agreement(predictions, alignment)
    assert len(between) == len(pairs) - 1 == 3
    assert max(between.values()) < 0.001, between
    gross = benchmark.gross_differences(predictions, alignment)
    assert max(gross.values()) < 0.05, gross
    on_background, covered = benchmark.fringe(predictions, views)
    assert on_background < 0.03
    assert covered > 0.35
    assert np.nanmedian(alignment.prior_residual) < 0.001
    # Of the world before the given poses bend it, where that differs more.
    assert alignment.registration_residual < 0.0015


@pytest.fixture(scope="module")
def rig():
    return construct(4, 10.0).views


class TestDisagreement:
    """Four cameras of which one is not where its pose says: its pairs measure another depth."""

    @staticmethod
    def displaced(views, camera, shift=(0, 0, 0), degrees=(0, 0, 0)):
        out, pose = list(views), views[camera].world_from_cam_prior.copy()
        pose[:3, 3] += shift
        pose[:3, :3] = pose[:3, :3] @ rotation_from_vector(np.deg2rad(degrees))
        out[camera] = dataclasses.replace(views[camera], world_from_cam_prior=pose)
        return out

    @staticmethod
    def warnings(views, **stereo):
        made = backend(**stereo)
        progress = Progress()
        views = made.with_deviations(views)
        made.predict(views, made.choose_pairs(views, PairingConfig()), progress)
        return [text for text in progress.warnings if "triangulate" in text]

    @pytest.mark.parametrize(
        ("camera", "error"),
        [
            (0, {"shift": (0.016, 0, 0.012)}),
            (1, {"shift": (0.016, 0, 0.012)}),
            (2, {"shift": (0.03, 0, 0.02)}),
            (1, {"degrees": (0, 2.0, 0)}),
            (3, {"degrees": (0, 2.0, 0)}),
        ],
        ids=["first, 20 mm", "20 mm", "36 mm", "2 degrees", "last, 2 degrees"],
    )
    def test_the_wrong_pose_is_named_and_no_other(self, rig, camera, error):
        wrong = self.displaced(rig, camera, **error)
        (text,) = self.warnings(wrong, max_disagreement=0.0)
        assert f"The pose of camera 'cam_{camera}' is wrong" in text
        assert re.search(r"\d+% of their depth apart \(0\.\d+ m\)", text)

    @pytest.mark.parametrize("metres", [0.0, 0.003, 0.005])
    def test_exact_poses_and_those_within_their_deviations_are_no_reason(self, rig, metres):
        for seed in range(2 if metres else 1):
            random = np.random.default_rng(seed)
            noisy = [
                dataclasses.replace(
                    view,
                    world_from_cam_prior=kinematic_pose(
                        view.world_from_cam_prior, random, metres, 0.0
                    ),
                )
                for view in rig
            ]
            assert not self.warnings(noisy)

    def test_of_three_cameras_all_that_can_be_wrong_are_named(self, rig):
        """Two pairs only: any of the poses can explain that they differ."""
        wrong = self.displaced(rig[:3], 1, shift=(0.03, 0, 0.02))
        made, progress = backend(max_disagreement=0.0), Progress()
        made.predict(made.with_deviations(wrong), [(0, 1), (1, 2)], progress)
        (text,) = [text for text in progress.warnings if "triangulate" in text]
        assert "do not tell which" in text
        assert "'cam_1'" in text

    def test_beyond_the_limit_no_scene_is_built(self, rig):
        wrong = self.displaced(rig, 1, shift=(0.03, 0, 0.02))
        with pytest.raises(
            InputError, match=r"'cam_1' is wrong.*max_disagreement = 0\.3"
        ) as error:
            self.warnings(wrong)
        assert error.value.code == ErrorCode.BAD_CALIBRATION

    def test_smaller_deviations_make_a_smaller_error_stand_out(self, rig):
        off = self.displaced(rig, 1, shift=(0.004, 0, 0.003))
        assert not self.warnings(off)
        settings = {"prior_translation_sigma": 1e-3, "prior_rotation_sigma": 1e-3}
        (text,) = self.warnings(off, **settings)
        assert "'cam_1' is wrong" in text


def test_a_range_of_depth_that_holds_no_feature_is_refused(truth):
    with pytest.raises(InputError, match=r"0% of the matched.*3 to 4 m.*most are at 0\.") as error:
        predict(truth.views, min_depth=3.0, max_depth=4.0)
    assert error.value.code == ErrorCode.BAD_CONFIG
    progress = Progress()
    backend(min_depth=0.62).predict(truth.views, [(0, 1)], progress)
    assert any("lie within pointmaps.stereo.min_depth" in text for text in progress.warnings)
