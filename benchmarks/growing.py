"""Accuracy of objects that are grown from one click without a network.

The mask cache of each scene is emptied, then every object that a view shows is clicked at its most
interior pixel; what is found is scored in the clicked view and in all others. ``python -m
benchmarks.growing FOLDER ...`` measures recordings with object masks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TABLETOP = (0, 1, 3, 5)
"""Views of the shipped scene that are clicked."""
CELLS = (31, 32)
"""Seeds of the simulated cells."""
CONSTRUCTED = (101, 102, 103)
"""Seeds of the constructed scenes."""
MIN_AREA = 100
"""Minimum area of what is clicked [px]."""

if TYPE_CHECKING:
    from wildseg3d_ros.io.folder import Recording
    from wildseg3d_ros.scene.scene import Scene


def main() -> dict:
    """The shipped scene, and scenes on which nothing was chosen: simulated and constructed."""
    from wildseg3d_ros.io.folder import load_folder
    from wildseg3d_ros.sim.noise import DepthNoise
    from wildseg3d_testing.scenes import construct_scene

    results = {"tabletop": measure(load_folder(ROOT / "examples" / "tabletop"), TABLETOP)}
    for seed in CELLS:
        results[f"simulated cell, seed {seed}"] = _simulated(seed)
    for seed in CONSTRUCTED:
        truth = construct_scene(
            6,
            320,
            240,
            8,
            seed,
            300.0,
            DepthNoise(),
            translation_sigma=0.002,
            rotation_sigma=0.003,
        )
        results[f"constructed scene, seed {seed}"] = measure(truth.recording())
    return results


def measure(recording: Recording, clicked: Sequence[int] | None = None) -> dict:
    """Mean IoU of the masks grown from one click per object and clicked view.

    A click without an answer counts as 0 wherever the object is.

    Args:
        recording: with object masks of all views.
        clicked: indices of the views that are clicked; by default every second one.
    """
    from wildseg3d_ros.core.errors import PromptError
    from wildseg3d_ros.core.types import Click, Prompt
    from wildseg3d_ros.editing import add_object
    from wildseg3d_ros.evaluation import compare, most_interior_pixel
    from wildseg3d_ros.io.folder import IGNORE
    from wildseg3d_ros.pipeline import build_scene

    truths = [mask for mask in recording.object_masks if mask is not None]
    scene = _emptied(build_scene(recording.views))
    here, elsewhere, seconds, refused = [], [], [], 0
    for view in range(0, len(truths), 2) if clicked is None else clicked:
        for label in sorted(set(np.unique(truths[view]).tolist()) - {0, IGNORE}):
            if np.count_nonzero(truths[view] == label) < MIN_AREA:
                continue
            click = Click(scene.view_names[view], *most_interior_pixel(truths[view] == label))
            start = time.perf_counter()
            try:
                masks = add_object(scene, Prompt((click,)))[1].masks
            except PromptError:
                masks, refused = None, refused + 1
            seconds.append(time.perf_counter() - start)
            others = []
            for k, (name, truth) in enumerate(zip(scene.view_names, truths, strict=True)):
                mask = np.zeros(truth.shape, np.bool_) if masks is None else masks[name]
                iou = compare(mask, truth == label, truth != IGNORE).iou
                if iou is not None:
                    (here if k == view else others).append(iou)
            if others:
                elsewhere.append(float(np.mean(others)))
    return {
        "clicks": len(seconds),
        "without_answer": refused,
        "miou_clicked_view": float(np.mean(here)),
        "miou_other_views": float(np.mean(elsewhere)),
        "share_below_half": float(np.mean(np.array(here) < 0.5)),
        "first_s": seconds[0],
        "median_s": median(seconds),
    }


def _simulated(seed: int) -> dict:
    from wildseg3d_ros.core.errors import InputError
    from wildseg3d_ros.sim.record import RecordingSpec, record

    try:
        recording, _, _ = record(RecordingSpec(seed=seed))
    except InputError as error:
        return {"skipped": str(error)}
    return measure(recording)


def _emptied(scene: Scene) -> Scene:
    from wildseg3d_ros.core.types import MaskCache

    labels = tuple(np.zeros_like(m) for m in scene.labels)
    scores = tuple(m.astype(np.float32) for m in labels)
    return scene.with_masks(MaskCache(labels, scores, ()))


if __name__ == "__main__":
    from wildseg3d_ros.io.folder import load_folder

    for folder in sys.argv[1:]:
        print(folder, measure(load_folder(folder)))
