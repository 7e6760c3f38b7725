"""Everything in one view: a grid of points, the best of their masks, ordered into a hierarchy.

Which masks are kept is the rule of the original ``SAM2AutomaticMaskGenerator``: estimated IoU,
stability at the image's resolution, non-maximum suppression by boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.masks.sam2.algebra import (
    clean,
    layers,
    mask_boxes,
    stability,
    suppress,
)
from wildseg3d_ros.masks.sam2.batching import resized
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.masks.sam2.network import Embedding, Sam2Network

LAYERS = len(LEVELS) + 3
"""Mask layers that are kept of one view: more than levels, for masks around objects, and for masks
that overlap without one being a part of the other."""
MAX_ENLARGED = 1 << 23
"""Pixels of masks that are brought to a view's size at once."""
MAX_MASKS = 1000
"""Masks of one view that are compared two by two; of more, the best are."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Masks at the resolution of the decoder.

    Attributes:
        logits: of each (h, w), of any floating type; arrays of their own, so that some can be
            let go without copying the others.
        quality: (K,) float32, the network's estimate of the IoU.
        boxes: (K, 4) first and last column and row (u, v, u, v) at the view's resolution.
    """

    logits: Sequence[NDArray[np.floating]]
    quality: NDArray[np.float32]
    boxes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.quality)

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """All of several, in order."""
        return cls(
            [logits for part in parts for logits in part.logits],
            np.concatenate([part.quality for part in parts]),
            np.concatenate([part.boxes for part in parts]),
        )

    def keep(self, chosen: NDArray) -> Candidates:
        """Some of them, in the order given."""
        logits = [self.logits[i] for i in chosen]
        return Candidates(logits, self.quality[chosen], self.boxes[chosen])

    def masks(self) -> NDArray[np.bool_]:
        """(K, h, w); (0, 1, 1) of none."""
        if not len(self):
            return np.zeros((0, 1, 1), np.bool_)
        return np.stack([logits > 0 for logits in self.logits])


@dataclass
class Dropped:
    """What became of the masks of a view: how many each step dropped, and what they were like.

    Attributes:
        steps: masks that a step dropped, by its setting, in the order of the steps.
        predicted_iou, stability, area: of all masks that reached the step which asks for it; area
            as a share of the image.
    """

    steps: dict[str, int] = field(default_factory=dict)
    predicted_iou: list[float] = field(default_factory=list)
    stability: list[float] = field(default_factory=list)
    area: list[float] = field(default_factory=list)

    def count(self, step: str, dropped: int) -> None:
        """Adds to what a step dropped."""
        self.steps[step] = self.steps.get(step, 0) + int(dropped)

    @property
    def why(self) -> str:
        """In words."""
        by = ", ".join(f"{count} by {step}" for step, count in self.steps.items() if count)
        return f"of {len(self.predicted_iou)} masks were dropped {by or 'none'}"


@dataclass(frozen=True, eq=False)
class SegmentedView:
    """The masks of a view at its own resolution, with names of its own.

    Attributes:
        maps: (L, H, W) int32 labels in layers: a mask that lies in another one is in the layer
            after that one's. No label occurs in two layers.
        quality: the network's estimate of the IoU by label.
        boxes: (u, v, u, v) first and last column and row of each label's mask.
        soft: (h, w) uint8 soft score in that box.
        dropped: what became of the candidates.
    """

    maps: NDArray[np.int32]
    quality: Mapping[int, float]
    boxes: Mapping[int, tuple[int, int, int, int]]
    soft: Mapping[int, NDArray[np.uint8]]
    dropped: Dropped | None = None

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
    dropped = Dropped()
    for start in range(0, len(points), prompts):
        batch = points[start : start + prompts, None]
        ones = np.ones(batch.shape[:2], np.int32)
        logits, quality = network.decode(embedding, batch, ones)
        made = logits.flatten(0, 1), quality.flatten()
        found.append(passing(*made, embedding.size, config, dropped))
        update(0.9 * min(start + prompts, len(points)) / len(points))
    chosen = select_masks(Candidates.joined(found), config, dropped)
    update(0.95)
    segmented = arrange(chosen, embedding.size, config.min_area)
    update(1.0)
    return replace(segmented, dropped=dropped)


