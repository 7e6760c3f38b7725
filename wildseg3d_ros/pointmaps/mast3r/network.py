"""The network: one encoder, two decoders that read each other, a head per view.

Encoding, what a view gives in each of its two roles, and decoding are separate steps, so that an
image is encoded once and a pair pays only for what depends on both views.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from wildseg3d_ros.pointmaps.mast3r.attention import (
    LAYER_NORM_EPSILON,
    DecoderBlock,
    EncoderBlock,
    rotation_of,
)
from wildseg3d_ros.pointmaps.mast3r.heads import (
    EncoderPart,
    HeadSizes,
    ViewHead,
    descriptors_and_confidence,
    points_and_confidence,
)

Grid = tuple[int, int]
"""Rows and columns of patches."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network; the defaults are the published model's (ViT-L, base decoder)."""

    patch: int = 16
    encoder_channels: int = 1024
    encoder_depth: int = 24
    encoder_heads: int = 16
    encoder_hidden: int = 4096
    decoder_channels: int = 768
    decoder_depth: int = 12
    decoder_heads: int = 12
    decoder_hidden: int = 3072
    head: HeadSizes = field(default_factory=HeadSizes)

    @property
    def hooks(self) -> tuple[int, int, int]:
        """Decoder layers, from 1, that the DPT reads beside the encoder's output."""
        return self.decoder_depth // 2, self.decoder_depth * 3 // 4, self.decoder_depth


@dataclass(frozen=True, eq=False)
class Role:
    """What views give to their pairs as first or as second view, before any other view is seen.

    Attributes:
        grid: of all views in the batch.
        embedded: (B, S, D) tokens that the other view's first decoder layer reads.
        hidden: (B, S, D) tokens after the first decoder layer's self-attention.
        head: the encoder's part in the head.
    """

    grid: Grid
    embedded: Tensor
    hidden: Tensor
    head: EncoderPart

    @staticmethod
    def stack(roles: list[Role]) -> Role:
        """One batch of roles on the same grid."""
        embedded, hidden, finest, local = (
            torch.cat(parts)
            for parts in zip(
                *((r.embedded, r.hidden, r.head.finest, r.head.local) for r in roles), strict=True
            )
        )
        return Role(roles[0].grid, embedded, hidden, EncoderPart(finest, local))


@dataclass(frozen=True, eq=False)
class Maps:
    """Output for one view of each pair in a batch, float32, in the first view's camera frame.

    Attributes:
        points: (B, H, W, 3); confidence: (B, H, W) >= 1.
        descriptors: (B, H, W, 24) of unit length; descriptor_confidence: (B, H, W) > 0.
    """

    points: Tensor
    confidence: Tensor
    descriptors: Tensor
    descriptor_confidence: Tensor

    def __getitem__(self, index: int) -> Maps:
        """One pair of the batch, without the batch's dimension."""
        return Maps(*(values[index] for values in vars(self).values()))


class Encoder(nn.Module):
    """Vision transformer (CroCo v2)."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        channels = sizes.encoder_channels
        self.head_channels = channels // sizes.encoder_heads
        patches = nn.Conv2d(3, channels, sizes.patch, stride=sizes.patch)
        self.patch_embed = nn.ModuleDict({"proj": patches})
        self.enc_blocks = nn.ModuleList(
            EncoderBlock(channels, sizes.encoder_heads, sizes.encoder_hidden)
            for _ in range(sizes.encoder_depth)
        )
        self.enc_norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)

    def forward(self, images: Tensor, grid: Grid) -> Tensor:
        """Normalised tokens (B, S, C) of images (B, 3, H, W) in [-1, 1]."""
        x = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        rotation = rotation_of(grid, self.head_channels, x.device, x.dtype)
        for block in self.enc_blocks:
            x = block(x, rotation)
        return self.enc_norm(x)


class Decoders(nn.Module):
    """A decoder for the first and one for the second view; each layer reads the other's last."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        channels = sizes.decoder_channels
        self.head_channels = channels // sizes.decoder_heads
        self.hooks = sizes.hooks
        self.decoder_embed = nn.Linear(sizes.encoder_channels, channels)

        self.dec_blocks, self.dec_blocks2 = (
            nn.ModuleList(
                DecoderBlock(channels, sizes.decoder_heads, sizes.decoder_hidden)
                for _ in range(sizes.decoder_depth)
            )
            for _ in range(2)
        )
        self.dec_norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)

    def prepare(self, encoded: Tensor, grid: Grid, number: int) -> tuple[Tensor, Tensor]:
        """Embedded tokens, and these after the first self-attention of decoder 1 or 2."""
        embedded = self.decoder_embed(encoded)
        first: Any = (self.dec_blocks if number == 1 else self.dec_blocks2)[0]
        rotation = rotation_of(grid, self.head_channels, encoded.device, encoded.dtype)
        return embedded, first.attend_self(embedded, rotation)

    def forward(self, one: Role, two: Role) -> tuple[list[Tensor], list[Tensor]]:
        """Tokens of both views at the layers that the heads read."""
        x, y, like = one.embedded, two.embedded, one.embedded
        rotation_x, rotation_y = (
            rotation_of(role.grid, self.head_channels, like.device, like.dtype)
            for role in (one, two)
        )
        kept: tuple[list[Tensor], list[Tensor]] = [], []
        depth = len(self.dec_blocks)
        layers: Any = zip(self.dec_blocks, self.dec_blocks2, strict=True)
        for number, (first, second) in enumerate(layers, start=1):
            if number == 1:
                own_x, own_y = one.hidden, two.hidden
            else:
                own_x, own_y = first.attend_self(x, rotation_x), second.attend_self(y, rotation_y)
            x, y = (
                first.attend_other(own_x, y, rotation_x, rotation_y),
                second.attend_other(own_y, x, rotation_y, rotation_x),
            )
            if number in self.hooks:
                for tokens, where in zip((x, y), kept, strict=True):
                    where.append(self.dec_norm(tokens) if number == depth else tokens)
        return kept


