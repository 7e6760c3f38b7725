"""fuse() against brute force in double precision, and with arrays of several libraries."""

import sys
from dataclasses import replace

import array_api_strict
import numpy as np
import pytest
from scipy.optimize import minimize

from wildseg3d_ros.alignment import align, fuse
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.robust_mean import robust_mean, typical_residual
from wildseg3d_ros.alignment.fusion.view_maps import PosedPairs
from wildseg3d_ros.alignment.fusion.view_surfaces import sample_views, surface_of, surfaces_of
from wildseg3d_ros.alignment.graph.pair_maps import maps_of
from wildseg3d_ros.core.errors import ConfigError, InputError
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

    def point_at(parameters):
        return parameters if ray is None else parameters[0] * ray

    def cost(parameters):
        square = ((points - point_at(parameters)) ** 2).sum(1)
        return weight @ (square / (square + width**2))

    first = start if ray is None else np.array([start @ ray])
    return point_at(minimize(cost, first, method="Nelder-Mead", options={"xatol": 1e-7}).x)


def block(on_rays, outliers, count=60, observations=7):
    random = np.random.default_rng(0)
    ray = random.normal([0, 0, 1], 0.3, (count, 3))
    ray /= np.linalg.norm(ray, axis=1)[:, None]
    truth = 2 * ray
    points = truth[None] + random.normal(0, 0.02, (observations, count, 3))
    points += (random.random((observations, count, 1)) < outliers) * random.normal(
        0, 0.5, points.shape
    )
    confidence = random.uniform(1, 5, (observations, count))
    arguments = (
        points.transpose(0, 2, 1).astype(np.float32),
        confidence.astype(np.float32),
        ray.T.astype(np.float32) if on_rays else None,
    )
    return truth, points, confidence, ray, arguments


@pytest.mark.parametrize("on_rays", [False, True])
def test_robust_mean_is_the_brute_force_minimum(on_rays):
    truth, points, confidence, ray, arguments = block(on_rays, outliers=0.1)
    sigma = typical_residual(*arguments)
    chi, fused = robust_mean(*arguments, sigma)
    for i, (x, y, weight) in enumerate(
        zip(chi.T.astype(float), points.transpose(1, 0, 2), confidence.T, strict=True)
    ):
        expected = brute_force_mean(y, weight, 2 * sigma * 2.0, x, ray[i] if on_rays else None)
        # Few passes: near the minimum, by a fraction of an observation's error.
        assert np.linalg.norm(x - expected) < 0.006
        assert weight.min() <= fused[i] <= weight.max()
    assert np.linalg.norm(chi.T - truth, axis=1).max() < 0.06


def test_robust_mean_without_outliers_is_nearly_the_mean():
    truth, points, confidence, _, arguments = block(False, outliers=0.0, count=2000)
    chi, _ = robust_mean(*arguments, typical_residual(*arguments))
    mean = np.einsum("dm,dmc->mc", confidence, points) / confidence.sum(0)[:, None]
    ours, best = (np.sqrt(((c - truth) ** 2).mean()) for c in (chi.T, mean))
    assert ours < 1.1 * best


def test_robust_mean_confidence_ignores_outliers():
    points = np.zeros((4, 3, 1), dtype=np.float32)
    points[:, 2] = 1.0
    points[3, 2] = 1.5
    points[:3, :2] += np.random.default_rng(0).normal(0, 1e-3, (3, 2, 1)).astype(np.float32)
    confidence = np.array([[2.0], [2.0], [2.0], [3.0]], dtype=np.float32)
    chi, fused = robust_mean(points, confidence, None, 0.002)
    assert abs(float(chi[2, 0]) - 1.0) < 0.05
    assert float(fused[0]) == pytest.approx(2.0, abs=0.1)


def test_robust_mean_without_confidence_has_no_point():
    points = np.ones((2, 3, 4), dtype=np.float32)
    points[0, 0, 1] = np.nan
    confidence = np.array([[0.0, 1.0, 0.0, np.nan], [0.0, 0.0, 2.0, 1.0]], dtype=np.float32)
    chi, fused = robust_mean(points, confidence, None, 0.01)
    assert np.isnan(chi[:, :2]).all()
    assert (fused[:2] == 0).all()
    assert (chi[:, 2:] == 1.0).all()
    assert fused[2:].tolist() == [2.0, 1.0]


