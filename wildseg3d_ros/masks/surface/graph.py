"""The surface graph: patches, and what is known of pairs of them, as sums that clusters add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.learned.affinities import REACHES, Affinities
from wildseg3d_ros.masks.surface.creases import crease_angles
from wildseg3d_ros.masks.surface.gaps import Gaps
from wildseg3d_ros.masks.surface.observations import Observation, colour_distance
from wildseg3d_ros.masks.surface.supervoxels import Supervoxels
from wildseg3d_ros.masks.surface.supports import Plane, plane_tolerance
from wildseg3d_ros.masks.surface.voxels import VoxelCloud

CUES = (
    "contact", "concave", "convex", "sharply_concave", "colour", "other_colour", "votes_same",
    "votes", "rise", "shade", "gap", "gap_colour", "evidence", "evidence_weight",
    *(f"affinity_{k}" for k in range(REACHES)), *(f"pixels_{k}" for k in range(REACHES)),
)  # fmt: skip
"""Columns of the sums of a pair; all but ``votes``, ``gap`` and what follows are weighted by the
length of the contact."""
SUMS = (
    "voxels", "x", "y", "z", "xx", "xy", "xz", "yy", "yz", "zz", "normal_x", "normal_y",
    "normal_z", "l", "a", "b", "ll", "aa", "bb", "support", "height", "at_border", "views",
    "curvature", "on_object",
)  # fmt: skip
"""Columns of the sums of a patch over its voxels; positions in metres about the scene's centre."""


@dataclass(frozen=True, eq=False)
class PairEvidence:
    """What a source of evidence says of pairs of patches, which need not touch.

    Attributes:
        pairs: (n, 2) patches.
        log_odds: (n,) for one object > 0, summed over the views.
        weight: (n,) of each pair in the mean over a pair of clusters, such as its pixels.
    """

    pairs: NDArray[np.integer]
    log_odds: NDArray[np.floating]
    weight: NDArray[np.floating]

    def __post_init__(self) -> None:
        pairs, log_odds, weight = map(np.asarray, (self.pairs, self.log_odds, self.weight))
        n = len(pairs)
        if pairs.shape != (n, 2) or log_odds.shape != (n,) or weight.shape != (n,):
            raise ValueError(
                f"evidence needs pairs (n, 2) with log_odds and weight (n,), got {pairs.shape}, "
                f"{log_odds.shape} and {weight.shape}"
            )
        if not (np.isfinite(log_odds).all() and np.isfinite(weight).all() and (weight >= 0).all()):
            raise ValueError("log_odds and weight of evidence must be finite, and weight >= 0")
        if n and (pairs.min() < 0 or (pairs[:, 0] == pairs[:, 1]).any()):
            raise ValueError("pairs of evidence are two different patches, numbered from 0")


