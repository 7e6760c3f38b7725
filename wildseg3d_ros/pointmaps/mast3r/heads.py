"""The heads of one view: a DPT (Ranftl et al., ICCV 2021) for points, an MLP for descriptors.

Attribute names are those of the published checkpoint's keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from wildseg3d_ros.pointmaps.layers import MLP, ResidualConvUnit


@dataclass(frozen=True)
class HeadSizes:
    """Sizes of a head that do not follow from the transformer's.

    Attributes:
        layers: channels of the four re-assembled layers.
        features: channels of the fused maps.
        last: channels before the last convolution.
        local_hidden: hidden channels of the descriptor MLP.
        descriptor: channels of a descriptor.
    """

    layers: tuple[int, int, int, int] = (96, 192, 384, 768)
    features: int = 256
    last: int = 128
    local_hidden: int = 7168
    descriptor: int = 24


@dataclass(frozen=True, eq=False)
class EncoderPart:
    """What a head makes of a view's encoder tokens alone, the same in all of the view's pairs.

    Attributes:
        finest: (B, F, 4 rows, 4 cols) the finest layer's contribution to the fused map.
        local: (B, S, hidden) the encoder's share of the descriptor MLP's hidden layer.
    """

    finest: Tensor
    local: Tensor


class FeatureFusion(nn.Module):
    """Adds a layer to the coarser map and doubles the resolution.

    The published model has a unit for the layer in the coarsest fusion too, which has no coarser
    map to add it to and never uses it.
    """

    def __init__(self, features: int, has_layer: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        # What a layer (B, F, h, w) adds to the coarser map.
        self.resConfUnit1 = ResidualConvUnit(features) if has_layer else nn.Identity()
        self.resConfUnit2 = ResidualConvUnit(features)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, h, w) to (B, F, 2 h, 2 w)."""
        # A 1x1 convolution and an interpolation commute; this way round it has a quarter to do.
        return _double(self.out_conv(self.resConfUnit2(x)))


class Scratch(nn.Module):
    """Layers brought to one width, and the fusions from coarse to fine."""

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        for number, channels in enumerate(sizes.layers, start=1):
            layer = nn.Conv2d(channels, sizes.features, 3, padding=1, bias=False)
            self.add_module(f"layer{number}_rn", layer)
            fusion = FeatureFusion(sizes.features, has_layer=number < len(sizes.layers))
            self.add_module(f"refinenet{number}", fusion)

    def layer(self, level: int) -> nn.Module:
        """The convolution that brings layer 0 (finest) to 3 to the common width."""
        return self.get_submodule(f"layer{level + 1}_rn")

    def fusion(self, level: int) -> FeatureFusion:
        """The fusion of layer 0 (finest) to 3."""
        module = self.get_submodule(f"refinenet{level + 1}")
        assert isinstance(module, FeatureFusion)
        return module


