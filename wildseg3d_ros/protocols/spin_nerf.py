"""SPIn-NeRF's multi-view segmentation (Mirzaei et al., CVPR 2023): a reference mask, other views.

As distributed, a folder for each scene has a mask image for each annotated view, whose name holds
that of the image; files with ``cutout`` or ``pseudo`` in their names are something else::

    MVSeg_data/fern/IMG_4026.png, IMG_4027.png, ...

Images are elsewhere: LLFF's ``fern/images_4``, ``Truck/train/rgb`` of NSVF's Tanks and Temples,
``lego_real_night_radial/rgb``. The first mask by name is given, all others are scored, as SA3D has
it (which takes the first that the file system lists).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Prompt, ViewMask
from wildseg3d_ros.protocols.cases import (
    Case,
    Labelled,
    labelled,
    load_views,
    pictures_in,
    read_mask,
    resized,
)

NAME = "spin-nerf"
SCENES = 10
"""That the papers' means are over."""
_LABELS = ("MVSeg_data", "masks", "labels")
_NO_MASKS = ("cutout", "pseudo")


def find(root: Path) -> list[Labelled]:
    """The scenes in a folder.

    Raises:
        FileError: it is not laid out so.
    """
    labels = next((root / name for name in _LABELS if (root / name).is_dir()), None)
    if labels is None:
        raise FileError(
            f"'{root}' is no folder of SPIn-NeRF: expected MVSeg_data/ with a folder of masks for "
            "each scene"
        )
    return labelled(root, labels)


def load(scene: Labelled, max_views: int | None, progress: Progress | None = None) -> Case:
    """A scene's case; the given mask is brought to its view's size by the nearest pixel.

    Raises:
        FileError: a file is missing or unreadable.
    """
    pictures = pictures_in(scene.masks)
    pictures = [path for path in pictures if not any(word in path.name for word in _NO_MASKS)]
    masks: dict[str, Path] = {}

    def annotated(names: Sequence[str]) -> list[str]:
        masks.update(masks_of(names, pictures))
        if len(masks) < 2:
            there = ", ".join(path.name for path in pictures[:3]) or "none"
            raise scene.lacks(
                f"masks of two or more of its views: those are {', '.join(names[:3])}, ..., and "
                f"masks {there}"
            )
        return list(masks)

    views = load_views(scene.images(), annotated, max_views, progress)
    used = {view.name for view in views}
    given, *scored = (name for name in masks if name in used)
    size = next(view.size for view in views if view.name == given)
    mask = resized(read_mask(masks[given]), size)
    if not mask.any():
        raise FileError(f"the given mask '{masks[given]}' is empty")
    targets = {name: read_mask(masks[name]) for name in scored}
    return Case(scene.name, views, Prompt(masks=(ViewMask(given, mask),)), targets)


def masks_of(names: Sequence[str], pictures: Sequence[Path]) -> dict[str, Path]:
    """The mask of each view that has one: its name holds the view's, in full."""
    masks: dict[str, Path] = {}
    for path in pictures:
        # The longest name: image 1 is in the name of the mask of image 10 as well.
        mine = [name for name in names if name in path.stem]
        if mine:
            masks.setdefault(max(mine, key=len), path)
    return masks
