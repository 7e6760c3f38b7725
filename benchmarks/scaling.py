"""Cost of a build by views, pixels, pairs and objects: processor time, memory, size of the file.

Each build is a process of its own, with one thread, on a constructed scene. One quantity varies at
a time, about a middle of 4 views of 160x120 with 6 objects. Lines, cost = fixed + rate n, are
fitted by least squares; the shares are what a stage takes of the largest images.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

MIDDLE = {"views": 4, "width": 160, "objects": 6, "pairs": 6}
SWEEPS = {
    "views": (2, 4, 8),
    "width": (160, 320, 640),
    "pairs": (1, 6),
    "objects": (1, 12),
}
COSTS = ("cpu", "memory_mb", "file_mb")


def main() -> dict[str, Any]:
    """Figures by name; with matplotlib a plot, too, in out/scaling.png."""
    runs: dict[str, list[dict[str, Any]]] = {}
    empty = _run({})
    for name, values in SWEEPS.items():
        runs[name] = [_run({**MIDDLE, name: value}) for value in values]
    results: dict[str, Any] = {"imports alone": empty}
    for name, found in runs.items():
        column = {"width": "pixels"}.get(name, name)
        results[column] = {
            f"{row[column]}": {key: row[key] for key in (*COSTS, "pairs_used")} for row in found
        }
        sizes = [row[column] for row in found]
        for cost in COSTS:
            rate, fixed = np.polyfit(sizes, [row[cost] for row in found], 1)
            results[column][f"{cost} fixed, rate"] = [float(f"{x:.3g}") for x in (fixed, rate)]
    results["stages of the largest images"] = runs["width"][-1]["stages"]
    _plot(runs, Path("out/scaling.png"))
    return results


def build(config: dict[str, int]) -> dict[str, Any]:
    """Builds one scene in this process; an empty configuration only imports."""
    from wildseg3d_ros.config import SceneConfig
    from wildseg3d_ros.evaluation import peak_memory_mb
    from wildseg3d_ros.pipeline import build_scene
    from wildseg3d_ros.scene.file.snapshot import save_scene
    from wildseg3d_testing.scenes import construct_scene

    if not config:
        return {"cpu": time.process_time(), "memory_mb": peak_memory_mb(), "file_mb": 0.0}
    width, height = config["width"], config["width"] * 3 // 4
    views = construct_scene(config["views"], width, height, config["objects"]).recording().views
    settings = SceneConfig.from_mapping({"pairing": {"max_pairs_per_view": config["pairs"]}})
    start = time.process_time()
    scene = build_scene(views, settings)
    cpu = time.process_time() - start
    with tempfile.TemporaryDirectory() as place:
        save_scene(scene, Path(place) / "scene.ws3d")
        size = (Path(place) / "scene.ws3d").stat().st_size / 1e6
    whole = sum(scene.seconds.values())
    return {
        **config,
        "pixels": width * height,
        "pairs_used": int(scene.alignment.pair_used.sum()),
        "cpu": cpu,
        "memory_mb": peak_memory_mb(),
        "file_mb": size,
        "stages": {stage: seconds / whole for stage, seconds in scene.seconds.items()},
    }


def _run(config: dict[str, int]) -> dict[str, Any]:
    environment = {**os.environ, "WILDSEG3D_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
    words = [sys.executable, "-m", "benchmarks.scaling", json.dumps(config)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def _plot(runs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        return
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(COSTS), len(runs), figsize=(14, 9), squeeze=False)
    for column, (name, found) in enumerate(runs.items()):
        for row, cost in enumerate(COSTS):
            axis = axes[row][column]
            axis.loglog([r[name] for r in found], [r[cost] for r in found], "o-")
            axis.set(xlabel=name, ylabel=cost)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    print(json.dumps(build(json.loads(sys.argv[1]))))
