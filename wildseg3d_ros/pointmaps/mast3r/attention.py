"""Transformer blocks with rotary position embedding in rows and columns (CroCo v2).

Attribute names are those of the published checkpoint's keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYER_NORM_EPSILON = 1e-6
"""As in CroCo v2, whose networks the weights were trained with; PyTorch's default is 1e-5."""

Rotation = tuple[Tensor, Tensor]
"""What :func:`rotate` multiplies with: cosines, and sines with the sign of each half; both
(tokens, 1, 2, 2, channels of a head / 4), for row and column, first and second half."""


def rotation_of(
    grid: tuple[int, int], channels: int, device: torch.device, dtype: torch.dtype
) -> Rotation:
    """The rotation of each token of a grid (rows, columns), tokens row by row.

    Half of a head's channels rotate with the row, half with the column (RoPE-2D, with CroCo v2's
    base frequency of 100). In each, a channel of the first half and one of the second are the two
    coordinates that rotate.
    """
    rows, cols = grid
    row = torch.arange(rows, device=device).repeat_interleave(cols)
    col = torch.arange(cols, device=device).repeat(rows)
    return rotation_at(torch.stack([row, col], dim=1), channels, dtype)


def rotation_at(positions: Tensor, channels: int, dtype: torch.dtype) -> Rotation:
    """As :func:`rotation_of`, of tokens at positions (tokens, 2), in rows and columns."""
    exponent = torch.arange(0, channels // 2, 2, device=positions.device, dtype=torch.float32)
    frequency = 100.0 ** -(exponent / (channels // 2))
    angle = positions.float()[:, None, :, None, None] * frequency
    cosine, sine = angle.cos(), angle.sin()
    return (
        torch.cat([cosine, cosine], dim=-2).to(dtype),
        torch.cat([-sine, sine], dim=-2).to(dtype),
    )


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotates queries or keys (batch, tokens, heads, channels)."""
    cosine, sine = rotation
    parts = x.unflatten(-1, cosine.shape[-3:-1] + (-1,))
    return torch.addcmul(parts * cosine, parts.flip(-2), sine).flatten(-3)


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, channels: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) to (..., out)."""
        return self.fc2(functional.gelu(self.fc1(x)))


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
        return self.proj(_attend(rotate(query, rotation), rotate(key, rotation), value))


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
        return self.proj(_attend(query, key, _split(self.projv(other), self.heads)))


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


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    attended = functional.scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).flatten(2)
