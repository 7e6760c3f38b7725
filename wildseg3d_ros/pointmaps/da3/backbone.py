"""The transformer: DINOv2 whose later layers look at one view and at all views in turn.

Attribute names are those of the published checkpoint's keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from wildseg3d_ros.pointmaps.da3.attention import Block
from wildseg3d_ros.pointmaps.layers import Rotation, rotation_at

Grid = tuple[int, int]
"""Rows and columns of patches."""

_MIN_FOR_CHOICE = 3
"""Views from which the reference view is chosen; of fewer it is the first."""


@dataclass(frozen=True)
class BackboneSizes:
    """Sizes of the transformer; the defaults are the small model's.

    Attributes:
        channels, depth, heads, hidden: of the blocks.
        positions: side of the square of patches that position embeddings were learned on.
        first_joint: the layer from which every second one looks at all views; from it on, queries
            and keys are normalised and rotated by position.
        kept: the four layers whose tokens the heads read.
    """

    channels: int = 384
    depth: int = 12
    heads: int = 6
    hidden: int = 1536
    patch: int = 14
    positions: int = 37
    first_joint: int = 4
    kept: tuple[int, int, int, int] = (5, 7, 9, 11)


@dataclass(frozen=True, eq=False)
class Features:
    """What the transformer makes of views of one size.

    Attributes:
        views: numbers of the views.
        grid: of all of them.
        layers: four of (n, S, 2 C), the view's own tokens beside those that saw all views.
        camera: (n, 2 C) the camera token, likewise.
    """

    views: tuple[int, ...]
    grid: Grid
    layers: tuple[Tensor, ...]
    camera: Tensor


class Transformer(nn.Module):
    """The blocks and what comes before them."""

    def __init__(self, sizes: BackboneSizes) -> None:
        super().__init__()
        self.sizes, channels = sizes, sizes.channels
        patches = nn.Conv2d(3, channels, sizes.patch, stride=sizes.patch)
        self.patch_embed = nn.ModuleDict({"proj": patches})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        # For the reference view, and for all others.
        self.camera_token = nn.Parameter(torch.zeros(1, 2, channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, sizes.positions**2 + 1, channels))
        self.blocks = nn.ModuleList(
            Block(channels, sizes.heads, sizes.hidden, 1e-6, layer >= sizes.first_joint)
            for layer in range(sizes.depth)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, images: Sequence[Tensor], camera: Tensor | None, step: Callable[[], None]
    ) -> list[Features]:
        """Features of all views, grouped by size.

        Args:
            images: N of (3, H, W), normalised; sides are multiples of the patch.
            camera: (N, C) camera tokens; None where no cameras are given.
            step: called after each layer.
        """
        groups = self._groups(images)
        order = [view for views in groups.values() for view in views]
        tokens = [
            self._embed(torch.stack([images[view] for view in views]), grid)
            for grid, views in groups.items()
        ]
        own = tokens
        camera_tokens: list[Tensor] = []
        kept: list[list[Tensor]] = [[] for _ in groups]
        alone = [self._rotation(grid, tokens[0], joint=False) for grid in groups]
        together = _joined(
            [self._rotation(g, tokens[0], joint=True) for g, v in groups.items() for _ in v]
        )
        reference = 0
        for layer, block in enumerate(self.blocks):
            if layer == self.sizes.first_joint - 1 and camera is None:
                reference = _reference_view(tokens, order)
            if layer == self.sizes.first_joint:
                tokens = self._with_camera_tokens(tokens, order, camera, reference)
            rotated = layer >= self.sizes.first_joint
            if rotated and layer % 2:
                tokens = _over_all(block, tokens, together)
            else:
                places = alone if rotated else [None] * len(alone)
                own = tokens = [block(x, at) for x, at in zip(tokens, places, strict=True)]
            if layer in self.sizes.kept:
                for where, mine, seen in zip(kept, own, tokens, strict=True):
                    where.append(torch.cat([mine, self.norm(seen)], dim=-1)[:, 1:])
                camera_tokens = [
                    torch.cat([mine[:, 0], seen[:, 0]], dim=-1)
                    for mine, seen in zip(own, tokens, strict=True)
                ]
            step()
        made = zip(groups.items(), kept, camera_tokens, strict=True)
        return [
            Features(tuple(views), grid, tuple(layers), token)
            for (grid, views), layers, token in made
        ]

    def _groups(self, images: Sequence[Tensor]) -> dict[Grid, list[int]]:
        """The views of each size."""
        groups: dict[Grid, list[int]] = {}
        for view, image in enumerate(images):
            rows, cols = (side // self.sizes.patch for side in image.shape[-2:])
            groups.setdefault((rows, cols), []).append(view)
        return groups

    def _embed(self, images: Tensor, grid: Grid) -> Tensor:
        """(n, 1 + S, C) class token and patches, with their positions."""
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(len(images), -1, -1)
        return torch.cat([first, patches], dim=1) + self._positions(grid)

    def _positions(self, grid: Grid) -> Tensor:
        """(1, 1 + S, C) position embeddings, resampled to another grid than the learned one."""
        side = self.sizes.positions
        if grid == (side, side):
            return self.pos_embed
        learned = self.pos_embed.float()
        square = learned[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        # DINOv2 was trained with the scales of a grid that is a tenth of a patch larger.
        scale = tuple((count + 0.1) / side for count in grid)
        resampled = functional.interpolate(square, scale_factor=scale, mode="bicubic")
        patches = resampled.flatten(2).transpose(1, 2)
        return torch.cat([learned[:, :1], patches], dim=1).to(self.pos_embed.dtype)

    def _rotation(self, grid: Grid, like: Tensor, joint: bool) -> Rotation:
        """Of a view's tokens: patches count from 1, and stand at one place when views are joined;
        the camera token is at 0."""
        rows, cols = torch.meshgrid(
            *(torch.arange(1, n + 1, device=like.device) for n in grid), indexing="ij"
        )
        places = torch.stack([rows.flatten(), cols.flatten()], dim=1)
        if joint:
            places = torch.ones_like(places)
        places = torch.cat([torch.zeros_like(places[:1]), places])
        return rotation_at(places, self.sizes.channels // self.sizes.heads, like.dtype)

    def _with_camera_tokens(
        self, tokens: list[Tensor], order: list[int], camera: Tensor | None, reference: int
    ) -> list[Tensor]:
        """The class token gives way to one that says whose camera it is."""
        if camera is None:
            which = [0 if view == reference else 1 for view in order]
            rows = self.camera_token[0, which]
        else:
            rows = camera[order].to(tokens[0].dtype)
        parts = rows.split([len(x) for x in tokens])
        return [torch.cat([p[:, None], x[:, 1:]], 1) for p, x in zip(parts, tokens, strict=True)]


class Backbone(nn.Module):
    """A name that the checkpoint's keys have."""

    def __init__(self, sizes: BackboneSizes) -> None:
        super().__init__()
        self.pretrained = Transformer(sizes)


