"""Everything in one view: a grid of points, the best of their masks, ordered into a hierarchy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.masks.sam2.algebra import (
    clean,
    depths,
    mask_boxes,
    mask_overlaps,
    parents,
    stability,
    suppress,
    suppress_copies,
)
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.masks.sam2.network import Embedding, Sam2Network

LAYERS = len(LEVELS) + 1
"""Mask layers that are kept of one view: one more than levels, for masks around objects."""
MAX_COLLECTED = 768
"""Masks of one view from which on duplicates among them are left out before more are made."""
MAX_MASKS = 1000
"""Masks of one view that are compared two by two; of more, the best are."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Masks at the resolution of the decoder.

    Attributes:
        logits: of each (h, w), of any floating type; arrays of their own, so that some can be
            let go without copying the others.
        quality: (K,) float32, the network's estimate of the IoU.
    """

    logits: Sequence[NDArray[np.floating]]
    quality: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.quality)

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """All of several, in order."""
        return cls(
            [logits for part in parts for logits in part.logits],
            np.concatenate([part.quality for part in parts]),
        )

    def keep(self, chosen: NDArray) -> Candidates:
        """Some of them, in the order given."""
        return Candidates([self.logits[i] for i in chosen], self.quality[chosen])

    def masks(self) -> NDArray[np.bool_]:
        """(K, h, w); (0, 1, 1) of none."""
        if not len(self):
            return np.zeros((0, 1, 1), np.bool_)
        return np.stack([logits > 0 for logits in self.logits])


@dataclass(frozen=True, eq=False)
class SegmentedView:
    """The masks of a view at its own resolution, with names of its own.

    Attributes:
        maps: (L, H, W) int32 labels in layers: a mask that lies in another one is in the layer
            after that one's. No label occurs in two layers.
        quality: the network's estimate of the IoU by label.
        boxes: (u, v, u, v) first and last column and row of each label's mask.
        soft: (h, w) uint8 soft score in that box.
        why_empty: where there is no mask, what became of the candidates, in words.
    """

    maps: NDArray[np.int32]
    quality: Mapping[int, float]
    boxes: Mapping[int, tuple[int, int, int, int]]
    soft: Mapping[int, NDArray[np.uint8]]
    why_empty: str = ""

    def scores(self, labels: Collection[int]) -> NDArray[np.float32]:
        """(H, W) soft score of being on one of these masks; 0 outside the boxes of all."""
        scores = np.zeros(self.maps.shape[1:], np.float32)
        for label in labels:
            u0, v0, u1, v1 = self.boxes[label]
            box = scores[v0 : v1 + 1, u0 : u1 + 1]
            np.maximum(box, self.soft[label] / np.float32(255), out=box)
        return scores


def grid_points(side: int, size: tuple[int, int]) -> NDArray[np.float64]:
    """(side * side, 2) pixels (u, v), evenly over an image of (height, width)."""
    share = (np.arange(side) + 0.5) / side
    u, v = np.meshgrid(share * size[1] - 0.5, share * size[0] - 0.5)
    return np.stack([u.ravel(), v.ravel()], axis=1)


def segment_everything(
    network: Sam2Network,
    embedding: Embedding,
    config: Sam2MaskConfig,
    prompts: int,
    update: Callable[[float], None],
) -> SegmentedView:
    """All masks of a view.

    Args:
        embedding: of the view's image.
        prompts: points that are decoded at once.
        update: progress callback, given the fraction done; may raise to cancel.
    """
    points = grid_points(config.grid, embedding.size)
    found: list[Candidates] = []
    tried, passed = 0, 0
    for start in range(0, len(points), prompts):
        batch = points[start : start + prompts, None]
        ones = np.ones(batch.shape[:2], np.int32)
        logits, quality = network.decode(embedding, batch, ones)
        logits, quality = logits.flatten(0, 1), quality.flatten()
        tried += len(quality)
        good = quality >= config.predicted_iou
        good &= stability(logits, config.stability_offset) >= config.stability
        area = (logits > 0).flatten(1).float().mean(1)
        good &= (area >= config.min_area) & (area <= config.max_area)
        # Ten bits are more than outlines and scores of eight bits can tell.
        kept = logits[good].clamp(-1e4, 1e4).half().cpu().numpy()
        found.append(
            Candidates([each.copy() for each in kept], quality[good].cpu().numpy().astype("f4"))
        )
        passed += len(found[-1])
        if sum(map(len, found)) > MAX_COLLECTED:
            found = [distinct(Candidates.joined(found), config)]
        update(0.9 * min(start + prompts, len(points)) / len(points))
    chosen = select_masks(Candidates.joined(found), config)
    update(0.95)
    segmented = arrange(chosen, embedding.size, config.min_area)
    update(1.0)
    if len(chosen):
        return segmented
    why = (
        f"of {tried} masks {passed} passed predicted_iou {config.predicted_iou:g}, stability "
        f"{config.stability:g} and areas from {config.min_area:g} to {config.max_area:g}"
    )
    left = ", and none was left after clean-up" if passed else ""
    return replace(segmented, why_empty=why + left)


def select_masks(candidates: Candidates, config: Sam2MaskConfig) -> Candidates:
    """Without duplicates, islands and holes; best first."""
    candidates = distinct(candidates, config)
    if not len(candidates):
        return candidates
    for logits in candidates.logits:
        mask = logits > 0
        better = clean(mask, config.min_area * mask.size)
        # The sign of the logits is the mask; what clean-up changed is ambiguous.
        logits[better & ~mask], logits[mask & ~better] = 1e-3, -1e-3
    masks = candidates.masks()
    share = masks.reshape(len(masks), -1).mean(axis=1)
    fits = np.flatnonzero((share >= config.min_area) & (share <= config.max_area))
    overlaps = mask_overlaps(masks[fits])
    left = suppress(overlaps, candidates.quality[fits], config.mask_overlap)
    return candidates.keep(fits[left])


def distinct(candidates: Candidates, config: Sam2MaskConfig) -> Candidates:
    """At most MAX_MASKS, without copies of better ones, best first.

    Neighbouring points give the same mask many times over.
    """
    left = suppress_copies(
        candidates.masks(), candidates.quality, config.box_overlap, config.mask_overlap
    )
    return candidates.keep(left[:MAX_MASKS])


def arrange(candidates: Candidates, size: tuple[int, int], min_area: float = 0.0) -> SegmentedView:
    """Label maps at the view's resolution, in layers.

    A mask's layer is the number of masks that it is nested in. What is nested deeper than LAYERS
    is left out. Where masks of one layer overlap, the more confident one has the pixel.

    Args:
        candidates: masks without duplicates.
        size: (height, width) of the view.
        min_area: share of the view below which what others left of a mask is dropped.
    """
    height, width = size
    maps = np.zeros((LAYERS, height, width), np.int32)
    best = np.zeros((LAYERS, height, width), np.float32)
    depth = depths(parents(candidates.masks()))
    soft: dict[int, NDArray[np.uint8]] = {}
    at: dict[int, tuple[int, int]] = {}
    for i in np.flatnonzero(depth < LAYERS).tolist():
        logits = candidates.logits[i].astype(np.float32)
        logits = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)
        layer, best_here, label = maps[depth[i]], best[depth[i]], i + 1
        u0, v0, u1, v1 = mask_boxes((logits > 0)[None])[0].tolist()
        box = np.s_[v0 : v1 + 1, u0 : u1 + 1]
        logits = logits[box]
        mine = logits > best_here[box]
        layer[box][mine], best_here[box][mine] = label, logits[mine]
        at[label] = (v0, u0)
        soft[label] = np.rint(255 / (1.0 + np.exp(-np.clip(logits, -30, 30)))).astype(np.uint8)
    quality, boxes, crops = {}, {}, {}
    for layer in maps:
        count = np.bincount(layer.ravel(), minlength=len(candidates) + 1)
        layer[(count < min_area * height * width)[layer]] = 0
        for label, box in enumerate(find_objects(layer), start=1):
            if box is None:
                continue
            (v0, v1), (u0, u1) = ((side.start, side.stop) for side in box)
            boxes[label] = (u0, v0, u1 - 1, v1 - 1)
            top, left = at[label]
            crops[label] = soft[label][v0 - top : v1 - top, u0 - left : u1 - left].copy()
            quality[label] = float(np.clip(candidates.quality[label - 1], 0.0, 1.0))
    used = 1 + int(np.flatnonzero(maps.any(axis=(1, 2))).max(initial=0))
    return SegmentedView(maps[:used], quality, boxes, crops)