class DPT(nn.Module):
    """Dense prediction from the tokens of four layers: three coordinates and a confidence."""

    def __init__(self, encoder: int, decoder: int, sizes: HeadSizes) -> None:
        super().__init__()
        first, second, third, fourth = sizes.layers
        self.act_postprocess = nn.ModuleList(
            nn.Sequential(*layers)
            for layers in (
                (nn.Conv2d(encoder, first, 1), nn.ConvTranspose2d(first, first, 4, 4)),
                (nn.Conv2d(decoder, second, 1), nn.ConvTranspose2d(second, second, 2, 2)),
                (nn.Conv2d(decoder, third, 1),),
                (nn.Conv2d(decoder, fourth, 1), nn.Conv2d(fourth, fourth, 3, 2, padding=1)),
            )
        )
        self.scratch = Scratch(sizes)
        # The checkpoint numbers upsampling (1) and activation (3) as well.
        self.head = nn.ModuleDict(
            {
                "0": nn.Conv2d(sizes.features, sizes.last, 3, padding=1),
                "2": nn.Conv2d(sizes.last, sizes.last, 3, padding=1),
                "4": nn.Conv2d(sizes.last, 4, 1),
            }
        )

    def finest(self, encoder: Tensor, grid: tuple[int, int]) -> Tensor:
        """The contribution of the encoder's tokens (B, S, C), used by the finest fusion only."""
        return self.scratch.fusion(0).resConfUnit1(self._layer(0, encoder, grid))

    def forward(self, finest: Tensor, decoder: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """(B, 4, H, W) from :meth:`finest` and the tokens (B, S, D) of three decoder layers."""
        fused = self._layer(3, decoder[2], grid)
        for level in (2, 1):
            layer = self._layer(level, decoder[level - 1], grid)
            rows, cols = layer.shape[-2:]
            # A coarser map of an odd grid comes back one row or column too large.
            fused = self.scratch.fusion(level + 1)(fused)[..., :rows, :cols]
            fused = fused + self.scratch.fusion(level).resConfUnit1(layer)
        fused = self.scratch.fusion(0)(self.scratch.fusion(1)(fused) + finest)
        fused = self.head["2"](_double(self.head["0"](fused)))
        return self.head["4"](functional.relu(fused, inplace=True))

    def _layer(self, level: int, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        image = tokens.transpose(1, 2).unflatten(2, grid)
        return self.scratch.layer(level)(self.act_postprocess[level](image))


class ViewHead(nn.Module):
    """Points, confidence, descriptors and their confidence of one view of a pair."""

    def __init__(self, encoder: int, decoder: int, patch: int, sizes: HeadSizes) -> None:
        super().__init__()
        self.patch, self.encoder_channels = patch, encoder
        self.dpt = DPT(encoder, decoder, sizes)
        out = (sizes.descriptor + 1) * patch**2
        self.head_local_features = MLP(encoder + decoder, sizes.local_hidden, out)

    def prepare(self, encoder: Tensor, grid: tuple[int, int]) -> EncoderPart:
        """What does not depend on the other view."""
        weight = self.head_local_features.fc1.weight[:, : self.encoder_channels]
        return EncoderPart(self.dpt.finest(encoder, grid), functional.linear(encoder, weight))

    def forward(
        self, prepared: EncoderPart, decoder: list[Tensor], grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Raw maps (B, 4, H, W) and (B, descriptor + 1, H, W).

        Args:
            decoder: tokens (B, S, D) of the three decoder layers that the DPT reads; the last one
                is normalised.
        """
        mlp = self.head_local_features
        weight = mlp.fc1.weight[:, self.encoder_channels :]
        hidden = prepared.local + functional.linear(decoder[-1], weight, mlp.fc1.bias)
        local = mlp.fc2(functional.gelu(hidden)).transpose(1, 2).unflatten(2, grid)
        points = self.dpt(prepared.finest, decoder, grid)
        return points, functional.pixel_shuffle(local, self.patch)


def points_and_confidence(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Points (B, H, W, 3) and confidences (B, H, W) >= 1, float32, from a raw map (B, 4, H, W).

    The distance of a point is ``expm1`` of the length of what the network gives; its confidence is
    ``1 + exp`` (DUSt3R, eq. 4 and section 3.1).
    """
    raw = raw.float()
    xyz = raw[:, :3].permute(0, 2, 3, 1).contiguous()
    length = torch.linalg.vector_norm(xyz, dim=-1, keepdim=True)
    return xyz * (torch.expm1(length) / length.clamp_min(1e-8)), 1.0 + raw[:, 3].exp()


def descriptors_and_confidence(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Unit descriptors (B, H, W, D) and confidences (B, H, W) > 0, float32."""
    raw = raw.float()
    descriptors = raw[:, :-1].permute(0, 2, 3, 1).contiguous()
    return functional.normalize(descriptors, dim=-1), raw[:, -1].exp()


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
