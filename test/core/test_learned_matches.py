"""EfficientLoFTR as a matcher, with random weights of a small network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from wildseg3d_ros.core.errors import DisconnectedViews, FileError  # noqa: E402
from wildseg3d_ros.core.geometry.cameras import project  # noqa: E402
from wildseg3d_ros.core.geometry.transforms import apply, invert  # noqa: E402
from wildseg3d_ros.core.progress import Progress  # noqa: E402
from wildseg3d_ros.pointmaps import learned_matches  # noqa: E402
from wildseg3d_ros.pointmaps.da3.scale import Anchored, find_scale  # noqa: E402
from wildseg3d_ros.pointmaps.depth.backend import DepthPointmaps  # noqa: E402
from wildseg3d_ros.pointmaps.learned_matches import LearnedMatcher  # noqa: E402
from wildseg3d_testing.matcher_weights import write_small_matcher  # noqa: E402
from wildseg3d_testing.scenes import ConstructedScene, construct_scene, fan_poses  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random ones whose coarse features tell places apart."""
    return write_small_matcher(tmp_path_factory.mktemp("loftr"))


@pytest.fixture(scope="module")
def matcher(weights):
    return LearnedMatcher(str(weights), "x", "cpu")


@pytest.fixture(scope="module")
def gray():
    image = construct_scene(1, 400, 300, 6, seed=1).views[0].image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def test_match_finds_a_shifted_image(matcher, gray, monkeypatch):
    """A window that moves by two cells: cells that show the same are matched; random weights tell
    nothing within a cell."""
    monkeypatch.setattr(learned_matches, "INPUT", (224, 160))
    a, b = gray[64:224, 64:288], gray[64:224, 80:304]
    uv_a, uv_b = matcher.match(a, b)
    off = np.abs(uv_b - uv_a - [-16.0, 0.0])
    assert len(uv_a) > 30
    assert np.mean((off < 9.0).all(axis=1)) > 0.9


def test_match_maps_back_to_images_of_other_sizes(matcher, gray, monkeypatch):
    """The network sees the same of both: pixels differ as the sizes do."""
    monkeypatch.setattr(learned_matches, "INPUT", (224, 160))
    small = gray[64:224, 64:288]
    large = np.repeat(np.repeat(small, 2, axis=0), 2, axis=1)
    uv_a, uv_b = matcher.match(small, large)
    off = np.abs((uv_b + 0.5) / 2.0 - 0.5 - uv_a)
    assert len(uv_a) > 30
    assert np.mean((off < 9.0).all(axis=1)) > 0.9
    assert (uv_a > -1).all() and (uv_a < [224, 160]).all()
    assert uv_b.max() > 224


def test_refined_to_parts_of_a_pixel(matcher):
    """Two cells in which one pixel of the first is that of the second, and where beside it."""
    config, side = matcher._network.config, 8
    dims = 64 - config.fine_matching_slice_dim
    rng = np.random.default_rng(0)
    fine_a, fine_b = np.zeros((20, 64, 64)), np.zeros((20, 10, 10, 64))
    true_a, true_b = rng.integers(0, side, (2, 20, 2))
    part = rng.uniform(-0.5, 0.5, (20, 2))
    for k in range(20):
        name = 30.0 * rng.standard_normal(dims)
        fine_a[k, true_a[k, 1] * side + true_a[k, 0], :dims] = name
        fine_a[k, true_a[k, 1] * side + true_a[k, 0], dims] = 1.0
        u, v = true_b[k]
        fine_b[k, v + 1, u + 1, :dims] = name
        # Likelihoods of the neighbours whose mean is the part: (1 - x) / 2, 0, (1 + x) / 2.
        of_u, of_v = ([0.5 * (1 - x), 1e-9, 0.5 * (1 + x)] for x in part[k])
        scale = config.fine_matching_regress_temperature * config.fine_matching_slice_dim**0.5
        fine_b[k, v : v + 3, u : u + 3, dims] = scale * np.log(np.outer(of_v, of_u))
    off_a, off_b = matcher._refined(
        torch.tensor(fine_a).float(), torch.tensor(fine_b).float().flatten(1, 2)
    )
    np.testing.assert_allclose(off_a.numpy(), true_a)
    np.testing.assert_allclose(off_b.numpy(), true_b + part, atol=1e-3)


