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
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

MIDDLE = {"views": 4, "width": 160, "objects": 6, "pairs": 6}
SWEEPS = {
    "views": (2, 4, 8),
    "width": (160, 320, 640),
    "pairs": (1, 3, 6),
    "objects": (1, 4, 12),
}
COSTS = {
    "cpu": "processor time [s]",
    "memory_mb": "peak memory [MB]",
    "file_mb": "scene file [MB]",
}
COLUMNS = {"width": "pixels"}
"""Under which a quantity counts, where that has another name."""


def main() -> dict[str, Any]:
    """Figures by name."""
    runs = sweeps()
    results: dict[str, Any] = {"imports alone": _run({})}
    for name, found in runs.items():
        column = COLUMNS.get(name, name)
        results[column] = {
            f"{row[column]}": {key: row[key] for key in (*COSTS, "pairs_used")} for row in found
        }
        sizes = [row[column] for row in found]
        for cost in COSTS:
            rate, fixed = _line(sizes, [row[cost] for row in found])
            results[column][f"{cost} fixed, rate"] = [float(f"{x:.3g}") for x in (fixed, rate)]
    results["stages of the largest images"] = runs["width"][-1]["stages"]
    return results


@cache
def sweeps() -> dict[str, list[dict[str, Any]]]:
    """What each build costs, by what varies."""
    return {
        name: [_run({**MIDDLE, name: value}) for value in values]
        for name, values in SWEEPS.items()
    }


def figure() -> Any:
    """A plot of each cost by each quantity, with the line that was fitted."""
    import matplotlib.pyplot as plt

    runs = sweeps()
    drawn, axes = plt.subplots(
        len(COSTS), len(runs), figsize=(10, 6.5), layout="constrained", sharey="row"
    )
    for column, (name, found) in enumerate(runs.items()):
        quantity = COLUMNS.get(name, name)
        unit, label = (1e6, "megapixels of a view") if quantity == "pixels" else (1, quantity)
        sizes = np.array([row[quantity] / unit for row in found])
        axes[-1, column].set_xlabel(label, fontsize=8)
        for axis, (cost, title) in zip(axes[:, column], COSTS.items(), strict=True):
            values = [row[cost] for row in found]
            rate, fixed = _line(sizes, values)
            axis.plot(sizes, fixed + rate * sizes, "-", color="#56B4E9")
            axis.plot(sizes, values, "o", color="black", markersize=4)
            axis.tick_params(labelsize=7)
            if column == 0:
                axis.set_ylabel(title, fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylim(bottom=0)
    return drawn


def _line(sizes: Any, values: Any) -> tuple[float, float]:
    """Rate and fixed part of the costs, by least squares."""
    rate, fixed = np.polyfit(sizes, values, 1)
    return float(rate), float(fixed)


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


if __name__ == "__main__":
    print(json.dumps(build(json.loads(sys.argv[1]))))
