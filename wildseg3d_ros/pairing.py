"""Which views are compared with each other.

The cost of a scene grows with its pairs, and most pairs of many views share little. Pairs are
chosen by what the views have in common: computed from poses and depth where these are given,
guessed from the images' likeness and order where they are not. The graph is connected whenever
there are two views or more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.config import PairingConfig
from wildseg3d_ros.geometry.cameras import project
from wildseg3d_ros.geometry.transforms import apply, invert
from wildseg3d_ros.types import View

Pair = tuple[int, int]

_TIE = 1e-6
"""Likeness that decides only between equals."""

Similarity = Callable[[Sequence[View]], NDArray[np.float64]]
"""Gives the (N, N) likeness of views, 0..1."""

SAMPLES = 600
"""Points per view whose visibility in the other views is computed."""

FULL_PARALLAX = np.deg2rad(8.0)
"""Two rays to a point that meet at this angle or more tell its depth well; pairs below count
less."""

_USUAL_FOCAL = 0.9
"""Focal length in longer image sides, 58 degrees wide, of a camera whose own is not known."""


def choose_pairs(
    views: Sequence[View],
    config: PairingConfig = PairingConfig(),
    similarity: Similarity | None = None,
) -> list[tuple[int, int]]:
    """Pairs (a, b), a < b, each once, sorted; the graph of all views is connected.

    All pairs when the bound on pairs per view allows it. Otherwise by covisibility where views
    have poses; views without are attached by their order and by the likeness of the images.

    Args:
        similarity: how likeness is told, where it is needed; None for :func:`image_similarity`.
    """
    count = len(views)
    if count - 1 <= config.max_pairs_per_view:
        return pairs_from_exhaustive(count)
    posed = [index for index, view in enumerate(views) if view.world_from_cam_prior is not None]
    if len(posed) == count:
        return pairs_from_covisibility(views, config)
    likeness = (similarity or image_similarity)(views)
    if len(posed) < 2:
        return pairs_from_similarity(likeness, config)
    return _pairs_from_both(views, posed, likeness, config)


def pairs_from_exhaustive(count: int) -> list[tuple[int, int]]:
    """Every pair of ``count`` views."""
    return [(a, b) for a in range(count) for b in range(a + 1, count)]


def pairs_from_sequence(count: int, window: int = 2) -> list[tuple[int, int]]:
    """Each view with the ``window`` views that follow it."""
    return [(a, b) for a in range(count) for b in range(a + 1, min(a + 1 + window, count))]


def pairs_from_covisibility(
    views: Sequence[View], config: PairingConfig = PairingConfig()
) -> list[tuple[int, int]]:
    """Pairs of views that see the same points, as far as poses, intrinsics and depth tell.

    A maximum spanning tree of the overlap comes first. Then, greedily, the pair that adds most:
    each point counts with the harmonic series, so that being seen by a second, third, fourth view
    is worth 1, 1/2, 1/3, and with the parallax between the two cameras. This spreads a view's
    pairs over its points and over directions, where taking the largest overlaps would pick its
    closest neighbours.

    Args:
        views: all with ``world_from_cam_prior``.
        config: bound on pairs per view (exceeded only where the tree needs it) and least overlap.
    """
    return _spread_pairs(*visibility(views), config)


def pairs_from_similarity(
    likeness: NDArray[np.float64], config: PairingConfig = PairingConfig()
) -> list[tuple[int, int]]:
    """Pairs of views without poses: neighbours in the given order, and images that look alike.

    Args:
        likeness: (N, N), 0..1, of the views in their order.
    """
    # The order is evidence of its own: a moving camera's next view overlaps with this one. It
    # decides between equals in the tree, and comes before all likeness in what is added.
    in_order = np.zeros_like(likeness)
    for a, b in pairs_from_sequence(len(likeness), 1):
        in_order[a, b] = in_order[b, a] = 1.0
    tree = _tree_of(likeness + _TIE * in_order, config.max_pairs_per_view)
    return _fill_up(likeness + in_order, tree, 0.0, config.max_pairs_per_view)


def _pairs_from_both(
    views: Sequence[View],
    posed: Sequence[int],
    likeness: NDArray[np.float64],
    config: PairingConfig,
) -> list[tuple[int, int]]:
    """Covisibility among the views with poses; the others by similarity to any view.

    Views without poses come first, because some of their pairs will not match. Beside the tree
    they take at most half of what a view with a pose may have.
    """
    bound = config.max_pairs_per_view
    seen, parallax = visibility([views[index] for index in posed])
    unposed = np.ones(len(views), dtype=bool)
    unposed[list(posed)] = False
    score = np.where(unposed[:, None] | unposed[None, :], likeness, -1.0)
    ranked, most = score.copy(), np.full(len(views), bound // 2)
    most[unposed] = bound
    for a, b in _tree_of(_reliability(seen), bound):
        ranked[posed[a], posed[b]] = ranked[posed[b], posed[a]] = 10.0
        most[[posed[a], posed[b]]] += 1
    attached = [
        pair
        for pair in _fill_up(score, _tree_of(ranked, bound), -1.0, np.minimum(most, bound))
        if unposed[list(pair)].any()
    ]
    taken = np.bincount(np.array(attached).ravel(), minlength=len(views))[list(posed)]
    known = _spread_pairs(seen, parallax, config, taken)
    return sorted(attached + [(posed[a], posed[b]) for a, b in known])


def visibility(
    views: Sequence[View],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How well each view's points are seen in each other view, and at which parallax.

    Args:
        views: all with ``world_from_cam_prior``. Without depth, points are put along the rays at
            the distance where the optical axes come closest to each other; without ``K``, a usual
            lens is assumed.

    Returns:
        Two (N, N, SAMPLES) float32 arrays, for a's points in view b: 0 where b does not see the
        point, else the cosine of the angle between the two rays to it (seen from far aside a
        surface is foreshortened and looks different), at least 0.1; and that angle [rad].
    """
    count = len(views)
    world_from_cam = np.stack([_calibration(view)[1] for view in views])
    points = [_scene_points(view, world_from_cam, index) for index, view in enumerate(views)]
    likeness = np.zeros((count, count, SAMPLES), dtype=np.float32)
    parallax = np.zeros_like(likeness)
    for b, view in enumerate(views):
        b_from_world = invert(world_from_cam[b])
        for a in range(count):
            if a == b:
                continue
            visible = _visible(view, apply(b_from_world, points[a]))
            to_a = points[a] - world_from_cam[a, :3, 3]
            to_b = points[a] - world_from_cam[b, :3, 3]
            lengths = np.linalg.norm(to_a, axis=1) * np.linalg.norm(to_b, axis=1)
            cosine = np.clip((to_a * to_b).sum(axis=1) / np.maximum(lengths, 1e-12), -1.0, 1.0)
            likeness[a, b] = visible * np.maximum(cosine, 0.1)
            parallax[a, b] = np.arccos(cosine)
    return likeness, parallax


