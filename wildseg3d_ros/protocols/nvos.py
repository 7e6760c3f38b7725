"""NVOS (Ren et al., "Neural Volumetric Object Selection", CVPR 2022): scribbles on LLFF's scenes.

As distributed, the labels are three folders with one folder for each scene in each::

    scribbles/fern/pos_0_fern.png, neg_0_fern.png     on the reference view
    reference_image/fern/IMG_4027.JPG                 which view that is
    masks/fern/IMG_4038.JPG, IMG_4038_mask.png        the target view and its truth

and LLFF's images are elsewhere: ``fern/images_4/IMG_4027.png`` and so on. Scenes ``horns_left``
and ``horns_center`` have the images of ``horns``.
"""

from __future__ import annotations

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
    Labelled,
    labelled,
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


def find(root: Path) -> list[Labelled]:
    """The scenes in a folder.

    Raises:
        FileError: it is not laid out so.
    """
    labels = next(
        (root / p for p in _LABELS if all((root / p / part).is_dir() for part in _PARTS)), None
    )
    if labels is None:
        raise FileError(
            f"'{root}' is no folder of NVOS: expected scribbles/, reference_image/ and masks/ in "
            "it, or in llff/"
        )
    return labelled(root, labels / "masks")


def load(scene: Labelled, max_views: int | None, progress: Progress | None = None) -> Case:
    """A scene's case.

    Scribbles are thinned to their skeletons, of which every 50th pixel becomes a positive click
    and every 200th a negative one; SA3D draws as many at random. Their pixels are scaled from the
    scribble's image to the view's.

    Raises:
        FileError: a file is missing or unreadable, or the scribble is empty.
    """
    name, labels = scene.name, scene.masks.parent.parent
    scribbles = pictures_in(labels / "scribbles" / name)
    needed = {
        f"scribbles/{name}/pos*.png": [p for p in scribbles if p.name.startswith("pos")],
        f"scribbles/{name}/neg*.png": [p for p in scribbles if p.name.startswith("neg")],
        f"reference_image/{name}/*": pictures_in(labels / "reference_image" / name),
        f"masks/{name}/*_mask.png": [
            p for p in pictures_in(scene.masks) if p.stem.endswith("_mask")
        ],
    }
    missing = [what for what, there in needed.items() if not there]
    if missing:
        raise scene.lacks(*missing)
    positive, negative, reference, truth = (there[0] for there in needed.values())
    given, target = reference.stem, truth.stem.removesuffix("_mask")
    targets = {target: read_mask(truth)}
    images = scene.images(name.rsplit("_", 1)[0])
    views = load_views(images, lambda _: [given, target], max_views, progress)
    size = next(view.size for view in views if view.name == given)
    clicks = []
    for path, label in ((positive, POSITIVE), (negative, NEGATIVE)):
        drawn = read_scribble(path)
        if label == POSITIVE and not drawn.any():
            raise FileError(f"the scribble '{path}' is empty")
        clicks += [
            Click(given, u, v, label) for u, v in scribble_pixels(drawn, _SHARE[label], size)
        ]
    return Case(name, views, Prompt(tuple(clicks)), targets)


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
