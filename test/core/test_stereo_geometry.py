"""The parts of the stereo back end: poses from features, rectification, support, brightness."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_angle,
    rotation_from_vector,
)
from wildseg3d_ros.pointmaps.refined_poses import (
    Camera,
    Matches,
    epipolar_errors,
    refine_poses,
    triangulate,
)
from wildseg3d_ros.pointmaps.stereo.confidence import supported
from wildseg3d_ros.pointmaps.stereo.matching import brightness_ratio
from wildseg3d_ros.pointmaps.stereo.rectification import rectify, rectifying_rotations
from wildseg3d_ros.sim.noise import kinematic_pose
from wildseg3d_testing.stereo import stereo_pair, stereo_scene


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

    def test_supported_ends_with_the_texture(self, image):
        kept = self.kept(image, np.full(image.shape, 30.0))
        # Corners are rounded off.
        assert kept[22:58, 32:68].mean() > 0.98
        outside = np.ones_like(kept)
        outside[19:61, 29:71] = False
        assert not kept[outside].any()

    def test_supported_bridges_plain_gaps_of_one_surface(self, image):
        image[37:43, 47:53] = 128
        assert self.kept(image, np.full(image.shape, 30.0))[34:56, 44:56].all()

    def test_supported_bridges_none_between_two_surfaces(self, image):
        image[:, 48:56] = 128
        columns = np.arange(100)[None] + 0 * image
        kept = self.kept(image, np.where(columns < 52, 30.0, 60.0))
        assert not kept[22:58, 51:53].any()
        assert kept[24:56, 33:44].mean() > 0.95
        assert kept[24:56, 60:67].mean() > 0.95


def test_brightness_ratio_takes_well_lit_points_alone():
    random = np.random.default_rng(0)
    image = cv2.blur(random.integers(0, 120, (60, 80, 3), dtype=np.uint8), (9, 9))
    uv = random.uniform(5, 50, (80, 2))
    twice = image * 2
    twice[:, :20] = 255
    assert brightness_ratio(image, twice, uv, uv) == pytest.approx(2.0, abs=0.05)
    assert brightness_ratio(twice, image, uv, uv) == pytest.approx(0.5, abs=0.05)
    assert brightness_ratio(image, twice, uv[:10], uv[:10]) == 1.0
    assert brightness_ratio(image, np.full_like(image, 255), uv, uv) == 1.0


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

    def test_epipolar_errors_derivatives(self):
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
                rotation = rotation_from_vector(part[:3]) @ pose[:3, :3]
                out.append(Camera(K, make_transform(rotation, pose[:3, 3] + part[3:])))
            return epipolar_errors(m, *out)[0]

        h = 1e-6
        numeric = np.stack([(moved(h * e) - moved(-h * e)) / (2 * h) for e in np.eye(12)], 1)
        np.testing.assert_allclose(slope, numeric, rtol=1e-3, atol=0.2)

    def test_refine_poses_undoes_errors_across_the_epipolar_lines_but_not_the_scale(self):
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

    def test_refine_poses_keeps_poses_that_fit(self):
        K, poses, _, found = self.matches()
        sigma = np.tile([0.01, 0.01], (3, 1))
        refined = refine_poses([K] * 3, poses, sigma, found)
        np.testing.assert_array_equal(refined.world_from_cam, poses)

    def test_refine_poses_wins_back_what_bad_rows_lose(self):
        made = stereo_scene(2, 10.0, 640, 480)
        shift = make_transform(rotation_from_vector(np.deg2rad([0.4, 0.0, 0.4])), np.zeros(3))
        views = [
            made.views[0],
            dataclasses.replace(
                made.views[1], world_from_cam_prior=made.world_from_cam[1] @ shift
            ),
        ]
        on_object = made.labels[0] > 0

        def covered(**settings):
            pair = stereo_pair(views, **settings)
            return (pair.confidence_a[on_object] > 0).mean()

        # Poses with small deviations stay as they are, and their pairs contradict them.
        with pytest.raises(InputError, match=r"of \d+ matched features \d lie"):
            covered(prior_rotation_sigma=1e-5, prior_translation_sigma=1e-5)
        assert covered() > 0.8


class TestRectification:
    @pytest.mark.parametrize("roll", [0.0, np.pi / 2, np.pi, 2.2])
    def test_rectify_gives_a_point_one_row_and_a_disparity_of_its_depth(self, roll):
        random = np.random.default_rng(0)
        K_a = np.array([[600.0, 0, 310], [0, 610.0, 250], [0, 0, 1]])
        K_b = np.array([[450.0, 1.0, 200], [0, 455.0, 160], [0, 0, 1]])
        rotation = rotation_from_vector([0, 0, roll])
        camera_b = make_transform(rotation_from_vector([0.02, -0.2, 0.3]), [0.15, 0.02, 0.01])
        a_from_b = make_transform(rotation, np.zeros(3)) @ camera_b
        pair = rectify((K_a, K_b), ((480, 640), (320, 400)), a_from_b, 0.5, 1.5)
        assert not isinstance(pair, str)
        rotation_a, _ = rectifying_rotations(a_from_b)
        points = random.uniform(-0.2, 0.2, (50, 3)) + [0.0, 0.0, 0.9]
        places = []
        for side, K, seen in ((0, K_a, points), (1, K_b, apply(invert(a_from_b), points))):
            matrix = pair._canvas_from_image(side) @ K
            image = seen @ matrix.T
            places.append(image[:, :2] / image[:, 2:])
        np.testing.assert_allclose(places[0][:, 1], places[1][:, 1], atol=1e-6)
        disparity = places[0][:, 0] - places[1][:, 0]
        assert (disparity >= 0).all()
        assert (disparity < pair.disparities).all()
        np.testing.assert_allclose(pair.depth(disparity), (points @ rotation_a.T)[:, 2], rtol=1e-5)

    def test_rectify_large_images_at_a_resolution_that_fits_the_memory(self):
        K = np.array([[3000.0, 0, 2000], [0, 3000.0, 1500], [0, 0, 1]])
        a_from_b = make_transform(rotation_from_vector([0, -0.17, 0]), [0.17, 0, 0.01])
        pair = rectify((K, K), ((3000, 4000),) * 2, a_from_b, 0.5, 2.0)
        height, width = pair.size
        assert height * (width - 2 * pair.disparities) * pair.disparities < 1.7e8
        assert pair.focal < 1500
