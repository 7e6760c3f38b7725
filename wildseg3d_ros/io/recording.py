"""What is read of a folder or a bag: views, and what else is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.types import View


@dataclass(frozen=True, eq=False)
class Recording:
    """What a folder holds.

    Attributes:
        views: images with what is known of their cameras, without lens distortion.
        object_masks: per view (H, W) uint8 or uint16 labels, 0 = none, 255 = not scored; or None.
        object_names: name by label, for those labels that have one.
        warnings: what was left out, and what of the description is not read.
        format: what it was read as: "nerfstudio", "COLMAP".
        metric: whether lengths are metres; False where the format leaves the scale open.
        world_frame: name of the frame of the poses; empty where the format names none.
    """

    views: tuple[View, ...]
    object_masks: tuple[NDArray | None, ...] = ()
    object_names: dict[int, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    format: str = ""
    metric: bool = True
    world_frame: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", tuple(self.views))
        masks = tuple(self.object_masks) or (None,) * len(self.views)
        if len(masks) != len(self.views):
            raise InputError(f"{len(self.views)} views but {len(masks)} object masks")
        object.__setattr__(self, "object_masks", masks)

    def name_of(self, label: int) -> str:
        """The name of a label, or the label in words."""
        return self.object_names.get(label, f"object {label}")
