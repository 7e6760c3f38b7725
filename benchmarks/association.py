"""Objects that get one id over all views, and the time of it.

Rings of cameras with masks that are wrong in several ways; points and poses with errors; opposite
cameras that see two sides of a body.

The baseline lifts every pixel of every mask into every other view, compares the masks two by two,
and joins those that overlap by half, chain by chain.
"""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.surface_ids import surface_ids
from wildseg3d_ros.core.components import components
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.association import associate
from wildseg3d_testing.association import (
    Ids,
    Kind,
    count_right,
    draw_depths,
    facing,
    names_of,
    row_of_bodies,
    rows_of_twins,
    with_errors,
)
from wildseg3d_testing.exact import exact_world
from wildseg3d_testing.masks import add_under_segmented, miscut_masks, spoil_masks, track_masks
from wildseg3d_testing.scenes import ConstructedScene, construct_scene, photograph

VIEWS = 8
OBJECTS = 12
SEEDS = 20
TILE = 0.1
"""Edge of the tiles that the table is cut into for the timing [m]."""
SMALL_TILE, MAX_TILES = 0.026, 690
"""The same for many masks, and how many tiles a view has at most."""
ANCHORS = (1, 4, 6)
"""Views whose masks are followed where it is not all of them."""

HELD_OUT = 1000
"""First seed of scenes that no constant was chosen on."""
SIDES = (
    ((0, 180), 8.0),
    ((0, 10, 180, 190), 8.0),
    ((0, 45, 90, 135, 180), 8.0),
    ((0, 180), 30.0),
)
"""Azimuths and elevation of opposite cameras, and of a chain between them [degrees]."""
KINDS: tuple[Kind, ...] = ("ball", "cylinder", "box", "board")

SURFACE = ("by the surface", "by the surface, masks so cut and joined")
"""What :mod:`benchmarks.surface_ids` gives."""

UNDER_SEGMENTED = (0, 2, 4)
"""Views that have an under-segmented mask more, around three objects."""


def main() -> dict[str, Any]:
    """Shares of objects with exactly one id, ids that cover two, seconds, memory."""
    return {
        "objects": _accuracy(),
        "objects, by overlap of points with errors": _with_errors(),
        "objects, by swapped tracks of few views": _few_views(),
        "objects that two sides are seen of": _two_sides(),
        "8 views x about 60 masks at 512x384": _speed(),
        "8 views x about 600 masks at 512x384": _many_masks(),
    }


def _accuracy() -> dict[str, Any]:
    runs: dict[str, Callable[..., Ids]] = {
        "overlap": lambda masks, world, visibility, _: (
            associate(masks, world, visibility).id_of_mask
        ),
        "tracks (half are swapped beyond 60 degrees)": lambda masks, _, __, tracks: (
            associate(masks, tracks=tracks).id_of_mask
        ),
        "overlap and these tracks": lambda masks, world, visibility, tracks: (
            associate(masks, world, visibility, tracks).id_of_mask
        ),
        "these tracks, from three of the views alone": lambda masks, _, __, tracks: (
            associate(masks, tracks=[tracks[a] for a in ANCHORS]).id_of_mask
        ),
        "overlap and tracks from three of the views": lambda masks, world, visibility, tracks: (
            associate(masks, world, visibility, [tracks[a] for a in ANCHORS]).id_of_mask
        ),
        "overlap; a mask round three objects in three of the views": (
            lambda masks, world, visibility, _: (
                associate(
                    add_under_segmented(masks, UNDER_SEGMENTED), world, visibility
                ).id_of_mask
            )
        ),
        "baseline": lambda masks, world, visibility, _: join_chains(masks, world, visibility),
    }
    counts = {name: np.zeros(3, int) for name in [*runs, *SURFACE]}
    counts["overlap, 10 % of the masks cut in two, 10 % joined with a neighbour's"] = miscut = (
        np.zeros(3, int)
    )
    for seed in range(SEEDS):
        truth = _ring(seed)
        rng = np.random.default_rng(seed)
        masks, names = spoil_masks(truth.labels, rng)
        tracks = track_masks(masks, names, truth.labels, truth.world_from_cam, rng)
        world = exact_world(truth)
        visibility = draw_depths(truth, world)
        for name, run in runs.items():
            counts[name] += count_right(run(masks, world, visibility, tracks), names)
        counts["by the surface"] += count_right(surface_ids(masks, world, truth), names)
        cut, known = miscut_masks(masks, names, rng)
        miscut += count_right(associate(cut, world, visibility).id_of_mask, known)
        counts["by the surface, masks so cut and joined"] += count_right(
            surface_ids(cut, world, truth), known
        )
    return {name: _shares(count) for name, count in counts.items()}


