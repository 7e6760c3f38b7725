"""Which priors are believed, where pairs err as a network's do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.core.errors import AlignmentError, InputError
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_from_vector,
)
from wildseg3d_ros.core.types import RelativePose
from wildseg3d_testing.pairs import (
    NETWORK_LIKE,
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
    sequence_pairs,
)

CONFIG = AlignmentConfig()
COUNT = 6
SIGMA = 0.004


def network(seed, pairs=None):
    scene = construct_views(COUNT, (48, 64), seed)
    return predict_like_network(scene, pairs or complete_pairs(COUNT), NETWORK_LIKE, seed)


def given(made, poses, sigma=SIGMA):
    """Views with these poses; None for a camera without."""
    return [
        replace(
            view,
            world_from_cam_prior=pose,
            prior_translation_sigma=sigma,
            prior_rotation_sigma=sigma,
        )
        for view, pose in zip(made.views, poses, strict=True)
    ]


def slipped(pose, metres, radians, random):
    turn = rotation_from_vector(random.normal(0, radians, 3))
    return make_transform(turn @ pose[:3, :3], pose[:3, 3] + random.normal(0, metres, 3))


def honest(made, random):
    return [slipped(pose, SIGMA, SIGMA, random) for pose in made.world_from_cam]


def camera_error(alignment, made):
    """RMS of camera positions [m] after the best similarity, and that similarity's scale."""
    ours, truth = alignment.world_from_cam[:, :3, 3], made.world_from_cam[:, :3, 3]
    scale, rigid = umeyama(ours, truth)
    away = apply(rigid, scale * ours) - truth
    return float(np.sqrt((away**2).sum(1).mean())), scale


def named(alignment):
    """Cameras whose given poses a warning speaks of."""
    texts = [text for text in alignment.warnings if text.startswith("the given pose")]
    return [v for v in range(COUNT) if any(f"'cam{v}'" in text for text in texts)]


class TestRelativePoses:
    WRONG = make_transform(rotation_from_vector([0.3, 0.0, 0.0]), [0.3, 0.0, 0.0])

    def known(self, made, a, b, error=None):
        pose = invert(made.world_from_cam[a]) @ made.world_from_cam[b]
        return RelativePose(a, b, pose if error is None else pose @ error, 0.002, 0.002)

    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize("cameras", [(0, 5), (1, 4), (2, 3)])
    def test_verify_accepts_a_right_one_although_pairs_drift(self, seed, cameras):
        made = network(seed).without_priors()
        relative = [self.known(made, *cameras)]
        alignment = align(made.predictions, made.views, CONFIG, relative_poses=relative)
        assert alignment.warnings == ()
        assert alignment.scale_sources == ("relative poses",)
        assert camera_error(alignment, made)[1] == pytest.approx(1.0, abs=0.03)
        # It says what the pairs drifted by, not what is left once the pose constrains them.
        assert alignment.registration_residual > 0.01

    @pytest.mark.parametrize("pairs", [complete_pairs(COUNT), sequence_pairs(COUNT, 1)])
    def test_verify_rejects_a_wrong_one_though_nothing_else_gives_the_scale(self, pairs):
        made = network(3, pairs).without_priors()
        relative = [self.known(made, 0, 5, self.WRONG)]
        alignment = align(made.predictions, made.views, CONFIG, relative_poses=relative)
        assert "the pairs contradict it" in alignment.warnings[0]
        assert "'cam0' and 'cam5'" in alignment.warnings[0]
        assert any("network's own scale" in warning for warning in alignment.warnings)
        without = align(made.predictions, made.views, CONFIG)
        np.testing.assert_array_equal(alignment.world_from_cam, without.world_from_cam)
        assert not alignment.metric

    @pytest.mark.parametrize("right", [[(0, 5), (1, 4)], [(0, 5)]])
    def test_verify_names_the_wrong_one_of_several(self, right):
        made = network(3).without_priors()
        relative = [self.known(made, *cameras) for cameras in right]
        relative.append(self.known(made, 2, 5, self.WRONG))
        alignment = align(made.predictions, made.views, CONFIG, relative_poses=relative)
        (warning,) = alignment.warnings
        assert "'cam2' and 'cam5'" in warning
        assert camera_error(alignment, made)[1] == pytest.approx(1.0, abs=0.03)

    def test_align_improves_beside_given_poses(self):
        without, both = [], []
        for seed in range(4):
            made = network(seed)
            views = given(made, [*made.world_from_cam[:3], None, None, None])
            without.append(camera_error(align(made.predictions, views, CONFIG), made)[0])
            relative = [self.known(made, 0, 5)]
            alignment = align(made.predictions, views, CONFIG, relative_poses=relative)
            assert alignment.warnings == ()
            both.append(camera_error(alignment, made)[0])
        assert np.mean(both) < 0.95 * np.mean(without)


