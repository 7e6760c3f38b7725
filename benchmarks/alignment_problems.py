"""Constructed alignment problems and the errors of their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.types import MaskCache, PairPrediction
from wildseg3d_testing.pairs import (
    NETWORK_LIKE,
    ConstructedPairs,
    complete_pairs,
    construct_views,
    predict_like_network,
    sequence_pairs,
)
from wildseg3d_testing.points import errors_after, robust_similarity

GARBAGE_SHARE = 0.06


@dataclass(frozen=True)
class Errors:
    """Of object points (median, mean) and camera positions (RMS), millimetres."""

    median: float
    mean: float
    camera: float


def problem(
    kind: str, seed: int, views: int = 6, size: tuple[int, int] = (48, 64)
) -> ConstructedPairs:
    """A problem of one of :data:`KINDS`, without given poses."""
    sweep = 4.5 if kind == "wide" else 2.0
    scene = construct_views(views, size, seed, sweep)
    pairs = sequence_pairs(views, 1) if kind == "sparse" else complete_pairs(views)
    errors = NETWORK_LIKE
    if kind == "garbage":
        count = max(1, round(GARBAGE_SHARE * len(pairs)))
        chosen = np.random.default_rng(seed).choice(len(pairs), count, replace=False)
        errors = replace(errors, wrong_pairs=tuple(int(e) for e in chosen))
    made = predict_like_network(scene, pairs, errors, seed).without_priors()
    spoil = _BACKGROUNDS.get(kind)
    if spoil is None:
        return made
    random = np.random.default_rng(1000 + seed)
    spots = [_spot(size, random) & ~on_object for on_object in made.objects]
    return replace(
        made, predictions=tuple(spoil(made, p, spots, random) for p in made.predictions)
    )


KINDS = ("clean", "moving", "reflective", "textureless", "wide", "sparse", "garbage")


def soft_masks(made: ConstructedPairs) -> MaskCache:
    """Scores as a mask back end gives them: 0.95 on objects, 0.05 beside them."""
    scores = tuple(np.where(mask, 0.95, 0.05).astype(np.float32) for mask in made.objects)
    nothing = tuple(np.zeros(mask.shape, dtype=np.int32) for mask in made.objects)
    return MaskCache(nothing, scores, ())


def errors_of(
    made: ConstructedPairs, points: Sequence[NDArray], world_from_cam: NDArray
) -> Errors:
    """Errors after the robust similarity between all points and the truth."""
    scale, rigid = similarity = robust_similarity(points, made.points)
    apart = [
        errors_after(found, truth, similarity)[mask & np.isfinite(found).all(-1)]
        for found, truth, mask in zip(points, made.points, made.objects, strict=True)
    ]
    error = 1e3 * np.concatenate(apart)
    centres = apply(rigid, scale * world_from_cam[:, :3, 3]) - made.world_from_cam[:, :3, 3]
    camera = 1e3 * float(np.sqrt((centres**2).sum(1).mean()))
    return Errors(float(np.median(error)), float(error.mean()), camera)


def _spot(size: tuple[int, int], random: np.random.Generator) -> NDArray[np.bool_]:
    """An ellipse over about a fifth of the image."""
    v, u = np.mgrid[: size[0], : size[1]]
    centre = random.uniform(0.2, 0.8, 2) * size
    axes = random.uniform(0.2, 0.35, 2) * size
    return ((v - centre[0]) / axes[0]) ** 2 + ((u - centre[1]) / axes[1]) ** 2 < 1


_Spoil = Callable[
    [ConstructedPairs, PairPrediction, list[NDArray[np.bool_]], np.random.Generator],
    PairPrediction,
]


def _moving(
    made: ConstructedPairs,
    pair: PairPrediction,
    spots: list[NDArray[np.bool_]],
    random: np.random.Generator,
) -> PairPrediction:
    """People who walk by: a spot of the background that is elsewhere in every pair."""
    maps = [pair.pointmap_a.copy(), pair.pointmap_b.copy()]
    for points, v in zip(maps, (pair.a, pair.b), strict=True):
        distance = np.linalg.norm(points[spots[v]], axis=1).mean() if spots[v].any() else 0.0
        points[spots[v]] += (0.15 * distance * random.normal(0, 1, 3)).astype(np.float32)
    return replace(pair, pointmap_a=maps[0], pointmap_b=maps[1])


def _reflective(
    made: ConstructedPairs,
    pair: PairPrediction,
    spots: list[NDArray[np.bool_]],
    random: np.random.Generator,
) -> PairPrediction:
    """Mirrors and glass: a spot whose points lie well behind the surface, with full confidence."""
    maps = [pair.pointmap_a.copy(), pair.pointmap_b.copy()]
    for points, v in zip(maps, (pair.a, pair.b), strict=True):
        points[spots[v]] *= np.float32(random.uniform(1.2, 1.6))
    return replace(pair, pointmap_a=maps[0], pointmap_b=maps[1])


def _textureless(
    made: ConstructedPairs,
    pair: PairPrediction,
    spots: list[NDArray[np.bool_]],
    random: np.random.Generator,
) -> PairPrediction:
    """White walls: all background warped by up to a tenth of its distance, with less confidence
    and without matches."""
    maps = [pair.pointmap_a.copy(), pair.pointmap_b.copy()]
    confidences = [pair.confidence_a.copy(), pair.confidence_b.copy()]
    for points, confidence, v in zip(maps, confidences, (pair.a, pair.b), strict=True):
        wall = ~made.objects[v]
        rows, cols = np.mgrid[: wall.shape[0], : wall.shape[1]]
        wave = np.cos(
            random.normal(0, 5) * rows / wall.shape[0]
            + random.normal(0, 5) * cols / wall.shape[1]
            + random.uniform(0, 2 * np.pi)
        )
        points[wall] *= (1.0 + 0.1 * wave[wall, None]).astype(np.float32)
        confidence[wall] = 1.0 + 0.5 * (confidence[wall] - 1.0)
    return replace(
        pair,
        pointmap_a=maps[0],
        pointmap_b=maps[1],
        confidence_a=confidences[0],
        confidence_b=confidences[1],
        matched_a=made.objects[pair.a],
        matched_b=made.objects[pair.b],
    )


_BACKGROUNDS: dict[str, _Spoil] = {
    "moving": _moving,
    "reflective": _reflective,
    "textureless": _textureless,
}