class Mast3r(nn.Module):
    """MASt3R for inference.

    ``network(images1, images2)`` is the plain way. :meth:`encode`, :meth:`role` and :meth:`decode`
    are its steps. The heads are float32 whatever the rest is, as in the original: points are
    ``expm1`` of what they give, and rounding that to bfloat16 moves a point at 2 m by millimetres.
    """

    def __init__(self, architecture: Architecture = Architecture()) -> None:
        super().__init__()
        self.architecture = sizes = architecture
        self.encoder, self.decoders = Encoder(sizes), Decoders(sizes)
        self.downstream_head1, self.downstream_head2 = (
            ViewHead(sizes.encoder_channels, sizes.decoder_channels, sizes.patch, sizes.head)
            for _ in range(2)
        )

    def shortened(self, dtype: torch.dtype) -> Mast3r:
        """This network with all but its heads in another type; in place."""
        self.encoder.to(dtype)
        self.decoders.to(dtype)
        return self

    def grid(self, images: Tensor) -> Grid:
        """Patches of images (B, 3, H, W).

        Raises:
            ValueError: a side is not a multiple of the patch size.
        """
        height, width = images.shape[-2:]
        patch = self.architecture.patch
        if height % patch or width % patch or not height or not width:
            raise ValueError(
                f"image sides must be multiples of {patch} pixels, got {width}x{height}"
            )
        return height // patch, width // patch

    def encode(self, images: Tensor) -> Tensor:
        """Normalised encoder tokens (B, S, C) of RGB images (B, 3, H, W) in [-1, 1]."""
        with _exact(images):
            return self.encoder(images, self.grid(images))

    def role(self, encoded: Tensor, grid: Grid, number: int) -> Role:
        """What encoded views (B, S, C) give to their pairs as view 1 or view 2."""
        embedded, hidden = self.decoders.prepare(encoded, grid, number)
        exact = encoded.float()
        with _exact(exact):
            head = self.downstream_head1 if number == 1 else self.downstream_head2
            return Role(grid, embedded, hidden, head.prepare(exact, grid))

    def decode(self, one: Role, two: Role) -> tuple[Maps, Maps]:
        """Both views of each pair, in the first view's camera frame."""
        tokens = self.decoders(one, two)
        made = []
        heads = self.downstream_head1, self.downstream_head2
        for head, role, kept in zip(heads, (one, two), tokens, strict=True):
            exact = [layer.float() for layer in kept]
            with _exact(exact[0]):
                points, local = head(role.head, exact, role.grid)
            made.append(Maps(*points_and_confidence(points), *descriptors_and_confidence(local)))
        return made[0], made[1]

    def forward(self, images1: Tensor, images2: Tensor) -> tuple[Maps, Maps]:
        """Maps of pairs of images (B, 3, H, W) in [-1, 1]; the two may differ in size."""
        one = self.role(self.encode(images1), self.grid(images1), 1)
        two = self.role(self.encode(images2), self.grid(images2), 2)
        return self.decode(one, two)


def _exact(like: Tensor) -> AbstractContextManager:
    """Float32 convolutions on a GPU in full, where cuDNN would round to TF32's ten bits."""
    if like.is_cuda and like.dtype == torch.float32:
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return nullcontext()


def dtype_of(name: str, dtype: torch.dtype) -> torch.dtype:
    """The type of one of the network's tensors in a network of a type."""
    return torch.float32 if name.startswith("downstream_head") else dtype


def published_name(name: str) -> str:
    """The checkpoint's key of one of the network's tensors."""
    return name.removeprefix("encoder.").removeprefix("decoders.")
