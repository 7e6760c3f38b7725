"""Figures and verdicts as the page says them."""

from __future__ import annotations

import math

import numpy as np

from wildseg3d_ros.core.types import CameraVerdict
from wildseg3d_ros.core.types.prompts import AMBIGUOUS
from wildseg3d_ros.grasping.boxes import OrientedBox

BADGES = {"ok": "good", "moved": "warn", "suspect": "bad", "left out": "bad", "unchecked": ""}
"""Look of a camera's verdict."""


def sentence(error: Exception | str) -> str:
    """What an error says, as a sentence."""
    text = str(error).strip() or type(error).__name__
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def size_text(box: OrientedBox | None, metric: bool) -> str:
    """Edges of a box, in millimetres where the scene is metric."""
    if box is None:
        return "no box"
    if metric:
        return " × ".join(f"{1000 * edge:.0f}" for edge in box.size) + " mm"
    return " × ".join(f"{edge:.3g}" for edge in box.size)


def certainty(score: float, ambiguity: float) -> tuple[str, bool]:
    """Score in words, and whether something else may be meant as well."""
    if math.isnan(score):
        return "score unknown", False
    return f"score {score:.2f}", ambiguity > AMBIGUOUS


def motion(camera: CameraVerdict) -> str:
    """How far a camera's given pose was off."""
    if not camera.posed:
        return "no pose given"
    if math.isnan(camera.translation):
        return "–"
    return f"{1000 * camera.translation:.1f} mm, {np.degrees(camera.rotation):.2f}°"
