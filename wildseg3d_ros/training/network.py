"""The affinity network: a small U-Net."""

from __future__ import annotations

import torch
from torch import nn

from wildseg3d_ros.masks.learned.inputs import CHANNELS, OFFSETS, STEP

WIDTHS = (24, 40, 64, 96, 128)
"""Channels of each level; each has half the resolution of the one before."""


class Block(nn.Sequential):
    """Two convolutions with batch normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class AffinityNetwork(nn.Module):
    """Log-odds of pixels belonging to one thing (Ronneberger et al., MICCAI 2015, for the shape of
    it; Gao et al., SSAP, ICCV 2019, for affinities at several distances).

    Maps (B, len(CHANNELS), H, W) to (B, len(OFFSETS) + 1, H / 2, W / 2): log-odds of each pixel
    and the one at each offset being of one thing, and of the pixel being on an object.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.unshuffle = nn.PixelUnshuffle(STEP)
        inputs = (len(CHANNELS) * STEP**2, *widths[:-1])
        self.down = nn.ModuleList(Block(m, n) for m, n in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(
            Block(m + n, n) for m, n in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(widths[0], len(OFFSETS) + 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Log-odds of a batch; H and W are multiples of 32."""
        x, kept = self.unshuffle(x), []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            kept.append(x)
        for block, before in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([self.grow(x), before], dim=1))
        return self.head(x)
