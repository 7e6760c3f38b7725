"""Outlines drawn from labelled voxels: how well they and their scores agree with the truth.

Voxels get their true labels with faults about the outlines, so that drawing is judged apart from
segmentation. ``python -m benchmarks.outlines`` measures scenes that nothing was fitted on;
``--fit`` remakes ``WEIGHTS`` of :mod:`wildseg3d_ros.masks.surface.outlines` and prints it.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from wildseg3d_ros.evaluation import compare
from wildseg3d_ros.masks.learned.network import (
    AffinityModel,
    PixelAffinities,
    default_network,
)
from wildseg3d_ros.masks.surface.drawing import draw_labels, likeliest_labels, voxels_in_view
from wildseg3d_ros.masks.surface.objects import UNKNOWN
from wildseg3d_ros.masks.surface.observations import Observation, observe_views
from wildseg3d_ros.masks.surface.outlines import EVIDENCE, outline_evidence
from wildseg3d_ros.masks.surface.voxels import (
    VoxelCloud,
    fuse_voxels,
    voxel_size_from_footprint,
)

if TYPE_CHECKING:
    from wildseg3d_ros.io.folder import Recording

FITTED, HELD_OUT = range(5001, 5019), range(6001, 6010)
"""Seeds of random scenes: table, bin and shelf in turn, every other one of 640x480."""
FAULTS = ("none", "skirt", "wide skirt", "eaten", "strips", "holes")
MIN_AREA = 1 / 768
"""Minimum area of an object that is scored, as a share of the image: 100 px of 320x240."""


@dataclass(frozen=True, eq=False)
class LabelledScene:
    """Fused voxels of a simulated scene and their true labels.

    Attributes:
        images: per view (H, W, 3) uint8 RGB.
        truth: per view (H, W) label image, 0 = no object, 255 = unknown.
        observations: one per view.
        cloud: surface voxels.
        labels: (V,) the label that most of a voxel's pixels have.
    """

    images: tuple[NDArray[np.uint8], ...]
    truth: tuple[NDArray, ...]
    observations: tuple[Observation, ...]
    cloud: VoxelCloud
    labels: NDArray[np.int32]

    @classmethod
    def of(cls, recording: Recording) -> LabelledScene:
        """Aligns and fuses a recording whose images are at the working resolution."""
        from wildseg3d_ros.core.types import MaskCache
        from wildseg3d_ros.masks.geometric.backend import GeometricMasks
        from wildseg3d_ros.pipeline import build_scene

        class NoMasks(GeometricMasks):
            def segment(self, views, alignment, pointmaps, progress) -> MaskCache:
                labels = tuple(np.zeros(view.size, np.int32) for view in views)
                scores = tuple(np.ones(view.size, np.float32) for view in views)
                return MaskCache(labels, scores, object_ids=())

        scene = build_scene(recording.views, masks=NoMasks())
        images = tuple(view.image for view in recording.views)
        solved = scene.alignment
        observations = observe_views(images, scene.world, solved.K, solved.world_from_cam)
        cloud = fuse_voxels(observations, voxel_size_from_footprint(observations))
        assert cloud is not None
        truth = tuple(mask for mask in recording.object_masks if mask is not None)
        votes = np.zeros((len(cloud), 256), np.int32)
        for voxel, mask in zip(cloud.of_pixel, truth, strict=True):
            known = (voxel >= 0) & (mask != 255)
            np.add.at(votes, (voxel[known], mask[known]), 1)
        labels = np.where(votes.any(axis=1), votes.argmax(axis=1), UNKNOWN).astype(np.int32)
        return cls(images, truth, tuple(observations), cloud, labels)

    def projected(self, view: int, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """(h, w) labels of the voxels that the view's pixels show."""
        seen = voxels_in_view(self.observations[view], self.cloud, self.cloud.of_pixel[view])
        return np.where(seen >= 0, labels[seen], UNKNOWN).astype(np.int32)