@pytest.fixture(scope="module")
def network():
    scene = construct_views(4, (48, 64), seed=1)
    made = predict_like_network(scene, complete_pairs(4), seed=1)
    return made, align(made.predictions, made.views, CONFIG)


def test_fuse_beats_any_single_observation(network):
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


def test_fuse_puts_points_on_rays(network):
    made, alignment = network
    world = fuse(made.predictions, made.views, alignment, CONFIG)
    for v, K in enumerate(alignment.K):
        inside = apply(np.linalg.inv(alignment.world_from_cam[v]), world.points[v].astype(float))
        uv = inside @ K.T
        uv = uv[..., :2] / uv[..., 2:]
        rows, cols = np.mgrid[:48, :64]
        assert np.abs(uv - np.stack([cols, rows], -1)).max() < 0.01


def test_fuse_ignores_the_rays_of_a_wrong_camera(network):
    made, alignment = network
    rotated = alignment.world_from_cam.copy()
    rotated[2, :3, :3] = rotated[2, :3, :3] @ np.diag([-1.0, 1.0, -1.0])
    good = fuse(made.predictions, made.views, alignment, CONFIG)
    world = fuse(made.predictions, made.views, replace(alignment, world_from_cam=rotated), CONFIG)
    difference = np.linalg.norm(world.points[2] - good.points[2], axis=-1)
    assert np.median(difference) < 0.05
    # Without its surface the others have one less to agree with; it must not displace them.
    difference = np.linalg.norm(world.points[0] - good.points[0], axis=-1)
    assert np.median(difference) < 0.002
    assert difference.max() < 0.03


def test_fuse_does_not_depend_on_blocks(network, monkeypatch):
    made, alignment = network
    whole = fuse(made.predictions, made.views, alignment, CONFIG)
    monkeypatch.setattr("wildseg3d_ros.alignment.fusion.fuse._BLOCK_VALUES", 1)
    blocks = fuse(made.predictions, made.views, alignment, CONFIG)
    for a, b in zip(whole.points, blocks.points, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_fuse_leaves_rejected_pairs_out(network):
    made, alignment = network
    spoilt = list(made.predictions)
    spoilt[2] = replace(spoilt[2], pointmap_a=spoilt[2].pointmap_a + 100)
    used = alignment.pair_used.copy()
    used[2] = False
    without = replace(alignment, pair_used=used)
    one, other = (fuse(p, made.views, without, CONFIG) for p in (made.predictions, spoilt))
    np.testing.assert_array_equal(one.points[0], other.points[0])


def test_fuse_poses_a_measured_view_once():
    scene = construct_views(4, (48, 64), seed=2)
    made = predict_like_depth(scene, complete_pairs(4, False), 0.005, 0.005, invalid=0.3, seed=2)
    alignment = align(made.predictions, made.views, CONFIG)
    world = fuse(made.predictions, made.views, alignment, CONFIG)
    for v in range(4):
        pair, side = next((p, s) for p in made.predictions for s in "ab" if getattr(p, s) == v)
        own = getattr(pair, f"pointmap_{side}").astype(np.float64)
        confidence = getattr(pair, f"confidence_{side}")
        expected = apply(alignment.world_from_cam[v], own)
        valid = confidence > 0
        np.testing.assert_array_equal(world.valid(v), valid)
        np.testing.assert_allclose(world.points[v][valid], expected[valid], atol=5e-6)
        np.testing.assert_array_equal(world.confidence[v], confidence)
        assert np.isnan(world.points[v][~valid]).all()
        assert world.points[v].dtype == np.float32


def test_fuse_of_copied_maps_is_nearly_the_same():
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


def test_fuse_refuses_other_pairs(network):
    made, alignment = network
    with pytest.raises(InputError, match="same order"):
        fuse(made.predictions[::-1], made.views, alignment, CONFIG)


def converted(predictions, convert, wanted=lambda e: True):
    """Pairs with maps of another library."""
    maps = ("pointmap_a", "pointmap_b", "confidence_a", "confidence_b")
    # What is one array stays one: measured maps are recognised by it.
    known = {}

    def once(array):
        return known.setdefault(id(array), convert(array))

    return [
        replace(p, **{name: once(getattr(p, name)) for name in maps}) if wanted(e) else p
        for e, p in enumerate(predictions)
    ]


def of_torch(array):
    return pytest.importorskip("torch").from_numpy(array.copy())


@pytest.fixture(scope="module")
def measured():
    made = predict_like_depth(
        construct_views(4, (48, 64), seed=2), complete_pairs(4, False), invalid=0.3, seed=2
    )
    return made, align(made.predictions, made.views, CONFIG)


def assert_same_world(found, expected):
    for points, confidence, p, c in zip(
        found.points, found.confidence, expected.points, expected.confidence, strict=True
    ):
        assert isinstance(points, np.ndarray) and points.dtype == np.float32
        assert isinstance(confidence, np.ndarray) and confidence.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(points), np.isnan(p))
        # A pixel between two surfaces may end on either one by the order of float32 sums.
        assert (np.abs(points - p) > 2e-5).mean() < 1e-3
        assert (np.abs(confidence - c) > 1e-3 * c).mean() < 1e-3


