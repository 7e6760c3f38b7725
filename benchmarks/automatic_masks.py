"""Which rule keeps the masks of a view: constructed candidates, judged against what made them.

Six copies of every thing, each a little beside the true outline, as neighbouring points of the
grid give them: wholes, parts in parts, rims of six pixels, and things of 10x10 pixels.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.masks.sam2.generation import (
    Candidates,
    Dropped,
    arrange,
    passing,
    select_masks,
)

SIZE = (480, 640)
"""Of the view; masks come at 256x256."""
COPIES = 6
DRAWS = 3
SLOPE = 20.0
"""Logits by which a mask rises over a pixel of the view: outlines are sure."""
RULES = {
    "original: boxes 0.7": {},
    "boxes 0.7 and masks 0.5": {"mask_overlap": 0.5},
    "boxes 0.7 and masks 0.7": {"mask_overlap": 0.7},
    "boxes 0.9 and masks 0.8": {"box_overlap": 0.9, "mask_overlap": 0.8},
}


def main() -> dict[str, Any]:
    """Per rule: share of things found (IoU of 0.75 or more) by kind, and masks beyond these."""
    drawn = [_drawn(np.random.default_rng(seed)) for seed in range(DRAWS)]
    made: dict[str, Any] = {}
    for name, changed in RULES.items():
        config = Sam2MaskConfig(**changed)
        found: dict[str, list[bool]] = {}
        more = [_judged(config, *each, found) for each in drawn]
        made[name] = {kind: round(float(np.mean(each)), 3) for kind, each in found.items()}
        made[name]["masks beyond one a thing"] = round(float(np.mean(more)), 1)
    return made


def things(rng: np.random.Generator) -> dict[str, list[NDArray[np.bool_]]]:
    """Masks (480, 640) by kind, on a grid of cells so that nothing overlaps but by nesting."""
    kinds: dict[str, list[NDArray[np.bool_]]] = {
        "whole": [], "part": [], "part of a part": [], "rim": [], "10x10 px": [],
    }  # fmt: skip
    v, u = np.indices(SIZE)
    for cell in range(12):
        row, column = 60 + 120 * (cell // 4), 80 + 160 * (cell % 4)
        centre_v, centre_u = row + rng.integers(-8, 9), column + rng.integers(-20, 21)

        def disc(radius: float, du: float = 0.0, v0=centre_v, u0=centre_u) -> NDArray[np.bool_]:
            return (v - v0) ** 2 + (u - u0 - du) ** 2 < radius**2

        if cell % 3 == 0:
            kinds["whole"].append(disc(50))
            kinds["part"].append(disc(22, 20))
            kinds["part of a part"].append(disc(9, 24))
        elif cell % 3 == 1:
            kinds["whole"].append(disc(50))
            kinds["rim"].append(disc(50) & ~disc(44))
        else:
            square = (abs(v - centre_v - 0.5) < 5) & (abs(u - centre_u - 0.5) < 5)
            kinds["10x10 px"].append(square)
    return kinds


_Kinds = dict[str, list[NDArray[np.bool_]]]


def _drawn(rng: np.random.Generator) -> tuple[_Kinds, Candidates]:
    """Things, and those of their copies that are good enough by themselves."""
    kinds = things(rng)
    copies = [
        _copy(mask, rng) for of_kind in kinds.values() for mask in of_kind for _ in range(COPIES)
    ]
    logits, quality = zip(*copies, strict=True)
    stacked = torch.from_numpy(np.stack(logits)), torch.tensor(quality)
    return kinds, passing(*stacked, SIZE, Sam2MaskConfig(), Dropped())


def _judged(
    config: Sam2MaskConfig, kinds: _Kinds, candidates: Candidates, found: dict[str, list[bool]]
) -> int:
    segmented = arrange(select_masks(candidates, config), SIZE)
    masks = [layer == k for layer in segmented.maps for k in np.unique(layer) if k]
    for kind, of_kind in kinds.items():
        for mask in of_kind:
            best = max((_iou(each, mask) for each in masks), default=0.0)
            found.setdefault(kind, []).append(best >= 0.75)
    return len(masks) - sum(map(len, kinds.values()))


def _copy(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[NDArray, float]:
    """Logits (256, 256) of a mask that is moved by up to a pixel, and the estimate of its IoU."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    move = np.array([[1, 0, rng.uniform(-1, 1)], [0, 1, rng.uniform(-1, 1)]])
    logits = SLOPE * (inside - outside + 0.5 * np.where(mask, -1, 1)) + rng.uniform(-2, 2)
    moved = cv2.warpAffine(logits, move, SIZE[::-1], borderMode=cv2.BORDER_REPLICATE)
    small: Any = cv2.resize(moved, (256, 256), interpolation=cv2.INTER_AREA)
    back = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_LINEAR) > 0
    estimate = np.clip(_iou(back, mask) + rng.normal(0, 0.03), 0.81, 1)
    return np.clip(small, -30, 30).astype(np.float32), float(estimate)


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


if __name__ == "__main__":
    for rule, figures in main().items():
        print(rule, figures)