def test_missing_weights_are_named_with_their_command(tmp_path):
    with pytest.raises(FileError, match="hf download zju-community/efficientloftr.*set here"):
        LearnedMatcher(str(tmp_path / "none"), "here", "cpu")


@dataclass
class OracleMatcher:
    """Matches of the true surface of two views, with a deviation of a third of a pixel."""

    truth: ConstructedScene
    asked: int = 0

    def match(self, gray_a, gray_b):
        self.asked += 1
        a, b = (self._view(gray) for gray in (gray_a, gray_b))
        rng = np.random.default_rng(self.asked)
        v, u = np.nonzero(self.truth.depths[a] > 0)
        some = rng.choice(len(u), 400, replace=False)
        points = self.truth.points[a][v[some], u[some]].astype(float)
        camera = apply(invert(self.truth.world_from_cam[b]), points)
        uv, z = project(camera, np.asarray(self.truth.views[b].K))
        column, row = np.rint(uv).astype(int).T
        height, width = gray_b.shape
        there = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        depth = self.truth.depths[b][row.clip(0, height - 1), column.clip(0, width - 1)]
        there &= np.abs(depth - z) < 0.005
        own = np.stack([u[some], v[some]], axis=1)[there].astype(float)
        noise = rng.normal(0.0, 0.3, (2, len(own), 2))
        return own + noise[0], uv[there] + noise[1]

    def _view(self, gray):
        images = [cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY) for view in self.truth.views]
        return next(k for k, image in enumerate(images) if np.array_equal(image, gray))


def test_depth_places_views_that_sift_does_not():
    """Images of which SIFT makes nothing, no pose: by learned matches to millimetres."""
    truth = construct_scene(2, 160, 120, 6, arc_degrees=50, with_priors=False)
    # Brightness that tells the views apart, without texture.
    views = [
        dataclasses.replace(view, image=np.full_like(view.image, 100 + k))
        for k, view in enumerate(truth.views)
    ]
    plain = dataclasses.replace(truth, views=tuple(views))
    backend = DepthPointmaps()
    with pytest.raises(DisconnectedViews):
        backend.predict(views, [(0, 1)], Progress())
    backend._matcher = OracleMatcher(plain)  # type: ignore[assignment]
    (made,) = backend.predict(views, [(0, 1)], Progress())
    true = invert(truth.world_from_cam[0]) @ truth.world_from_cam[1]
    assert np.linalg.norm(made.a_from_map_b[:3, 3] - true[:3, 3]) < 0.005
    assert np.linalg.norm(made.a_from_map_b[:3, :3] - true[:3, :3]) < 0.01


def test_da3_scale_from_learned_matches_where_sift_has_none():
    """Without features the cameras give the scale; with a matcher triangulated points do."""
    truth = construct_scene(2, 168, 126, 5, poses=fan_poses(2, 12.0), with_depth=False)
    views = tuple(
        dataclasses.replace(view, image=np.full_like(view.image, 100 + k))
        for k, view in enumerate(truth.views)
    )
    matcher = OracleMatcher(dataclasses.replace(truth, views=views))
    wrong = np.array(truth.world_from_cam)
    wrong[1, :3, 3] += 0.3 * (wrong[1, :3, 3] - wrong[0, :3, 3])
    problem = Anchored(
        views, [np.asarray(view.K) for view in views], [d / 0.5 for d in truth.depths], wrong,
        np.full((2, 2), 0.005), matcher,  # type: ignore[arg-type]
    )  # fmt: skip
    scale = find_scale(problem, 0.5)
    assert matcher.asked == 1
    assert scale.compared >= 25
    assert scale.factor == pytest.approx(0.5, rel=0.01)
    assert find_scale(dataclasses.replace(problem, matcher=None), 0.5).compared == 0