@pytest.mark.parametrize("device", ["cpu", "auto"])
@pytest.mark.parametrize("scene", ["network", "measured"])
@pytest.mark.parametrize("convert", [of_torch, array_api_strict.asarray])
def test_fuse_of_other_libraries_is_that_of_numpy(convert, scene, device, request):
    made, alignment = request.getfixturevalue(scene)
    config = AlignmentConfig(device=device)
    expected = fuse(made.predictions, made.views, alignment, config)
    others = converted(made.predictions, convert)
    assert_same_world(fuse(others, made.views, alignment, config), expected)


@pytest.mark.parametrize("convert", [of_torch, array_api_strict.asarray])
def test_fuse_of_mixed_libraries_is_that_of_numpy(network, convert):
    made, alignment = network
    config = AlignmentConfig(device="auto")
    mixed = converted(made.predictions, convert, lambda e: e % 2)
    expected = fuse(made.predictions, made.views, alignment, config)
    assert_same_world(fuse(mixed, made.views, alignment, config), expected)


def test_fuse_on_a_device_that_is_not_there_is_refused(network):
    pytest.importorskip("torch")
    made, alignment = network
    with pytest.raises(ConfigError, match=r"alignment\.device 'cuda:99'"):
        fuse(made.predictions, made.views, alignment, AlignmentConfig(device="cuda:99"))


def test_fuse_on_a_gpu_without_torch_says_what_to_install(network, monkeypatch):
    made, alignment = network
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="make setup EXTRAS=mast3r"):
        fuse(made.predictions, made.views, alignment, AlignmentConfig(device="cuda"))


def test_fuse_on_a_gpu_is_that_of_numpy(network):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    made, alignment = network
    expected = fuse(made.predictions, made.views, alignment, CONFIG)
    there = converted(made.predictions, lambda array: torch.from_numpy(array.copy()).cuda())
    for pairs, device in ((made.predictions, "cuda"), (there, "auto"), (there, "cpu")):
        found = fuse(pairs, made.views, alignment, AlignmentConfig(device=device))
        assert_same_world(found, expected)


def posed_pairs(alignment):
    return PosedPairs(alignment.pair_scale, alignment.world_from_pair, alignment.pair_used)


def test_sample_views_are_copies(network):
    """Maps that change after they were read change no surface."""
    made, alignment = network
    pairs = converted(made.predictions, np.array)
    samples = sample_views(pairs, made.views)

    def surfaces():
        posed, cameras, K = posed_pairs(alignment), alignment.world_from_cam, alignment.K
        return surfaces_of(samples, made.views, None, posed, cameras, K)

    before = surfaces()
    assert len(before) == len(made.views)
    for pair in pairs:
        pair.pointmap_a[:], pair.confidence_b[:] = 0.0, 0.0
    for now, then in zip(surfaces(), before, strict=True):
        assert (then.weight > 0).any()
        np.testing.assert_array_equal(now.points, then.points)
        np.testing.assert_array_equal(now.weight, then.weight)


@pytest.mark.parametrize("convert", [of_torch, array_api_strict.asarray])
def test_surface_of_other_libraries_is_that_of_numpy(network, convert):
    made, alignment = network
    camera = made.views[1].size, None, alignment.K[1], alignment.world_from_cam[1]
    expected, found = (
        surface_of(posed_pairs(alignment).observations(maps_of(pairs, 1)), *camera)
        for pairs in (made.predictions, converted(made.predictions, convert))
    )
    samples = sample_views(converted(made.predictions, convert), made.views)
    sampled = surface_of(posed_pairs(alignment).observations(samples[1]), *camera)
    for surface in (found, sampled):
        np.testing.assert_array_equal(surface.points, expected.points)
        np.testing.assert_array_equal(surface.weight, expected.weight)
