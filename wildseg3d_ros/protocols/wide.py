"""Our own protocol, for views far apart: every object, every pair of views, by their angle.

NVOS's views are neighbours. Here an object is clicked once in each view that shows it, at its most
interior pixel, and the answer's mask in each other view is scored by itself. Pairs are counted by
the angle between the two cameras as seen from the object. Each object is also clicked at random
inside of its mask, which says how much the best pixel flatters.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError, PromptError
from wildseg3d_ros.core.types import Click, Prompt
from wildseg3d_ros.evaluation import Truth, compare, mean
from wildseg3d_ros.io.folder import IGNORE, Recording
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_ros.scene.scene import Scene

BINS = (0, 45, 90, 135, 180)
"""Edges of the bins [degrees]."""
MIN_VISIBLE = 50
"""Area below which a view does not show an object [px]."""
CLICKS = 5
"""At random, for each object and view."""
MARGIN = 2.0
"""Minimum distance of such a click from the object's outline [px]."""


@dataclass(frozen=True)
class PairScore:
    """One object, clicked in one view and scored in another.

    Attributes:
        label, name: of the object.
        clicked, scored: names of the views.
        angle: between the cameras as seen from the object [degrees].
        iou: of the mask in the scored view; 0 without an answer.
    """

    label: int
    name: str
    clicked: str
    scored: str
    angle: float
    iou: float


@dataclass(frozen=True)
class Bin:
    """The pairs of a range of angles; ``miou`` is None where there are none."""

    low: int
    high: int
    pairs: int
    miou: float | None


@dataclass(frozen=True)
class ClickScore:
    """An object that is clicked at random in one view.

    Attributes:
        label, view: what and where.
        best: mean IoU over the other views that show it, of the click at its most interior pixel.
        random: the same of each random click.
    """

    label: int
    view: str
    best: float
    random: tuple[float, ...]


@dataclass(frozen=True)
class WideScore:
    """What the protocol found.

    Attributes:
        pairs, bins: see there.
        clicks: of objects and views.
        best, random, worst: means over these: of the best pixel, of random ones, and of the worst
            of each five.
    """

    pairs: tuple[PairScore, ...]
    bins: tuple[Bin, ...]
    clicks: tuple[ClickScore, ...]
    best: float | None
    random: float | None
    worst: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)


def evaluate_wide(recording: Recording, scene: Scene, seed: int = 0) -> WideScore:
    """Scores every object in every pair of views.

    Args:
        recording: label images of the views; views that the scene does not have are passed over.
        scene: built from the recording's views.
        seed: of the random clicks.

    Raises:
        InputError: fewer than two of the scene's views have a label image, or no object is in two.
    """
    labels = {
        view.name: mask
        for view, mask in zip(recording.views, recording.object_masks, strict=True)
        if mask is not None and view.name in scene.view_names
    }
    if len(labels) < 2:
        raise InputError(
            f"the wide protocol needs label images of two views or more, got {len(labels)}; give "
            "frames an 'object_mask_path'"
        )
    truth = Truth(labels, {})
    shown: dict[int, list[str]] = {}
    for view in labels:
        for label, area in truth.areas(view).items():
            if area >= MIN_VISIBLE:
                shown.setdefault(label, []).append(view)
    shown = {label: views for label, views in sorted(shown.items()) if len(views) > 1}
    if not shown:
        raise InputError("no object is shown by two views with a label image")
    rng = np.random.default_rng(seed)
    pairs: list[PairScore] = []
    clicks: list[ClickScore] = []
    for label, views in shown.items():
        for view in views:
            others = [name for name in views if name != view]
            best = _ious(scene, labels, truth.click(view, label), label, others)
            centre = _centre(scene, view, labels[view] == label)
            pairs += [
                PairScore(label, recording.name_of(label), view, other,
                          _angle(scene, view, other, centre), best[other])
                for other in others
            ]  # fmt: skip
            drawn = tuple(
                float(np.mean(list(_ious(scene, labels, click, label, others).values())))
                for click in _random_clicks(view, labels[view] == label, rng)
            )
            clicks.append(ClickScore(label, view, float(np.mean(list(best.values()))), drawn))
    return WideScore(
        tuple(pairs),
        tuple(_binned(pairs)),
        tuple(clicks),
        mean(each.best for each in clicks),
        mean(iou for each in clicks for iou in each.random),
        mean(min(each.random) for each in clicks if each.random),
    )


def _ious(
    scene: Scene, labels: Mapping[str, NDArray], click: Click, label: int, views: list[str]
) -> dict[str, float]:
    """IoU of a click's answer in each view; 0 without one."""
    try:
        masks = answer(scene, Prompt((click,))).masks
    except PromptError:
        return dict.fromkeys(views, 0.0)
    return {
        view: compare(masks[view], labels[view] == label, labels[view] != IGNORE).iou or 0.0
        for view in views
    }


def _centre(scene: Scene, view: str, mask: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """(3,) the middle of what a view measured of an object; None where it measured nothing."""
    index = scene.view_index(view)
    seen = mask & scene.world.valid(index)
    if not seen.any():
        return None
    return np.median(np.asarray(scene.world.points[index])[seen].astype(np.float64), axis=0)


def _angle(scene: Scene, one: str, other: str, centre: NDArray[np.float64] | None) -> float:
    """Between two cameras as seen from a point, or without one between their axes [degrees]."""
    poses = [scene.world_from_cam[scene.view_index(name)] for name in (one, other)]
    if centre is None:
        rays = [pose[:3, 2] for pose in poses]
    else:
        rays = [pose[:3, 3] - centre for pose in poses]
    a, b = (ray / max(float(np.linalg.norm(ray)), 1e-12) for ray in rays)
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def _random_clicks(
    view: str, mask: NDArray[np.bool_], rng: np.random.Generator
) -> Iterator[Click]:
    """Inside of a mask, away from its outline; anywhere in it where it is thin."""
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    inner = np.argwhere(distance > MARGIN)
    pixels = inner if len(inner) else np.argwhere(mask)
    for row, column in pixels[rng.integers(len(pixels), size=CLICKS)].tolist():
        yield Click(view, column, row)


def _binned(pairs: list[PairScore]) -> Iterator[Bin]:
    for low, high in itertools.pairwise(BINS):
        last = high == BINS[-1]
        inside = [p.iou for p in pairs if low <= p.angle < high or (last and p.angle == high)]
        yield Bin(low, high, len(inside), mean(inside))
