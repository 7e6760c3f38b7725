"""Clicks on objects of a recording, scored against its object masks.

Two kinds of clicks are made. ``best``: the most interior pixel of each object of the reference
view, as NVOS and SPIn-NeRF evaluate. ``random``: pixels inside the object's outline, in random
views, as users click. A click's IoU is the mean over the views that show the object, the clicked
one included; no answer counts as 0. Objects that fewer than two views show are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import PromptError, WildSeg3DError
from wildseg3d_ros.core.types import Click, ObjectCloud, Prompt
from wildseg3d_ros.core.types.prompts import AMBIGUOUS
from wildseg3d_ros.evaluation import Truth, mean
from wildseg3d_ros.protocols.wide import MARGIN, MIN_VISIBLE
from wildseg3d_ros.scene.prompting import answer

if TYPE_CHECKING:
    from wildseg3d_ros.io.folder import Recording
    from wildseg3d_ros.scene.scene import Scene

BEST, RANDOM = "best", "random"
RANDOM_CLICKS = 5
"""Random clicks per object."""
MIN_CLICKED = 100
"""Minimum area of an object in a view that is clicked at random [px]."""
USELESS = 0.25
"""IoU below which an answer is of no use."""
GOOD_IOU, GOOD_SCORE = 0.75, 0.8
"""IoU of a good answer, and the answer's own score that should promise it."""
FLIP = 0.3
"""Range of an object's IoU over draws above which the object flips."""


@dataclass(frozen=True)
class ClickRecord:
    """One click and its answer.

    Attributes:
        dataset: the set of builds that it belongs to.
        recording: what was built; objects are told apart by recording and label.
        draw: of the noise that was added, from 1; 0 where none was.
        name, label: of the clicked object.
        kind: ``best`` or ``random``.
        view, u, v: clicked pixel.
        area: of the object in the clicked view [px].
        iou, iou_others, iou_at_depth: mean over the views that show the object, over those of
            them that were not clicked, and over the pixels with measured depth (None where no
            such pixel is scored).
        error: why there is no answer; empty when there is one.
        object_ids: the scene's objects that answered.
        score, ambiguity: as the answer says, None where it does not.
    """

    dataset: str
    recording: str
    draw: int
    name: str
    label: int
    kind: str
    view: str
    u: int
    v: int
    area: int
    iou: float
    iou_others: float
    iou_at_depth: float | None
    error: str
    object_ids: tuple[int, ...]
    score: float | None
    ambiguity: float | None

    @property
    def key(self) -> tuple[str, int]:
        """What tells objects apart."""
        return self.recording, self.label


def truth_of(recording: Recording) -> Truth:
    """The recording's labels; pixels of views without a depth image count as measured."""
    labels, measured = {}, {}
    for view, mask in zip(recording.views, recording.object_masks, strict=True):
        if mask is not None:
            labels[view.name] = mask
            depth = view.depth
            measured[view.name] = np.ones(mask.shape, np.bool_) if depth is None else depth > 0
    return Truth(labels, measured)


def choose_clicks(
    truth: Truth, seed: int, reference: str | None = None
) -> list[tuple[int, str, Click]]:
    """(label, kind, click) of all clicks on the objects that two or more views show.

    Best clicks are on objects that the reference view shows; random ones where a view shows the
    object with ``MIN_CLICKED`` pixels and some pixel has the ``MARGIN``. An object's clicks
    depend on the seed, its label and its masks alone.

    Args:
        reference: view of the best clicks; None for the view with most objects.
    """
    reference = reference or truth.view_with_most_objects()
    areas = {view: truth.areas(view) for view in truth.labels}
    chosen = []
    for label in sorted({label for found in areas.values() for label in found}):
        seen = views_that_show(truth, label)
        if len(seen) < 2:
            continue
        if reference in seen:
            chosen.append((label, BEST, truth.click(reference, label)))
        inside = {
            view: interior_pixels(truth.labels[view] == label, MARGIN)
            for view in seen
            if areas[view][label] >= MIN_CLICKED
        }
        clickable = [view for view, pixels in inside.items() if len(pixels)]
        rng = np.random.default_rng([seed, label])
        for _ in range(RANDOM_CLICKS if clickable else 0):
            view = clickable[rng.integers(len(clickable))]
            u, v = inside[view][rng.integers(len(inside[view]))].tolist()
            chosen.append((label, RANDOM, Click(view, u, v)))
    return chosen


def views_that_show(truth: Truth, label: int) -> list[str]:
    """Names of the views with ``MIN_VISIBLE`` pixels of an object or more."""
    return [v for v, mask in truth.labels.items() if (mask == label).sum() >= MIN_VISIBLE]


def interior_pixels(mask: NDArray[np.bool_], margin: float) -> NDArray[np.intp]:
    """(n, 2) pixels (u, v) of a mask (H, W) whose centres lie ``margin`` px or more inside its
    outline, which runs half a pixel beyond the centres of its border pixels; the image's edge is
    part of the outline."""
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return np.argwhere(distance >= margin + 0.5)[:, ::-1]


