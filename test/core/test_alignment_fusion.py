"""fuse() against brute force in double precision, pixel by pixel."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from wildseg3d_ros.alignment import align, fuse
from wildseg3d_ros.alignment.fusion import fuse_block
from wildseg3d_ros.config import AlignmentConfig
from wildseg3d_ros.errors import InputError
from wildseg3d_ros.geometry.transforms import apply
from wildseg3d_ros.testing.pairs import (
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
)

CONFIG = AlignmentConfig()


def geometric_median(points, weight, ray=None):
    """Minimises sum w |p - chi| (on a ray through the origin, if given) by Weiszfeld passes."""

    def onto(chi):
        return chi if ray is None else (chi @ ray) * ray

    chi = onto(weight @ points / weight.sum())
    for _ in range(2000):
        robust = weight / np.maximum(np.linalg.norm(points - chi, axis=1), 1e-12)
        chi = onto(robust @ points / robust.sum())
    return chi


@pytest.mark.parametrize("on_rays", [False, True])
def test_a_block_is_the_weighted_geometric_median(on_rays):
    random = np.random.default_rng(0)
    count, observations = 60, 7
    ray = random.normal([0, 0, 1], 0.3, (count, 3))
    ray /= np.linalg.norm(ray, axis=1)[:, None]
    points = 2 * ray[None] + random.normal(0, 0.02, (observations, count, 3))
    # An observation in ten is far off.
    points += (random.random((observations, count, 1)) < 0.1) * random.normal(0, 0.5, points.shape)
    sure = random.uniform(1, 5, (observations, count))
    chi, fused = fuse_block(
        torch.from_numpy(points.transpose(0, 2, 1).astype(np.float32)),
        torch.from_numpy(sure.astype(np.float32)),
        torch.from_numpy(ray.T.astype(np.float32)) if on_rays else None,
    )
    for i in range(count):
        weight = sure[:, i] ** 2
        expected = geometric_median(points[:, i], weight, ray[i] if on_rays else None)

        def cost(p, i=i, weight=weight):
            return weight @ np.linalg.norm(points[:, i] - p, axis=1)

        ours = chi[:, i].numpy().astype(np.float64)
        assert cost(ours) <= 1.02 * cost(expected)
        assert (
            np.linalg.norm(ours - expected)
            < 0.25 * np.linalg.norm(points[:, i] - expected, axis=1).mean()
        )
        assert sure[:, i].min() <= fused[i] <= sure[:, i].max()


def test_an_observation_that_the_others_contradict_does_not_vouch_for_the_point():
    points = np.zeros((4, 3, 1), dtype=np.float32)
    points[:, 2] = 1.0
    points[3, 2] = 1.5
    points[:3, :2] += np.random.default_rng(0).normal(0, 1e-3, (3, 2, 1)).astype(np.float32)
    sure = np.array([[2.0], [2.0], [2.0], [3.0]], dtype=np.float32)
    chi, fused = fuse_block(torch.from_numpy(points), torch.from_numpy(sure), None)
    assert abs(float(chi[2, 0]) - 1.0) < 0.05
    assert float(fused[0]) == pytest.approx(2.0, abs=0.1)


def test_pixels_without_confidence_have_no_point():
    points = torch.full((2, 3, 4), 1.0)
    points[0, 0, 1] = torch.nan
    sure = torch.tensor([[0.0, 1.0, 0.0, torch.nan], [0.0, 0.0, 2.0, 1.0]])
    chi, fused = fuse_block(points, sure, None)
    assert torch.isnan(chi[:, :2]).all()
    assert (fused[:2] == 0).all()
    assert (chi[:, 2:] == 1.0).all()
    assert fused[2:].tolist() == [2.0, 1.0]


@pytest.fixture(scope="module")
def network():
    scene = construct_views(4, (48, 64), seed=1)
    made = predict_like_network(scene, complete_pairs(4), seed=1)
    return made, align(made.predictions, made.views, CONFIG)


def test_fused_points_are_better_than_any_single_observation(network):
    made, alignment = network
    world = fuse(made.predictions, made.views, alignment, CONFIG)
    fused, single = [], []
    for e, pair in enumerate(made.predictions):
        pose = alignment.world_from_pair[e].copy()
        pose[:3, :3] *= alignment.pair_scale[e]
        seen = made.objects[pair.a]
        error = np.linalg.norm(apply(pose, pair.pointmap_a) - made.points[pair.a], axis=-1)
        single.append(np.median(error[seen]))
        error = np.linalg.norm(world.points[pair.a] - made.points[pair.a], axis=-1)
        fused.append(np.median(error[seen]))
    assert np.mean(fused) < 0.85 * np.mean(single)


def test_points_lie_on_the_rays_of_their_pixels(network):
    made, alignment = network
    world = fuse(made.predictions, made.views, alignment, CONFIG)
    for v, K in enumerate(alignment.K):
        inside = apply(np.linalg.inv(alignment.world_from_cam[v]), world.points[v].astype(float))
        uv = inside @ K.T
        uv = uv[..., :2] / uv[..., 2:]
        rows, cols = np.mgrid[:48, :64]
        assert np.abs(uv - np.stack([cols, rows], -1)).max() < 0.01


def test_a_camera_that_does_not_see_its_points_does_not_bend_them(network):
    made, alignment = network
    turned = alignment.world_from_cam.copy()
    turned[2, :3, :3] = turned[2, :3, :3] @ np.diag([-1.0, 1.0, -1.0])
    good = fuse(made.predictions, made.views, alignment, CONFIG)
    world = fuse(made.predictions, made.views, replace(alignment, world_from_cam=turned), CONFIG)
    apart = np.linalg.norm(world.points[2] - good.points[2], axis=-1)
    assert np.median(apart) < 0.05
    np.testing.assert_array_equal(world.points[0], good.points[0])


def test_blocks_do_not_show(network, monkeypatch):
    made, alignment = network
    whole = fuse(made.predictions, made.views, alignment, CONFIG)
    monkeypatch.setattr("wildseg3d_ros.alignment.fusion._BLOCK_VALUES", 1)
    blocks = fuse(made.predictions, made.views, alignment, CONFIG)
    for a, b in zip(whole.points, blocks.points, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_rejected_pairs_do_not_take_part(network):
    made, alignment = network
    spoilt = list(made.predictions)
    spoilt[2] = replace(spoilt[2], pointmap_a=spoilt[2].pointmap_a + 100)
    used = alignment.pair_used.copy()
    used[2] = False
    without = replace(alignment, pair_used=used)
    one, other = (fuse(p, made.views, without, CONFIG) for p in (made.predictions, spoilt))
    np.testing.assert_array_equal(one.points[0], other.points[0])


def test_a_measured_view_is_posed_once():
    scene = construct_views(4, (48, 64), seed=2)
    made = predict_like_depth(scene, complete_pairs(4, False), 0.005, 0.005, invalid=0.3, seed=2)
    alignment = align(made.predictions, made.views, CONFIG)
    world = fuse(made.predictions, made.views, alignment, CONFIG)
    for v in range(4):
        pair, side = next((p, s) for p in made.predictions for s in "ab" if getattr(p, s) == v)
        own = getattr(pair, f"pointmap_{side}").astype(np.float64)
        sure = getattr(pair, f"confidence_{side}")
        expected = apply(alignment.world_from_cam[v], own)
        np.testing.assert_array_equal(world.valid(v), sure > 0)
        np.testing.assert_allclose(world.points[v][sure > 0], expected[sure > 0], atol=1e-6 * 5)
        np.testing.assert_array_equal(world.confidence[v], sure)
        assert np.isnan(world.points[v][sure == 0]).all()
        assert world.points[v].dtype == np.float32


def test_copies_of_a_measured_map_fuse_to_nearly_the_same():
    """Where the shared array is not recognised, the answer must not depend on it."""
    scene = construct_views(4, (48, 64), seed=2)
    made = predict_like_depth(scene, complete_pairs(4, False), 0.003, 0.003, seed=2)
    copies = [
        replace(p, pointmap_a=p.pointmap_a.copy(), pointmap_b=p.pointmap_b.copy())
        for p in made.predictions
    ]
    shared, copied = (
        fuse(p, made.views, align(p, made.views, CONFIG), CONFIG)
        for p in (made.predictions, copies)
    )
    for a, b in zip(shared.points, copied.points, strict=True):
        assert np.linalg.norm(a - b, axis=-1).mean() < 0.006


def test_other_pairs_than_those_aligned_are_refused(network):
    made, alignment = network
    with pytest.raises(InputError, match="same order"):
        fuse(made.predictions[::-1], made.views, alignment, CONFIG)
