"""One camera of a right rig was kicked: is it said, is it corrected, and is anybody else blamed?

``python -m benchmarks kicked`` takes the shipped table, by turns with all six cameras and with
four of them, and constructed rigs of four; each draw has honest errors of up to 5 mm and 0.5
degrees on all poses, a camera by chance and a direction of the kick. Each is judged and aligned as
a build does, without masks.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.recordings import ROOT
from wildseg3d_ros.alignment import align
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import DisconnectedViews, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import invert
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.pairing import choose_pairs, keep_largest
from wildseg3d_ros.pointmaps import load_pointmaps
from wildseg3d_ros.rig.judge import judge
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.rigs import with_pose_error
from wildseg3d_testing.scenes import construct_scene

KICKS = ((0.0, 0.0), (0.02, 1.0), (0.05, 0.0), (0.1, 0.0), (0.1, 5.0))
"""Metres and degrees."""

_DRAWS = 10
_RIGHT = 0.005
"""Metres from the truth, seen from the other cameras, within which a camera was corrected."""


@dataclass(frozen=True, eq=False)
class Rig:
    """Views with exact poses, and the generator of what is drawn."""

    name: str
    views: Sequence[View]
    rng: np.random.Generator


def tabletops() -> Iterator[Rig]:
    """The shipped table."""
    views = load_folder(ROOT / "examples" / "tabletop").views
    cameras = json.loads((ROOT / "examples/tabletop/truth.json").read_text())["cameras"]
    exact = [
        replace(view, world_from_cam_prior=np.array(cameras[view.name]["world_from_cam"]))
        for view in views
    ]
    for draw in range(_DRAWS):
        rng = np.random.default_rng(1000 + draw)
        chosen = sorted(rng.permutation(len(exact))[: 4 if draw % 2 else len(exact)].tolist())
        yield Rig(f"tabletop {draw}", [exact[v] for v in chosen], rng)


def constructed() -> Iterator[Rig]:
    """Rings of four."""
    for draw in range(_DRAWS):
        made = construct_scene(
            4, 320, 240, seed=40 + draw, arc_degrees=111.0, depth_noise=DepthNoise()
        )
        yield Rig(f"constructed {draw}", made.views, np.random.default_rng(draw))


def outcome(views: Sequence[View], truth: NDArray[np.float64], kicked: int) -> tuple[str, int]:
    """What is said of the kicked camera and where it is put; and how many others are not ok.

    Args:
        truth: (N, 4, 4) exact poses.
    """
    config, index = SceneConfig(), list(range(len(views)))
    report = judge(views)
    if report.finding is not None:
        return "refused", 0
    backend = load_pointmaps(config.pointmaps)
    try:
        predictions = backend.predict(views, choose_pairs(views, config.pairing), Progress())
    except DisconnectedViews as error:
        kept = keep_largest(views, error)
        index, predictions = list(kept.index), list(kept.predictions)
    except WildSeg3DError:
        return "refused", 0
    used = [views[v] for v in index]
    try:
        alignment = align(predictions, used, config.alignment)
    except WildSeg3DError:
        return "refused", 0
    said = dict(zip(index, report.joined(alignment.cameras), strict=True))
    blamed = len(views) - len(index) - (kicked not in index)
    blamed += sum(v != kicked and each.verdict != "ok" for v, each in said.items())
    if kicked not in index:
        return "not in the scene", blamed
    poses = dict(zip(index, alignment.world_from_cam, strict=True))
    off = [
        float(np.linalg.norm((invert(poses[v]) @ poses[kicked])[:3, 3] - seen[:3, 3]))
        for v in index
        if v != kicked
        for seen in [invert(truth[v]) @ truth[kicked]]
    ]
    place = "right place" if np.median(off) < _RIGHT else "wrong place"
    return f"{said[kicked].verdict}, {place}", blamed


def measure(rigs: Iterator[Rig]) -> dict[str, str]:
    """Outcomes by kick."""
    counts = {kick: Counter[str]() for kick in KICKS}
    for rig in rigs:
        truth = np.stack([np.asarray(view.world_from_cam_prior) for view in rig.views])
        size = rig.rng.uniform(0.0, 0.005)
        honest = with_pose_error(rig.views, rig.rng, size, np.radians(100.0 * size))
        for metres, degrees in KICKS:
            kicked, views = int(rig.rng.integers(len(honest))), list(honest)
            if metres:
                one = views[kicked : kicked + 1]
                views[kicked : kicked + 1] = with_pose_error(
                    one, rig.rng, metres, np.radians(degrees)
                )
            said, blamed = outcome(views, truth, kicked)
            counts[metres, degrees][said] += 1
            counts[metres, degrees]["others blamed"] += blamed
            print(rig.name, metres, degrees, said, blamed, file=sys.stderr, flush=True)
    return {
        f"{1e3 * metres:.0f} mm, {degrees:.0f} degrees": ", ".join(
            f"{count} {said}" for said, count in sorted(of.items()) if count
        )
        for (metres, degrees), of in counts.items()
    }


def main() -> dict:
    """Both tables."""
    return {"tabletop": measure(tabletops()), "constructed": measure(constructed())}