@dataclass(frozen=True, eq=False)
class SurfaceGraph:
    """Patches of the fused surface and the pairs of which something is known.

    Attributes:
        sums: (P, len(SUMS)) of each patch.
        low, high: (P, 4) bounds: x, y, z and the height over the ground [m].
        pairs: (E, 2) int64, a < b, each pair once.
        cues: (E, len(CUES)) of each pair.
        layers: thickness of the surface in voxels.
        voxel_size: edge of a voxel [m].
    """

    sums: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    pairs: NDArray[np.int64]
    cues: NDArray[np.float64]
    layers: float
    voxel_size: float

    def __len__(self) -> int:
        return len(self.sums)

    @classmethod
    def create(
        cls,
        cloud: VoxelCloud,
        patches: Supervoxels,
        planes: Sequence[Plane],
        gaps: Gaps,
        observations: Sequence[Observation],
        metric_scale: float,
    ) -> SurfaceGraph:
        """Measures all patches, and all pairs that touch or meet in an image.

        Args:
            planes: with their evidence of being supports.
            metric_scale: scene units per metre.
        """
        support, ground, height = _supports(cloud, patches, planes)
        centred = (cloud.points.astype(np.float64) - cloud.points.mean(axis=0)) / metric_scale
        i, j = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])
        lab = cloud.lab.astype(np.float64)
        views = (cloud.pixels >= 0).sum(axis=1)
        of_voxel = np.concatenate(
            [
                np.ones((len(cloud), 1)),
                centred,
                centred[:, i] * centred[:, j],
                cloud.normals,
                lab,
                lab**2,
                support[patches.of_voxel, None],
                np.clip(height / plane_tolerance(cloud), -3.0, 6.0)[:, None],
                (_at_border(cloud, observations) / np.maximum(views, 1))[:, None],
                views[:, None],
                cloud.curvature[:, None],
                np.zeros((len(cloud), 1)),  # unless a network says
            ],
            axis=1,
        )
        bounds = np.concatenate([centred, ground[:, None] / metric_scale], axis=1)
        low, high = np.full((len(patches), 4), np.inf), np.full((len(patches), 4), -np.inf)
        np.minimum.at(low, patches.of_voxel, bounds)
        np.maximum.at(high, patches.of_voxel, bounds)
        pairs = np.concatenate([patches.edges, gaps.pairs]).astype(np.int64)
        cues = np.concatenate([_contact_cues(cloud, patches, planes), _gap_cues(patches, gaps)])
        return cls(
            _group_sums(patches.of_voxel, of_voxel, len(patches)),
            low,
            high,
            pairs,
            cues,
            cloud.layers,
            cloud.size / metric_scale,
        )

    def with_evidence(self, sources: Sequence[PairEvidence]) -> SurfaceGraph:
        """The graph with what further sources say; pairs that it does not have yet are added."""
        parts_of_pairs, parts_of_cues = [self.pairs], [self.cues]
        for source in sources:
            if len(source.pairs) and np.max(source.pairs) >= len(self):
                raise ValueError(
                    f"evidence names patch {np.max(source.pairs)}; there are {len(self)}"
                )
            cues = np.zeros((len(source.pairs), len(CUES)))
            cues[:, CUES.index("evidence")] = source.log_odds * source.weight
            cues[:, CUES.index("evidence_weight")] = source.weight
            parts_of_pairs.append(np.sort(source.pairs, axis=1).astype(np.int64))
            parts_of_cues.append(cues)
        return self._with_pairs(np.concatenate(parts_of_pairs), np.concatenate(parts_of_cues))

    def with_affinities(self, affinities: Affinities) -> SurfaceGraph:
        """The graph with what a network says; pairs that it does not have yet are added, which
        count from when their clusters touch."""
        cues = np.zeros((len(affinities.pairs), len(CUES)))
        first = CUES.index("affinity_0")
        cues[:, first : first + REACHES] = affinities.log_odds
        cues[:, first + REACHES : first + 2 * REACHES] = affinities.pixels
        graph = self._with_pairs(
            np.concatenate([self.pairs, affinities.pairs]), np.concatenate([self.cues, cues])
        )
        sums = self.sums.copy()
        sums[:, SUMS.index("on_object")] = affinities.on_object * sums[:, SUMS.index("voxels")]
        return replace(graph, sums=sums)

    def _with_pairs(self, pairs: NDArray[np.int64], cues: NDArray[np.float64]) -> SurfaceGraph:
        """The graph with these pairs, of which those that come twice are summed."""
        key, index = np.unique(pairs[:, 0] * len(self) + pairs[:, 1], return_inverse=True)
        unique = np.stack(np.divmod(key, len(self)), axis=1)
        summed = _group_sums(index.reshape(-1), cues, len(key))
        return replace(self, pairs=unique, cues=summed)


def _group_sums(group: NDArray, values: NDArray, count: int) -> NDArray[np.float64]:
    """(count, n) sums of the rows of values (m, n) by group."""
    columns = [np.bincount(group, column, count) for column in values.T]
    return np.stack(columns, axis=1).astype(np.float64)


