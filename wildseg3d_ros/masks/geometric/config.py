"""Settings of the geometric masks."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from wildseg3d_ros.core.settings import setting

if TYPE_CHECKING:
    from wildseg3d_ros.masks import MaskBackend


@dataclass(frozen=True)
class GeometricMaskConfig:
    """Object masks from the fused cloud."""

    nothing_found: ClassVar[tuple[str, str]] = (
        "all that stands out is flat, or goes on beyond the images, as tables and walls do",
        "see the things from more sides, or build with masks.backend=sam2",
    )

    voxel_size: float = setting(
        0.0, "edge of the voxels that are segmented [m]; 0 = from the images' resolution", 0.0, 0.1
    )
    weights: str = setting(
        "default",
        "network whose affinities of pixels are evidence: default = the package's own, none, or "
        "the path of a file that `wildseg3d train-masks` made",
    )

    def load(self) -> MaskBackend:
        """The back end with these settings.

        Raises:
            FileError: ``weights`` is no file with such a network.
        """
        return pkgutil.resolve_name("wildseg3d_ros.masks.geometric.backend:GeometricMasks")(self)
