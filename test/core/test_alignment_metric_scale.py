"""Where the scale of a network's world comes from, and when it is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.core.errors import AlignmentError, ErrorCode
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_from_vector,
)
from wildseg3d_ros.core.types import RelativePose
from wildseg3d_ros.sim.noise import kinematic_pose
from wildseg3d_testing.pairs import (
    NETWORK_LIKE,
    PairErrors,
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
)

CONFIG = AlignmentConfig()
NEVER = AlignmentConfig(max_prior_residual=0.0)
COUNT = 6


@pytest.fixture(scope="module")
def scene():
    return construct_views(COUNT, (48, 64), seed=3)


@pytest.fixture(scope="module")
def network(scene):
    return predict_like_network(scene, complete_pairs(COUNT), PairErrors(scale=0.4), seed=1)


def known(network, poses=(), depths=(), depth_scale=1.0, sigma=0.0):
    """The network's views with poses and depth of some cameras only."""
    views = []
    for v, view in enumerate(network.views):
        pose = network.world_from_cam[v]
        depth = None
        if v in depths:
            inside = apply(invert(pose), network.points[v])[..., 2]
            depth = (depth_scale * inside).astype(np.float32)
        given = replace(view, world_from_cam_prior=None, depth=depth)
        if v in poses:
            given = replace(
                given,
                world_from_cam_prior=pose,
                prior_translation_sigma=sigma,
                prior_rotation_sigma=sigma,
            )
        views.append(given)
    return tuple(views)


def tumbled(pose, metres, seed):
    random = np.random.default_rng(seed)
    turn = rotation_from_vector(random.normal(0, 0.3, 3))
    return make_transform(turn @ pose[:3, :3], pose[:3, 3] + random.normal(0, metres, 3))


def mean_scale(network):
    return np.exp(np.log(network.pair_scale).mean())


@pytest.mark.parametrize(
    ("given", "sources"),
    [
        ({"poses": (0, 3)}, ("camera poses",)),
        ({"poses": range(COUNT), "sigma": 0.01}, ("camera poses",)),
        ({"depths": (2,)}, ("depth",)),
        ({"depths": (2,), "poses": (4,)}, ("depth",)),
        ({"depths": (2,), "poses": range(COUNT), "sigma": 0.01}, ("camera poses", "depth")),
    ],
)
def test_align_reports_scale_and_sources(network, given, sources):
    alignment = align(network.predictions, known(network, **given), CONFIG)
    assert alignment.scale_sources == sources
    assert alignment.scale_factor == pytest.approx(mean_scale(network), rel=2e-3)
    assert 0.0 <= alignment.registration_residual < 2e-3
    assert alignment.metric
    assert alignment.in_prior_frame == ("poses" in given)
    assert " and ".join(sources) in alignment.scale_text
    assert f"{alignment.scale_factor:.4g} x the network's" in alignment.scale_text


def test_registration_residual_shows_errors_of_a_network(scene):
    made = predict_like_network(scene, complete_pairs(COUNT), NETWORK_LIKE, seed=1)
    alignment = align(made.predictions, known(made, poses=range(COUNT)), CONFIG)
    away = alignment.world_from_cam[:, :3, 3] - made.world_from_cam[:, :3, 3]
    # Positions and, at the scene, orientations.
    assert alignment.registration_residual > np.median(np.linalg.norm(away, axis=1))
    assert alignment.registration_residual < 0.1


def test_align_without_priors_keeps_scale_and_frame_of_the_network(network):
    alignment = align(network.predictions, known(network), CONFIG)
    assert not alignment.metric
    assert not alignment.in_prior_frame
    assert alignment.scale_sources == ()
    assert alignment.scale_factor == pytest.approx(1.0)
    assert np.isnan(alignment.registration_residual)
    np.testing.assert_allclose(alignment.world_from_cam[0], np.eye(4), atol=1e-9)
    (warning,) = alignment.warnings
    assert "network's own scale" in warning
    assert "'cam0'" in warning
    assert "network's own" in alignment.scale_text


def test_align_one_pose_fixes_neither_scale_nor_frame(network):
    alignment = align(network.predictions, known(network, poses=(1,)), CONFIG)
    assert alignment.scale_sources == ()
    assert any("network's scale" in warning for warning in alignment.warnings)