def _supports(
    cloud: VoxelCloud, patches: Supervoxels, planes: Sequence[Plane]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(P,) log-odds of each patch being on a support, (V,) height of each voxel over the main
    support, and (V,) over the nearest one, in scene units; 0 where none is known."""
    limit = 3.0  # of log-odds; what is on no plane has as much against it
    support = np.full(len(patches), -limit)
    points = cloud.points.astype(np.float64)
    nearest, ground, most = np.full(len(cloud), np.inf), np.zeros(len(cloud)), 0.0
    for plane in planes:
        evidence = np.clip(plane.evidence, -limit, limit)
        support[plane.patches] = np.maximum(support[plane.patches], evidence)
        if plane.evidence <= 0:
            continue
        height = points @ plane.normal - plane.offset
        nearest = np.where(np.abs(height) < np.abs(nearest), height, nearest)
        mass = float(patches.count[plane.patches].sum()) * min(plane.evidence, 2.0)
        if mass > most:
            ground, most = height, mass
    return support, ground, nearest


def _at_border(cloud: VoxelCloud, observations: Sequence[Observation]) -> NDArray[np.int64]:
    """(V,) number of views that see the voxel within 3 pixels of the image's border."""
    border = np.zeros(len(cloud), np.int64)
    for view, observation in enumerate(observations):
        height, width = observation.size
        row, column = np.divmod(cloud.pixels[:, view], width)
        inner = (row >= 3) & (row < height - 3) & (column >= 3) & (column < width - 3)
        border += (cloud.pixels[:, view] >= 0) & ~inner
    return border


def _contact_cues(
    cloud: VoxelCloud, patches: Supervoxels, planes: Sequence[Plane]
) -> NDArray[np.float64]:
    """(E, len(CUES)) of touching patches."""
    a, b = patches.edges.T
    angle = np.rad2deg(crease_angles(patches))
    colour = colour_distance(patches.lab[a] - patches.lab[b])
    of_cue = {
        "contact": np.ones(len(a)),
        "concave": np.clip(-angle / 30.0, 0.0, 2.0),
        "convex": np.clip(angle / 45.0, 0.0, 2.0),
        "sharply_concave": angle < -20.0,
        "colour": np.clip(colour / 12.0, 0.0, 4.0),
        "other_colour": colour > 18.0,
        "rise": _rise_over_supports(patches, planes, plane_tolerance(cloud)),
    }
    cues = np.zeros((len(a), len(CUES)))
    for name, values in of_cue.items():
        cues[:, CUES.index(name)] = values * patches.contacts
    cues[:, CUES.index("votes_same")] = patches.same
    cues[:, CUES.index("votes")] = patches.both
    cues[:, CUES.index("shade")] = _shade(cloud, patches)
    return cues


def _gap_cues(patches: Supervoxels, gaps: Gaps) -> NDArray[np.float64]:
    """(G, len(CUES)) of patches that only meet in an image."""
    colour = colour_distance(patches.lab[gaps.pairs[:, 0]] - patches.lab[gaps.pairs[:, 1]])
    cues = np.zeros((len(gaps.pairs), len(CUES)))
    cues[:, CUES.index("gap")] = gaps.lengths
    cues[:, CUES.index("gap_colour")] = gaps.lengths * np.clip(colour / 12.0, 0.0, 4.0)
    return cues


def _shade(cloud: VoxelCloud, patches: Supervoxels) -> NDArray[np.float64]:
    """(E,) by how much voxels at the contact are darker than their patches, summed over its edges:
    light does not reach into the groove between two things."""
    a, b = cloud.edges.T
    pa, pb = patches.of_voxel[a].astype(np.int64), patches.of_voxel[b].astype(np.int64)
    crossing = pa != pb
    key = (np.minimum(pa, pb) * len(patches) + np.maximum(pa, pb))[crossing]
    known = patches.edges[:, 0].astype(np.int64) * len(patches) + patches.edges[:, 1]
    here = (cloud.lab[a, 0] + cloud.lab[b, 0])[crossing] / 2
    usual = (patches.lab[pa, 0] + patches.lab[pb, 0])[crossing] / 2
    darker = np.clip((usual - here) / 10.0, -1.0, 2.0)
    sums = np.bincount(np.searchsorted(known, key), darker, len(known))
    return sums.astype(np.float64)


def _rise_over_supports(
    patches: Supervoxels, planes: Sequence[Plane], tolerance: float
) -> NDArray[np.float64]:
    """(E,) in [-6, 1]: how clearly one side of a contact lies in a support and the other does not,
    weighted by the support's evidence; negative for two things."""
    a, b = patches.edges.T
    rise = np.zeros(len(patches.edges))
    for plane in planes:
        if plane.evidence <= 0:
            continue
        evidence = min(plane.evidence, 2.0)
        height = (patches.centres @ plane.normal - plane.offset) / tolerance
        # Nothing goes through a support: what seems to is a mirror image in it.
        through = (height[a] > 0) != (height[b] > 0)
        through &= ~plane.patches[a] & ~plane.patches[b]
        rise[through] -= 2.0 * evidence
        for one, other in ((a, b), (b, a)):
            leaves = plane.patches[one] & ~plane.patches[other]
            # In tolerances: from two on a patch stands clear of the plane. Below it lies noise,
            # which gains a quarter of that at most.
            rise[leaves] -= np.clip(height[other[leaves]], -0.5, 2.0) * evidence
    return np.clip(rise, -6.0, 1.0)
