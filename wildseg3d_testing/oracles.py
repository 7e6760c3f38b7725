"""Back ends that know the truth: with them, every error is the pipeline's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Alignment, MaskCache, PairPrediction, View, WorldPointmaps
from wildseg3d_testing.exact import exact_cache
from wildseg3d_testing.scenes import ConstructedScene


def _check(scene: ConstructedScene, views: Sequence[View]) -> None:
    expected = [(view.name, view.size) for view in scene.views]
    given = [(view.name, view.size) for view in views]
    if given != expected:
        raise InputError(f"the oracle knows the views {expected}, got {given}")


class OraclePointmaps:
    """Perfect pointmaps, as a network gives them: both of a pair in camera a's frame.

    Args:
        scene: the truth.
        scale_spread: 0 for metric pairs; else each pair is scaled by a random factor, whose
            logarithm has this standard deviation, as by a network that does not know metres.
        confidence: of every pixel that has a point.
        seed: of the scales.
    """

    def __init__(
        self,
        scene: ConstructedScene,
        scale_spread: float = 0.0,
        confidence: float = 10.0,
        seed: int = 0,
    ) -> None:
        self.scene = scene
        self.scale_spread = scale_spread
        self.confidence = confidence
        self.seed = seed

    def check(self, views: Sequence[View]) -> None:
        """Raises InputError when these are not the scene's views."""
        _check(self.scene, views)

    def predict(
        self, views: Sequence[View], pairs: Sequence[tuple[int, int]], progress: Progress
    ) -> list[PairPrediction]:
        """Predictions of the pairs that see some surface in common."""
        _check(self.scene, views)
        predictions = []
        for done, (a, b) in enumerate(pairs):
            matched_a, matched_b = self.matched(a, b), self.matched(b, a)
            if matched_a.any() and matched_b.any():
                rng = np.random.default_rng([self.seed, a, b])
                scale = np.float32(np.exp(rng.normal(0.0, self.scale_spread)))
                predictions.append(
                    PairPrediction(
                        a,
                        b,
                        self._points_in(a, a) * scale,
                        self._points_in(a, b) * scale,
                        self._confidence(a),
                        self._confidence(b),
                        metric=self.scale_spread == 0.0,
                        matched_a=matched_a,
                        matched_b=matched_b,
                    )
                )
            progress.update((done + 1) / len(pairs))
        return predictions

    def matched(self, view: int, other: int) -> NDArray[np.bool_]:
        """(H, W) pixels of ``view`` whose surface ``other`` sees too.

        Seen is a point that projects into the image at most 1 % or 3 mm behind the surface there.
        """
        scene = self.scene
        there = apply(invert(scene.world_from_cam[other]), scene.points[view].astype(np.float64))
        K = scene.views[other].K
        assert K is not None
        uv, z = project(there, K)
        depth = scene.depths[other]
        height, width = depth.shape
        with np.errstate(invalid="ignore"):
            column, row = np.rint(uv[..., 0]), np.rint(uv[..., 1])
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (z > 0)
        at = depth[
            np.where(inside, row, 0).astype(np.intp), np.where(inside, column, 0).astype(np.intp)
        ]
        return inside & (at > 0) & (z <= at + np.maximum(0.003, 0.01 * at))

    def _points_in(self, frame: int, view: int) -> NDArray[np.float32]:
        cam_from_world = invert(self.scene.world_from_cam[frame])
        points = apply(cam_from_world, self.scene.points[view].astype(np.float64))
        return np.nan_to_num(points, nan=0.0).astype(np.float32)

    def _confidence(self, view: int) -> NDArray[np.float32]:
        return np.where(self.scene.depths[view] > 0, self.confidence, 0.0).astype(np.float32)


class OracleMasks:
    """Perfect masks, with the true ids."""

    def __init__(self, scene: ConstructedScene) -> None:
        self.scene = scene

    def check(self, views: Sequence[View], changed: int | None = None) -> None:
        """Takes any views."""

    def segment(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        progress: Progress,
    ) -> MaskCache:
        """The truth; alignment and points are not looked at."""
        _check(self.scene, views)
        progress.update(1.0)
        return exact_cache(self.scene)

    def update(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        cache: MaskCache,
        changed: int,
        progress: Progress,
    ) -> MaskCache:
        """The truth again."""
        return self.segment(views, alignment, pointmaps, progress)