class TestPosesWithSigmas:
    @pytest.mark.parametrize("seed", [0, 1, 3])
    @pytest.mark.parametrize("mistake", ["inverted", "half of them wrong", "hand-eye"])
    def test_refuse_contradictions_wrong_poses_with_and_without_sigmas(self, mistake, seed):
        made = network(seed)
        random = np.random.default_rng(seed)
        poses = list(made.world_from_cam)
        if mistake == "inverted":
            poses = [invert(pose) for pose in poses]
        elif mistake == "hand-eye":
            offset = make_transform(rotation_from_vector([0.0, 0.2, 0.0]), [0.05, 0.0, 0.0])
            poses = [pose @ offset for pose in poses]
        else:
            for v in random.choice(COUNT, 3, replace=False):
                poses[v] = slipped(poses[v], 0.3, 0.3, random)
        for sigma in (0.0, SIGMA):
            with pytest.raises(AlignmentError, match="contradict each other"):
                align(made.predictions, given(made, poses, sigma), CONFIG)

    def test_registration_residual_is_that_of_the_unconstrained_world(self):
        made = network(0)
        poses = honest(made, np.random.default_rng(0))
        constrained = align(made.predictions, given(made, poses), CONFIG)
        placed = align(made.predictions, given(made, poses, 0.0), CONFIG)
        assert np.median(constrained.prior_residual) < 0.5 * np.median(placed.prior_residual)
        assert constrained.registration_residual > 0.5 * placed.registration_residual

    @pytest.mark.parametrize(("metres", "grows"), [(0.05, 1.25), (0.1, 1.05)])
    def test_judge_limits_the_harm_of_one_that_is_off(self, metres, grows):
        beside, without, found = [], [], []
        for seed in range(5):
            made = network(seed)
            random = np.random.default_rng(seed)
            poses = honest(made, random)
            wrong = int(random.integers(COUNT))
            away = random.normal(0, 1, 3)
            poses[wrong] = poses[wrong].copy()
            poses[wrong][:3, 3] += metres * away / np.linalg.norm(away)
            alignment = align(made.predictions, given(made, poses), CONFIG)
            beside.append(camera_error(alignment, made)[0])
            found.append(named(alignment) == [wrong])
            assert set(named(alignment)) <= {wrong}
            rest = [pose if v != wrong else None for v, pose in enumerate(poses)]
            alignment = align(made.predictions, given(made, rest), CONFIG)
            without.append(camera_error(alignment, made)[0])
        assert np.mean(beside) < grows * np.mean(without)
        assert all(found) or metres < 0.1

    @pytest.mark.parametrize("kind", ["complete", "chain", "two steps", "one way", "measured"])
    def test_judge_accepts_right_poses(self, kind):
        pairs = {
            "complete": complete_pairs(COUNT),
            "chain": sequence_pairs(COUNT, 1),
            "one way": [(v, v + 1) for v in range(COUNT - 1)],
        }.get(kind, sequence_pairs(COUNT, 2))
        for seed in range(4):
            made = network(seed, pairs)
            if kind == "measured":
                once = [(a, b) for a, b in pairs if a < b]
                made = predict_like_depth(made, once, 0.01, 0.01, seed=seed)
            poses = honest(made, np.random.default_rng(seed))
            assert named(align(made.predictions, given(made, poses), CONFIG)) == []

    def test_judge_names_the_wrong_half(self):
        made = network(3)
        random = np.random.default_rng(0)
        poses = honest(made, random)
        wrong = random.choice(COUNT, 3, replace=False)
        for v in wrong:
            poses[v] = slipped(made.world_from_cam[v], 0.05, 0.05, random)
        alignment = align(made.predictions, given(made, poses), CONFIG)
        assert named(alignment) == sorted(wrong)
        # Believed as they are given, they have made it 47 mm.
        assert camera_error(alignment, made)[0] < 0.012

    @pytest.mark.parametrize(
        ("slip", "said"), [(0.05, "is not known better than to some"), (0.025, "trusted less")]
    )
    def test_judge_warns_of_deviations_that_are_too_small(self, slip, said):
        made = network(3)
        random = np.random.default_rng(0)
        poses = [slipped(pose, slip, slip, random) for pose in made.world_from_cam]
        alignment = align(made.predictions, given(made, poses), CONFIG)
        assert any(said in warning for warning in alignment.warnings)

    @pytest.mark.parametrize("sigma", [-1.0, np.nan, np.inf])
    def test_view_refuses_an_invalid_sigma(self, sigma):
        made = network(0)
        for name in ("prior_translation_sigma", "prior_rotation_sigma"):
            with pytest.raises(InputError, match=f"'cam0': {name} must be"):
                replace(made.views[0], **{name: sigma})

    def test_refuse_contradictions_poses_in_millimetres(self):
        made = network(1)
        poses = [make_transform(p[:3, :3], 1e3 * p[:3, 3]) for p in made.world_from_cam]
        with pytest.raises(AlignmentError, match=r"[1-9]\d*% of the viewing distance, then \d"):
            align(made.predictions, given(made, poses), CONFIG)


@pytest.mark.parametrize("cameras", [(0, 3, 4), (2, 3)])
def test_well_shaped_rejects_a_rotated_depth_image(cameras):
    made = network(1).without_priors()
    views = list(made.views)
    for v in cameras:
        inside = apply(invert(made.world_from_cam[v]), made.points[v])[..., 2]
        views[v] = replace(views[v], depth=inside.astype(np.float32))
    right = align(made.predictions, views, CONFIG)
    assert right.warnings == ()
    upside_down = np.rot90(np.asarray(views[3].depth), 2)
    views[3] = replace(views[3], depth=upside_down)
    alignment = align(made.predictions, views, CONFIG)
    (warning,) = alignment.warnings
    assert "'cam3'" in warning
    assert "rotated" in warning
    assert alignment.scale_sources == ("depth",)
    assert camera_error(alignment, made)[1] == pytest.approx(1.0, abs=0.02)
