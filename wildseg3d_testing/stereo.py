"""Constructed views for the stereo back end, and what it makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.pointmaps import load_pointmaps
from wildseg3d_testing.scenes import ConstructedScene, cast, construct_scene, fan_poses

SIZE = (300, 400)
"""Height and width of the views."""


def stereo_backend(**stereo: Any) -> Any:
    """The back end with some of its settings."""
    mapping = {"pointmaps": {"backend": "stereo", "stereo": stereo}}
    return load_pointmaps(SceneConfig.from_mapping(mapping).pointmaps)


def stereo_pair(views: Sequence[View], **stereo: Any) -> PairPrediction:
    """What the back end, with these settings, makes of two views."""
    (pair,) = stereo_backend(**stereo).predict(views, [(0, 1)], Progress())
    return pair


def stereo_scene(
    count: int, degrees_apart: float, width: int = SIZE[1], height: int = SIZE[0], **changes: Any
) -> ConstructedScene:
    """A textured scene without depth before ``count`` cameras in a fan."""
    poses = fan_poses(count, degrees_apart)
    values = {"objects": 6, "seed": 1, "with_depth": False, **changes}
    return construct_scene(count, width, height, poses=poses, **values)


def recast(
    truth: ConstructedScene,
    poses: Sequence[NDArray[np.float64]],
    intrinsics: Sequence[NDArray[np.float64]],
    sizes: Sequence[tuple[int, int]],
) -> tuple[list[View], list[NDArray[np.float32]], list[NDArray[np.int32]]]:
    """Views of the scene's solids by other cameras, their depth and labels."""
    views, depths, labels = [], [], []
    for k, (pose, K, (height, width)) in enumerate(zip(poses, intrinsics, sizes, strict=True)):
        image, depth, label, _ = cast(truth.solids, pose, K, height, width)
        views.append(View(f"cam_{k}", image, K, None, pose))
        depths.append(depth)
        labels.append(label)
    return views, depths, labels
