"""The stereo back end when poses, images or settings are wrong."""

from __future__ import annotations

import dataclasses
import logging
import re

import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.transforms import (
    make_transform,
    rotation_from_vector,
)
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.pairing.config import PairingConfig
from wildseg3d_ros.sim.noise import kinematic_pose
from wildseg3d_testing.stereo import SIZE, recast, stereo_backend, stereo_pair, stereo_scene


@pytest.fixture(scope="module")
def truth():
    return stereo_scene(2, 10.0)


@pytest.fixture(scope="module")
def pair(truth):
    return stereo_pair(truth.views)


@pytest.fixture(scope="module")
def rig():
    return stereo_scene(4, 10.0).views


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
    def test_check_names_the_view_and_what_it_lacks(self, truth, changes, code, reason):
        views = [truth.views[0], dataclasses.replace(truth.views[1], **changes)]
        with pytest.raises(InputError, match=f"'cam_1'.*{reason}") as error:
            stereo_backend().check(views)
        assert error.value.code == code

    def test_predict_plain_images_have_nothing_to_match(self, truth):
        grey = [dataclasses.replace(v, image=np.full_like(v.image, 128)) for v in truth.views]
        with pytest.raises(InputError, match="hardly a pixel matches") as error:
            stereo_pair(grey)
        assert error.value.code == ErrorCode.DISCONNECTED_VIEWS

    def test_predict_names_cameras_one_behind_the_other(self, truth):
        pose = truth.world_from_cam[0]
        ahead = pose @ make_transform(np.eye(3), [0.05, 0.0, 0.15])
        views, _, _ = recast(truth, [pose, ahead], [truth.views[0].K] * 2, [SIZE] * 2)
        with pytest.raises(InputError, match="one camera stands behind the other"):
            stereo_pair(views, min_angle=0.5)

    def test_predict_leaves_out_a_pose_that_the_images_contradict(self, truth):
        rotated = truth.world_from_cam[1] @ make_transform(
            rotation_from_vector([np.deg2rad(3.0), 0, 0]), np.zeros(3)
        )
        wrong = dataclasses.replace(truth.views[1], world_from_cam_prior=rotated)
        settings = {"prior_rotation_sigma": 1e-4, "prior_translation_sigma": 1e-4}
        with pytest.raises(InputError, match=r"'cam_0' - 'cam_1' is left out: of \d+ matched"):
            stereo_pair([truth.views[0], wrong], **settings)

    def test_choose_pairs_names_groups_too_far_apart_with_their_angles(self):
        wide = stereo_scene(4, 45.0, 160, 120)
        with pytest.raises(InputError, match=r"4 groups.*\d\d degrees.*up to 35") as error:
            stereo_backend().choose_pairs(wide.views, PairingConfig())
        assert error.value.code == ErrorCode.DISCONNECTED_VIEWS
        for view in wide.views:
            assert f"'{view.name}'" in str(error.value)

    def test_predict_leaves_out_a_pair_outside_the_limits(self, caplog):
        made = stereo_scene(3, 15.0, 200, 150)
        with caplog.at_level(logging.INFO):
            found = stereo_backend().predict(made.views, [(0, 1), (1, 2), (0, 2)], Progress())
        assert [(p.a, p.b) for p in found] == [(0, 1), (1, 2)]
        assert "'cam_0' - 'cam_2' is left out" in caplog.text

    def test_choose_pairs_bridges_groups_with_a_wide_pair(self, truth):
        far = stereo_scene(2, 26.0)
        progress = Progress()
        assert stereo_backend().choose_pairs(far.views, PairingConfig()) == [(0, 1)]
        stereo_backend().predict(far.views, [(0, 1)], progress)
        assert any("wider than 20 degrees" in warning for warning in progress.warnings)
        with pytest.raises(InputError, match="2 groups"):
            stereo_backend(bridge_angle=20.0).choose_pairs(far.views, PairingConfig())


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
        made = stereo_backend(**stereo)
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
    def test_find_disagreement_names_the_wrong_pose_and_no_other(self, rig, camera, error):
        wrong = self.displaced(rig, camera, **error)
        (text,) = self.warnings(wrong, max_disagreement=0.0)
        assert f"The pose of camera 'cam_{camera}' is wrong" in text
        assert re.search(r"\d+% of their depth apart \(0\.\d+ m\)", text)

    @pytest.mark.parametrize("metres", [0.0, 0.003, 0.005])
    def test_find_disagreement_within_the_deviations(self, rig, metres):
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

    def test_find_disagreement_names_all_of_three_that_can_be_wrong(self, rig):
        """Two pairs only: any of the poses can explain that they differ."""
        wrong = self.displaced(rig[:3], 1, shift=(0.03, 0, 0.02))
        made, progress = stereo_backend(max_disagreement=0.0), Progress()
        made.predict(made.with_deviations(wrong), [(0, 1), (1, 2)], progress)
        (text,) = [text for text in progress.warnings if "triangulate" in text]
        assert "do not tell which" in text
        assert "'cam_1'" in text

    def test_check_agreement_beyond_the_limit(self, rig):
        wrong = self.displaced(rig, 1, shift=(0.03, 0, 0.02))
        with pytest.raises(
            InputError, match=r"'cam_1' is wrong.*max_disagreement = 0\.3"
        ) as error:
            self.warnings(wrong)
        assert error.value.code == ErrorCode.BAD_CALIBRATION

    def test_find_disagreement_of_smaller_deviations(self, rig):
        off = self.displaced(rig, 1, shift=(0.004, 0, 0.003))
        assert not self.warnings(off)
        settings = {"prior_translation_sigma": 1e-3, "prior_rotation_sigma": 1e-3}
        (text,) = self.warnings(off, **settings)
        assert "'cam_1' is wrong" in text


def test_align_two_views_cannot_confirm_their_own_poses(truth, pair):
    """The metric scale comes from the poses, and the one pair agrees with any of them."""
    longer = [
        dataclasses.replace(
            view,
            world_from_cam_prior=make_transform(pose[:3, :3], 1.1 * pose[:3, 3]),
            prior_translation_sigma=0.01,
            prior_rotation_sigma=0.01,
        )
        for view, pose in zip(truth.views, truth.world_from_cam, strict=True)
    ]
    for views, found in ((truth.views, pair), (longer, stereo_pair(longer))):
        alignment = align([found], views, SceneConfig().alignment)
        assert alignment.scale_sources == ("camera poses",)
        assert np.isnan(alignment.registration_residual)
        assert "nothing to compare it with" in alignment.scale_text
        assert any("no third view confirms" in warning for warning in alignment.warnings)


def test_check_range_without_features(truth):
    with pytest.raises(InputError, match=r"0% of the matched.*3 to 4 m.*most are at 0\.") as error:
        stereo_pair(truth.views, min_depth=3.0, max_depth=4.0)
    assert error.value.code == ErrorCode.BAD_CONFIG
    progress = Progress()
    stereo_backend(min_depth=0.62).predict(truth.views, [(0, 1)], progress)
    assert any("lie within pointmaps.stereo.min_depth" in text for text in progress.warnings)
