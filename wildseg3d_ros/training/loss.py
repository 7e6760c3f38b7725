"""What the network is trained for, and how its log-odds are judged."""

from __future__ import annotations

import torch
from torch.nn.functional import softplus

from wildseg3d_ros.masks.learned.inputs import OFFSETS
from wildseg3d_ros.training.samples import UNKNOWN


def affinity_targets(
    labels: torch.Tensor, offset: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, H, W) bool: whether each pixel and the one at the offset are of one thing, and whether
    that is known and at least one of them is on an object."""
    other = torch.full_like(labels, UNKNOWN)
    (dr, dc), (height, width) = offset, labels.shape[1:]
    here = slice(max(-dr, 0), height - max(dr, 0)), slice(max(-dc, 0), width - max(dc, 0))
    there = slice(max(dr, 0), height + min(dr, 0)), slice(max(dc, 0), width + min(dc, 0))
    other[:, *here] = labels[:, *there]
    counts = (labels != UNKNOWN) & (other != UNKNOWN) & ((labels > 0) | (other > 0))
    return labels == other, counts


def balanced_loss(
    log_odds: torch.Tensor, target: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy, yes and no weighted alike; 0 where there is neither."""
    loss = softplus(torch.where(target, -log_odds, log_odds))
    total = log_odds.new_zeros(())
    for answer in (target & counts, ~target & counts):
        total = total + (loss * answer).sum() / answer.sum().clamp(min=1)
    return total / 2


def network_loss(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(len(OFFSETS) + 1,) losses of the network's outputs (B, C, H, W) for labels (B, H, W)."""
    losses = [
        balanced_loss(output[:, k], *affinity_targets(labels, offset))
        for k, offset in enumerate(OFFSETS)
    ]
    losses.append(balanced_loss(output[:, -1], labels > 0, labels != UNKNOWN))
    return torch.stack(losses)
