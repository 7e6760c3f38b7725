"""Usual mistakes of rigs: which are named, which only refused or warned of, and false alarms.

Scenes are random simulated ones with the noise of depth cameras, constructed ones without depth,
and recordings where they are there. Their given poses are honest: in the former two
each camera is off by up to 10 mm and 1 degree. Every mistake is then made in every scene. It is
named where the verdict has its kind; warned of where a scene would be built, and the warning says
that cameras contradict each other or could not be checked; else it is silent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.recordings import REAL_DATA, ROOT
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.rig.aligned import check_rig
from wildseg3d_ros.sim.random_scene import RandomSceneSpec, record_random_scene
from wildseg3d_testing.rigs import MISTAKES, with_pose_error
from wildseg3d_testing.stereo import stereo_scene

FIRST_SEED = 700
"""Of the simulated scenes: thresholds were chosen on scenes before it."""

_COUNTS = (2, 3, 4, 5, 6, 8, 12)

Views = Sequence[View]


def simulated(scenes: int, first: int = FIRST_SEED) -> Iterator[tuple[str, Views]]:
    """Random scenes of 2 to 12 views with honest pose errors."""
    for k in range(scenes):
        count = _COUNTS[k % len(_COUNTS)]
        views = record_random_scene(RandomSceneSpec(seed=first + k, views=count)).views
        yield f"simulated {first + k}, {count} views", _honest(views, first + k)


def plain(scenes: int) -> Iterator[tuple[str, Views]]:
    """Constructed scenes without depth, in fans that stereo can match."""
    for k in range(scenes):
        views = stereo_scene(3 + k % 4, 8.0 + 2.0 * (k % 5), 320, 240, seed=20 + k).views
        yield f"plain {20 + k}, {len(views)} views", _honest(views, k)


def recorded() -> Iterator[tuple[str, Views]]:
    """The shipped recording, and real ones where they are there, as they are."""
    yield "tabletop", load_folder(ROOT / "examples" / "tabletop").views
    if (REAL_DATA / "apc_shelf").is_dir():
        yield "shelf", load_folder(REAL_DATA / "apc_shelf").views
    if (REAL_DATA / "sevenscenes_kitchen").is_dir():
        yield "kitchen", _kitchen(REAL_DATA / "sevenscenes_kitchen")


def _kitchen(folder: Path) -> list[View]:
    """Eight views of a camera that was tracked, whose colour is not registered to its depth: the
    depth is looked up where colour's longer field of view has it."""
    size, depth_focal, focal = (480, 640), 585.0, 525.0
    K = np.array([[focal, 0.0, 320.0], [0.0, focal, 240.0], [0.0, 0.0, 1.0]])
    zoom = depth_focal / focal
    v, u = np.mgrid[: size[0], : size[1]].astype(np.float32)
    at = (u - 320) * zoom + 320, (v - 240) * zoom + 240
    views = []
    for image in sorted(folder.glob("*.color.jpg"))[::3]:
        name = image.name.removesuffix(".color.jpg")
        depth = cv2.imread(str(folder / f"{name}.depth.png"), cv2.IMREAD_UNCHANGED)
        assert depth is not None
        metres = np.where(depth == 65535, 0.0, 0.001 * depth).astype(np.float32)
        metres = np.asarray(cv2.remap(metres, *at, cv2.INTER_NEAREST), np.float32)
        colour = cv2.cvtColor(np.asarray(cv2.imread(str(image)), np.uint8), cv2.COLOR_BGR2RGB)
        pose = np.loadtxt(folder / f"{name}.pose.txt")
        views.append(View(name, np.asarray(colour, np.uint8), K, metres, pose))
    return views


def standing_still() -> dict[str, str]:
    """Right recordings whose cameras all stand within millimetres of each other: mistakes that all
    share change nothing there."""
    names = [name for name in ("ycbv_mug", "ycbv_flip") if (REAL_DATA / name).is_dir()]
    return {name: outcome(load_folder(REAL_DATA / name).views, None) for name in names}


def _honest(views: Views, seed: int) -> list[View]:
    random = np.random.default_rng(seed)
    size, turn = random.uniform(0.0, 0.01), np.radians(random.uniform(0.0, 1.0))
    return with_pose_error(views, random, size, turn)


def outcome(views: Views, kind: str | None) -> str:
    """Named, refused (by another name), warned or silent; of right views: passed, warned or
    refused."""
    rig = check_rig(views)
    if rig.report.finding is not None:
        return "named" if rig.report.finding.kind == kind else "refused"
    if rig.verdict != "ok" or rig.warnings:
        return "warned"
    return "silent" if kind else "passed"


def measure(scenes: Iterator[tuple[str, Views]], verbose: bool = False) -> dict:
    """Counts of outcomes by mistake, and of right rigs; and the processor time of a check. Of
    three cameras and more once more: two that share little tell nothing."""
    table: dict[str, dict[str, int]] = {}
    several: dict[str, int] = {}
    right: dict[str, int] = {}
    seconds: list[float] = []
    for name, views in scenes:
        has_depth = any(view.depth is not None for view in views)
        start = time.process_time()
        passed = outcome(views, None)
        seconds.append(time.process_time() - start)
        right[passed] = right.get(passed, 0) + 1
        if verbose and passed != "passed":
            print(f"{name}: right rig {passed}", flush=True)
        for k, (mistake, made) in enumerate(MISTAKES.items()):
            if made.needs_depth and not has_depth:
                continue
            wrong = made.make(views, np.random.default_rng([k, len(views)]))
            got = outcome(wrong, made.kind)
            row = table.setdefault(mistake, {})
            row[got] = row.get(got, 0) + 1
            if len(views) > 2:
                several[got] = several.get(got, 0) + 1
            if verbose and got != "named":
                print(f"{name}: {mistake} {got}", flush=True)
    every = {
        got: sum(row.get(got, 0) for row in table.values())
        for got in ("named", "refused", "warned", "silent")
    }
    total = max(sum(every.values()), 1)
    return {
        "right rigs": right,
        **{mistake: _text(row) for mistake, row in table.items()},
        "three_cameras_and_more": _text(several),
        "named_share": every["named"] / total,
        "noticed_share": 1.0 - every["silent"] / total,
        "check_cpu_s_median": float(np.median(seconds)),
        "check_cpu_s_worst": float(np.max(seconds)),
    }


def _text(row: dict[str, int]) -> str:
    total = sum(row.values())
    others = [f"{count} {got}" for got, count in sorted(row.items()) if got != "named"]
    return ", ".join([f"{row.get('named', 0)} of {total} named", *others])


def right_rigs(scenes: int) -> dict:
    """Outcomes of many right rigs alone."""
    counts: dict[str, int] = {}
    for _, views in simulated(scenes, FIRST_SEED + 200):
        got = outcome(views, None)
        counts[got] = counts.get(got, 0) + 1
    return counts


def many_cameras(count: int = 40) -> float:
    """Seconds of processor time of a check of that many cameras."""
    views = record_random_scene(RandomSceneSpec(seed=FIRST_SEED + 100, views=count)).views
    start = time.process_time()
    check_rig([replace(view) for view in views])
    return time.process_time() - start


def main() -> dict:
    """All tables."""
    return {
        "simulated RGB-D": measure(simulated(21)),
        "constructed RGB": measure(plain(6)),
        "recordings": measure(recorded()),
        "right recordings of one place": standing_still(),
        "right simulated rigs": right_rigs(40),
        "forty_cameras_cpu_s": many_cameras(),
    }
