"""Depth, its confidence and rays from the tokens of four layers: a DPT (Ranftl et al., ICCV 2021)
with two ways of fusing the layers, one for depth and one for rays.

Attribute names are those of the published checkpoint's keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from wildseg3d_ros.pointmaps.da3.backbone import Grid
from wildseg3d_ros.pointmaps.layers import ResidualConvUnit

_LAST = 32
"""Channels before the last convolution."""


@dataclass(frozen=True)
class HeadSizes:
    """Sizes of the heads; the defaults are the small model's.

    Attributes:
        layers: channels of the four re-assembled layers.
        features: channels of the fused maps.
    """

    layers: tuple[int, int, int, int] = (48, 96, 192, 384)
    features: int = 64


class FeatureFusion(nn.Module):
    """Adds a layer to the coarser map and brings it to a size; the coarsest has none to add to."""

    def __init__(self, features: int, has_coarser: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        if has_coarser:
            self.resConfUnit1 = ResidualConvUnit(features)
        self.resConfUnit2 = ResidualConvUnit(features)

    def forward(self, x: Tensor, coarser: Tensor | None, size: tuple[int, int]) -> Tensor:
        """A layer and the coarser map, both (B, F, h, w), to (B, F, *size)."""
        if coarser is not None:
            x = coarser + self.resConfUnit1(x)
        # A 1x1 convolution and an interpolation commute; this way round it has less to do.
        return _resized(self.out_conv(self.resConfUnit2(x)), size)


class DualHead(nn.Module):
    """Both heads."""

    def __init__(self, channels: int, sizes: HeadSizes) -> None:
        super().__init__()
        first, second, _, fourth = sizes.layers
        self.norm = nn.LayerNorm(channels)
        self.projects = nn.ModuleList(nn.Conv2d(channels, out, 1) for out in sizes.layers)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(first, first, 4, 4),
                nn.ConvTranspose2d(second, second, 2, 2),
                nn.Identity(),
                nn.Conv2d(fourth, fourth, 3, 2, padding=1),
            ]
        )
        self.scratch = _scratch(sizes)

    def forward(
        self, layers: tuple[Tensor, ...], grid: Grid, size: tuple[int, int], with_rays: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Raw maps of views of one size.

        Args:
            layers: four of (B, S, channels). size: (height, width) of the images.

        Returns:
            (B, 2, H, W) depth and confidence; (B, 7, 8 rows, 8 columns) rays and confidence, or
            None.
        """
        aspect = size[1] / size[0]
        maps = []
        for level, tokens in enumerate(layers):
            image = self.norm(tokens).transpose(1, 2).unflatten(2, grid)
            image = _with_positions(self.projects[level](image), aspect)
            layer = self.scratch.get_submodule(f"layer{level + 1}_rn")
            maps.append(layer(self.resize_layers[level](image)))
        fused = self.scratch.get_submodule("output_conv1")(self._fuse(maps, ""))
        full = _with_positions(_resized(fused, size), aspect)
        depth = self.scratch.get_submodule("output_conv2")(full)
        if not with_rays:
            return depth, None
        fused = self.scratch.get_submodule("output_conv1_aux.3")(self._fuse(maps, "_aux"))
        last = self.scratch.get_submodule("output_conv2_aux.3")
        return depth, last(_with_positions(fused, aspect))

    def _fuse(self, maps: list[Tensor], suffix: str) -> Tensor:
        """From the coarsest to the finest, which is doubled."""
        fused = None
        for level in (3, 2, 1, 0):
            rows, cols = maps[max(level - 1, 0)].shape[-2:]
            size = (rows, cols) if level else (2 * rows, 2 * cols)
            fusion = self.scratch.get_submodule(f"refinenet{level + 1}{suffix}")
            fused = fusion(maps[level], fused, size)
        assert fused is not None
        return fused


def _scratch(sizes: HeadSizes) -> nn.Module:
    """Layers brought to one width, both ways of fusing them, and what follows these."""
    scratch, features = nn.Module(), sizes.features
    half = features // 2
    for number, channels in enumerate(sizes.layers, start=1):
        layer = nn.Conv2d(channels, features, 3, padding=1, bias=False)
        scratch.add_module(f"layer{number}_rn", layer)
        for suffix in ("", "_aux"):
            fusion = FeatureFusion(features, has_coarser=number < len(sizes.layers))
            scratch.add_module(f"refinenet{number}{suffix}", fusion)
    scratch.add_module("output_conv1", nn.Conv2d(features, half, 3, padding=1))
    last = nn.Conv2d(half, _LAST, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(_LAST, 2, 1)
    scratch.add_module("output_conv2", nn.Sequential(*last))
    # The checkpoint has these for all four levels, of which training alone reads the other three.
    widths = features, half, features, half, features, half
    convolutions = (nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
    scratch.add_module("output_conv1_aux", nn.ModuleDict({"3": nn.Sequential(*convolutions)}))
    rays = nn.Sequential(
        nn.Conv2d(half, _LAST, 3, padding=1),
        Permute(0, 2, 3, 1),
        nn.LayerNorm(_LAST),
        Permute(0, 3, 1, 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(_LAST, 7, 1),
    )
    scratch.add_module("output_conv2_aux", nn.ModuleDict({"3": rays}))
    return scratch


class Permute(nn.Module):
    """Reorders the dimensions."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """Any tensor of as many dimensions."""
        return x.permute(self.order)


def depth_and_confidence(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Depth > 0 and confidence > 1, both (B, H, W) float32, from a raw map (B, 2, H, W)."""
    depth, confidence = raw.float().exp().unbind(1)
    return depth, confidence + 1.0


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)


def _with_positions(x: Tensor, aspect: float) -> Tensor:
    """A map (B, C, h, w) plus a tenth of its pixels' places in sines and cosines: half of the
    channels tell the column, half the row.

    Args:
        aspect: width over height of the image. Places are in half its diagonals from its middle.
    """
    diagonal = (aspect**2 + 1.0) ** 0.5
    spans = 1.0 / diagonal, aspect / diagonal
    half = x.shape[1] // 2
    down, along = (
        0.1 * _sines(side, span, half, x) for side, span in zip(x.shape[-2:], spans, strict=True)
    )
    rows, cols = x.shape[-2:]
    places = torch.cat(
        [along[:, None, :].expand(-1, rows, -1), down[:, :, None].expand(-1, -1, cols)]
    )
    return x + places


def _sines(side: int, span: float, channels: int, like: Tensor) -> Tensor:
    """(channels, side) sines, then cosines, of the places of pixels along an axis."""
    end = span * (side - 1) / side
    place = torch.linspace(-end, end, side, device=like.device, dtype=torch.float32)
    exponent = torch.arange(channels // 2, device=like.device, dtype=torch.float32)
    angle = (100.0 ** -(exponent / (channels / 2.0)))[:, None] * place
    return torch.cat([angle.sin(), angle.cos()]).to(like.dtype)
