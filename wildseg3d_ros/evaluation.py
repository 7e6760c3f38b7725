"""Scores one-click answers against label images.

The protocol of NVOS (Ren et al., "Neural Volumetric Object Selection", CVPR 2022) and SPIn-NeRF
(Mirzaei et al., CVPR 2023), from one click: every object of a reference view is clicked once, at
its most interior pixel, and the answer's masks in all other views are compared with theirs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError, PromptError
from wildseg3d_ros.core.types import Click, Prompt
from wildseg3d_ros.io.folder import IGNORE, Recording
from wildseg3d_ros.scene.camera_pixels import at_camera
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_ros.scene.scene import Scene


@dataclass(frozen=True)
class MaskScore:
    """One mask against its truth.

    Attributes:
        iou: intersection over union in [0, 1]; None when both are empty.
        accuracy: share of the scored pixels that are right; None when no pixel is scored.
    """

    iou: float | None
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class Truth:
    """What answers are compared with, by view.

    Attributes:
        labels: (H, W) label images.
        measured: (H, W) bool, the pixels that have a measured depth.
    """

    labels: Mapping[str, NDArray]
    measured: Mapping[str, NDArray[np.bool_]]

    def areas(self, view: str) -> dict[int, int]:
        """Pixels of each object in a view, by label."""
        labels, counts = np.unique(self.labels[view], return_counts=True)
        counted = zip(labels.tolist(), counts.tolist(), strict=True)
        return {label: count for label, count in counted if label not in (0, IGNORE)}

    def view_with_most_objects(self) -> str:
        """Its name; among equals, the view with most pixels of objects."""
        areas = {view: self.areas(view) for view in self.labels}
        return max(areas, key=lambda view: (len(areas[view]), sum(areas[view].values())))

    def click(self, view: str, label: int) -> Click:
        """On the most interior pixel of an object."""
        return Click(view, *most_interior_pixel(self.labels[view] == label))

    def compare(
        self, masks: Mapping[str, NDArray[np.bool_]] | None, label: int, views: Iterable[str]
    ) -> tuple[dict[str, MaskScore], dict[str, MaskScore]]:
        """Scores of an object's masks over all pixels, and over those that have a measured depth.

        No answer (None) counts as empty masks.
        """
        scores, at_depth = {}, {}
        for view in views:
            right, known = self.labels[view] == label, self.labels[view] != IGNORE
            mask = np.zeros_like(right) if masks is None else masks[view]
            scores[view] = compare(mask, right, known)
            at_depth[view] = compare(mask, right, known & self.measured[view])
        return scores, at_depth


@dataclass(frozen=True)
class ObjectScore:
    """One clicked object.

    Attributes:
        label: its value in the label images.
        name: its name, or the label in words.
        pixel: (u, v) of the click in the reference view.
        error: why there is no answer; empty when there is one.
        object_ids: the scene's objects that answered.
        points: size of the answer.
        milliseconds: wall time of the answer.
        views: score over all pixels, by view.
        views_at_depth: the same over the pixels that have a measured depth.
        iou, accuracy, iou_at_depth, accuracy_at_depth: means over the views.
    """

    label: int
    name: str
    pixel: tuple[int, int]
    error: str
    object_ids: tuple[int, ...]
    points: int
    milliseconds: float
    views: dict[str, MaskScore]
    views_at_depth: dict[str, MaskScore]
    iou: float | None
    accuracy: float | None
    iou_at_depth: float | None
    accuracy_at_depth: float | None


@dataclass(frozen=True)
class Evaluation:
    """All objects of the reference view.

    Attributes:
        reference_view: where the clicks were made.
        reference_scored: whether the reference view's own masks are among the scores.
        objects: one score per object.
        miou, macc: means over the objects, all pixels.
        miou_at_depth, macc_at_depth: the same over the pixels that have a measured depth.
        seconds: wall time of the build by stage.
        peak_memory_mb: largest resident set of this process so far.
    """

    reference_view: str
    reference_scored: bool
    objects: tuple[ObjectScore, ...]
    miou: float | None
    macc: float | None
    miou_at_depth: float | None
    macc_at_depth: float | None
    seconds: dict[str, float]
    peak_memory_mb: float

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts, lists, numbers and text, as JSON has them."""
        return dataclasses.asdict(self)


