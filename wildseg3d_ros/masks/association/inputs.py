"""What an association is given: checked, so that an error names it and not a place in the code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.core.types.masks import HIGHEST_ID
from wildseg3d_ros.masks.association.tracks import Tracks


def check_labels(labels: Sequence[NDArray[np.integer]]) -> None:
    """Raises ValueError unless there are views, each with an integer (H, W) or (L, H, W) map."""
    if not len(labels):
        raise ValueError("no views to associate: expected the label map of one or more")
    for view, given in enumerate(labels):
        if not np.issubdtype(np.asarray(given).dtype, np.integer) or given.ndim not in (2, 3):
            raise ValueError(
                f"the masks of view {view} are {given.dtype} of shape {given.shape}: expected "
                f"integer labels, (H, W) or in layers (L, H, W)"
            )


def check_world(
    labels: Sequence[NDArray[np.integer]],
    world: WorldPointmaps | None,
    visibility: Visibility | None,
) -> WorldPointmaps | None:
    """The pointmaps, without points that are not finite.

    Raises:
        ValueError: pointmaps of other views or sizes than the masks, or without visibility.
    """
    if (world is None) != (visibility is None):
        there, missing = ("pointmaps", "visibility") if world else ("visibility", "pointmaps")
        raise ValueError(
            f"{there} but no {missing}: overlap needs both, Visibility.create(K, poses, world)"
        )
    if world is None or visibility is None:
        return None
    masks = [image.shape[-2:] for image in labels]
    points = [image.shape[:2] for image in world.points]
    depths = [image.shape for image in visibility.depth]
    if masks != points or masks != depths:
        other = f"their pointmaps {points}" if masks != points else f"their visibility {depths}"
        raise ValueError(f"masks have the sizes {masks}, {other}")
    confidence = []
    for view in range(len(labels)):
        lost = world.valid(view) & ~np.isfinite(world.points[view]).all(axis=-1)
        mine = world.confidence[view]
        confidence.append(np.where(lost, np.float32(0), mine) if lost.any() else mine)
    return dataclasses.replace(world, confidence=tuple(confidence))


def check_tracks(labels: Sequence[NDArray[np.integer]], tracks: Sequence[Tracks]) -> None:
    """Raises ValueError for tracks of views that there are not, or of other sizes."""
    views = len(labels)
    for track in tracks:
        name = f"tracks of view {track.anchor}"
        if not 0 <= track.anchor < views:
            raise ValueError(f"{name}: there are views 0 to {views - 1}")
        if len(track.labels) != views:
            raise ValueError(
                f"{name} have maps of {len(track.labels)} views: expected one for each of the "
                f"{views}, None where nothing was tracked"
            )
        visited = [view for run in track.order for view in run]
        strange = sorted({view for view in visited if not 0 <= view < views})
        if strange or track.anchor in visited:
            strange = strange or [track.anchor]
            raise ValueError(f"{name} visit {strange}: expected other views of 0 to {views - 1}")
        for view, found in enumerate(track.labels):
            expected = labels[view].shape[-2:]
            if found is not None and view != track.anchor and found.shape != expected:
                raise ValueError(f"{name} in view {view} are {found.shape}, its masks {expected}")


def check_ids(
    views: int, known: Sequence[Mapping[int, int]] | None, first_id: int, masks: int
) -> None:
    """Raises ValueError for known ids that are none, and where ids would not fit into int32."""
    if known is not None and len(known) != views:
        raise ValueError(
            f"known ids of {len(known)} views: expected a mapping for each of {views}"
        )
    ids = [name for mapping in known or () for name in mapping.values()]
    lowest, highest = min([*ids, first_id]), max([*ids, first_id - 1]) + masks
    if lowest < 1:
        raise ValueError(f"ids are 1 and more, got {lowest}; 0 is no mask")
    if highest > HIGHEST_ID:
        raise ValueError(
            f"{masks} masks may need ids up to {highest}: more than {HIGHEST_ID}, which is all "
            f"that label maps can have; build the scene again"
        )
