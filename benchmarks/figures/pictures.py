"""What makes each picture of docs/images that no other program makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import rig_pictures, scaling
from benchmarks.figures import answers, errors
from benchmarks.figures.built_scenes import IMAGES, tabletop

QUALITY = 82
"""Of JPEG."""
WORST_OF = 14
"""Simulated scenes of which the worst cases are shown."""


def rig() -> NDArray[np.uint8]:
    """The table's cameras, two of them with each other's pose."""
    return rig_pictures.swapped_rig(tabletop().recording.views)


def worst_cases() -> NDArray[np.uint8]:
    """The ten objects of simulated scenes whose clicks are answered worst."""
    from benchmarks import stability
    from benchmarks.worst_cases import sheet

    measurement = stability.Measurement()
    options = stability.Options(scenes=WORST_OF, noisy_scenes=0)
    stability.measure_simulated(measurement, options)
    pictures = sheet(measurement.worst.pictures())
    height = round(rig_pictures.WIDTH / pictures.shape[1] * pictures.shape[0])
    small = cv2.resize(pictures, (rig_pictures.WIDTH, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


FIGURES: dict[str, Callable[[], Any]] = {
    "truth_and_answer": answers.truth_and_answer,
    "alignment_error": errors.alignment_error,
    "cloud_error": errors.cloud_error,
    "shelf_truth_and_answer": answers.shelf_truth_and_answer,
    "shelf": rig_pictures.shelf_picture,
    "rig": rig,
    "worst_cases": worst_cases,
    "scaling": scaling.figure,
}
"""By name: matplotlib's figure, RGB, or None where its recording is absent."""


def draw(name: str) -> str:
    """Draws a picture into docs/images; says why not, else nothing."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    figure = FIGURES[name]()
    if figure is None:
        return "its recording is absent; set WILDSEG3D_DATA to the recordings' folder"
    path = IMAGES / f"{name}.jpg"
    if isinstance(figure, np.ndarray):
        Image.fromarray(figure).save(path, quality=QUALITY)
    else:
        figure.savefig(path, dpi=110, pil_kwargs={"quality": QUALITY})
    return ""