def evaluate(
    recording: Recording,
    scene: Scene,
    reference_view: str | None = None,
    include_reference: bool = False,
) -> Evaluation:
    """Clicks every object of the reference view once and scores the answers.

    Pixels that the label images mark 255 are not scored. A click without an answer counts as empty
    masks: IoU 0 wherever the object is.

    Args:
        recording: label images of the views; views that the scene does not have are passed over.
        scene: built from the recording's views.
        reference_view: where to click; None for the view with most objects (then most pixels).
        include_reference: score the reference view's masks as well.

    Raises:
        InputError: no label images, none for the reference view, or another size than the scene's.
    """
    labels = {
        view.name: mask
        for view, mask in zip(recording.views, recording.object_masks, strict=True)
        if mask is not None and view.name in scene.view_names
    }
    measured = {
        view.name: _valid_at_camera(scene, scene.view_index(view.name))
        if view.depth is None
        else view.depth > 0
        for view in recording.views
        if view.name in labels
    }
    truth = Truth(labels, measured)
    reference = _reference(truth, reference_view)
    for name, mask in labels.items():
        shape = scene.camera_size(scene.view_index(name))
        if mask.shape != shape:
            raise InputError(
                f"camera '{name}': the label image is {mask.shape[1]}x{mask.shape[0]} but the "
                f"scene's image is {shape[1]}x{shape[0]}"
            )
    scored = [name for name in labels if include_reference or name != reference]
    if not scored:
        raise InputError(f"only view '{reference}' has a label image: there is nothing to compare")
    objects = [
        _score(scene, truth, truth.click(reference, label), label, recording, scored)
        for label in truth.areas(reference)
    ]
    return Evaluation(
        reference_view=reference,
        reference_scored=include_reference,
        objects=tuple(objects),
        miou=mean(o.iou for o in objects),
        macc=mean(o.accuracy for o in objects),
        miou_at_depth=mean(o.iou_at_depth for o in objects),
        macc_at_depth=mean(o.accuracy_at_depth for o in objects),
        seconds=dict(scene.seconds),
        peak_memory_mb=peak_memory_mb(),
    )


def most_interior_pixel(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """(u, v) of the mask's pixel that is farthest from all that is outside mask and image.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("an empty mask has no interior")
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    v, u = np.unravel_index(int(np.argmax(distance)), distance.shape)
    return int(u), int(v)


def compare(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], scored: NDArray[np.bool_]
) -> MaskScore:
    """Scores a mask at the pixels that are ``scored``; all (H, W) bool."""
    union = int(np.count_nonzero((mask | truth) & scored))
    both = int(np.count_nonzero(mask & truth & scored))
    pixels = int(np.count_nonzero(scored))
    return MaskScore(
        iou=both / union if union else None,
        accuracy=1.0 - (union - both) / pixels if pixels else None,
    )


def peak_memory_mb() -> float:
    """Largest resident set of this process so far, in 10^6 bytes."""
    with contextlib.suppress(OSError):
        # Linux's ru_maxrss begins with the peak of whoever started this program.
        _, _, rest = Path("/proc/self/status").read_text().partition("VmHWM:")
        return int(rest.split()[0]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _valid_at_camera(scene: Scene, view: int) -> NDArray[np.bool_]:
    return at_camera(scene, view, scene.world.valid(view))


def _reference(truth: Truth, wanted: str | None) -> str:
    if not truth.labels:
        raise InputError(
            "none of the scene's views has a label image to score against; give each frame an "
            "'object_mask_path'"
        )
    if wanted is not None and wanted not in truth.labels:
        raise InputError(
            f"reference view '{wanted}' is not among the views with a label image: "
            f"{', '.join(truth.labels)}"
        )
    return wanted or truth.view_with_most_objects()


def _score(
    scene: Scene, truth: Truth, click: Click, label: int, recording: Recording, scored: list[str]
) -> ObjectScore:
    error, ids, points, masks = "", (), 0, None
    start = time.perf_counter()
    try:
        cloud = answer(scene, Prompt((click,)))
        ids, points, masks = cloud.object_ids, len(cloud), cloud.masks
    except PromptError as failure:
        error = str(failure)
    milliseconds = (time.perf_counter() - start) * 1e3
    views, views_at_depth = truth.compare(masks, label, scored)
    return ObjectScore(
        label=label,
        name=recording.name_of(label),
        pixel=(int(click.u), int(click.v)),
        error=error,
        object_ids=ids,
        points=points,
        milliseconds=milliseconds,
        views=views,
        views_at_depth=views_at_depth,
        iou=mean(s.iou for s in views.values()),
        accuracy=mean(s.accuracy for s in views.values()),
        iou_at_depth=mean(s.iou for s in views_at_depth.values()),
        accuracy_at_depth=mean(s.accuracy for s in views_at_depth.values()),
    )


def mean(values: Iterable[float | None]) -> float | None:
    """Of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
