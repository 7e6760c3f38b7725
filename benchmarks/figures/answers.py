"""Truth beside answer: every object of a recording, clicked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures.built_scenes import COLORS, Built, shelf, tabletop
from wildseg3d_ros.evaluation import evaluate, most_interior_pixel
from wildseg3d_ros.io.folder import IGNORE, Recording

MISSED, EXTRA = "#E69F00", "#0072B2"
SHELF_REFERENCE = "frame-000007"


def truth_and_answer() -> Any:
    """All views of the table: true objects, answers, and where they differ."""
    built = tabletop()
    return draw_answers(built, [view.name for view in built.recording.views], None)


def shelf_truth_and_answer() -> Any:
    """Views of the real shelf, failures included."""
    built = shelf()
    if built is None:
        return None
    names = [view.name for view in built.recording.views]
    shown = [SHELF_REFERENCE, *(name for name in names[::5] if name != SHELF_REFERENCE)]
    return draw_answers(built, shown[:3], SHELF_REFERENCE)


@dataclass(frozen=True, eq=False)
class Answered:
    """An object's answer to one click.

    Attributes:
        ids: of the scene's objects that answered, as the command line and the page say them;
            "none" where none did.
        masks: (H, W) by view.
    """

    ids: str
    masks: Mapping[str, NDArray[np.bool_]]


def answers(built: Built, reference: str | None) -> dict[int, Answered]:
    """Answers to one click per object, by label; the click is the evaluation's."""
    from wildseg3d_ros.core.errors import PromptError
    from wildseg3d_ros.core.types import Click, Prompt
    from wildseg3d_ros.scene.prompting import answer

    masks = truth_masks(built.recording)
    where = reference or max(masks, key=lambda name: len(np.unique(masks[name])))
    found = {}
    for label in labels_of(masks[where]):
        click = Click(where, *most_interior_pixel(masks[where] == label))
        try:
            cloud = answer(built.scene, Prompt((click,)))
            found[label] = Answered(", ".join(map(str, cloud.object_ids)), dict(cloud.masks))
        except PromptError:
            found[label] = Answered("none", {})
    return found


def truth_masks(recording: Recording) -> dict[str, NDArray]:
    """Label images by view."""
    pairs = zip(recording.views, recording.object_masks, strict=True)
    return {view.name: mask for view, mask in pairs if mask is not None}


def labels_of(mask: NDArray) -> list[int]:
    """Labels of objects in a label image."""
    return [int(label) for label in np.unique(mask) if label not in (0, IGNORE)]


def draw_answers(built: Built, names: Sequence[str], reference: str | None) -> Any:
    """A row per view: truth, answers to one click per object, and the difference."""
    import matplotlib.pyplot as plt

    masks, found = truth_masks(built.recording), answers(built, reference)
    images = {view.name: view.image for view in built.recording.views}
    figure, axes = plt.subplots(
        len(names), 3, figsize=(10, 2.55 * len(names)), layout="constrained", squeeze=False
    )
    for row, name in zip(axes, names, strict=True):
        truth = masks[name]
        shown = {k: each.masks[name] for k, each in found.items() if name in each.masks}
        ids = {label: each.ids for label, each in found.items()}
        show_objects(row[0], images[name], {label: truth == label for label in found}, ids)
        show_objects(row[1], images[name], shown, ids)
        ious = show_difference(row[2], images[name], truth, shown)
        row[0].set_title(f"{name}: truth", fontsize=8)
        row[1].set_title("one click per object", fontsize=8)
        row[2].set_title(f"difference; mean IoU {np.mean(ious):.3f}", fontsize=8)
    for axis in axes.flat:
        axis.tick_params(labelsize=5, length=2)
    figure.legend(
        handles=[plt.Rectangle((0, 0), 1, 1, color=c) for c in ("black", MISSED, EXTRA)],
        labels=["right", "missing in the answer", "too much in the answer"],
        loc="outside lower center",
        ncols=3,
        fontsize=8,
    )
    return figure


def show_objects(
    axis: Any, image: NDArray[np.uint8], masks: Mapping[int, NDArray], ids: Mapping[int, str]
) -> None:
    """An image with masks, by label, in distinct colours, outlined, each with its id."""
    from matplotlib.colors import to_rgb

    picture = image / 255.0 * 0.6 + 0.2
    for label, mask in masks.items():
        color = np.array(to_rgb(COLORS[list(ids).index(label) % len(COLORS)]))
        picture[mask] = 0.45 * picture[mask] + 0.55 * color
    axis.imshow(picture)
    for label, mask in masks.items():
        if mask.sum() < 20:
            continue
        axis.contour(mask, levels=[0.5], colors="black", linewidths=0.6)
        u, v = most_interior_pixel(mask)
        axis.text(
            *(u, v, ids[label]), fontsize=7, color="white", ha="center", va="center",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "black", "linewidth": 0},
        )  # fmt: skip


def show_difference(
    axis: Any, image: NDArray[np.uint8], truth: NDArray, masks: dict[int, NDArray]
) -> list[float]:
    """Where answers and truth differ; returns the IoU of each object that is in the view."""
    from matplotlib.colors import to_rgb

    picture = np.repeat(image.mean(axis=2, keepdims=True) / 255.0 * 0.3 + 0.65, 3, axis=2)
    ious = []
    right, missed, extra = (np.zeros(truth.shape, bool) for _ in range(3))
    for label, mask in masks.items():
        true = truth == label
        known = truth != IGNORE
        if not (true | (mask & known)).any():
            continue
        ious.append((true & mask).sum() / (true | (mask & known)).sum())
        right |= true & mask
        missed |= true & ~mask
        extra |= mask & ~true & known
    for area, color in ((right, "black"), (missed, MISSED), (extra, EXTRA)):
        picture[area] = 0.25 * picture[area] + 0.75 * np.array(to_rgb(color))
    axis.imshow(picture)
    return ious


def objects_table() -> list[list[str]]:
    """A row per object of the table: id, IoU, points; every view is scored, as the papers do."""
    built = tabletop()
    scores, found = evaluate(built.recording, built.scene, None, True), answers(built, None)
    return [
        [
            *(found[each.label].ids, each.name, f"{each.iou or 0:.3f}"),
            *(f"{each.iou_at_depth or 0:.3f}", f"{each.points:,}"),
        ]
        for each in scores.objects
    ]
