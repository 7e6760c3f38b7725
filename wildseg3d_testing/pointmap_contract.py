"""What every pointmap back end keeps to, whatever it computes points from.

A test module of the back end inherits the tests, and says what they use::

    @pytest.fixture(scope="module")
    def case():
        return Case(backend, views, unusable, "no intrinsics")


    class TestMine(PointmapContract):
        pass
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest

from wildseg3d_ros.core.errors import Cancelled, InputError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.pointmaps import PointmapBackend

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

    @cached_property
    def predictions(self) -> list[PairPrediction]:
        """Of all pairs of the views."""
        return self.backend.predict(self.views, PAIRS, Progress())


class PointmapContract:
    """The tests; who inherits them has a fixture ``case``."""

    def test_check_suitable_views(self, case):
        """Views that suit pass."""
        case.backend.check(case.views)

    @pytest.mark.parametrize("ask", ["check", "predict"])
    def test_check_and_predict_unusable_view(self, case, ask):
        """A view that does not suit is named with the reason."""
        views = (case.unusable, *case.views[1:])
        with pytest.raises(InputError, match=case.reason) as error:
            if ask == "check":
                case.backend.check(views)
            else:
                case.backend.predict(views, PAIRS, Progress())
        assert f"'{case.unusable.name}'" in str(error.value)

    def test_predict_pairs_once(self, case):
        """Predictions are of the given pairs, each direction once."""
        found = [(p.a, p.b) for p in case.predictions]
        assert len(found) == len(set(found))
        assert {tuple(sorted(pair)) for pair in found} == set(PAIRS)

    def test_predict_only_given_pairs(self, case):
        """Pairs that were not given do not come."""
        found = case.backend.predict(case.views, [(0, 1)], Progress())
        assert {tuple(sorted((p.a, p.b))) for p in found} == {(0, 1)}

    def test_predict_shapes_and_types(self, case):
        """Every pixel of the view's own image has a point."""
        for p in case.predictions:
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
                is_seen = confidence > 0
                assert is_seen.mean() > 0.3
                assert np.isfinite(points[is_seen]).all()
                # Points, not one point.
                assert np.ptp(points[is_seen], axis=0).max() > 1e-3
                assert matched is None or (matched.shape == size and matched.dtype == np.bool_)

    def test_predict_rigid_transform(self, case):
        """The transform beside a map is rigid."""
        for p in case.predictions:
            rotation = p.a_from_map_b[:3, :3]
            assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
            assert np.linalg.det(rotation) > 0
            assert np.array_equal(p.a_from_map_b[3], [0, 0, 0, 1])

    def test_predict_leaves_views_unchanged(self, case):
        """Views are not written to."""
        before = [view.image.copy() for view in case.views]
        case.backend.predict(case.views, PAIRS[:1], Progress())
        for view, image in zip(case.views, before, strict=True):
            assert np.array_equal(view.image, image)

    def test_predict_repeatable(self, case):
        """The same views give the same predictions."""
        again = case.backend.predict(case.views, PAIRS, Progress())
        for first, second in zip(case.predictions, again, strict=True):
            assert (first.a, first.b) == (second.a, second.b)
            assert np.allclose(first.pointmap_b, second.pointmap_b, atol=1e-6)
            assert np.allclose(first.a_from_map_b, second.a_from_map_b, atol=1e-9)

    def test_predict_progress(self, case):
        """Progress grows to one, in steps of a view or a pair."""
        seen = []
        progress = Progress(lambda stage, fraction: seen.append(fraction))
        with progress.stage("pointmaps"):
            case.backend.predict(case.views, PAIRS, progress)
        assert seen == sorted(seen)
        assert seen[-1] == 1.0
        assert len(set(seen)) >= len(case.views) + len(PAIRS)

    @pytest.mark.parametrize("updates", [0, 2, 5])
    def test_predict_cancelled(self, case, updates):
        """Cancelling stops it, and the next request works."""
        left = iter(range(updates))
        with pytest.raises(Cancelled):
            case.backend.predict(
                case.views, PAIRS, Progress(cancelled=lambda: next(left, None) is None)
            )
        assert case.backend.predict(case.views, PAIRS[:1], Progress())