def test_refuse_contradictions_poses_against_depth(network):
    views = known(network, poses=range(COUNT), depths=(2,), depth_scale=1.5)
    with pytest.raises(AlignmentError, match=r"given depth differ.*'cam2'") as refused:
        align(network.predictions, views, CONFIG)
    assert refused.value.code == ErrorCode.ALIGNMENT_FAILED
    assert "max_prior_residual = 0.2" in str(refused.value)
    # Where it is built nevertheless, poses decide, and depth is called wrong.
    alignment = align(network.predictions, views, NEVER)
    assert alignment.scale_sources == ("camera poses",)
    assert alignment.scale_factor == pytest.approx(mean_scale(network), rel=1e-3)
    depth = views[2].depth
    assert alignment.registration_residual == pytest.approx(np.median(depth) / 3.0, rel=0.05)
    assert f"{alignment.registration_residual:.3g} m" in str(refused.value)
    assert any("'cam2'" in warning and "unit" in warning for warning in alignment.warnings)


def test_refuse_contradictions_names_wrong_poses(network):
    views = tuple(
        replace(view, world_from_cam_prior=tumbled(view.world_from_cam_prior, 0.4, seed))
        for seed, view in enumerate(network.views)
    )
    with pytest.raises(AlignmentError, match="given camera poses differ") as refused:
        align(network.predictions, views, CONFIG)
    figure = re.search(r"differ by ([\d.]+) m", str(refused.value))
    assert figure is not None
    alignment = align(network.predictions, views, NEVER)
    assert float(figure[1]) == pytest.approx(alignment.registration_residual, rel=0.01)
    assert alignment.registration_residual > 0.2
    for view in views:
        assert f"'{view.name}'" in str(refused.value)


@pytest.mark.parametrize("size", [1.0, 0.25])
def test_refuse_contradictions_default_limit_separates_good_and_bad_poses(scene, size):
    """At 2 m, and at 0.5 m, where 3 cm are as much as 12 cm are there."""
    made = predict_like_network(scene, complete_pairs(COUNT), NETWORK_LIKE, seed=0)
    random = np.random.default_rng(0)

    def noisy(metres, degrees):
        views = []
        for view, pose in zip(made.views, made.world_from_cam, strict=True):
            given = kinematic_pose(pose, random, metres, np.deg2rad(degrees))
            given[:3, 3] *= size
            views.append(replace(view, world_from_cam_prior=given))
        return views

    assert align(made.predictions, noisy(0.01, 0.3), CONFIG).in_prior_frame
    with pytest.raises(AlignmentError, match=r"\(median, \d+% of the viewing distance"):
        align(made.predictions, noisy(0.12, 5.0), CONFIG)


@pytest.mark.parametrize("seed", [3, 4, 5])
@pytest.mark.parametrize("mistake", ["inverted", "OpenGL axes", "mirrored", "swapped", "tumbled"])
def test_refuse_contradictions_poses_without_a_common_scale(mistake, seed):
    """Also where a collapsed scale would make the metres small, or none could be found at all."""
    scene = construct_views(COUNT, (48, 64), seed=seed)
    errors = PairErrors(scale=0.4, warp=0.01, noise=0.003)
    made = predict_like_network(scene, complete_pairs(COUNT), errors, seed=1)
    random = np.random.default_rng(seed)
    wrong = {
        "inverted": invert,
        "OpenGL axes": lambda pose: pose @ np.diag([1.0, -1.0, -1.0, 1.0]),
        "mirrored": lambda pose: make_transform(pose[:3, :3], pose[:3, 3] * [-1, -1, 1]),
        "tumbled": lambda pose: make_transform(
            rotation_from_vector(random.normal(0, 2.0, 3)) @ pose[:3, :3], pose[:3, 3]
        ),
    }
    poses = dict(enumerate(made.world_from_cam))
    if mistake == "swapped":
        poses = {0: poses[3], 3: poses[0]}
    else:
        poses = {v: wrong[mistake](pose) for v, pose in poses.items()}
    views = [replace(v, world_from_cam_prior=poses.get(k)) for k, v in enumerate(made.views)]
    with pytest.raises(AlignmentError, match=r"contradict each other.*'cam0' \d"):
        align(made.predictions, views, CONFIG)
    views = [
        replace(v, world_from_cam_prior=p) for v, p in zip(views, made.world_from_cam, strict=True)
    ]
    assert align(made.predictions, views, CONFIG).metric