def _shares(count: NDArray[np.integer]) -> dict[str, Any]:
    right, objects, merged = count.tolist()
    return {"share with one id": right / objects, "ids that cover two": merged, "of": objects}


def _ring(seed: int) -> ConstructedScene:
    return construct_scene(VIEWS, 320, 240, OBJECTS, seed, 360.0 * (1 - 1 / VIEWS), identical=4)


ERRORS = {
    "none": {},
    "noise of depth 0.4 %, poses 4 mm and 0.34 degrees": {
        "depth": 0.004,
        "rotation": 0.006,
        "translation": 0.004,
    },
    "poses 10 mm and 1 degree": {"rotation": np.radians(1.0), "translation": 0.01},
    "smooth error of depth 2 %": {"smooth": 0.02},
    "smooth error of depth 4 %": {"smooth": 0.04},
    "scale of each view 3 %": {"scale": 0.03},
}
"""Standard deviations, poses per axis."""


def _with_errors() -> dict[str, Any]:
    counts = {
        name: np.zeros(3, int) for each in ERRORS for name in (each, f"{each}, {SURFACE[0]}")
    }
    for seed in range(HELD_OUT, HELD_OUT + SEEDS // 2):
        truth = _ring(seed)
        masks, names = spoil_masks(truth.labels, np.random.default_rng(seed))
        for name, errors in ERRORS.items():
            given = {"depth": 0.0, "rotation": 0.0, "translation": 0.0} | errors
            world, poses = with_errors(truth, seed=seed, **given)
            result = associate(masks, world, draw_depths(truth, world, poses))
            counts[name] += count_right(result.id_of_mask, names)
            by_surface = surface_ids(masks, world, truth, poses)
            counts[f"{name}, {SURFACE[0]}"] += count_right(by_surface, names)
    return {name: _shares(count) for name, count in counts.items()}


def _few_views() -> dict[str, Any]:
    """Views more than 60 degrees apart, so that half of all tracks may be wrong."""
    counts = {}
    for views in (2, 3, 4):
        total = np.zeros(3, int)
        for seed in range(HELD_OUT, HELD_OUT + SEEDS // 2):
            arc = 360.0 * (1 - 1 / views)
            truth = construct_scene(views, 160, 120, OBJECTS, seed, arc, identical=4)
            rng = np.random.default_rng(seed)
            masks, names = spoil_masks(truth.labels, rng)
            tracks = track_masks(masks, names, truth.labels, truth.world_from_cam, rng)
            total += count_right(associate(masks, tracks=tracks).id_of_mask, names)
        counts[f"{views} views"] = total
    return {name: _shares(count) for name, count in counts.items()}


def _two_sides() -> dict[str, Any]:
    """Bodies in a row, and in two rows of which one hides the other, from opposite cameras."""
    counts: dict[str, NDArray[np.integer]] = {}
    arranged = {"one row": row_of_bodies, "a twin behind each": rows_of_twins}
    for azimuths, elevation in SIDES:
        for name, arrange in arranged.items():
            for spoilt in (False, True):
                total, by_surface = np.zeros((2, 3), int)
                for kind, seed in itertools.product(KINDS, range(HELD_OUT, HELD_OUT + 4)):
                    bodies = arrange(kind, np.random.default_rng(seed))
                    truth = photograph(bodies, facing(azimuths, elevation), 240, 180)
                    masks, names = truth.labels, names_of(truth)
                    world, poses = exact_world(truth), truth.world_from_cam
                    if spoilt:
                        rng = np.random.default_rng(seed)
                        masks, names = spoil_masks(truth.labels, rng, missing=0.0)
                        world, poses = with_errors(truth, 0.002, 0.003, 0.002, seed)
                    result = associate(masks, world, draw_depths(truth, world, poses))
                    total += count_right(result.id_of_mask, names)
                    by_surface += count_right(surface_ids(masks, world, truth, poses), names)
                seen = "masks, depths and poses with errors" if spoilt else "exact"
                place = ", ".join(str(a) for a in azimuths)
                setting = f"{name}; {place} degrees, {elevation:g} up; {seen}"
                counts[setting], counts[f"{setting}; {SURFACE[0]}"] = total, by_surface
    return {name: _shares(count) for name, count in counts.items()}


def _tiled(tile: float) -> tuple[ConstructedScene, Sequence[NDArray[np.int32]]]:
    """A ring of cameras, and masks of its objects and of the table cut into tiles."""
    truth = construct_scene(VIEWS, 512, 384, OBJECTS, 0, 360.0 * (1 - 1 / VIEWS), identical=4)
    tiled = []
    for labels, points in zip(truth.labels, truth.points, strict=True):
        cell = np.floor(np.nan_to_num(points[..., :2]) / tile).astype(int) + 400
        near = (np.abs(np.nan_to_num(points[..., 2])) < 0.01) & (labels == 0)
        masks = np.where(near, 100 + 1000 * cell[..., 0] + cell[..., 1], labels)
        names, areas = np.unique(masks[masks > 0], return_counts=True)
        largest = names[np.argsort(-areas, kind="stable")[:MAX_TILES]]
        tiled.append(np.where(np.isin(masks, largest), masks, 0).astype(np.int32))
    return truth, spoil_masks(tiled, np.random.default_rng(0))[0]


def _many_masks() -> dict[str, Any]:
    truth, masks = _tiled(SMALL_TILE)
    world = exact_world(truth)
    visibility = draw_depths(truth, world)
    start, used = time.perf_counter(), time.process_time()
    associate(masks, world, visibility)
    wall, processor = time.perf_counter() - start, time.process_time() - used
    tracemalloc.start()
    associate(masks, world, visibility)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    count = sum(len(np.unique(m)) - 1 for m in masks)
    return {
        "masks": count,
        "seconds": wall,
        "processor seconds": processor,
        "peak memory [MiB]": peak / 2**20,
        "baseline": "one table of all pairs of masks, float32",
        "baseline memory [MiB]": 4 * count**2 / 2**20,
        "ratio baseline over ours": 4 * count**2 / peak,
    }


def _speed() -> dict[str, Any]:
    truth, masks = _tiled(TILE)
    world = exact_world(truth)
    wall, processor = [], []
    for _ in range(5):
        start, used = time.perf_counter(), time.process_time()
        associate(masks, world, draw_depths(truth, world))
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    start = time.perf_counter()
    join_chains(masks, world, draw_depths(truth, world))
    baseline = time.perf_counter() - start
    return {
        "masks": sum(len(np.unique(m)) - 1 for m in masks),
        "seconds (median of 5)": float(np.median(wall)),
        "processor seconds": float(np.median(processor)),
        "baseline": "all pixels lifted, masks compared two by two",
        "baseline seconds": baseline,
        "ratio baseline over ours": baseline / float(np.median(wall)),
    }


def join_chains(
    masks: Sequence[NDArray[np.int32]], world: WorldPointmaps, visibility: Visibility
) -> Ids:
    """The baseline: connected components of masks whose visible parts overlap by half."""
    names = [np.unique(m[m > 0]) for m in masks]
    offsets = np.cumsum([0, *(len(n) for n in names)])
    links = []
    for a, labels in enumerate(masks):
        pixel = np.flatnonzero((labels > 0) & world.valid(a))
        points = world.points[a].reshape(-1, 3)[pixel]
        view = np.full(len(points), a, np.uint16)
        for b, others in enumerate(masks):
            if a == b:
                continue
            row, z, there = visibility.look(b, points, view)
            measured = visibility.depth[b].ravel()[there]
            seen = np.abs(measured - z) < visibility.tolerance(b, z)
            mine, theirs = labels.ravel()[pixel[row[seen]]], others.ravel()[there[seen]]
            for i, name in enumerate(names[a]):
                inside = mine == name
                for j, other in enumerate(names[b]):
                    hit = np.count_nonzero(inside & (theirs == other))
                    if hit > 0.5 * np.count_nonzero(inside):
                        links.append((offsets[a] + i, offsets[b] + j))
    group = components(offsets[-1], links)
    return [
        dict(zip(n.tolist(), group[offset : offset + len(n)].tolist(), strict=True))
        for n, offset in zip(names, offsets[:-1], strict=True)
    ]
