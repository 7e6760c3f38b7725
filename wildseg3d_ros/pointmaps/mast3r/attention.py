"""Transformer blocks with rotary position embedding in rows and columns (CroCo v2).

Attribute names are those of the published checkpoint's keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wildseg3d_ros.pointmaps.layers import MLP, Rotation, attend, rotate, rotation_at

LAYER_NORM_EPSILON = 1e-6
"""As in CroCo v2, whose networks the weights were trained with; PyTorch's default is 1e-5."""


def rotation_of(
    grid: tuple[int, int], channels: int, device: torch.device, dtype: torch.dtype
) -> Rotation:
    """The rotation of each token of a grid (rows, columns), tokens row by row."""
    rows, cols = grid
    row = torch.arange(rows, device=device).repeat_interleave(cols)
    col = torch.arange(cols, device=device).repeat(rows)
    return rotation_at(torch.stack([row, col], dim=1), channels, dtype)


class SelfAttention(nn.Module):
    """Multi-head attention among the tokens of one view."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """(B, S, C) to (B, S, C)."""
        query, key, value = (_split(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(attend(rotate(query, rotation), rotate(key, rotation), value))


class CrossAttention(nn.Module):
    """Multi-head attention of one view's tokens to another's."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(channels, channels)
        self.projk = nn.Linear(channels, channels)
        self.projv = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)

    def forward(
        self, x: Tensor, other: Tensor, rotation: Rotation, other_rotation: Rotation
    ) -> Tensor:
        """(B, S, C) and the other view's (B, T, C) to (B, S, C)."""
        query = rotate(_split(self.projq(x), self.heads), rotation)
        key = rotate(_split(self.projk(other), self.heads), other_rotation)
        return self.proj(attend(query, key, _split(self.projv(other), self.heads)))


class EncoderBlock(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)
        self.attn = SelfAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)
        self.mlp = MLP(channels, hidden, channels)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """(B, S, C) to (B, S, C)."""
        x = x + self.attn(self.norm1(x), rotation)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Pre-norm self-attention, attention to the other view, and MLP.

    The first step needs no other view and stands apart: the first layer's is the same in every
    pair that a view takes part in.
    """

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)
        self.attn = SelfAttention(channels, heads)
        self.cross_attn = CrossAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)
        self.norm3 = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)
        self.mlp = MLP(channels, hidden, channels)
        self.norm_y = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)

    def attend_self(self, x: Tensor, rotation: Rotation) -> Tensor:
        """(B, S, C) to (B, S, C): the step that only looks at the view itself."""
        return x + self.attn(self.norm1(x), rotation)

    def attend_other(
        self, x: Tensor, other: Tensor, rotation: Rotation, other_rotation: Rotation
    ) -> Tensor:
        """The steps after :meth:`attend_self`; ``other`` are the other view's tokens (B, T, C) of
        the layer before."""
        x = x + self.cross_attn(self.norm2(x), self.norm_y(other), rotation, other_rotation)
        return x + self.mlp(self.norm3(x))


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1))