def passing(
    logits: torch.Tensor,
    quality: torch.Tensor,
    size: tuple[int, int],
    config: Sam2MaskConfig,
    dropped: Dropped,
) -> Candidates:
    """Those of (K, h, w) masks that are good enough each by itself.

    Args:
        quality: (K,) estimates of the IoU.
        size: (height, width) of the view, at which stability and boxes are measured.
        dropped: is told what became of the others.
    """
    dropped.predicted_iou += quality.tolist()
    good = quality > config.predicted_iou
    dropped.count("predicted_iou", int((~good).sum()))
    logits, quality = logits[good], quality[good]
    kept, chosen, boxes = [], [], []
    for start in range(0, len(logits), chunk := max(1, MAX_ENLARGED // (size[0] * size[1]))):
        part = logits[start : start + chunk]
        full = resized(part[:, None], size)[:, 0]
        on = full > 0
        stable, area = stability(full, config.stability_offset), on.flatten(1).float().mean(1)
        fits = stable >= config.stability
        large = (area > 0) & (area >= config.min_area)
        dropped.count("stability", int((~fits).sum()))
        dropped.count("min_area", int((fits & ~large).sum()))
        dropped.count("max_area", int((fits & large & (area > config.max_area)).sum()))
        dropped.stability += stable.tolist()
        dropped.area += area[fits].tolist()
        fits &= large & (area <= config.max_area)
        # Ten bits are more than outlines and scores of eight bits can tell.
        kept += [each.copy() for each in part[fits].clamp(-1e4, 1e4).half().cpu().numpy()]
        boxes.append(mask_boxes(on[fits].cpu().numpy()))
        chosen.append(quality[start : start + chunk][fits].cpu().numpy().astype(np.float32))
    if not chosen:
        return Candidates([], np.zeros(0, np.float32), np.zeros((0, 4), np.int64))
    return Candidates(kept, np.concatenate(chosen), np.concatenate(boxes))


def select_masks(
    candidates: Candidates, config: Sam2MaskConfig, dropped: Dropped | None = None
) -> Candidates:
    """Without copies of better ones, best first, MAX_MASKS at most; islands and holes are gone.

    Neighbouring points give the same mask many times over.
    """
    dropped = dropped or Dropped()

    def alike(better: int, worse: int) -> bool:
        if not config.mask_overlap:
            return True
        one, other = candidates.logits[better] > 0, candidates.logits[worse] > 0
        return bool((one & other).sum() >= config.mask_overlap * (one | other).sum())

    left = suppress(candidates.boxes, candidates.quality, config.box_overlap, alike)
    dropped.count("box_overlap", len(candidates) - len(left))
    dropped.count("number", max(0, len(left) - MAX_MASKS))
    candidates = candidates.keep(left[:MAX_MASKS])
    if not config.min_area:
        return candidates
    for logits in candidates.logits:
        mask = logits > 0
        better = clean(mask, config.min_area * mask.size)
        # The sign of the logits is the mask; what clean-up changed is ambiguous.
        logits[better & ~mask], logits[mask & ~better] = 1e-3, -1e-3
    return candidates


def arrange(candidates: Candidates, size: tuple[int, int], min_area: float = 0.0) -> SegmentedView:
    """Label maps at the view's resolution, in layers.

    A mask that is a part of another one, or overlaps it by more than outlines cross, lies in
    another layer; a part lies in a later one. What is nested deeper than LAYERS is left out. Where
    masks of one layer cross, the more confident one has the pixel.

    Args:
        candidates: masks without duplicates.
        size: (height, width) of the view.
        min_area: share of the view below which what others left of a mask is dropped.
    """
    height, width = size
    maps = np.zeros((LAYERS, height, width), np.int32)
    best = np.zeros((LAYERS, height, width), np.float32)
    layer_of = layers(candidates.masks(), candidates.quality, LAYERS)
    soft: dict[int, NDArray[np.uint8]] = {}
    at: dict[int, tuple[int, int]] = {}
    for i in np.flatnonzero(layer_of >= 0).tolist():
        logits = candidates.logits[i].astype(np.float32)
        logits = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)
        layer, best_here, label = maps[layer_of[i]], best[layer_of[i]], i + 1
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
