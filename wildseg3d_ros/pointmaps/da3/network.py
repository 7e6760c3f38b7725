"""The network: a transformer over all views, heads per view, cameras in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wildseg3d_ros.pointmaps.da3.backbone import Backbone, BackboneSizes, Features
from wildseg3d_ros.pointmaps.da3.cameras import CameraDecoder, CameraEncoder
from wildseg3d_ros.pointmaps.da3.heads import DualHead, HeadSizes, depth_and_confidence

_AT_ONCE = 8
"""Views whose maps are made at once on a GPU; a processor makes one at a time."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network; the defaults are the small model's."""

    backbone: BackboneSizes = field(default_factory=BackboneSizes)
    head: HeadSizes = field(default_factory=HeadSizes)
    camera_depth: int = 4


@dataclass(frozen=True, eq=False)
class Maps:
    """What the network says of one view, float32.

    Attributes:
        depth: (H, W) along the optical axis, in a unit that all views share.
        confidence: (H, W) > 1.
        camera: (9,) see :mod:`.cameras`.
        rays: (8 rows, 8 columns, 6) of the grid of patches, direction and origin; None where they
            were not asked for.
    """

    depth: Tensor
    confidence: Tensor
    camera: Tensor
    rays: Tensor | None = None


def _ignore() -> None:
    pass


class DepthAnything3(nn.Module):
    """Depth Anything 3 for inference."""

    def __init__(self, architecture: Architecture = Architecture()) -> None:
        super().__init__()
        self.architecture = architecture
        channels = architecture.backbone.channels
        self.backbone = Backbone(architecture.backbone)
        self.head = DualHead(2 * channels, architecture.head)
        self.cam_enc = CameraEncoder(channels, architecture.camera_depth)
        self.cam_dec = CameraDecoder(2 * channels)

    def steps(self, views: int) -> int:
        """How often ``step`` is called for that many views."""
        return self.architecture.backbone.depth + views

    def forward(
        self,
        images: Sequence[Tensor],
        cameras: Tensor | None = None,
        with_rays: bool = False,
        step: Callable[[], None] = _ignore,
    ) -> list[Maps]:
        """Maps of all views, in their order.

        Args:
            images: N of (3, H, W) float32, with the mean and deviation of ImageNet taken out.
                Sizes may differ; the published code cuts all to the smallest.
            cameras: (N, 9) of given cameras, all or none.
            step: called after each layer and each view's head, to tell of progress.

        Raises:
            ValueError: a side is not a multiple of the patch size.
        """
        patch = self.architecture.backbone.patch
        for image in images:
            height, width = image.shape[-2:]
            if height % patch or width % patch or not height or not width:
                raise ValueError(f"image sides must be multiples of {patch}, got {width}x{height}")
        transformer = self.backbone.pretrained
        dtype = transformer.cls_token.dtype
        token = None if cameras is None else self.cam_enc(cameras)
        groups = transformer([image.to(dtype) for image in images], token, step)
        made: dict[int, Maps] = {}
        for group in groups:
            made |= self._maps(group, with_rays, step)
        return [made[view] for view in range(len(images))]

    def _maps(self, group: Features, with_rays: bool, step: Callable[[], None]) -> dict[int, Maps]:
        rows, cols = group.grid
        patch = self.architecture.backbone.patch
        cameras = self.cam_dec(group.camera.float())
        made: dict[int, Maps] = {}
        at_once = _AT_ONCE if cameras.is_cuda else 1
        for start in range(0, len(group.views), at_once):
            part = slice(start, start + at_once)
            layers = tuple(layer[part].float() for layer in group.layers)
            size = rows * patch, cols * patch
            # In full: cuDNN would round to TF32's ten bits, and the depth is an exponential.
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                raw, rays = self.head(layers, group.grid, size, with_rays)
            depth, confidence = depth_and_confidence(raw)
            for k, view in enumerate(group.views[part]):
                ray = None if rays is None else rays[k, :6].permute(1, 2, 0)
                made[view] = Maps(depth[k], confidence[k], cameras[start + k], ray)
                step()
        return made


def published_name(name: str) -> str:
    """The checkpoint's key of one of the network's tensors."""
    return f"model.{name}"


def set_backbone_type(network: DepthAnything3, dtype: torch.dtype) -> None:
    """Sets the transformer's number type; heads and cameras stay in float32, as at the authors."""
    network.backbone.to(dtype)
