"""Single views of random scenes with their truth, kept in a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording
from wildseg3d_ros.sim.random_scene import RandomSceneSpec, record_random_scene
from wildseg3d_ros.sim.record import RecordingSpec, record

VIEWS = 5
"""Of each scene: more scenes teach more than more views of one."""
CATALOGUE = 12
"""Every twelfth scene has household things of the catalogue, with their prints, on a table."""
DEPTH_UNIT = 1e-4
"""Metres, of stored depth."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One view as its camera sees it, and the truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 in metres, 0 = none.
        K: (3, 3).
        labels: (H, W) uint8, 0 = background.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    K: NDArray[np.float64]
    labels: NDArray[np.uint8]

    @classmethod
    def load(cls, path: Path) -> Frame:
        """Reads what :meth:`save` wrote."""
        with np.load(path) as stored:
            depth = stored["depth"].astype(np.float32) * np.float32(DEPTH_UNIT)
            return cls(stored["image"], depth, stored["K"], stored["labels"])

    def save(self, path: Path) -> None:
        """Writes an ``.npz`` file, not compressed: training reads each many times."""
        depth = np.clip(np.round(self.depth / DEPTH_UNIT), 0, 65535).astype(np.uint16)
        part = path.with_suffix(".part.npz")
        np.savez(part, image=self.image, depth=depth, K=self.K, labels=self.labels)
        part.rename(path)


def record_scene(seed: int) -> Recording:
    """The scene of a seed."""
    if seed % CATALOGUE:
        return record_random_scene(RandomSceneSpec(seed, VIEWS))
    objects = int(np.random.default_rng([seed, 77]).integers(5, 11))
    return record(RecordingSpec(seed, objects, VIEWS, 320, 240, light_samples=4))[0]


def record_frames(folder: Path, seeds: Sequence[int]) -> list[Path]:
    """The files of all views of the seeds' scenes; those that are there are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in seeds:
        last = folder / f"{seed:07d}_{VIEWS - 1}.npz"
        named = [last.with_name(f"{seed:07d}_{k}.npz") for k in range(VIEWS)]
        if not last.exists():
            try:
                recording = record_scene(seed)
            except InputError as error:
                print(f"seed {seed}: {error}", file=sys.stderr)
                continue
            views = zip(named, recording.views, recording.object_masks, strict=True)
            for path, view, labels in views:
                _frame_of(view, labels).save(path)
        paths += named
    return paths


def _frame_of(view: View, labels: NDArray) -> Frame:
    return Frame(view.image, view.depth, view.K, labels.astype(np.uint8))