@dataclass(frozen=True)
class Source:
    """Which build is clicked: the first three attributes of :class:`ClickRecord`."""

    dataset: str
    recording: str
    draw: int = 0


def score_click(
    source: Source,
    scene: Scene | WildSeg3DError,
    truth: Truth,
    chosen: tuple[int, str, Click],
    name: str,
) -> tuple[ClickRecord, ObjectCloud | None]:
    """The click's record, and the answer if there is one; a failed build gives no answer."""
    label, kind, click = chosen
    cloud, error = None, ""
    if isinstance(scene, WildSeg3DError):
        error = f"no scene: {scene}"
    else:
        try:
            cloud = answer(scene, Prompt((click,)))
        except PromptError as failure:
            error = str(failure)
    masks = None if cloud is None else cloud.masks
    scores, at_depth = truth.compare(masks, label, views_that_show(truth, label))
    ious = {view: score.iou or 0.0 for view, score in scores.items()}
    record = ClickRecord(
        dataset=source.dataset,
        recording=source.recording,
        draw=source.draw,
        name=name,
        label=label,
        kind=kind,
        view=click.view,
        u=int(click.u),
        v=int(click.v),
        area=int((truth.labels[click.view] == label).sum()),
        iou=float(np.mean(list(ious.values()))),
        iou_others=float(np.mean([iou for view, iou in ious.items() if view != click.view])),
        iou_at_depth=mean(score.iou for score in at_depth.values()),
        error=error,
        object_ids=() if cloud is None else cloud.object_ids,
        score=_said(cloud, "score"),
        ambiguity=_said(cloud, "ambiguity"),
    )
    return record, cloud


def _said(cloud: ObjectCloud | None, attribute: str) -> float | None:
    value = getattr(cloud, attribute, None)
    return None if value is None else float(value)


def summarise(records: Sequence[ClickRecord]) -> dict:
    """Figures of one dataset by kind of click; of the draws as well, where there are several."""
    summary = {}
    for kind in (BEST, RANDOM):
        if of_kind := [record for record in records if record.kind == kind]:
            summary[kind] = _figures(of_kind)
    return summary


def _figures(records: Sequence[ClickRecord]) -> dict:
    ious = np.array([record.iou for record in records])
    objects = _by_object(records)
    figures = {
        "objects": len(objects),
        "clicks": len(records),
        "share_without_answer": float(np.mean([bool(record.error) for record in records])),
        "share_useless": float(np.mean(ious < USELESS)),
        "miou": float(ious.mean()),
        "miou_other_views": float(np.mean([record.iou_others for record in records])),
        "miou_at_depth": mean(record.iou_at_depth for record in records),
        "miou_worst_clicks": float(np.mean([min(each) for each in _ious(objects)])),
    }
    draws = sorted({record.draw for record in records})
    if len(draws) > 1:
        by_draw = [float(np.mean([r.iou for r in records if r.draw == draw])) for draw in draws]
        figures |= {
            "miou_worst_draw": min(by_draw),
            "miou_by_draw": by_draw,
            **_flips(objects.values()),
        }
    return figures | _trust(records)


def _by_object(records: Iterable[ClickRecord]) -> dict[tuple[str, int], list[ClickRecord]]:
    objects: dict[tuple[str, int], list[ClickRecord]] = {}
    for record in records:
        objects.setdefault(record.key, []).append(record)
    return objects


def _ious(objects: Mapping[tuple[str, int], list[ClickRecord]]) -> list[list[float]]:
    return [[record.iou for record in each] for each in objects.values()]


def _flips(objects: Iterable[Sequence[ClickRecord]]) -> dict:
    """How many pixels' answers change with the noise, and whether the answers say so."""
    flipping: list[ClickRecord] = []
    steady: list[ClickRecord] = []
    pixels = 0
    for records in objects:
        same: dict[tuple[str, int, int], list[ClickRecord]] = {}
        for record in records:
            same.setdefault((record.view, record.u, record.v), []).append(record)
        for draws in same.values():
            ious = [record.iou for record in draws]
            flips = max(ious) - min(ious) > FLIP
            pixels += flips
            (flipping if flips else steady).extend(draws)
    figures: dict = {"clicked_pixels_that_flip": pixels}
    for name, group in (("flipping", flipping), ("steady", steady)):
        said = [r.ambiguity > AMBIGUOUS for r in group if r.ambiguity is not None]
        if said:
            figures[f"share_of_{name}_marked_ambiguous"] = float(np.mean(said))
    return figures


def _trust(records: Iterable[ClickRecord]) -> dict:
    """Whether answers that think well of themselves are good."""
    scored = [record for record in records if record.score is not None]
    sure = [record for record in scored if (record.score or 0.0) >= GOOD_SCORE]
    if not scored:
        return {}
    good = float(np.mean([record.iou >= GOOD_IOU for record in sure])) if sure else None
    return {
        "answers_with_score": len(scored),
        "share_with_high_score": len(sure) / len(scored),
        "share_of_high_scores_that_are_good": good,
    }
