"""``wildseg3d inspect-masks``: what SAM 2 finds in each view, and what each filter drops."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from wildseg3d_ros.core.types import View
    from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
    from wildseg3d_ros.masks.sam2.generation import SegmentedView

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MEASURED = ("predicted_iou", "stability", "area")


def inspect_masks(given: argparse.Namespace) -> None:
    """Segments every view by itself, and says what became of all candidates."""
    from wildseg3d_ros.cli.commands import given_recording, read_config
    from wildseg3d_ros.cli.report import tell_warnings
    from wildseg3d_ros.core.progress import Progress
    from wildseg3d_ros.core.progress_bar import ProgressBar
    from wildseg3d_ros.masks import load_masks

    masks = read_config(given.config, given.settings).masks
    config = masks.group("sam2")
    # Nothing is tracked, and nothing kept.
    alone = dataclasses.replace(config, anchors=0, keep_embeddings=False)
    backend: Any = load_masks(dataclasses.replace(masks, backend="sam2", sam2=alone))
    views = given_recording(given).views
    with ProgressBar(given.quiet) as bar:
        progress = Progress(bar.report)
        with progress.stage("masks") as part:
            made = backend.segment_views(views, part)
    tell_warnings(progress.warnings)
    figures = {view.name: _figures(each) for view, each in zip(views, made, strict=True)}
    if not given.quiet:
        _print(figures, config)
    if given.json:
        from wildseg3d_ros.core.files.writing import write_bytes

        write_bytes(given.json, (json.dumps(figures, indent=1) + "\n").encode())
    if given.picture:
        from wildseg3d_ros.io.images import write_image

        write_image(given.picture, _picture(views, made, config))


def _figures(segmented: SegmentedView) -> dict[str, Any]:
    """Of a view; quantiles are None where nothing reached the filter."""
    dropped = segmented.dropped
    measured: dict[str, list[float]] = {
        name: getattr(dropped, name) if dropped else [] for name in _MEASURED
    }
    return {
        "candidates": len(measured["predicted_iou"]),
        "dropped": dict(dropped.steps) if dropped else {},
        "kept": len(segmented.quality),
        "quantiles": {
            name: np.quantile(values, _QUANTILES).tolist() if values else None
            for name, values in measured.items()
        },
    }


def _print(figures: dict[str, dict[str, Any]], config: Sam2MaskConfig) -> None:
    steps = list(dict.fromkeys(step for each in figures.values() for step in each["dropped"]))
    columns = ["candidates", *(f"-{step}" for step in steps), "kept"]
    width = max([8, *map(len, figures)])
    print(f"{'view':{width}}  " + "  ".join(columns))
    for name, each in figures.items():
        counts = [each["candidates"], *(each["dropped"].get(s, 0) for s in steps), each["kept"]]
        row = (f"{count:>{len(title)}}" for count, title in zip(counts, columns, strict=True))
        print(f"{name:{width}}  " + "  ".join(row))
    print(f"\nquantiles      {'  '.join(f'{share:7.0%}' for share in _QUANTILES)}   of the view")
    for measured in _MEASURED:
        for name, each in figures.items():
            values = each["quantiles"][measured]
            said = "  ".join(f"{v:7.4f}" for v in values) if values else "nothing reached it"
            print(f"{measured:13}  {said}   {name}")
    limits = ("predicted_iou", "stability", "box_overlap", "mask_overlap", "min_area", "max_area")
    print("settings       " + ", ".join(f"{name} {getattr(config, name):g}" for name in limits))


def _picture(
    views: Sequence[View], made: Sequence[SegmentedView], config: Sam2MaskConfig
) -> NDArray[np.uint8]:
    """(H, W, 3) views with their masks, the smaller ones on top, above three histograms."""
    import cv2

    from wildseg3d_ros.io.pictures import TEXT, draw_labels, draw_text, object_colors

    panels = []
    for view, each in zip(views, made, strict=True):
        labels = np.zeros(view.size, np.int32)
        for layer in each.maps:
            labels[layer > 0] = layer[layer > 0]
        drawn = draw_labels(view.image, labels, object_colors(each.quality))
        panel: Any = cv2.resize(drawn, (400, round(400 * view.size[0] / view.size[1])))
        draw_text(panel, f"{view.name}: {len(each.quality)} masks", 8, 18, 0.5, TEXT)
        panels.append(panel)
    limits = {"predicted_iou": config.predicted_iou, "stability": config.stability, "area": None}
    for name, limit in limits.items():
        values = [v for each in made if each.dropped for v in getattr(each.dropped, name)]
        panels.append(_histogram(name, values, limit))
    height = max(len(panel) for panel in panels)
    rows = []
    for start in range(0, len(panels), 3):
        row = np.zeros((height + 10, 3 * 410, 3), np.uint8)
        for k, panel in enumerate(panels[start : start + 3]):
            row[: len(panel), 410 * k : 410 * k + 400] = panel
        rows.append(row)
    return np.concatenate(rows)


def _histogram(name: str, values: Sequence[float], limit: float | None) -> NDArray[np.uint8]:
    """(240, 400, 3) counts of values in [0, 1], those below the limit darker."""
    from wildseg3d_ros.io.pictures import FAINT, TEXT, draw_text

    panel = np.full((240, 400, 3), 30, np.uint8)
    counts, edges = np.histogram(np.clip(values, 0, 1), 50, (0, 1))
    for k, count in enumerate(counts):
        top = 220 - round(180 * count / max(1, counts.max()))
        panel[top:220, 8 * k : 8 * k + 7] = FAINT if limit and edges[k] < limit else TEXT
    limited = "" if limit is None else f", limit {limit:g}"
    draw_text(panel, f"{name} of {len(values)} masks, 0 to 1{limited}", 8, 18, 0.5, TEXT)
    return panel
