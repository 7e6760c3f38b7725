"""Settings of the SAM 2 masks."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from wildseg3d_ros.core.settings import setting

if TYPE_CHECKING:
    from wildseg3d_ros.masks import MaskBackend


@dataclass(frozen=True)
class Sam2MaskConfig:
    """Object masks by SAM 2, SAM 2.1, EdgeTAM or SAM 3."""

    extra: ClassVar[str] = "sam2"
    nothing_found: ClassVar[tuple[str, str]] = (
        "no mask of the network passed the filters in 'masks.sam2'",
        "look at `wildseg3d inspect-masks FOLDER`, or lower predicted_iou and stability there",
    )

    weights: str = setting(
        "facebook/sam2.1-hiera-small",
        "hub name of a downloaded model, its folder, or its file with config.json beside it",
    )
    device: str = setting("auto", "torch device: auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "number type of the network; auto: bfloat16 on a GPU, else float32"
    )
    grid: int = setting(32, "points per side of the grid of prompts that finds everything", 1, 128)
    predicted_iou: float = setting(
        0.8, "minimum quality of a mask by the network's own estimate", 0.0, 1.0
    )
    stability: float = setting(
        0.95,
        "minimum overlap of a mask with itself when its threshold moves, at the image's size",
        0.0,
        1.0,
    )
    stability_offset: float = setting(
        1.0, "by how much the threshold moves, up and down [logits]", 0.0, 10.0
    )
    box_overlap: float = setting(
        0.7, "overlap of boxes beyond which the worse of two masks is dropped", 0.0, 1.0
    )
    mask_overlap: float = setting(
        0.0,
        "overlap that their masks must have as well, so that a rim stays beside its whole",
        0.0,
        1.0,
    )
    min_area: float = setting(
        0.0, "minimum area of a mask, island or hole, as a share of the image", 0.0, 1.0
    )
    max_area: float = setting(
        1.0, "maximum area, as a share of the image; what is larger is background", 0.0, 1.0
    )
    anchors: int = setting(
        3, "views whose masks are tracked through the others; 0 = no tracking", 0, 64
    )
    keep_embeddings: bool = setting(
        True, "keep the views' embeddings for prompts that no mask answers (8 MB each)"
    )
    max_memory_mib: int = setting(
        4096, "maximum memory beside the network's weights [MiB]", 1, 1 << 20
    )

    def load(self) -> MaskBackend:
        """The back end with these settings."""
        return pkgutil.resolve_name("wildseg3d_ros.masks.sam2.backend:Sam2Masks")(self)