def with_fault(scene: LabelledScene, fault: str, rng: np.random.Generator) -> NDArray[np.int32]:
    """(V,) the scene's labels with one of FAULTS at every object.

    A skirt is support on one side of an object, as far as 1 to 3 voxels from it, a wide one 4 to
    6; an object is eaten by one voxel of rim; strips of the neighbours are 2 voxels wide.
    """
    true, cloud = scene.labels, scene.cloud
    graph = sparse.coo_matrix((np.ones(len(cloud.edges)), tuple(cloud.edges.T)), [len(cloud)] * 2)
    graph = (graph + graph.T).tocsr()

    def grown(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
        for _ in range(steps):
            mask = mask | (graph @ mask.astype(np.float32) > 0)
        return mask

    labels = true.copy()
    if fault == "holes":
        labels[grown(rng.random(len(true)) < 0.01, 1)] = UNKNOWN
    for name in np.unique(true[true > 0]):
        own = true == name
        if "skirt" in fault:
            side = (cloud.points - cloud.points[own].mean(axis=0)) @ rng.normal(size=3) > 0
            steps = int(rng.integers(1, 4)) + (3 if "wide" in fault else 0)
            labels[grown(own, steps) & (true == 0) & side] = name
        elif fault == "eaten":
            labels[own & grown((true >= 0) & ~own, 1)] = 0
        elif fault == "strips":
            labels[grown(own, 2) & (true > 0) & ~own] = name
    return labels


def network_of_views(
    scene: LabelledScene, network: AffinityModel | None
) -> list[PixelAffinities | None]:
    """What a network says of each view; nothing without one."""
    if network is None:
        return [None] * len(scene.observations)
    return [network(o.lab, o.depth, o.K) for o in scene.observations]


def fit(scenes: Sequence[LabelledScene], network: AffinityModel | None) -> NDArray[np.float64]:
    """(len(EVIDENCE),) weights of the cues: logistic regression by Newton's method."""
    rng = np.random.default_rng(0)
    cues, right = [], []
    for scene in scenes:
        said = network_of_views(scene, network)
        for fault in FAULTS:
            labels = with_fault(scene, fault, rng)
            for view, truth in enumerate(scene.truth):
                projected = scene.projected(view, labels)
                for e in outline_evidence(scene.images[view], projected, said[view]):
                    some = np.flatnonzero(rng.random(len(e.pixels)) < 0.05)
                    true = truth.ravel()[e.pixels[some]]
                    cues.append(e.cues[some][true != 255])
                    right.append((true == e.labels[some])[true != 255])
    x, y = np.concatenate(cues).astype(np.float64), np.concatenate(right)
    weights = np.zeros(len(EVIDENCE))
    for _ in range(12):
        p = 1.0 / (1.0 + np.exp(-x @ weights))
        curvature = x.T @ (x * (p * (1.0 - p))[:, None]) + np.eye(len(weights))
        weights += np.linalg.solve(curvature, x.T @ (y - p) - weights)
    return weights


def measure(scenes: Sequence[LabelledScene], network: AffinityModel | None) -> dict:
    """Mean IoU of projected and of drawn masks by fault, reliability of scores, and time."""
    ious: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    count, right, spent, views = np.zeros(10), np.zeros(10), 0.0, 0
    for scene in scenes:
        said = network_of_views(scene, network)
        for fault in FAULTS:
            labels = with_fault(scene, fault, np.random.default_rng(1))
            for view, truth in enumerate(scene.truth):
                image, observation = scene.images[view], scene.observations[view]
                seen = voxels_in_view(observation, scene.cloud, scene.cloud.of_pixel[view])
                start = time.process_time()
                drawn, _ = draw_labels(image, observation, seen, labels, said[view])
                spent, views = spent + time.process_time() - start, views + 1
                projected = scene.projected(view, labels)
                ious[fault] += _ious(truth, projected, drawn)
                label, score, _ = likeliest_labels(image, projected, said[view])
                known = (label > 0) & (truth != 255)
                bin_of = np.minimum((score[known] * 10).astype(int), 9)
                count += np.bincount(bin_of, minlength=10)
                right += np.bincount(bin_of, (truth == label)[known], 10)
    table = {}
    for fault, pairs in ious.items():
        before, after = np.mean(pairs, axis=0)
        table[fault] = {"projected": float(before), "drawn": float(after)}
    reliability = {f"{k / 10:.1f} to {k / 10 + 0.1:.1f}": right[k] / count[k] for k in range(10)}
    return {"mean IoU": table, "share that is right, by score": reliability} | {
        "milliseconds of processor time per view": 1e3 * spent / views
    }


def _ious(truth: NDArray, *drawn: NDArray) -> list[tuple[float, ...]]:
    """Of every object that is large enough, against the truth."""
    names, areas = np.unique(truth, return_counts=True)
    large = names[(names > 0) & (names != 255) & (areas >= MIN_AREA * truth.size)]
    known = truth != 255
    scores = [[compare(mask == n, truth == n, known).iou or 0.0 for mask in drawn] for n in large]
    return [tuple(row) for row in scores]


def random_scenes(seeds: Sequence[int]) -> list[LabelledScene]:
    """Of every kind in turn, every other one of 640x480, four views each."""
    from wildseg3d_ros.sim.random_scene import RandomSceneSpec, record_random_scene

    scenes = []
    for seed in seeds:
        width = 640 if seed % 2 else 320
        kind = ("table", "bin", "shelf")[seed % 3]
        spec = RandomSceneSpec(seed, views=4, width=width, height=width * 3 // 4, kind=kind)
        scenes.append(LabelledScene.of(record_random_scene(spec)))
    return scenes


def main() -> dict:
    """Scenes that nothing was fitted on, without and with the network of the package."""
    scenes = random_scenes(HELD_OUT)
    return {
        name: measure(scenes, network)
        for name, network in (("geometry", None), ("network", default_network()))
    }


if __name__ == "__main__":
    cv2.setNumThreads(1)
    if "--fit" in sys.argv:
        fitted = random_scenes(FITTED)
        for learned, each in ((False, None), (True, default_network())):
            print(f"WEIGHTS[{learned}] =", tuple(np.round(fit(fitted, each), 2).tolist()))
    else:
        for kind, table in main().items():
            for name, value in table.items():
                print(kind, name, value)
