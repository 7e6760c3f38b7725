"""Parts of networks that several back ends have: attention with rotary position embedding, the MLP
of a transformer, the residual unit of a DPT head.

Attribute names are those of the published checkpoints' keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

Rotation = tuple[Tensor, Tensor]
"""What :func:`rotate` multiplies with: cosines, and sines with the sign of each half; both
(tokens, 1, 2, 2, channels of a head / 4), for row and column, first and second half."""


def rotation_at(positions: Tensor, channels: int, dtype: torch.dtype) -> Rotation:
    """The rotation of tokens at positions (tokens, 2), in rows and columns.

    Half of a head's channels rotate with the row, half with the column (RoPE-2D, with the base
    frequency of 100 of CroCo v2). In each, a channel of the first half and one of the second are
    the two coordinates that rotate.
    """
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


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Multi-head attention of (batch, tokens, heads, channels): (batch, tokens, all channels)."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    attended = functional.scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).flatten(2)


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, channels: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) to (..., out)."""
        return self.fc2(functional.gelu(self.fc1(x)))


class ResidualConvUnit(nn.Module):
    """Two convolutions around an identity, activation first."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, h, w) to the same."""
        return x + self.conv2(functional.relu(self.conv1(functional.relu(x))))
