"""Single views of random scenes with their truth, kept in a folder."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.io.folder import Recording
from wildseg3d_ros.sim.cell import NothingAtRest
from wildseg3d_ros.sim.random_body import ShapeSource
from wildseg3d_ros.sim.random_scene import RandomSceneSpec, record_random_scene
from wildseg3d_ros.sim.random_shapes import random_shape
from wildseg3d_ros.sim.record import RecordingSpec, record

VIEWS = 5
"""Of each scene: more scenes teach more than more views of one."""
CATALOGUE = 12
"""Every twelfth scene has household things of the catalogue, with their prints, on a table."""
DEPTH_UNIT = 1e-4
"""Metres, of stored depth."""
SCENE_BYTES = VIEWS * 320 * 240 * 6 + 10_000
"""What the files of a scene take, about."""


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
        """Reads what :meth:`save` wrote.

        Raises:
            FileError: the file is not there, or is not whole.
        """
        try:
            with np.load(path) as stored:
                depth = stored["depth"].astype(np.float32) * np.float32(DEPTH_UNIT)
                return cls(stored["image"], depth, stored["K"], stored["labels"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise FileError(
                f"cannot read the recorded view '{path}' ({error}): remove the files of its scene "
                "and repeat the command, which records them again"
            ) from error

    def save(self, path: Path) -> None:
        """Writes an ``.npz`` file, not compressed: training reads each many times.

        Raises:
            FileError: it cannot be written.
        """
        depth = np.clip(np.round(self.depth / DEPTH_UNIT), 0, 65535).astype(np.uint16)
        part = path.with_suffix(".part.npz")
        try:
            np.savez(part, image=self.image, depth=depth, K=self.K, labels=self.labels)
            part.rename(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise FileError(
                f"cannot write '{path}': {error}; make room there, or choose another folder"
            ) from error


def record_scene(seed: int, shapes: ShapeSource = random_shape) -> Recording:
    """The scene of a seed; with shapes of one's own there is no catalogue."""
    if seed % CATALOGUE or shapes is not random_shape:
        return record_random_scene(RandomSceneSpec(seed, VIEWS, shapes=shapes))
    objects = int(np.random.default_rng([seed, 77]).integers(5, 11))
    return record(RecordingSpec(seed, objects, VIEWS, 320, 240, light_samples=4))[0]


def frame_paths(folder: Path, seed: int) -> list[Path]:
    """The files of a seed's views; the last one is written last."""
    return [folder / f"{seed:07d}_{k}.npz" for k in range(VIEWS)]


def unrecorded(folder: Path, seeds: Sequence[int]) -> list[int]:
    """The seeds whose views are not in the folder, or not all of them."""
    return [seed for seed in seeds if not frame_paths(folder, seed)[-1].exists()]


def record_frames(
    folder: Path,
    seeds: Sequence[int],
    shapes: ShapeSource = random_shape,
    workers: int = 1,
    report: Callable[[float], None] = lambda fraction: None,
) -> list[Path]:
    """The files of all views of the seeds' scenes; those that are there are not made again.

    A seed whose things do not come to rest has no views.

    Args:
        folder: of the files.
        seeds: of the scenes.
        shapes: of the things.
        workers: processes that record side by side; 1 records in this one.
        report: told the recorded share of the scenes.

    Raises:
        InputError: this machine cannot render. FileError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = unrecorded(folder, seeds)
    make = functools.partial(_record, folder, shapes)
    made = map(make, missing) if workers == 1 else _side_by_side(make, missing, workers)
    report(1.0 - len(missing) / len(seeds))
    for count, _ in enumerate(made, start=1):
        report(1.0 - (len(missing) - count) / len(seeds))
    named = (frame_paths(folder, seed) for seed in seeds)
    return [path for paths in named if paths[-1].exists() for path in paths]


def _record(folder: Path, shapes: ShapeSource, seed: int) -> None:
    try:
        recording = record_scene(seed, shapes)
    except NothingAtRest as error:
        print(f"seed {seed}: {error}", file=sys.stderr)
        return
    paths = frame_paths(folder, seed)
    for path, view, labels in zip(paths, recording.views, recording.object_masks, strict=True):
        assert view.depth is not None and view.K is not None and labels is not None
        Frame(view.image, view.depth, view.K, labels.astype(np.uint8)).save(path)


def _side_by_side(
    make: Callable[[int], None], seeds: Sequence[int], workers: int
) -> Iterator[None]:
    """Calls ``make`` for all seeds in processes of their own."""
    # Forked processes would share this one's OpenGL.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, max(len(seeds), 1)), context, _begin_worker)
    try:
        for done in as_completed([pool.submit(make, seed) for seed in seeds]):
            yield done.result()
    except BrokenProcessPool as error:
        raise FileError(
            "a process that records scenes has ended by itself, as when memory runs out: repeat "
            "the command with fewer --workers; what was recorded is kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    # Ctrl-C reaches all processes of a terminal: the scene in hand is finished first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    os.environ.setdefault("LP_NUM_THREADS", "1")  # of Mesa's software renderer
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
