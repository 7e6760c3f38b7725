"""What the pictures share: recordings with their scenes, and colours."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from benchmarks.recordings import REAL_DATA
from wildseg3d_ros.io.folder import Recording, load_folder
from wildseg3d_ros.scene.scene import Scene

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
TABLETOP = ROOT / "examples" / "tabletop"
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#882255",
          "#000000", "#332288")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Built:
    """A recording and its scene."""

    recording: Recording
    scene: Scene


@functools.cache
def tabletop() -> Built:
    """The shipped table, built with the defaults."""
    from wildseg3d_ros.pipeline import build_scene

    recording = load_folder(TABLETOP)
    return Built(recording, build_scene(recording.views))


@functools.cache
def shelf() -> Built | None:
    """The real shelf, built with the defaults; None where it is absent."""
    from wildseg3d_ros.pipeline import build_scene

    source = REAL_DATA / "apc_shelf"
    if not source.is_dir():
        return None
    recording = load_folder(source)
    return Built(recording, build_scene(recording.views))
