"""Surfaces of several views: constructed disagreement is found and undone, nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align, fuse
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.upsampling import upsampled
from wildseg3d_ros.alignment.surfaces.correspondences import Surface, grid_of
from wildseg3d_ros.alignment.surfaces.joint_refinement import (
    MotionPrior,
    average_along_rays,
    refine_jointly,
)
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_angle,
    rotation_from_vector,
)
from wildseg3d_testing.pairs import (
    complete_pairs,
    construct_views,
    predict_like_network,
    sequence_pairs,
)
from wildseg3d_testing.points import errors_after, robust_similarity

CONFIG = AlignmentConfig()


@pytest.fixture(scope="module")
def scene():
    return construct_views(5, (48, 64), seed=3)


def surfaces_of(scene, motions=None):
    out = []
    for v, view in enumerate(scene.views):
        rows, cols = grid_of(view.size)
        points = scene.points[v][np.ix_(rows, cols)].astype(np.float32)
        weight = np.ones((len(rows), len(cols)), dtype=np.float32)
        surface = Surface(points, weight, rows, cols, view.K, scene.world_from_cam[v])
        out.append(surface if motions is None else surface.moved(motions[v]))
    return out


def prior_of(count, points=0.02, position=np.inf, rotation=np.inf):
    return MotionPrior(np.full(count, points), np.full(count, position), np.full(count, rotation))


def slips(count, radians, metres, seed=0):
    random = np.random.default_rng(seed)
    return np.stack(
        [
            make_transform(
                rotation_from_vector(random.normal(0, radians, 3)), random.normal(0, metres, 3)
            )
            for _ in range(count)
        ]
    )


def relative_errors(scene, poses):
    """Of the cameras' positions [m] and orientations [rad], in the first camera's frame."""
    ours, truth = (invert(p[0]) @ p for p in (poses, scene.world_from_cam))
    angles = [rotation_angle(a[:3, :3] @ b[:3, :3].T) for a, b in zip(ours, truth, strict=True)]
    return np.linalg.norm((ours - truth)[:, :3, 3], axis=1).mean(), np.mean(angles)


def test_refine_jointly_undoes_slips(scene):
    slip = slips(5, 0.006, 0.006)
    motions = refine_jointly(surfaces_of(scene, slip), prior_of(5))
    before = relative_errors(scene, slip @ scene.world_from_cam)
    after = relative_errors(scene, motions @ slip @ scene.world_from_cam)
    assert after[0] < 0.35 * before[0]
    assert after[1] < 0.35 * before[1]
    for motion in motions:
        np.testing.assert_allclose(motion[:3, :3] @ motion[:3, :3].T, np.eye(3), atol=1e-9)


def test_refine_jointly_moves_no_farther_than_the_prior(scene):
    slip = slips(5, 0.006, 0.006)
    motions = refine_jointly(surfaces_of(scene, slip), prior_of(5, points=1e-7))
    np.testing.assert_allclose(motions, np.tile(np.eye(4), (5, 1, 1)), atol=1e-5)


def test_refine_jointly_keeps_a_known_pose(scene):
    slip = slips(5, 0.006, 0.006)
    slip[2] = np.eye(4)
    prior = prior_of(5)
    prior.position[2], prior.rotation[2] = 1e-6, 1e-6
    motions = refine_jointly(surfaces_of(scene, slip), prior)
    moved = motions[2] @ scene.world_from_cam[2]
    np.testing.assert_allclose(moved, scene.world_from_cam[2], atol=1e-4)
    after = motions @ slip @ scene.world_from_cam
    assert np.linalg.norm((after - scene.world_from_cam)[:, :3, 3], axis=1).mean() < 0.008


def test_refine_jointly_does_not_slide_along_a_plane(scene):
    """Along the plane nothing is known: views must not drift there."""
    flat = []
    for s in surfaces_of(scene):
        direction = s.points - s.centre
        down = direction * (-s.centre[2] / direction[..., 2:])
        points = np.where((direction[..., 2:] < -0.1), s.centre + down, np.nan)
        weight = np.where(np.isfinite(points).all(-1), s.weight, 0.0)
        flat.append(replace(s, points=points, weight=weight))
    lifted = np.tile(np.eye(4), (5, 1, 1))
    lifted[:, 2, 3] = [0.0, 0.01, -0.004, 0.007, -0.011]
    motions = refine_jointly([s.moved(m) for s, m in zip(flat, lifted, strict=True)], prior_of(5))
    shift = (motions @ lifted)[:, :3, 3]
    assert np.ptp(shift[:, 2]) < 0.006
    assert np.abs(motions[:, :2, 3]).max() < 0.004


def test_average_along_rays_moves_points_to_the_mean(scene):
    sizes = np.array([1.004, 0.998, 1.008, 0.995, 1.001])
    wrong = [
        replace(s, points=s.centre + np.float32(size) * (s.points - s.centre))
        for s, size in zip(surfaces_of(scene), sizes, strict=True)
    ]
    changes = average_along_rays(wrong)
    before, after = [], []
    for size, change, seen in zip(sizes, changes, scene.objects, strict=True):
        before.append(np.abs(size - 1.0))
        after.append(np.median(np.abs(size * (1.0 + change) - 1.0)[seen]))
    assert np.mean(after) < 0.85 * np.mean(before)


def test_stack_takes_views_of_different_sizes(scene):
    other = construct_views(5, (36, 80), seed=3)
    mixed = surfaces_of(scene)
    mixed[1] = surfaces_of(other)[1]
    changes = average_along_rays(mixed)
    assert [c.shape for c in changes] == [s.weight.shape for s in mixed]
    assert max(np.median(np.abs(c)) for c in changes) < 0.002
    slip = slips(5, 0.006, 0.006)
    slipped = [s.moved(m) for s, m in zip(mixed, slip, strict=True)]
    after = relative_errors(
        scene, refine_jointly(slipped, prior_of(5)) @ slip @ scene.world_from_cam
    )
    assert after[0] < 0.5 * relative_errors(scene, slip @ scene.world_from_cam)[0]


def test_average_along_rays_leaves_a_single_view(scene):
    changes = average_along_rays(surfaces_of(scene)[:1])
    assert np.abs(changes[0]).max() == 0.0


def test_upsampled_keeps_to_its_side_of_a_depth_edge():
    height, width = 120, 160
    sight = np.zeros((height, width, 3), dtype=np.float32)
    sight[..., 2] = np.where(np.arange(width) < 83, 1.0, 2.0)
    rows, cols = grid_of((height, width))
    field = np.where(cols[None] < 83, 0.01, -0.02) * np.ones((len(rows), 1))
    points = np.zeros((len(rows), len(cols), 3), dtype=np.float32)
    grid = Surface(points, points[..., 0], rows, cols, np.eye(3), np.eye(4))
    full = upsampled(field.astype(np.float32), grid, sight)
    expected = np.where(sight[..., 2] == 1.0, 0.01, -0.02)
    assert np.abs(full - expected)[10:-10, 10:-10].max() < 1e-3


@pytest.mark.parametrize(("pairs", "share"), [("complete", 0.65), ("chain", 0.75)])
def test_joint_refinement_reduces_errors(scene, pairs, share, monkeypatch):
    """Points against the same alignment without it, on network-like pairs. Without given poses:
    the registration to these would hide its shape."""
    errors = {True: [], False: []}
    for seed in range(3):
        chosen = complete_pairs(5) if pairs == "complete" else sequence_pairs(5, 1)
        made = predict_like_network(scene, chosen, seed=seed).without_priors()
        for with_it in (True, False):
            with monkeypatch.context() as patch:
                if not with_it:
                    patch.setattr(
                        "wildseg3d_ros.alignment.assembly.refine_jointly",
                        lambda s, *_: np.tile(np.eye(4), (len(s), 1, 1)),
                    )
                    patch.setattr(
                        "wildseg3d_ros.alignment.fusion.fuse.average_along_rays",
                        lambda s, *_: [np.zeros_like(x.weight) for x in s],
                    )
                alignment = align(made.predictions, made.views, CONFIG)
                world = fuse(made.predictions, made.views, alignment, CONFIG)
            similarity = robust_similarity(world.points, made.points)
            error = [
                errors_after(p, t, similarity)[mask]
                for p, t, mask in zip(world.points, made.points, made.objects, strict=True)
            ]
            errors[with_it].append(np.median(np.concatenate(error)))
    assert np.mean(errors[True]) < share * np.mean(errors[False])


def test_view_correction_is_part_of_the_camera(scene):
    """Points of a view are its pairs' mean, moved; they still lie on its pixels' rays."""
    made = predict_like_network(scene, complete_pairs(5), seed=1)
    alignment = align(made.predictions, made.views, CONFIG)
    assert np.abs(alignment.view_correction - np.eye(4)).max() > 1e-3
    world = fuse(made.predictions, made.views, alignment, CONFIG)
    for v in range(5):
        inside = apply(invert(alignment.world_from_cam[v]), world.points[v].astype(float))
        uv = inside @ alignment.K[v].T
        rows, cols = np.mgrid[:48, :64]
        assert np.abs(uv[..., :2] / uv[..., 2:] - np.stack([cols, rows], -1)).max() < 0.01
