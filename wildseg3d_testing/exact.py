"""Scenes made of the constructed truth: perfect points, poses and masks, none of them computed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from wildseg3d_ros.core.types import Alignment, MaskCache, WorldPointmaps
from wildseg3d_ros.masks import why_nothing_found
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.scene.config import IndexConfig
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_testing.scenes import ConstructedScene

WORLD_FRAME = "base"
CONFIDENCE = 2.0


def alignment_of_cameras(K: ArrayLike, world_from_cam: ArrayLike, **fields: Any) -> Alignment:
    """Cameras in known poses, without pairs.

    Args:
        K: (N, 3, 3).
        world_from_cam: (N, 4, 4).
        fields: of the alignment to replace.
    """
    views = len(np.asarray(K))
    alignment = Alignment(
        edges=np.zeros((0, 2), np.int64),
        world_from_pair=np.zeros((0, 4, 4)),
        pair_scale=np.zeros(0),
        world_from_cam=np.asarray(world_from_cam),
        K=np.asarray(K),
        pair_residual=np.zeros(0),
        view_residual=np.zeros(views),
        pair_used=np.zeros(0, bool),
        converged=True,
        iterations=1,
        metric=True,
        in_prior_frame=True,
        prior_residual=np.full(views, np.nan),
        scale_sources=("metric pairs",),
    )
    return dataclasses.replace(alignment, **fields)


def exact_alignment(truth: ConstructedScene) -> Alignment:
    """The true poses, as if a chain of pairs had been solved without error."""
    n = len(truth.views)
    edges = np.array([(a, a + 1) for a in range(n - 1)]).reshape(-1, 2)
    return alignment_of_cameras(
        np.stack([view.K for view in truth.views if view.K is not None]),
        truth.world_from_cam,
        edges=edges,
        world_from_pair=truth.world_from_cam[edges[:, 0]],
        pair_scale=np.ones(len(edges)),
        pair_residual=np.zeros(len(edges)),
        pair_used=np.ones(len(edges), bool),
    )


def exact_world(truth: ConstructedScene) -> WorldPointmaps:
    """The true points, all of confidence CONFIDENCE; copies, so that a test may spoil them."""
    return WorldPointmaps(
        tuple(points.copy() for points in truth.points),
        tuple(np.where(depth > 0, CONFIDENCE, 0).astype(np.float32) for depth in truth.depths),
    )


def exact_cache(truth: ConstructedScene) -> MaskCache:
    """The true labels of the objects that are seen; copies."""
    seen = sorted({int(i) for labels in truth.labels for i in np.unique(labels)} - {0})
    scores = tuple((labels > 0).astype(np.float32) for labels in truth.labels)
    labels = tuple(labels.copy() for labels in truth.labels)
    return MaskCache(labels, scores, tuple(seen), objects=describe_objects([labels], scores))


def exact_scene(
    truth: ConstructedScene,
    world: WorldPointmaps | None = None,
    cache: MaskCache | None = None,
    config: IndexConfig = IndexConfig(),
    **alignment: Any,
) -> Scene:
    """The snapshot of the truth.

    Args:
        truth: the constructed scene.
        world, cache: instead of the exact ones.
        config: of the index.
        alignment: fields of the alignment to replace.
    """
    cache = cache or exact_cache(truth)
    return Scene.create(
        truth.views,
        dataclasses.replace(exact_alignment(truth), **alignment),
        world or exact_world(truth),
        cache,
        config,
        world_frame=WORLD_FRAME,
        nothing_found=why_nothing_found(cache),
    )
