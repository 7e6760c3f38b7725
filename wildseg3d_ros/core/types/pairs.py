"""What a geometry back end says of pairs of views, and what is known of pairs beforehand."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.arrays import Array, to_numpy
from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.types.views import check_pose


@dataclass(frozen=True, eq=False)
class PairPrediction:
    """Pointmaps of two views in one frame: that of view ``a``'s camera, up to scale.

    A network predicts both maps in camera a's frame. A back end that measures each view once
    (depth) gives view b's map in b's own frame, shared by all its pairs, and the transform beside
    it: the pointmap of b in a is ``a_from_map_b`` applied to ``pointmap_b``. A transform other
    than the identity says that ``pointmap_b`` is in camera b's own frame. The maps are NumPy
    arrays, or tensors where a network left them.

    Attributes:
        a, b: indices of the views.
        pointmap_a: (Ha, Wa, 3) float32 in camera a's frame.
        pointmap_b: (Hb, Wb, 3) float32 in the frame that ``a_from_map_b`` leaves.
        confidence_a, confidence_b: (H, W) float32 >= 0, larger is more certain, 0 = no point.
        a_from_map_b: (4, 4) float64; identity when ``pointmap_b`` is in camera a's frame already,
            else the pose of camera b in camera a.
        metric: whether the points are in metres (else the pair has a scale of its own).
        scale_source: what gives a metric pair its scale, as in ``Alignment.scale_sources``:
            "camera poses" where points were triangulated with the given poses.
        roughly_metric: whether a pair with a scale of its own comes from a network that was
            trained to give about metres.
        doubtful: whether nothing measured bears its transform out: it is that of the given poses,
            or the views contradict each other there. It says nothing about given poses.
        contradicted: whether the views contradict each other there.
        matched_a, matched_b: (H, W) bool, pixels with a reciprocal match in the other view; None
            when the back end has no descriptors.
    """

    a: int
    b: int
    pointmap_a: Array
    pointmap_b: Array
    confidence_a: Array
    confidence_b: Array
    a_from_map_b: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    metric: bool = False
    scale_source: str = "metric pairs"
    roughly_metric: bool = False
    doubtful: bool = False
    contradicted: bool = False
    matched_a: Array | None = None
    matched_b: Array | None = None

    def __post_init__(self) -> None:
        for side in "ab":
            points = getattr(self, f"pointmap_{side}")
            if points.ndim != 3 or points.shape[2] != 3:
                raise ValueError(f"pointmap_{side} must be (H, W, 3), got {points.shape}")
            for name in (f"confidence_{side}", f"matched_{side}"):
                value = getattr(self, name)
                if value is not None and value.shape != points.shape[:2]:
                    raise ValueError(
                        f"{name} must be {points.shape[:2]} as its pointmap, got {value.shape}"
                    )

    @property
    def pointmap_b_in_a(self) -> NDArray[np.float32]:
        """(Hb, Wb, 3) float32: view b's pointmap in camera a's frame (computed, not stored)."""
        rotation, translation = self.a_from_map_b[:3, :3], self.a_from_map_b[:3, 3]
        moved = to_numpy(self.pointmap_b) @ rotation.T.astype(np.float32)
        return moved + translation.astype(np.float32)


@dataclass(frozen=True, eq=False)
class RelativePose:
    """A known pose between two cameras: a stereo bar, two cameras on one wrist.

    Attributes:
        a, b: indices of the views.
        a_from_b: (4, 4) float64, camera b in camera a's frame, metres.
        translation_sigma, rotation_sigma: its standard deviations, metres and rad.
    """

    a: int
    b: int
    a_from_b: NDArray[np.float64]
    translation_sigma: float
    rotation_sigma: float

    def __post_init__(self) -> None:
        what = f"relative pose of the views ({self.a}, {self.b})"
        object.__setattr__(self, "a_from_b", check_pose(self.a_from_b, what))
        if not (self.translation_sigma > 0 and self.rotation_sigma > 0):
            raise InputError(
                f"{what}: its deviations must be above 0, got {self.translation_sigma} m and "
                f"{self.rotation_sigma} rad; a small one makes it hard",
                ErrorCode.BAD_CALIBRATION,
            )
