"""Pictures of a training: the curve of the losses, and what the network says of views."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.io.pictures import draw_labels, object_colors
from wildseg3d_ros.masks.learned.inputs import OFFSETS, REACH, STEP
from wildseg3d_ros.masks.learned.network import AffinityModel
from wildseg3d_ros.training.evaluation import outputs
from wildseg3d_ros.training.frames import Frame

REACHES = tuple(STEP * max(OFFSETS[REACH.index(k)]) for k in range(max(REACH) + 1))
"""Distances of the affinities [px]."""

_PAPER, _INK, _FAINT = (255, 255, 255), (40, 44, 50), (205, 210, 216)
_LINES = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (213, 94, 0), (204, 121, 167))
_PANEL = (320, 240)  # width and height [px]
_GAP, _HEAD = 8, 26


def curve_picture(steps: Sequence[int], losses: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(480, 760, 3) RGB: losses over the steps, one line for each reach and one for 'on an
    object'.

    Args:
        steps: (n,) ascending, of each row of losses.
        losses: (n, len(OFFSETS) + 1) as of :func:`~wildseg3d_ros.training.loss.network_loss`.
    """
    width, height, left, top, right, bottom = 760, 480, 64, 34, 170, 48
    picture = np.full((height, width, 3), _PAPER, np.uint8)
    highest = max(np.ceil(10 * losses.max()) / 10, 0.1)
    inner = np.array([width - left - right, height - top - bottom])
    for k in range(6):
        y = top + round(inner[1] * k / 5)
        cv2.line(picture, (left, y), (width - right, y), _FAINT, 1)
        _write(picture, f"{highest * (5 - k) / 5:.2f}", 18, y + 5)
        x, step = left + round(inner[0] * k / 5), round(steps[-1] * k / 5)
        _write(picture, f"{step}", x - 4 * len(str(step)), height - bottom + 20)
    _write(picture, "steps", left + inner[0] // 2 - 16, height - 8)
    _write(picture, "loss", 18, 14)
    groups = [losses[:, np.array([*REACH, -1]) == k].mean(axis=1) for k in range(len(REACHES))]
    names = [f"{reach} px" for reach in REACHES]
    for k, (name, line) in enumerate(
        zip([*names, "on an object"], [*groups, losses[:, -1]], strict=True)
    ):
        share = np.stack([np.array(steps) / steps[-1], 1.0 - line / highest], axis=1)
        points = np.rint(np.array([left, top]) + share * inner).astype(np.int32)
        cv2.polylines(picture, [points], False, _LINES[k], 2, cv2.LINE_AA)
        cv2.circle(picture, points[-1].tolist(), 3, _LINES[k], -1, cv2.LINE_AA)
        y = top + 16 + 24 * k
        cv2.line(picture, (width - right + 14, y - 5), (width - right + 40, y - 5), _LINES[k], 3)
        _write(picture, name, width - right + 48, y)
    return picture


def views_picture(model: AffinityModel, frames: Sequence[Frame]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, a row for each view: its image, its depth, the probabilities of being one
    thing with what is right and below at the longest reach, that of being on an object, the truth.
    """
    reach = max(REACHES)
    titles = (
        "image", "depth", f"one thing, {reach} px right", f"one thing, {reach} px below",
        "on an object", "truth",
    )  # fmt: skip
    rows = [_title_row(titles)]
    for frame in frames:
        out, _ = outputs(model, frame)
        right, below = (
            OFFSETS.index(offset) for offset in ((0, reach // STEP), (reach // STEP, 0))
        )
        found = [_heat(1.0 / (1.0 + np.exp(-out[k]))) for k in (right, below, -1)]
        labels = frame.labels.astype(np.int32)
        colors = object_colors(set(np.unique(labels).tolist()) - {0})
        truth = draw_labels(np.ascontiguousarray(frame.image), labels, colors)
        panels = [frame.image, _heat(_shown_depth(frame.depth)), *found, truth]
        rows.append(_row([_fitted(panel) for panel in panels]))
    rows.append(_legend(rows[0].shape[1]))
    return np.concatenate(rows)


def _shown_depth(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """In [0, 1], near is 1; 0 where there is none."""
    valid = depth > 0
    if not valid.any():
        return depth
    near, far = np.quantile(1.0 / depth[valid], [0.98, 0.02])
    share = (1.0 / np.where(valid, depth, np.inf) - far) / max(near - far, 1e-9)
    return np.where(valid, np.clip(share, 0.05, 1.0), 0.0).astype(np.float32)


def _heat(values: NDArray) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of values in [0, 1], from dark blue to yellow."""
    grey = np.rint(255 * np.clip(values, 0.0, 1.0)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.uint8)


def _fitted(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture in the middle of a panel."""
    panel = np.full((_PANEL[1], _PANEL[0], 3), _PAPER, np.uint8)
    height, width = picture.shape[:2]
    scale = min(_PANEL[0] / width, _PANEL[1] / height)
    size = round(scale * width), round(scale * height)
    left, top = (_PANEL[0] - size[0]) // 2, (_PANEL[1] - size[1]) // 2
    scaled = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)
    panel[top : top + size[1], left : left + size[0]] = scaled
    return panel


def _row(panels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    width = _GAP + len(panels) * (_PANEL[0] + _GAP)
    row = np.full((_PANEL[1] + _GAP, width, 3), _PAPER, np.uint8)
    for k, panel in enumerate(panels):
        left = _GAP + k * (_PANEL[0] + _GAP)
        row[: _PANEL[1], left : left + _PANEL[0]] = panel
    return row


def _title_row(titles: Sequence[str]) -> NDArray[np.uint8]:
    width = _GAP + len(titles) * (_PANEL[0] + _GAP)
    row = np.full((_HEAD, width, 3), _PAPER, np.uint8)
    for k, title in enumerate(titles):
        _write(row, title, _GAP + k * (_PANEL[0] + _GAP), 17)
    return row


def _legend(width: int) -> NDArray[np.uint8]:
    """What the colours of the probabilities mean."""
    row = np.full((_HEAD, width, 3), _PAPER, np.uint8)
    ramp = _heat(np.broadcast_to(np.linspace(0, 1, 160), (12, 160)))
    _write(row, "probability 0", _GAP, 17)
    row[7:19, _GAP + 100 : _GAP + 260] = ramp
    _write(row, "1", _GAP + 268, 17)
    return row


def _write(picture: NDArray[np.uint8], text: str, left: int, baseline: int) -> None:
    place = (int(left), int(baseline))
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
