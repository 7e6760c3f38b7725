"""What every geometry back end keeps to, whatever it computes points from.

A new back end is one more entry of BACKENDS: views that suit it, the settings that choose it, and
one view that it cannot use, with what its error must name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import Cancelled, InputError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.pointmaps import PointmapBackend, load_pointmaps
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.scenes import construct_scene, fan_poses

pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = [(0, 1), (0, 2), (1, 2)]


@dataclass(frozen=True)
class Case:
    """A back end with views that it can use and one that it cannot.

    Attributes:
        views: three views that see the same table, the last one of another size.
        unusable: a view that stands for the first one, and is refused.
        reason: what the refusal must say, a regular expression.
    """

    backend: PointmapBackend
    views: tuple[View, ...]
    unusable: View
    reason: str


def cropped(view: View, rows: int, cols: int) -> View:
    """Part of a view, its principal point moved with it."""
    assert view.K is not None
    K = view.K.copy()
    K[0, 2] -= cols
    K[1, 2] -= rows
    depth = None if view.depth is None else view.depth[rows:, cols:]
    return replace(view, image=view.image[rows:, cols:].copy(), depth=depth, K=K)


def choose(**pointmaps: Any) -> PointmapBackend:
    """The back end that a configuration file with these settings gives."""
    return load_pointmaps(SceneConfig.from_mapping({"pointmaps": pointmaps}).pointmaps)


def depth_case(tmp_path_factory) -> Case:
    scene = construct_scene(3, 160, 120, 5, arc_degrees=50, depth_noise=DepthNoise())
    views = (*scene.views[:2], cropped(scene.views[2], 8, 12))
    return Case(choose(backend="depth"), views, replace(views[0], depth=None), "no depth image")


def mast3r_case(tmp_path_factory) -> Case:
    from wildseg3d_testing.mast3r_weights import write_checkpoint

    weights = write_checkpoint(tmp_path_factory.mktemp("weights"))
    scene = construct_scene(3, 160, 120, 5, arc_degrees=50, with_depth=False)
    views = (*scene.views[:2], cropped(scene.views[2], 8, 12))
    backend = choose(
        backend="mast3r", mast3r={"weights": str(weights), "image_size": 96, "device": "cpu"}
    )
    small = replace(views[0], image=np.zeros((16, 16, 3), np.uint8), K=None)
    return Case(backend, views, small, "16x16 pixels is too small")


def stereo_case(tmp_path_factory) -> Case:
    scene = construct_scene(3, 320, 240, 5, poses=fan_poses(3, 7.0), with_depth=False)
    views = (*scene.views[:2], cropped(scene.views[2], 8, 12))
    unposed = replace(views[0], world_from_cam_prior=None)
    return Case(choose(backend="stereo"), views, unposed, "has no pose.*transform_matrix")


BACKENDS = {"depth": depth_case, "stereo": stereo_case, "mast3r": mast3r_case}


@pytest.fixture(scope="module", params=BACKENDS)
def case(request, tmp_path_factory) -> Case:
    return BACKENDS[request.param](tmp_path_factory)


@pytest.fixture(scope="module")
def predictions(case):
    return case.backend.predict(case.views, PAIRS, Progress())


def test_views_that_suit_pass(case):
    case.backend.check(case.views)


@pytest.mark.parametrize("ask", ["check", "predict"])
def test_a_view_that_does_not_is_named_with_the_reason(case, ask):
    views = (case.unusable, *case.views[1:])
    with pytest.raises(InputError, match=case.reason) as error:
        if ask == "check":
            case.backend.check(views)
        else:
            case.backend.predict(views, PAIRS, Progress())
    assert f"'{case.unusable.name}'" in str(error.value)


def test_predictions_are_of_the_asked_pairs_each_direction_once(predictions):
    found = [(p.a, p.b) for p in predictions]
    assert len(found) == len(set(found))
    assert {tuple(sorted(pair)) for pair in found} == set(PAIRS)


def test_pairs_that_are_not_asked_for_do_not_come(case):
    found = case.backend.predict(case.views, [(0, 1)], Progress())
    assert {tuple(sorted((p.a, p.b))) for p in found} == {(0, 1)}


def test_every_pixel_of_the_views_own_image_has_a_point(case, predictions):
    for p in predictions:
        for index, points, confidence, matched in (
            (p.a, p.pointmap_a, p.confidence_a, p.matched_a),
            (p.b, p.pointmap_b, p.confidence_b, p.matched_b),
        ):
            size = case.views[index].size
            assert points.shape == (*size, 3)
            assert points.dtype == confidence.dtype == np.float32
            assert confidence.shape == size
            assert np.isfinite(confidence).all()
            assert (confidence >= 0).all()
            sure = confidence > 0
            assert sure.mean() > 0.3
            assert np.isfinite(points[sure]).all()
            # Points, not one point.
            assert np.ptp(points[sure], axis=0).max() > 1e-3
            assert matched is None or (matched.shape == size and matched.dtype == np.bool_)


def test_the_transform_beside_a_map_is_rigid(predictions):
    for p in predictions:
        rotation = p.a_from_map_b[:3, :3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) > 0
        assert np.array_equal(p.a_from_map_b[3], [0, 0, 0, 1])


def test_views_are_not_written_to(case):
    before = [view.image.copy() for view in case.views]
    case.backend.predict(case.views, PAIRS[:1], Progress())
    for view, image in zip(case.views, before, strict=True):
        assert np.array_equal(view.image, image)


def test_the_same_views_give_the_same_predictions(case, predictions):
    again = case.backend.predict(case.views, PAIRS, Progress())
    for first, second in zip(predictions, again, strict=True):
        assert (first.a, first.b) == (second.a, second.b)
        assert np.allclose(first.pointmap_b, second.pointmap_b, atol=1e-6)
        assert np.allclose(first.a_from_map_b, second.a_from_map_b, atol=1e-9)


def test_progress_grows_to_one(case):
    seen = []
    progress = Progress(lambda stage, fraction: seen.append(fraction))
    with progress.stage("pointmaps"):
        case.backend.predict(case.views, PAIRS, progress)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(set(seen)) >= len(case.views) + len(PAIRS)


@pytest.mark.parametrize("updates", [0, 2, 5])
def test_cancelling_stops_it_and_the_next_request_works(case, updates):
    left = iter(range(updates))
    with pytest.raises(Cancelled):
        case.backend.predict(
            case.views, PAIRS, Progress(cancelled=lambda: next(left, None) is None)
        )
    assert case.backend.predict(case.views, PAIRS[:1], Progress())
