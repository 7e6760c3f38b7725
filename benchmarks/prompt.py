"""Time of a prompt in process, against a search of the whole scene.

The baseline answers the same prompt without the object index: it selects the object's pixels with
a boolean mask per view and gathers points and colours.
"""

from __future__ import annotations

import time
from statistics import median, quantiles

import numpy as np

from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.types import (
    Click,
    MaskCache,
    Prompt,
    View,
    WorldPointmaps,
)
from wildseg3d_ros.pipeline import segment
from wildseg3d_ros.scene.config import IndexConfig
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_testing.exact import alignment_of_cameras

POINTS = 50_000
REPEATS = 300


def make_scene(points: int = POINTS, views: int = 5, size: tuple[int, int] = (480, 640)) -> Scene:
    """A wall of boxes one metre away: object 1 covers ``points`` pixels over all views."""
    height, width = size
    K = np.array([[600.0, 0, width / 2], [0, 600.0, height / 2], [0, 0, 1]])
    rng = np.random.default_rng(0)
    rows = -(-points // (views * 200))
    labels = np.zeros(size, np.int32)
    labels[100 : 100 + rows, 100:300] = 1
    labels[100 : 100 + rows, 350:550] = 2
    all_views, maps = [], []
    for k in range(views):
        pose = np.eye(4)
        pose[0, 3] = 0.001 * k
        depth = np.where(labels > 0, 1.0, 1.2).astype(np.float32)
        image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        view = View(f"camera{k}", image, K, depth, pose)
        maps.append(apply(pose, back_project(depth, K)))
        all_views.append(view)
    poses = np.stack([view.world_from_cam_prior for view in all_views])
    alignment = alignment_of_cameras(np.stack([K] * views), poses)
    world = WorldPointmaps(tuple(maps), tuple(np.ones(size, np.float32) for _ in maps))
    cache = MaskCache(
        tuple(labels.copy() for _ in maps),
        tuple((labels > 0).astype(np.float32) for _ in maps),
        (1, 2),
    )
    return Scene.create(
        all_views, alignment, world, cache, config=IndexConfig(), world_frame="world", seconds={}
    )


def search(scene: Scene, object_id: int) -> tuple[np.ndarray, np.ndarray]:
    """The baseline: points and colours by searching every pixel of every view."""
    masks = [
        (labels == object_id) & (confidence > 0)
        for labels, confidence in zip(scene.labels, scene.world.confidence, strict=True)
    ]
    points = np.concatenate([p[m] for p, m in zip(scene.world.points, masks, strict=True)])
    colors = np.concatenate([c[m] for c, m in zip(scene.images, masks, strict=True)])
    return points, colors


def main() -> dict:
    """Milliseconds per prompt: median and 99th percentile, and the ratio to the baseline."""
    scene = make_scene()
    prompt = Prompt((Click("camera0", 200, 110),))
    points = len(segment(scene, prompt))

    def milliseconds(call) -> list[float]:
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
        return times

    indexed = milliseconds(lambda: segment(scene, prompt))
    searched = milliseconds(lambda: search(scene, 1))
    return {
        "points": points,
        "median_ms": median(indexed),
        "p99_ms": quantiles(indexed, n=100)[98],
        "baseline": "boolean search of all pixels of all views",
        "baseline_median_ms": median(searched),
        "ratio_baseline_over_ours": median(searched) / median(indexed),
    }
