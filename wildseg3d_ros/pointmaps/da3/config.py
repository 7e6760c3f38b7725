"""Settings of the Depth Anything 3 back end."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from wildseg3d_ros.core.settings import setting

if TYPE_CHECKING:
    from wildseg3d_ros.pointmaps import PointmapBackend


@dataclass(frozen=True)
class Da3PointmapConfig:
    """Pointmaps of RGB cameras by the Depth Anything 3 network, all views at once."""

    extra: ClassVar[str] = "da3"

    weights: str = setting(
        "depth-anything/DA3-BASE",
        "hub name of a downloaded model, or a folder with its config.json and model.safetensors",
    )
    device: str = setting("auto", "torch device: auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "number type of the network's transformer; auto: bfloat16 on a GPU, else float32"
    )
    image_size: int = setting(
        504, "longer side of the network's images, a multiple of 14 [px]; trained: 504", 56, 2016
    )
    relative_sigma: float = setting(
        0.01,
        "standard deviation of a depth of middle confidence, over that depth; where matches of "
        "given poses show a larger one, that counts",
        1e-4,
        1.0,
    )
    max_disagreement: float = setting(
        0.1,
        "maximum typical difference between given poses and the network's depth at one scale, "
        "over the depth; beyond it there is no scene",
        1e-3,
        1.0,
    )
    prior_translation_sigma: float = setting(
        0.01, "standard deviation of the given camera positions [m]", 1e-6, 10.0
    )
    prior_rotation_sigma: float = setting(
        0.01, "standard deviation of the given camera orientations [rad]", 1e-6, 3.0
    )
    matcher: str = setting(
        "",
        "weights of EfficientLoFTR, a hub name or a folder, for pairs of posed views in which "
        "SIFT matches little; empty = SIFT alone",
    )

    def load(self) -> PointmapBackend:
        """The back end with these settings."""
        return pkgutil.resolve_name("wildseg3d_ros.pointmaps.da3.backend:Da3Pointmaps")(self)
