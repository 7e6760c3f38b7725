"""NVOS (Ren et al., "Neural Volumetric Object Selection", CVPR 2022): scribbles on LLFF's scenes.

As distributed, the labels are three folders with one folder for each scene in each::

    scribbles/fern/pos_0_fern.png, neg_0_fern.png     on the reference view
    reference_image/fern/IMG_4027.JPG                 which view that is
    masks/fern/IMG_4038.JPG, IMG_4038_mask.png        the target view and its truth

and LLFF's images are elsewhere: ``fern/images_4/IMG_4027.png`` and so on. Scenes ``horns_left``
and ``horns_center`` have the images of ``horns``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import NEGATIVE, POSITIVE, Click, Prompt
from wildseg3d_ros.io.images import ImageFile
from wildseg3d_ros.protocols.cases import (
    Case,
    load_views,
    pictures_in,
    read_mask,
)

NAME = "nvos"
SCENES = 8
"""That the papers' means are over."""
_SHARE = {POSITIVE: 0.02, NEGATIVE: 0.005}
"""Of the pixels of a scribble's skeleton that become clicks, as SA3D draws them."""
_PARTS = ("scribbles", "reference_image", "masks")
_LABELS = ("", "llff", "labels/llff", "labels")
_SCENE_FOLDERS = ("", "nerf_llff_data", "scenes", "llff", "images")


@dataclass(frozen=True)
class NvosScene:
    """Where a scene's files are."""

    name: str
    images: Path
    reference: str
    positive: Path
    negative: Path
    target: str
    truth: Path


def find(root: Path) -> list[NvosScene]:
    """The scenes in a folder.

    Raises:
        FileError: it is not laid out so; the text lists what is missing.
    """
    labels = next(
        (root / p for p in _LABELS if all((root / p / part).is_dir() for part in _PARTS)), None
    )
    if labels is None:
        raise FileError(
            f"'{root}' is no folder of NVOS: expected scribbles/, reference_image/ and masks/ in "
            "it, or in llff/"
        )
    found, missing = [], []
    for place in sorted(path for path in (labels / "masks").iterdir() if path.is_dir()):
        scene = _scene(root, labels, place.name)
        if isinstance(scene, NvosScene):
            found.append(scene)
        else:
            missing += scene
    if missing:
        raise FileError(f"the NVOS folder '{root}' lacks {', '.join(missing)}")
    if not found:
        raise FileError(f"the NVOS folder '{root}' has no scene in '{labels / 'masks'}'")
    return found


def load(scene: NvosScene, max_views: int | None, progress: Progress | None = None) -> Case:
    """A scene's case.

    Scribbles are thinned to their skeletons, of which every 50th pixel becomes a positive click
    and every 200th a negative one; SA3D draws as many at random. Their pixels are scaled from the
    scribble's image to the view's.

    Raises:
        FileError: a file is missing or unreadable, or the scribble is empty.
    """
    views = load_views(scene.images, [scene.reference, scene.target], max_views, progress)
    size = next(view.size for view in views if view.name == scene.reference)
    clicks = []
    for path, label in ((scene.positive, POSITIVE), (scene.negative, NEGATIVE)):
        drawn = read_scribble(path)
        if label == POSITIVE and not drawn.any():
            raise FileError(f"the scribble '{path}' is empty")
        clicks += [
            Click(scene.reference, u, v, label)
            for u, v in scribble_pixels(drawn, _SHARE[label], size)
        ]
    return Case(scene.name, views, Prompt(tuple(clicks)), {scene.target: read_mask(scene.truth)})


def read_scribble(path: Path) -> NDArray[np.bool_]:
    """(h, w) bool: the pixels of a scribble's image that are drawn on: all that are not black."""
    image = ImageFile.read(path).pixels(cv2.IMREAD_UNCHANGED)
    return (image[..., :3].max(axis=2) if image.ndim == 3 else image) > 0


def scribble_pixels(
    drawn: NDArray[np.bool_], share: float, size: tuple[int, int]
) -> NDArray[np.float64]:
    """(n, 2) pixels (u, v) of a scribble's skeleton, evenly spaced along its rows.

    Args:
        drawn: (h, w) the scribble.
        share: of the skeleton's pixels; one at least, where there are any.
        size: (height, width) of the view.
    """
    from skimage.morphology import skeletonize

    rows, columns = np.nonzero(skeletonize(drawn))
    count = max(1, round(share * len(rows))) if len(rows) else 0
    chosen = ((np.arange(count) + 0.5) / max(count, 1) * len(rows)).astype(int)
    pixels = np.stack([columns[chosen], rows[chosen]], axis=1)
    scale = np.array(size[::-1]) / np.array(drawn.shape[::-1])
    return (pixels + 0.5) * scale - 0.5


def _scene(root: Path, labels: Path, name: str) -> NvosScene | list[str]:
    """Where its files are, or what is missing."""
    scribbles = pictures_in(labels / "scribbles" / name)
    positive = [path for path in scribbles if path.name.startswith("pos")]
    negative = [path for path in scribbles if path.name.startswith("neg")]
    reference = pictures_in(labels / "reference_image" / name)
    truth = [path for path in pictures_in(labels / "masks" / name) if path.stem.endswith("_mask")]
    places = [
        root / folder / scene
        for folder in _SCENE_FOLDERS
        for scene in (name, name.rsplit("_", 1)[0])
    ]
    images = [place for place in places if place.is_dir() and place.name != "masks"]
    needed = {
        f"scribbles/{name}/pos*.png": positive,
        f"scribbles/{name}/neg*.png": negative,
        f"reference_image/{name}/*": reference,
        f"masks/{name}/*_mask.png": truth,
        f"the images of {name}, as {name}/images_4": images,
    }
    missing = [what for what, there in needed.items() if not there]
    if missing:
        return missing
    target = truth[0].stem.removesuffix("_mask")
    return NvosScene(
        name, images[0], reference[0].stem, positive[0], negative[0], target, truth[0]
    )
