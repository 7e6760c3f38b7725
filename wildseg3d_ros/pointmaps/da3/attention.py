"""Transformer blocks of DINOv2 (Oquab et al., 2023), with the additions of Depth Anything 3.

Attribute names are those of the published checkpoint's keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wildseg3d_ros.pointmaps.layers import MLP, Rotation, attend, rotate


class LayerScale(nn.Module):
    """A factor for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) to the same."""
        return x * self.gamma


class Attention(nn.Module):
    """Multi-head attention among all tokens of a batch's item.

    Args:
        normalised: whether queries and keys pass a layer norm of their own.
    """

    def __init__(self, channels: int, heads: int, normalised: bool) -> None:
        super().__init__()
        self.heads, self.normalised = heads, normalised
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        if normalised:
            self.q_norm, self.k_norm = (nn.LayerNorm(channels // heads) for _ in range(2))

    def forward(self, x: Tensor, rotation: Rotation | None) -> Tensor:
        """(B, S, C) to (B, S, C)."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if self.normalised:
            query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        return self.proj(attend(query, key, value))


class Block(nn.Module):
    """Pre-norm self-attention and MLP, each scaled by channel.

    Args:
        epsilon: of the two layer norms; those of queries and keys have PyTorch's default.
    """

    def __init__(
        self, channels: int, heads: int, hidden: int, epsilon: float, normalised: bool = False
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(channels, eps=epsilon) for _ in range(2))
        self.attn = Attention(channels, heads, normalised)
        self.ls1, self.ls2 = LayerScale(channels), LayerScale(channels)
        self.mlp = MLP(channels, hidden, channels)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """(B, S, C) to (B, S, C)."""
        x = x + self.ls1(self.attn(self.norm1(x), rotation))
        return x + self.ls2(self.mlp(self.norm2(x)))
