"""SPIn-NeRF's multi-view segmentation (Mirzaei et al., CVPR 2023): a reference mask, other views.

As distributed, a folder for each scene has a mask image for each annotated view, whose name holds
that of the image; files with ``cutout`` or ``pseudo`` in their names are something else::

    MVSeg_data/fern/IMG_4026.png, IMG_4027.png, ...

Images are elsewhere: LLFF's ``fern/images_4``, ``Truck/train/rgb`` of NSVF's Tanks and Temples,
``lego_real_night_radial/rgb``. The first mask by name is given, all others are scored, as SA3D has
it (which takes the first that the file system lists).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Prompt, ViewMask
from wildseg3d_ros.protocols.cases import (
    Case,
    images_of,
    load_views,
    pictures_in,
    read_mask,
    resized,
)

NAME = "spin-nerf"
SCENES = 10
"""That the papers' means are over."""
_LABELS = ("MVSeg_data", "masks", "labels")
_SCENE_FOLDERS = ("", "nerf_llff_data", "scenes", "llff", "images")
_NO_MASKS = ("cutout", "pseudo")


@dataclass(frozen=True)
class SpinNerfScene:
    """Where a scene's files are: the masks by the names of their views, the given one first."""

    name: str
    images: Path
    masks: dict[str, Path]


def find(root: Path) -> list[SpinNerfScene]:
    """The scenes in a folder.

    Raises:
        FileError: it is not laid out so; the text says what is missing.
    """
    labels = next((root / name for name in _LABELS if (root / name).is_dir()), None)
    if labels is None:
        raise FileError(
            f"'{root}' is no folder of SPIn-NeRF: expected MVSeg_data/ with a folder of masks for "
            "each scene"
        )
    found, missing = [], []
    for place in sorted(path for path in labels.iterdir() if path.is_dir()):
        images = _images(root, labels, place.name)
        if images is None:
            missing.append(f"the images of {place.name}, as {place.name}/images_4")
            continue
        names = _names(images)
        masks = {}
        for path in pictures_in(place):
            # The longest name: image 1 is in the name of the mask of image 10 as well.
            mine = [name for name in names if name in path.stem]
            if mine and not any(word in path.name for word in _NO_MASKS):
                masks.setdefault(max(mine, key=len), path)
        if len(masks) < 2:
            missing.append(f"masks of two or more views of {place.name}")
        else:
            found.append(SpinNerfScene(place.name, images, masks))
    if missing:
        raise FileError(f"the SPIn-NeRF folder '{root}' lacks {', '.join(missing)}")
    if not found:
        raise FileError(f"the SPIn-NeRF folder '{root}' has no scene in '{labels}'")
    return found


def load(scene: SpinNerfScene, max_views: int | None, progress: Progress | None = None) -> Case:
    """A scene's case; the given mask is brought to its view's size by the nearest pixel.

    Raises:
        FileError: a file is missing or unreadable.
    """
    views = load_views(scene.images, list(scene.masks), max_views, progress)
    used = {view.name for view in views}
    given, *scored = (name for name in scene.masks if name in used)
    size = next(view.size for view in views if view.name == given)
    mask = resized(read_mask(scene.masks[given]), size)
    if not mask.any():
        raise FileError(f"the given mask '{scene.masks[given]}' is empty")
    targets = {name: read_mask(scene.masks[name]) for name in scored}
    return Case(scene.name, views, Prompt(masks=(ViewMask(given, mask),)), targets)


def _images(root: Path, labels: Path, name: str) -> Path | None:
    places = [root / folder / name for folder in _SCENE_FOLDERS]
    return next((place for place in places if place.is_dir() and place.parent != labels), None)


def _names(folder: Path) -> list[str]:
    """Stems of a scene's images."""
    inside = pictures_in(folder)
    return [path.stem for path in inside or pictures_in(images_of(folder))]
