"""Quality and cost of a whole build on recordings with given masks.

Each recording is built in a process of its own, so that peak memory is the build's. One click at
the most interior pixel of each object's given mask in the reference view selects it; its masks are
scored in every view, at the pixels with valid depth and at all pixels. The depth disagreement (how
far a point of one view lies from the surface that another view measured along that pixel's ray)
stands beside that of the poses as given, which is the baseline of the alignment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wildseg3d_ros.core.geometry.cameras import back_project, project
from wildseg3d_ros.core.geometry.transforms import apply, invert

if TYPE_CHECKING:
    from wildseg3d_ros.core.types import PairPrediction, View

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = Path(os.environ.get("WILDSEG3D_DATA", ROOT.parent / "shared" / "data"))


def depth_disagreement(views, poses, gate: float = 0.10) -> float:
    """Median |dz| [m] of co-visible points over ordered pairs of views, below ``gate``."""
    errors = []
    for a, view in enumerate(views):
        valid = view.depth > 0
        points = back_project(view.depth, view.K)[valid][::29].astype(np.float64)
        world = apply(poses[a], points)
        for b, other in enumerate(views):
            if a == b:
                continue
            uv, z = project(apply(invert(poses[b]), world), other.K)
            height, width = other.size
            with np.errstate(invalid="ignore"):
                inside = (
                    (z > 0)
                    & (uv[:, 0] > 0)
                    & (uv[:, 0] < width - 1)
                    & (uv[:, 1] > 0)
                    & (uv[:, 1] < height - 1)
                )
            column, row = np.round(uv[inside]).astype(int).T
            measured = other.depth[row, column]
            error = np.abs(z[inside] - measured)[measured > 0]
            errors.append(error[error < gate])
    return float(np.median(np.concatenate(errors)))


def precision_at_depth(recording, scene, label: int, click) -> float | None:
    """Share of an answer's pixels with valid depth, over all views, on the object's given masks.

    None where the click has no answer or none of its pixels can be scored.
    """
    from wildseg3d_ros.core.errors import PromptError
    from wildseg3d_ros.core.types import Prompt
    from wildseg3d_ros.io.folder import IGNORE
    from wildseg3d_ros.scene.prompting import answer

    try:
        masks = answer(scene, Prompt((click,))).masks
    except PromptError:
        return None
    selected = right = 0
    for view, truth in zip(recording.views, recording.object_masks, strict=True):
        if truth is None:
            continue
        chosen = masks[view.name] & (view.depth > 0) & (truth != IGNORE)
        selected += np.count_nonzero(chosen)
        right += np.count_nonzero(chosen & (truth == label))
    return right / selected if selected else None


def measure(folder: str, reference: str | None) -> dict:
    """Builds and scores one recording in this process."""
    from wildseg3d_ros.core.types import Click
    from wildseg3d_ros.evaluation import evaluate, peak_memory_mb
    from wildseg3d_ros.io.folder import load_folder
    from wildseg3d_ros.pipeline import build_scene

    recording = load_folder(folder)
    start, cpu = time.perf_counter(), time.process_time()
    scene = build_scene(recording.views)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    peak = peak_memory_mb() * 1e6 / 2**30
    scores = evaluate(recording, scene, reference, include_reference=True)
    priors = [view.world_from_cam_prior for view in recording.views]
    return {
        "views": len(recording.views),
        "build_s": seconds,
        "build_cpu_s": cpu_seconds,
        "stages_s": dict(scene.seconds),
        "peak_memory_gib": peak,
        "objects_found": len(scene.index.ids),
        "depth_disagreement_mm": 1e3 * depth_disagreement(recording.views, scene.world_from_cam),
        "baseline": "poses as given",
        "baseline_depth_disagreement_mm": 1e3 * depth_disagreement(recording.views, priors),
        "warnings": list(scene.warnings),
        "reference_view": scores.reference_view,
        "miou_valid_depth": scores.miou_at_depth,
        "miou_all_pixels": scores.miou,
        "macc_valid_depth": scores.macc_at_depth,
        "macc_all_pixels": scores.macc,
        "objects": {
            score.name: {
                "iou_valid_depth": score.iou_at_depth,
                "iou_all_pixels": score.iou,
                "precision_valid_depth": precision_at_depth(
                    recording, scene, score.label, Click(scores.reference_view, *score.pixel)
                ),
                "points": score.points,
                "click_ms": score.milliseconds,
                **({"error": score.error} if score.error else {}),
            }
            for score in scores.objects
        },
    }


def _in_own_process(folder: Path, reference: str | None) -> dict:
    command = [sys.executable, "-m", "benchmarks.recordings", str(folder), reference or ""]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"building {folder.name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def tabletop() -> dict:
    """The shipped scene."""
    return _in_own_process(ROOT / "examples" / "tabletop", None)


def shelf() -> dict:
    """The real shelf: 15 views of a wrist camera, clicks in its frame 7."""
    source = REAL_DATA / "apc_shelf"
    if not source.is_dir():
        return {"skipped": f"'{source}' is absent; set WILDSEG3D_DATA to the recordings' folder"}
    return _in_own_process(source, "frame-000007")


def shelf_pairs() -> tuple[Sequence[View], Sequence[PairPrediction]] | None:
    """Views and pairs of the real shelf; None where it is absent."""
    from wildseg3d_ros.config import SceneConfig
    from wildseg3d_ros.core.progress import Progress
    from wildseg3d_ros.io.folder import load_folder
    from wildseg3d_ros.pairing import choose_pairs
    from wildseg3d_ros.pointmaps import load_pointmaps

    source, config = REAL_DATA / "apc_shelf", SceneConfig()
    if not source.is_dir():
        return None
    views = load_folder(source).views
    pairs = choose_pairs(views, config.pairing)
    return views, load_pointmaps(config.pointmaps).predict(views, pairs, Progress())


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2] or None)))
