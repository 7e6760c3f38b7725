"""Pairwise pointmaps and alignments as .npz files, so that pointmaps of any source can be
aligned."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import FileError, InputError
from wildseg3d_ros.core.files.arrays import read_npz
from wildseg3d_ros.core.files.writing import write_npz
from wildseg3d_ros.core.types import Alignment, MaskCache, PairPrediction, View, WorldPointmaps

REQUIRED = ("edges", "pointmap_i", "pointmap_j", "confidence_i", "confidence_j")
PER_VIEW = ("soft_mask", "K", "world_from_cam_prior")
OPTIONAL = ("matched_i", "matched_j", *PER_VIEW)
_MOST_EDGES, _MOST_VIEWS = 100_000, 10_000
"""Each takes kilobytes, however few pixels it has."""
_LARGEST = 1e12
_HOLDS = f"a file of pairs holds {', '.join(REQUIRED)} and may hold {', '.join(OPTIONAL)}"


@dataclass(frozen=True, eq=False)
class PairsFile:
    """What a file of pairs holds.

    Attributes:
        views: one per view, named by its index; their images are black.
        predictions: one per edge, in order.
        masks: the soft scores, without objects; None when the file has none.
    """

    views: tuple[View, ...]
    predictions: tuple[PairPrediction, ...]
    masks: MaskCache | None


def load_pairs(path: str | Path, metric: bool = False) -> PairsFile:
    """Reads and checks a file of pairs.

    Arrays, for E pairs of N views with images of one size (H, W):

    - ``edges`` (E, 2) integers: the views (i, j) of each pair, counted from 0.
    - ``pointmap_i``, ``pointmap_j`` (E, H, W, 3): points of every pixel of view i and of view j,
      both in camera i's frame, up to a scale of the pair.
    - ``confidence_i``, ``confidence_j`` (E, H, W): larger is better; 0, negative or NaN =
      no point.
    - optional ``soft_mask`` (N, H, W) in [0, 1]; ``matched_i``, ``matched_j`` (E, H, W) bool;
      ``K`` (N, 3, 3) pixels and ``world_from_cam_prior`` (N, 4, 4), NaN where unknown.

    Args:
        path: of the file.
        metric: whether the points are in metres, so that pairs have no scale of their own.

    Raises:
        FileError: the file cannot be read, or an array is missing or of another shape or type.
        InputError: intrinsics or poses that are none.
    """
    arrays = read_npz(path, "pairs")
    where = f"'{path}'"
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise FileError(
            f"{where} lacks {', '.join(missing)}; {_HOLDS}; this one holds "
            f"{', '.join(sorted(arrays)) or 'none'}"
        )
    if ("matched_i" in arrays) != ("matched_j" in arrays):
        raise FileError(f"{where} holds one of matched_i and matched_j; give both or neither")
    _refuse_unknown(where, arrays)

    edges = _edges(where, arrays["edges"])
    count = _check_arrays(where, edges, arrays)
    maps = (arrays[name] for name in REQUIRED[1:])
    matched = (arrays.get(name, [None] * len(edges)) for name in ("matched_i", "matched_j"))
    predictions = tuple(
        PairPrediction(*edge, *four, metric=metric, matched_a=a, matched_b=b)
        for edge, *four, a, b in zip(edges.tolist(), *maps, *matched, strict=True)
    )
    size = arrays["confidence_i"].shape[1:]
    masks = None
    if "soft_mask" in arrays:
        nothing = np.zeros(size, dtype=np.int32)
        masks = MaskCache((nothing,) * count, tuple(arrays["soft_mask"]), ())
    return PairsFile(_views(where, arrays, count, size), predictions, masks)


def _check_arrays(where: str, edges: NDArray[np.int64], arrays: dict[str, NDArray]) -> int:
    """The number of views, after shapes and types are checked and types brought to ours."""
    points = arrays["pointmap_i"]
    if points.ndim != 4 or points.shape[3] != 3 or not len(edges) == len(points):
        raise FileError(
            f"{where}: pointmap_i must be ({len(edges)}, H, W, 3) for {len(edges)} edges, got "
            f"{points.shape}"
        )
    size = points.shape[1:3]
    if 0 in size:
        raise FileError(f"{where}: pointmap_i is {points.shape}, of images without pixels")
    count = _view_count(where, edges, arrays)
    if len(edges) > _MOST_EDGES or count > _MOST_VIEWS:
        raise FileError(
            f"{where} has {len(edges)} edges and {count} views; at most {_MOST_EDGES} and "
            f"{_MOST_VIEWS} are read; split it"
        )
    per_pixel = ("confidence_i", "confidence_j", "matched_i", "matched_j")
    shapes = {
        "pointmap_j": points.shape,
        **dict.fromkeys(per_pixel, points.shape[:3]),
        "soft_mask": (count, *size),
        "K": (count, 3, 3),
        "world_from_cam_prior": (count, 4, 4),
    }
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            raise FileError(
                f"{where}: {name} must be {shape} for {len(edges)} edges, {count} views and "
                f"{size[1]}x{size[0]} pixels, got {arrays[name].shape}"
            )
    for name in {*REQUIRED, *OPTIONAL} & set(arrays) - {"edges"}:
        arrays[name] = _numbers(where, name, arrays[name])
    for name in REQUIRED[1:]:
        # Their squares have to be numbers; NaN and infinity are none, and no points.
        if (np.isfinite(arrays[name]) & (np.abs(arrays[name]) > _LARGEST)).any():
            raise FileError(f"{where}: {name} has numbers beyond {_LARGEST:g}; give metres")
    soft = arrays.get("soft_mask", np.zeros(0))
    if ((soft < 0) | (soft > 1)).any():  # NaN is neither
        raise FileError(f"{where}: soft_mask must lie in [0, 1]; apply a sigmoid to logits")
    return count


def save_alignment(
    path: str | Path, alignment: Alignment, world: WorldPointmaps, seconds: Mapping[str, float]
) -> None:
    """Writes ``world_from_cam`` (N, 4, 4), ``K`` (N, 3, 3), ``pair_scale`` (E,),
    ``world_pointmap`` (N, H, W, 3), ``confidence`` (N, H, W), ``pair_residual`` (E,),
    ``pair_used`` (E,) bool, ``scale_factor``, ``scale_sources``, ``registration_residual``,
    ``converged``, ``condition``, ``stop_reason`` and ``warnings`` as :class:`Alignment` has them,
    and ``seconds``, a JSON text of the seconds that each stage took.

    Raises:
        FileError: the file cannot be written.
    """
    write_npz(
        Path(path),
        world_from_cam=alignment.world_from_cam,
        K=alignment.K,
        pair_scale=alignment.pair_scale,
        world_pointmap=np.stack(world.points),
        confidence=np.stack(world.confidence),
        pair_residual=alignment.pair_residual,
        pair_used=alignment.pair_used,
        scale_factor=alignment.scale_factor,
        scale_sources=np.array(alignment.scale_sources, dtype=np.str_),
        registration_residual=alignment.registration_residual,
        converged=alignment.converged,
        condition=alignment.condition,
        stop_reason=alignment.stop_reason,
        warnings=np.array(alignment.warnings, dtype=np.str_),
        seconds=json.dumps(dict(seconds)),
    )


def _edges(where: str, edges: NDArray) -> NDArray[np.int64]:
    if edges.ndim != 2 or edges.shape[1:] != (2,) or len(edges) == 0:
        raise FileError(f"{where}: edges must be (E, 2) with E >= 1, got {edges.shape}")
    if not np.issubdtype(edges.dtype, np.integer):
        raise FileError(f"{where}: edges must be integers, got {edges.dtype}")
    wrong = np.flatnonzero((edges < 0).any(1) | (edges[:, 0] == edges[:, 1]))
    if len(wrong):
        raise FileError(
            f"{where}: edge {wrong[0]} is {edges[wrong[0]].tolist()}; expected two different "
            "views counted from 0"
        )
    return edges.astype(np.int64)


def _refuse_unknown(where: str, arrays: Mapping[str, NDArray]) -> None:
    """Raises FileError for arrays that would go unread: intrinsics that nobody reads cost more
    than a file that has to be written again."""
    for name in sorted(set(arrays) - {*REQUIRED, *OPTIONAL}):
        near = difflib.get_close_matches(name, OPTIONAL, n=1, cutoff=0.7)
        near += [known for known in OPTIONAL if known.lower() == name.lower()]
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise FileError(
            f"{where} holds '{name}', which nothing reads; {hint}rename it or leave it out: "
            f"{_HOLDS}"
        )


def _view_count(where: str, edges: NDArray[np.int64], arrays: Mapping[str, NDArray]) -> int:
    """N, from the arrays that have a row per view, else from the edges."""
    lengths = {name: len(np.atleast_1d(arrays[name])) for name in PER_VIEW if name in arrays}
    named = np.unique(edges)
    # Edges that name every view up to the last are right where another array is too short.
    is_gapless = len(named) == named[-1] + 1
    count = max([int(named[-1]) + 1, *lengths.values()])
    if is_gapless:
        return count
    max_count, source = 2 * len(edges), f"{len(edges)} edges"
    if lengths:
        source = max(lengths, key=lambda name: lengths[name])
        max_count = lengths[source]
    beyond = np.flatnonzero((edges >= max_count).any(1))
    if len(beyond):
        raise FileError(
            f"{where}: edge {beyond[0]} is {edges[beyond[0]].tolist()}, but {source} are of "
            f"{max_count} views at most, counted from 0"
        )
    return count


def _numbers(where: str, name: str, array: NDArray) -> NDArray:
    double = name in ("K", "world_from_cam_prior")
    wanted = np.float64 if double else np.bool_ if name.startswith("matched") else np.float32
    fits = (
        (array.dtype == np.bool_ and wanted is not np.float64 and array.ndim == 3)
        or np.issubdtype(array.dtype, np.integer)
        or (wanted is not np.bool_ and np.issubdtype(array.dtype, np.floating))
    )
    if not fits:
        raise FileError(f"{where}: {name} must be {np.dtype(wanted)}, got {array.dtype}")
    with np.errstate(over="ignore"):  # what is too large is told
        return np.ascontiguousarray(array, dtype=wanted)


def _views(
    where: str, arrays: Mapping[str, NDArray], count: int, size: tuple[int, int]
) -> tuple[View, ...]:
    black = np.broadcast_to(np.zeros(1, dtype=np.uint8), (*size, 3))

    def known(name: str, v: int) -> NDArray | None:
        value = arrays[name][v] if name in arrays else None
        if value is None or np.isnan(value).all():
            return None
        if np.isnan(value).any():
            raise FileError(
                f"{where}: {name}[{v}] is partly NaN: {value.tolist()}; expected all of it, or "
                "NaN throughout where it is unknown"
            )
        return value

    try:
        return tuple(
            View(str(v), black, known("K", v), None, known("world_from_cam_prior", v))
            for v in range(count)
        )
    except InputError as error:
        raise InputError(f"{where}: {error}", error.code) from error
