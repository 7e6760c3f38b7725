"""Reciprocal nearest neighbours of descriptors (MASt3R, section 3.3, fast reciprocal matching)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

STRIDE = 4
"""Every n-th row and column of descriptors is compared."""

START_STRIDE = 2
"""Every n-th row and column of these is started from; also the edge of a block that is flagged."""

MIN_SIMILARITY = 0.8
"""Cosine of two descriptors below which they are not the same thing. Descriptors that have nothing
to do with each other have a nearest neighbour as well: of the ten thousand random directions in 24
dimensions that an image is compared with, the best has a cosine of 0.72 in the median, and one in
thirty has more than 0.8."""


def matched_flags(descriptors_a: Tensor, descriptors_b: Tensor) -> tuple[Tensor, Tensor]:
    """(Ha, Wa) and (Hb, Wb) bool: blocks of STRIDE * START_STRIDE pixels that hold a reciprocal
    match of enough similarity, by descriptors (H, W, D) of unit length; sizes may differ."""
    middle = slice(STRIDE // 2, None, STRIDE)
    coarse_a, coarse_b = descriptors_a[middle, middle], descriptors_b[middle, middle]
    flat_a, flat_b = coarse_a.flatten(0, 1), coarse_b.flatten(0, 1)
    index = torch.arange(len(flat_a), device=flat_a.device).reshape(coarse_a.shape[:2])
    starts = index[::START_STRIDE, ::START_STRIDE].ravel()
    found_a, found_b = reciprocal_matches(flat_a, flat_b, starts)
    similar = (flat_a[found_a] * flat_b[found_b]).sum(dim=1) >= MIN_SIMILARITY
    found_a, found_b = found_a[similar], found_b[similar]
    return (
        _blocks(found_a, coarse_a.shape[:2], descriptors_a.shape[:2]),
        _blocks(found_b, coarse_b.shape[:2], descriptors_b.shape[:2]),
    )


def reciprocal_matches(a: Tensor, b: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs that are each other's nearest neighbours, reached from some of a.

    From each start the nearest descriptor of b is taken, from that the nearest one of a, and so on
    until a step leads back to where it came from. Starts that arrive or merge are not continued,
    so the cost falls with every step.

    Args:
        a: (M, D), b: (N, D), of unit length.
        starts: (K,) indices into a.

    Returns:
        Indices into a and into b of the distinct matches, sorted by a.
    """
    matched = torch.full((len(a),), -1, dtype=torch.long, device=a.device)
    seen = torch.zeros(len(a), dtype=torch.bool, device=a.device)
    active = starts
    # Nearly all starts arrive or merge within a few steps there and back.
    for _ in range(10):
        if not len(active):
            break
        seen[active] = True
        there = _nearest(a[active], b)
        back = _nearest(b[there], a)
        arrived = back == active
        matched[active[arrived]] = there[arrived]
        active = torch.unique(back[~arrived])
        active = active[~seen[active]]
    found = torch.nonzero(matched >= 0).ravel()
    return found, matched[found]


def _nearest(queries: Tensor, others: Tensor) -> Tensor:
    # Of unit vectors the nearest is the one with the largest product. Parts bound the memory.
    return torch.cat([(part @ others.T).argmax(dim=1) for part in queries.split(4096)])


def _blocks(found: Tensor, coarse: torch.Size, size: torch.Size) -> Tensor:
    flags = torch.zeros(coarse, dtype=torch.bool, device=found.device)
    flags.view(-1)[found] = True
    blocks = functional.max_pool2d(flags[None].float(), START_STRIDE, ceil_mode=True)[0].bool()
    rows, cols = (
        (torch.arange(side, device=found.device) // (STRIDE * START_STRIDE)).clamp_max(count - 1)
        for side, count in zip(size, blocks.shape, strict=True)
    )
    return blocks[rows][:, cols]
