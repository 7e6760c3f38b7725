"""Settings of the MASt3R back end."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from wildseg3d_ros.core.settings import setting

if TYPE_CHECKING:
    from wildseg3d_ros.pointmaps import PointmapBackend


@dataclass(frozen=True)
class Mast3rPointmapConfig:
    """Pointmaps of RGB cameras by the MASt3R network."""

    extra: ClassVar[str] = "mast3r"

    weights: str = setting(
        "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric",
        "hub name of a downloaded model, or a .safetensors or .pth file, or its folder",
    )
    device: str = setting("auto", "torch device: auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "number type of the network; auto: bfloat16 on a GPU, else float32"
    )
    image_size: int = setting(
        512, "longer side of the network's images, a multiple of 16 [px]; trained: 512", 32, 2048
    )
    batch_size: int = setting(
        0, "maximum pairs at once; 0 = as many as fit into a GPU's memory, one on a CPU", 0, 256
    )
    both_directions: bool = setting(
        True, "predict each pair in both cameras' frames; one direction takes half the time"
    )
    min_confidence: float = setting(
        1.5,
        "minimum confidence (above 1) of the most confident tenth of a pair's second view; pairs "
        "below it are left out",
        0.0,
        1000.0,
    )
    keep_on_device: bool = setting(
        False,
        "pointmaps stay in the memory of the network's device, where they are fused with "
        "alignment.device auto: 17 bytes for each pixel of both views of a pair and direction, "
        "10 MB at 640x480",
    )

    def load(self) -> PointmapBackend:
        """The back end with these settings."""
        return pkgutil.resolve_name("wildseg3d_ros.pointmaps.mast3r.backend:Mast3rPointmaps")(self)