def image_similarity(views: Sequence[View], keypoints: int = 400) -> NDArray[np.float64]:
    """(N, N) likeness of the images, 0..1: share of mutual matches of binary features, 0 on the
    diagonal.

    ORB (Rublee et al., ICCV 2011) on images of at most 480 pixels; for choosing candidates only.
    """
    detector = cv2.ORB_create(  # pyright: ignore[reportAttributeAccessIssue]
        keypoints, fastThreshold=10
    )
    descriptors = []
    for view in views:
        shrink = min(1.0, 480.0 / max(view.size))
        gray = cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(gray, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        descriptors.append(detector.detectAndCompute(small, None)[1])
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    similarity = np.zeros((len(views), len(views)))
    for a, b in pairs_from_exhaustive(len(views)):
        if descriptors[a] is None or descriptors[b] is None:
            continue
        matches = matcher.match(descriptors[a], descriptors[b])
        # 64 of 256 bits is the usual limit of a true match.
        good = sum(match.distance < 64 for match in matches)
        fewest = min(len(descriptors[a]), len(descriptors[b]))
        similarity[a, b] = similarity[b, a] = good / max(fewest, 1)
    return similarity


def components(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """For each of ``count`` views the smallest index of the views that the pairs connect it to."""
    group = list(range(count))

    def root(view: int) -> int:
        while group[view] != view:
            group[view] = group[group[view]]
            view = group[view]
        return view

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        group[high] = low
    return [root(view) for view in range(count)]


def named_groups(views: Sequence[View], group: Sequence[int]) -> str:
    """The views' names by group, as ``['a', 'b']; ['c']``, for a result of :func:`components`."""
    members: dict[int, list[str]] = {}
    for view, number in zip(views, group, strict=True):
        members.setdefault(number, []).append(f"'{view.name}'")
    return "; ".join("[" + ", ".join(names) + "]" for names in members.values())


def maximum_spanning_tree(
    count: int, pairs: Sequence[tuple[int, int]], weights: Sequence[float]
) -> list[int]:
    """Positions in ``pairs`` of a maximum spanning forest (Kruskal), heaviest first.

    Ties go to the earlier pair.
    """
    group = list(range(count))

    def root(view: int) -> int:
        while group[view] != view:
            group[view] = group[group[view]]
            view = group[view]
        return view

    tree = []
    for position in np.argsort(-np.asarray(weights, dtype=np.float64), kind="stable"):
        a, b = (root(view) for view in pairs[position])
        if a != b:
            group[max(a, b)] = min(a, b)
            tree.append(int(position))
    return tree


def _tree_of(similarity: NDArray, bound: int) -> list[tuple[int, int]]:
    """A heavy spanning tree in which a view has more pairs than the bound only where nothing else
    that the views have in common connects them; pairs that share nothing come last."""
    count = len(similarity)
    pairs = pairs_from_exhaustive(count)
    weights = np.array([float(similarity[pair]) for pair in pairs])
    degree = np.zeros(count, dtype=np.int64)
    group = np.arange(count)
    tree = []
    order = np.argsort(-weights, kind="stable")
    for most, least in ((bound, 0.0), (count, 0.0), (count, -np.inf)):
        for position in order[weights[order] > least]:
            a, b = pairs[position]
            if group[a] != group[b] and max(degree[a], degree[b]) < most:
                group[group == group[b]] = group[a]
                degree[[a, b]] += 1
                tree.append((a, b))
    return tree


def _fill_up(
    score: NDArray, chosen: Sequence[tuple[int, int]], least: float, bound: int | NDArray
) -> list[tuple[int, int]]:
    """Adds the best pairs above ``least`` while both of their views stay within the bound, which
    is that of all or of each."""
    result = set(chosen)
    bound = np.broadcast_to(bound, len(score))
    degree = np.zeros(len(score), dtype=np.int64)
    for pair in result:
        degree[list(pair)] += 1
    rest = [pair for pair in pairs_from_exhaustive(len(score)) if pair not in result]
    for a, b in sorted(rest, key=lambda pair: -score[pair]):
        if score[a, b] > least and degree[a] < bound[a] and degree[b] < bound[b]:
            result.add((a, b))
            degree[[a, b]] += 1
    return sorted(result)


def _calibration(view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intrinsics and ``world_from_cam`` of a view that has a pose."""
    if view.world_from_cam_prior is None:
        raise ValueError(f"view '{view.name}' has no pose")
    if view.K is not None:
        return view.K, view.world_from_cam_prior
    height, width = view.size
    focal = _USUAL_FOCAL * max(height, width)
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    return K, view.world_from_cam_prior


def _scene_points(view: View, world_from_cam: NDArray, index: int) -> NDArray[np.float64]:
    """(SAMPLES, 3) points that the view sees, in the world."""
    height, width = view.size
    rng = np.random.default_rng(0)
    if view.depth is not None and (view.depth > 0).any():
        rows, cols = np.nonzero(view.depth)
        pick = rng.choice(len(rows), SAMPLES, replace=len(rows) < SAMPLES)
        uv, z = np.stack([cols[pick], rows[pick]], axis=1), view.depth[rows[pick], cols[pick]]
    else:
        uv = rng.uniform(0, 1, (SAMPLES, 2)) * [width - 1, height - 1]
        z = _fixation_distance(world_from_cam, index) * rng.uniform(0.8, 1.2, SAMPLES)
    K, _ = _calibration(view)
    y = (uv[:, 1] - K[1, 2]) / K[1, 1]
    x = (uv[:, 0] - K[0, 2] - K[0, 1] * y) / K[0, 0]
    return apply(world_from_cam[index], np.stack([x, y, np.ones_like(x)], axis=1) * z[:, None])


def _fixation_distance(world_from_cam: NDArray, index: int) -> float:
    """Distance along a camera's axis to the point that is nearest to all axes (least squares)."""
    centres, axes = world_from_cam[:, :3, 3], world_from_cam[:, :3, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    # Parallel axes meet nowhere: a little weight on the cameras' own spread keeps it finite.
    baseline = np.linalg.norm(centres - centres.mean(axis=0), axis=1).max()
    ahead = centres + 4.0 * max(baseline, 1e-3) * axes
    normal = across.sum(axis=0) + 1e-3 * len(centres) * np.eye(3)
    right = np.einsum("nij,nj->i", across, centres) + 1e-3 * ahead.sum(axis=0)
    meeting = np.linalg.solve(normal, right)
    distance = float((meeting - centres[index]) @ axes[index])
    return max(distance, 0.5 * baseline, 1e-3)


def _visible(view: View, points_in_cam: NDArray) -> NDArray[np.bool_]:
    """Which points the view sees: inside its image and not behind what its depth shows.

    A point that is in front of the measured depth is not there; where the view has no depth
    nothing speaks against the point.
    """
    height, width = view.size
    uv, z = project(points_in_cam, _calibration(view)[0])
    with np.errstate(invalid="ignore"):
        inside = (z > 0) & (uv >= 0).all(axis=1) & (uv[:, 0] <= width - 1)
        inside &= uv[:, 1] <= height - 1
    if view.depth is None or not inside.any():
        return inside
    cols, rows = np.rint(uv[inside]).astype(np.int64).T
    measured = view.depth[rows, cols]
    # Generous: poses are off by a few per cent of the range before they are refined.
    inside[inside] = (measured == 0) | (np.abs(z[inside] - measured) < 0.05 * measured + 0.01)
    return inside


def _reliability(likeness: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, N) what a tree of pairs is made by. It must hold whatever else fails: parallax, which is
    good for depth, does not help it."""
    mean = likeness.mean(axis=2)
    return 0.5 * (mean + mean.T)


def _spread_pairs(
    likeness: NDArray[np.float32],
    parallax: NDArray[np.float32],
    config: PairingConfig,
    taken: NDArray[np.int64] | None = None,
) -> list[tuple[int, int]]:
    """Greedy choice of :func:`pairs_from_covisibility` on the result of :func:`visibility`.

    Args:
        taken: (N,) pairs that the views have with others already.
    """
    count = len(likeness)
    overlap = (likeness > 0).mean(axis=2)
    overlap = 0.5 * (overlap + overlap.T)
    worth = likeness * np.clip(parallax / FULL_PARALLAX, 0.25, 1.0)
    chosen = set(_tree_of(_reliability(likeness), config.max_pairs_per_view))
    degree = np.zeros(count, dtype=np.int64) if taken is None else taken.copy()
    times_seen = np.zeros(worth.shape[::2], dtype=np.int64)

    def take(a: int, b: int) -> None:
        chosen.add((a, b))
        degree[[a, b]] += 1
        times_seen[a] += worth[a, b] > 0
        times_seen[b] += worth[b, a] > 0

    for pair in sorted(chosen):
        take(*pair)
    candidates = {
        pair
        for pair in pairs_from_exhaustive(count)
        if pair not in chosen and overlap[pair] >= config.min_overlap
    }

    def gain(pair: Pair) -> float:
        a, b = pair
        return float(
            (worth[a, b] / (1 + times_seen[a])).sum() + (worth[b, a] / (1 + times_seen[b])).sum()
        )

    gains = {pair: gain(pair) for pair in sorted(candidates)}
    while gains:
        best = max(gains, key=lambda pair: (gains[pair], -pair[0], -pair[1]))
        del gains[best]
        if (degree[list(best)] >= config.max_pairs_per_view).any():
            continue
        # Gains only fall as pairs are taken, so a stale best one is put back with its true gain.
        fresh = gain(best)
        if gains and fresh < max(gains.values()) - 1e-9:
            gains[best] = fresh
            continue
        take(*best)
    return sorted(chosen)


def viewing_angles(views: Sequence[View]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angle [rad] between two cameras at what both see, and share of their points that both see.

    Args:
        views: all with ``world_from_cam_prior`` and ``K``.

    Returns:
        Two (N, N) arrays; the angle is NaN where two views share nothing, and on the diagonal.
    """
    likeness, parallax = visibility(views)
    seen = likeness > 0
    overlap = seen.mean(axis=2)
    count = len(views)
    angle = np.full((count, count), np.nan)
    for a, b in pairs_from_exhaustive(count):
        shared = np.concatenate([parallax[a, b][seen[a, b]], parallax[b, a][seen[b, a]]])
        if len(shared):
            angle[a, b] = angle[b, a] = np.median(shared)
    return angle, 0.5 * (overlap + overlap.T)


def pairs_from_angles(
    angle: NDArray[np.float64],
    overlap: NDArray[np.float64],
    limits: tuple[float, float, float],
    config: PairingConfig = PairingConfig(),
) -> list[tuple[int, int]]:
    """Pairs for triangulation: far enough apart to tell depth, near enough to look alike.

    A maximum spanning tree of what suits best, filled up to the bound on pairs per view. Pairs
    beyond the second limit come in only where nothing narrower connects two groups of views. The
    graph may fall apart: see :func:`components`.

    Args:
        angle, overlap: as :func:`viewing_angles` gives them.
        limits: least and largest angle, and largest one of a pair that bridges groups [rad].
    """
    least, most, bridge = limits
    known = np.nan_to_num(angle, nan=-1.0)
    shares = overlap >= config.min_overlap
    # Best at the geometric middle of the limits.
    away = np.abs(np.log(np.maximum(known, 1e-9) / np.sqrt(least * most)))
    good = shares & (known >= least) & (known <= most)
    score = np.where(good, overlap * np.exp(-away), 0.0)
    wide = shares & (known > most) & (known <= bridge)
    ranked = np.where(good, 1.0 + score, np.where(wide, 1.0 - known / np.pi, -1.0))
    tree = [pair for pair in _tree_of(ranked, config.max_pairs_per_view) if ranked[pair] > 0]
    return _fill_up(score, tree, 0.0, config.max_pairs_per_view)