def test_refuse_contradictions_depth_against_depth(network):
    views = list(known(network, depths=(1,)))
    views[2] = known(network, depths=(2,), depth_scale=2.0)[2]
    with pytest.raises(AlignmentError, match=r"contradict each other.*'cam1'.*'cam2'"):
        align(network.predictions, views, CONFIG)
    assert not align(network.predictions, views, NEVER).metric


def test_refuse_contradictions_two_wrong_poses(network):
    views = list(known(network, poses=(0, 3)))
    views[3] = replace(views[3], world_from_cam_prior=tumbled(network.world_from_cam[3], 0.3, 0))
    with pytest.raises(AlignmentError, match=r"'cam0' .* m, 'cam3'|'cam3' .* m, 'cam0'"):
        align(network.predictions, views, CONFIG)


def test_refuse_contradictions_tolerates_a_rejected_pose(network):
    views = list(network.views)
    views[1] = replace(views[1], world_from_cam_prior=tumbled(network.world_from_cam[1], 0.5, 0))
    alignment = align(network.predictions, views, CONFIG)
    assert alignment.registration_residual < 0.01
    assert any("'cam1'" in warning for warning in alignment.warnings)


def test_scale_sources_relative_pose(network):
    a_from_b = invert(network.world_from_cam[1]) @ network.world_from_cam[4]
    relative = [RelativePose(1, 4, a_from_b, 0.002, 0.002)]
    alignment = align(network.predictions, known(network), CONFIG, relative_poses=relative)
    assert alignment.scale_sources == ("relative poses",)
    assert alignment.scale_factor == pytest.approx(mean_scale(network), rel=1e-3)
    assert alignment.registration_residual < 1e-3


def test_scale_sources_metric_pairs(scene):
    made = predict_like_depth(scene, complete_pairs(COUNT, False))
    alignment = align(made.predictions, made.views, CONFIG)
    assert alignment.scale_sources == ("metric pairs",)
    assert alignment.scale_factor == 1.0
    assert alignment.registration_residual < 1e-4
    views = tuple(
        replace(view, world_from_cam_prior=tumbled(view.world_from_cam_prior, 0.4, seed))
        for seed, view in enumerate(made.views)
    )
    with pytest.raises(AlignmentError, match=r"scaled by metric pairs"):
        align(made.predictions, views, CONFIG)


def stretched(network, a, b, factor):
    """Poses of two cameras, their baseline grown, and no other knowledge."""
    views = list(known(network, poses=(a, b)))
    pose, start = network.world_from_cam[b].copy(), network.world_from_cam[a][:3, 3]
    pose[:3, 3] = start + factor * (pose[:3, 3] - start)
    views[b] = replace(views[b], world_from_cam_prior=pose)
    return views


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.3, 2.0])
def test_scale_warnings_one_baseline(network, factor):
    alignment = align(network.predictions, stretched(network, 0, 3, factor), CONFIG)
    (text,) = [text for text in alignment.warnings if "one baseline" in text]
    assert "from 'cam0' to 'cam3'" in text
    assert f"{alignment.scale_factor:.3g} x" in text
    assert alignment.scale_factor == pytest.approx(factor * mean_scale(network), rel=2e-3)


@pytest.mark.parametrize("given", [{"poses": (0, 2, 4)}, {"poses": (0, 3), "depths": (2,)}])
def test_scale_warnings_confirmed_baseline(network, given):
    alignment = align(network.predictions, known(network, **given), CONFIG)
    assert not any("one baseline" in text for text in alignment.warnings)


@pytest.mark.parametrize(
    ("factor", "warned"), [(1.0, False), (1.3, False), (2.0, True), (0.5, True)]
)
def test_scale_warnings_metric_network_against_a_wrong_baseline(network, factor, warned):
    mean = mean_scale(network)
    made = [
        replace(
            p,
            pointmap_a=np.float32(mean) * p.pointmap_a,
            pointmap_b=np.float32(mean) * p.pointmap_b,
            roughly_metric=True,
        )
        for p in network.predictions
    ]
    alignment = align(made, stretched(network, 0, 3, factor), CONFIG)
    texts = [text for text in alignment.warnings if "what the network takes them for" in text]
    assert bool(texts) == warned
    if warned:
        assert f"{factor:.3g} times" in texts[0]