def _joined(rotations: list[Rotation]) -> Rotation:
    cosines, sines = zip(*rotations, strict=True)
    return torch.cat(cosines), torch.cat(sines)


def _over_all(block: nn.Module, tokens: list[Tensor], rotation: Rotation) -> list[Tensor]:
    """A block over the tokens of all views together."""
    joined = torch.cat([x.flatten(0, 1) for x in tokens])[None]
    parts = block(joined, rotation)[0].split([x.shape[0] * x.shape[1] for x in tokens])
    return [part.view_as(x) for part, x in zip(parts, tokens, strict=True)]


def _reference_view(tokens: list[Tensor], order: list[int]) -> int:
    """The view that is most in the middle of all by three measures of its class token: similarity
    to the others, length, and variance (the published code's rule)."""
    if len(order) < _MIN_FOR_CHOICE:
        return 0
    place = torch.tensor(order).argsort()
    token = torch.cat([x[:, 0] for x in tokens])[place].float()
    length = token.norm(dim=-1)
    unit = token / length[:, None]
    similarity = ((unit @ unit.T).sum(dim=1) - 1.0) / (len(order) - 1)
    off = torch.zeros_like(length)
    for measure in (similarity, length, unit.var(dim=-1)):
        low, high = measure.aminmax()
        off += ((measure - low) / (high - low + 1e-8) - 0.5).abs()
    return int(off.argmin())
