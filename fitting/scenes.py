"""Simulated scenes as surface graphs with their truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment import Aligner
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.io.folder import IGNORE, Recording
from wildseg3d_ros.masks.learned.affinities import Affinities
from wildseg3d_ros.masks.learned.network import AffinityModel
from wildseg3d_ros.masks.surface.fused import Patches, fuse_patches
from wildseg3d_ros.masks.surface.graph import SurfaceGraph
from wildseg3d_ros.masks.surface.observations import observe_views
from wildseg3d_ros.pairing import choose_pairs
from wildseg3d_ros.pointmaps import load_pointmaps
from wildseg3d_ros.sim.random_scene import RandomSceneSpec, record_random_scene
from wildseg3d_ros.sim.record import RecordingSpec, record


@dataclass(frozen=True, eq=False)
class SeenPatches:
    """A view as networks read it, and what it shows.

    Attributes:
        lab, depth, K: as of :class:`~wildseg3d_ros.masks.surface.observations.Observation`.
        patches: (h, w) int32 patch of each pixel, -1 = none.
    """

    lab: NDArray[np.float32]
    depth: NDArray[np.float32]
    K: NDArray[np.float64]
    patches: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class TrueGraph:
    """A surface graph and what its patches really are.

    Attributes:
        graph: of the patches.
        counts: (P, K + 1) voxels of each patch that belong to the background (column 0) and to
            each of the K objects.
        views: what was seen.
    """

    graph: SurfaceGraph
    counts: NDArray[np.float64]
    views: tuple[SeenPatches, ...]

    @classmethod
    def of_recording(cls, recording: Recording) -> TrueGraph | None:
        """Aligns and fuses a recording as a build does before the masks; None without a point."""
        fused = fused_patches(recording)
        if fused is None:
            return None
        views = tuple(
            SeenPatches(o.lab, o.depth, o.K, patches)
            for o, patches in zip(fused.observations, fused.patches_of_pixels(), strict=True)
        )
        return cls(fused.graph(), count_truth(fused, recording.object_masks), views)

    def with_affinities(self, network: AffinityModel) -> TrueGraph:
        """The same with what a network says of the views."""
        views = [(network(view.lab, view.depth, view.K), view.patches) for view in self.views]
        affinities = Affinities.of_views(views, len(self.graph))
        return dataclasses.replace(self, graph=self.graph.with_affinities(affinities))

    def save(self, path: Path) -> None:
        """Writes what :meth:`load` reads."""
        stored = {f.name: getattr(self.graph, f.name) for f in dataclasses.fields(self.graph)}
        for k, view in enumerate(self.views):
            stored |= {f"lab_{k}": view.lab.astype(np.float16), f"depth_{k}": view.depth}
            stored |= {f"K_{k}": view.K, f"patches_{k}": view.patches}
        np.savez(path, counts=self.counts, **stored)

    @classmethod
    def load(cls, path: Path) -> TrueGraph:
        """Reads a file."""
        with np.load(path) as stored:
            names = [f.name for f in dataclasses.fields(SurfaceGraph)]
            values = {name: stored[name] for name in names}
            values |= {name: float(values[name]) for name in ("layers", "voxel_size")}
            views = tuple(
                SeenPatches(
                    stored[f"lab_{k}"].astype(np.float32),
                    *(stored[f"{name}_{k}"] for name in ("depth", "K", "patches")),
                )
                for k in range(sum(name.startswith("lab_") for name in stored))
            )
            return cls(SurfaceGraph(**values), stored["counts"], views)


def fused_patches(recording: Recording, voxel_size: float = 0.0) -> Patches | None:
    """The patches of a recording, on its first alignment."""
    config, views = SceneConfig(), recording.views
    pairs = choose_pairs(views, config.pairing)
    predictions = load_pointmaps(config.pointmaps).predict(views, pairs, Progress())
    aligner = Aligner(predictions, views, config.alignment)
    alignment, world = aligner.solve(), aligner.fuse()
    images = [view.image for view in views]
    observations = observe_views(images, world, alignment.K, alignment.world_from_cam)
    return fuse_patches(observations, voxel_size, alignment.metric)


def count_truth(
    fused: Patches, masks: Sequence[NDArray[np.integer] | None]
) -> NDArray[np.float64]:
    """(P, K + 1) voxels of each patch by object, as most of their pixels are labelled.

    Args:
        masks: per view (H, W) true labels, 0 = background, ``IGNORE`` = not known.
    """
    known = [mask for mask in masks if mask is not None]
    names = np.unique(np.concatenate([np.zeros(1, int), *(np.unique(m) for m in known)]))
    names = names[names != IGNORE]
    votes = np.zeros((len(fused.cloud), len(names)))
    for view, (observation, mask) in enumerate(zip(fused.observations, masks, strict=True)):
        if mask is None:
            continue
        first, (height, width) = observation.stride // 2, observation.size
        small = mask[first :: observation.stride, first :: observation.stride][:height, :width]
        voxel = fused.cloud.of_pixel[view]
        there = (voxel >= 0) & (small != IGNORE)
        np.add.at(votes, (voxel[there], np.searchsorted(names, small[there])), 1.0)
    labelled = votes.any(axis=1)
    counts = np.zeros((len(fused.patches), len(names)))
    of_voxel = fused.patches.of_voxel[labelled]
    np.add.at(counts, (of_voxel, votes[labelled].argmax(axis=1)), 1.0)
    return counts


CATALOGUE = 10
"""Every tenth scene has household things of the catalogue, with their prints, on a table."""


def record_scene(seed: int) -> Recording:
    """The scene of a seed: 2 to 7 views, three of ten in 640x480 with 4 views at most."""
    random = np.random.default_rng([seed, 77])
    views, large = int(random.integers(2, 8)), random.random() < 0.3
    width, height = (640, 480) if large else (320, 240)
    views = min(views, 4) if large else views
    if seed % CATALOGUE:
        return record_random_scene(RandomSceneSpec(seed, views, width, height))
    objects = int(random.integers(5, 11))
    return record(RecordingSpec(seed, objects, views, width, height, light_samples=4))[0]


def simulated_scenes(seeds: Sequence[int], folder: Path) -> Iterator[TrueGraph]:
    """The graphs of random scenes; those that are in the folder already are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = folder / f"{seed:05d}.npz"
        if not path.exists():
            try:
                scene = TrueGraph.of_recording(record_scene(seed))
            except WildSeg3DError:
                continue  # views that do not fit together, as random ones now and then do
            if scene is None:
                continue
            part = path.with_suffix(".part.npz")
            scene.save(part)
            part.rename(path)
        yield TrueGraph.load(path)
