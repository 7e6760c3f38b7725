"""fuse() against brute force in double precision, pixel by pixel."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from wildseg3d_ros.alignment import align, fuse
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.robust_mean import robust_mean, typical_residual
from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_testing.pairs import (
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
)

CONFIG = AlignmentConfig()


def brute_force_mean(points, weight, width, start, ray=None):
    """Minimises sum w rho(|p - chi|), Geman-McClure's rho (on a ray, if given), from a start."""

    def place(parameters):
        return parameters if ray is None else parameters[0] * ray

    def cost(parameters):
        square = ((points - place(parameters)) ** 2).sum(1)
        return weight @ (square / (square + width**2))

    first = start if ray is None else np.array([start @ ray])
    return place(minimize(cost, first, method="Nelder-Mead", options={"xatol": 1e-7}).x)


def block(on_rays, outliers, count=60, observations=7):
    random = np.random.default_rng(0)
    ray = random.normal([0, 0, 1], 0.3, (count, 3))
    ray /= np.linalg.norm(ray, axis=1)[:, None]
    truth = 2 * ray
    points = truth[None] + random.normal(0, 0.02, (observations, count, 3))
    points += (random.random((observations, count, 1)) < outliers) * random.normal(
        0, 0.5, points.shape
    )
    sure = random.uniform(1, 5, (observations, count))
    arguments = (
        torch.from_numpy(points.transpose(0, 2, 1).astype(np.float32)),
        torch.from_numpy(sure.astype(np.float32)),
        torch.from_numpy(ray.T.astype(np.float32)) if on_rays else None,
    )
    return truth, points, sure, ray, arguments


@pytest.mark.parametrize("on_rays", [False, True])
def test_a_block_is_the_robust_mean(on_rays):
    truth, points, sure, ray, arguments = block(on_rays, outliers=0.1)
    spread = typical_residual(*arguments)
    chi, fused = robust_mean(*arguments, spread)
    for i, (x, y, weight) in enumerate(
        zip(chi.T.numpy().astype(float), points.transpose(1, 0, 2), sure.T, strict=True)
    ):
        expected = brute_force_mean(y, weight, 2 * spread * 2.0, x, ray[i] if on_rays else None)
        # Few passes: near the minimum, by a fraction of an observation's error.
        assert np.linalg.norm(x - expected) < 0.006
        assert weight.min() <= fused[i] <= weight.max()
    assert np.linalg.norm(chi.T.numpy() - truth, axis=1).max() < 0.06


def test_without_outliers_it_is_nearly_as_good_as_the_mean():
    truth, points, sure, _, arguments = block(False, outliers=0.0, count=2000)
    chi, _ = robust_mean(*arguments, typical_residual(*arguments))
    mean = np.einsum("dm,dmc->mc", sure, points) / sure.sum(0)[:, None]
    ours, best = (np.sqrt(((c - truth) ** 2).mean()) for c in (chi.T.numpy(), mean))
    assert ours < 1.1 * best


def test_an_observation_that_the_others_contradict_does_not_vouch_for_the_point():
    points = np.zeros((4, 3, 1), dtype=np.float32)
    points[:, 2] = 1.0
    points[3, 2] = 1.5
    points[:3, :2] += np.random.default_rng(0).normal(0, 1e-3, (3, 2, 1)).astype(np.float32)
    sure = np.array([[2.0], [2.0], [2.0], [3.0]], dtype=np.float32)
    chi, fused = robust_mean(torch.from_numpy(points), torch.from_numpy(sure), None, 0.002)
    assert abs(float(chi[2, 0]) - 1.0) < 0.05
    assert float(fused[0]) == pytest.approx(2.0, abs=0.1)


def test_pixels_without_confidence_have_no_point():
    points = torch.full((2, 3, 4), 1.0)
    points[0, 0, 1] = torch.nan
    sure = torch.tensor([[0.0, 1.0, 0.0, torch.nan], [0.0, 0.0, 2.0, 1.0]])
    chi, fused = robust_mean(points, sure, None, 0.01)
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
    # Without its surface the others have one less to agree with; it must not draw them away.
    apart = np.linalg.norm(world.points[0] - good.points[0], axis=-1)
    assert np.median(apart) < 0.002
    assert apart.max() < 0.03


def test_blocks_do_not_show(network, monkeypatch):
    made, alignment = network
    whole = fuse(made.predictions, made.views, alignment, CONFIG)
    monkeypatch.setattr("wildseg3d_ros.alignment.fusion.fuse._BLOCK_VALUES", 1)
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
