"""Masks and tracks with known truth and the errors that a segmentation network makes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.association import Tracks


def spoil_masks(
    truth: Sequence[NDArray[np.int32]],
    rng: np.random.Generator,
    boundary: float = 0.05,
    missing: float = 0.1,
) -> tuple[tuple[NDArray[np.int32], ...], tuple[dict[int, int], ...]]:
    """Masks as each view's segmentation would give them: names of its own, wavy, incomplete.

    Args:
        truth: per view (H, W) true ids.
        boundary: standard deviation of the outline's displacement, as a share of the root of the
            view's median mask area.
        missing: share of masks that are left out.

    Returns:
        Per view the label map, and the true id by its labels.
    """
    made, names = [], []
    for labels in truth:
        ids, areas = np.unique(labels[labels > 0], return_counts=True)
        size = float(np.sqrt(np.median(areas))) if len(ids) else 0.0
        moved = _displaced(labels, boundary * size, max(0.2 * size, 2.0), rng)
        order = rng.permutation(len(ids)) + 1
        given: dict[int, int] = {}
        out = np.zeros(labels.shape, np.int32)
        for name, true in zip(order.tolist(), ids.tolist(), strict=True):
            mask = moved == true
            if rng.random() >= missing and mask.any():
                out[mask] = name
                given[name] = true
        made.append(out)
        names.append(given)
    return tuple(made), tuple(names)


def miscut_masks(
    masks: Sequence[NDArray[np.int32]],
    names: Sequence[dict[int, int]],
    rng: np.random.Generator,
    cut: float = 0.1,
    joined: float = 0.1,
) -> tuple[tuple[NDArray[np.int32], ...], tuple[dict[int, int], ...]]:
    """Masks of which some are cut in two and some are joined with a neighbour's.

    Args:
        masks, names: of :func:`spoil_masks`.
        cut: share of masks that lose a third to a mask of its own.
        joined: share of masks that take in another object's mask that touches them.

    Returns:
        The same, without the names of the joined masks.
    """
    out, known = [m.copy() for m in masks], [dict(n) for n in names]
    for labels, true in zip(out, known, strict=True):
        for label in list(true):
            if rng.random() < cut:
                row, column = np.nonzero(labels == label)
                angle = rng.uniform(0, np.pi)
                along = column * np.cos(angle) + row * np.sin(angle)
                third = along > np.quantile(along, 2 / 3)
                fragment = int(labels.max()) + 1
                labels[row[third], column[third]] = fragment
                true[fragment] = true[label]
        for label in list(true):
            if label in true and rng.random() < joined:
                about = cv2.dilate((labels == label).astype(np.uint8), np.ones((5, 5))) > 0
                beside = [k for k in np.unique(labels[about]).tolist() if k in true]
                beside = [k for k in beside if true[k] != true[label]]
                if beside:
                    labels[labels == beside[0]] = label
                    del true[beside[0]], true[label]
    return tuple(out), tuple(known)


def around_neighbours(
    labels: NDArray[np.int32], count: int = 3
) -> tuple[list[int], NDArray[np.bool_]]:
    """Some neighbouring masks of a view, and one mask around them: a tray, a pile.

    Returns:
        Their labels, and (H, W) bool that cuts no other mask.
    """
    names = np.unique(labels[labels > 0]).tolist()
    centre = {name: np.argwhere(labels == name).mean(axis=0) for name in names}
    middle = centre[names[len(names) // 2]]
    near = sorted(names, key=lambda name: float(np.hypot(*(centre[name] - middle))))[:count]
    inner = np.isin(labels, near)
    size = labels.shape[1] // 5
    closed = cv2.morphologyEx(inner.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((size, size)))
    return near, inner | ((np.asarray(closed) > 0) & (labels == 0))


def add_under_segmented(
    masks: Sequence[NDArray[np.int32]], views: Sequence[int], count: int = 3
) -> list[NDArray[np.int32]]:
    """Masks of which some views have an under-segmented one more, around ``count`` others.

    Returns:
        Per view (2, H, W) mask layers, where that mask is in the first one, with those outside it.
    """
    layers = []
    for view, labels in enumerate(masks):
        outer, inner = labels.copy(), np.zeros_like(labels)
        if view in views:
            near, about = around_neighbours(labels, count)
            inner = np.where(np.isin(labels, near), labels, 0).astype(np.int32)
            outer[about] = int(labels.max()) + 1
        layers.append(np.stack([outer, inner]))
    return layers


def _displaced(
    labels: NDArray[np.int32], deviation: float, wave: float, rng: np.random.Generator
) -> NDArray[np.int32]:
    """The map, sampled at pixels that a smooth random field has moved."""
    height, width = labels.shape
    v, u = np.mgrid[:height, :width]
    moved = []
    for axis, limit in ((u, width), (v, height)):
        field = cv2.GaussianBlur(rng.normal(size=labels.shape), (0, 0), wave)
        shift = np.rint(deviation * field / max(field.std(), 1e-12)).astype(int)
        moved.append(np.clip(axis + shift, 0, limit - 1))
    return labels[moved[1], moved[0]]


def track_masks(
    masks: Sequence[NDArray[np.int32]],
    names: Sequence[dict[int, int]],
    truth: Sequence[NDArray[np.int32]],
    world_from_cam: NDArray[np.float64],
    rng: np.random.Generator,
    anchors: Sequence[int] | None = None,
    safe_degrees: float = 60.0,
    swapped: float = 0.5,
) -> list[Tracks]:
    """What a tracker would return that follows objects up to some angle, then confuses them.

    Args:
        masks, names: of :func:`spoil_masks`.
        truth: per view (H, W) true ids.
        world_from_cam: (N, 4, 4) true poses.
        anchors: views whose masks are followed; by default all.
        safe_degrees: angle between lines of sight up to which tracks are right.
        swapped: share of the tracks beyond it that end on a random object of the view.
    """
    count = len(masks)
    forward = world_from_cam[:, :3, 2]
    degrees = np.degrees(np.arccos(np.clip(forward @ forward.T, -1, 1)))
    tracks = []
    for a in range(count) if anchors is None else anchors:
        labels: list[NDArray[np.int32] | None] = []
        for b in range(count):
            there = np.unique(truth[b][truth[b] > 0])
            out = np.zeros(truth[b].shape, np.int32)
            for name, true in names[a].items():
                end = true
                if degrees[a, b] > safe_degrees and rng.random() < swapped and len(there):
                    end = int(rng.choice(there))
                out[truth[b] == end] = name
            labels.append(None if a == b else out)
        near = tuple(int(b) for b in np.argsort(degrees[a]) if b != a)
        tracks.append(Tracks(a, tuple(labels), (near,)))
    return tracks
