"""What the learned score of a merge looks at."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.learned.affinities import REACHES
from wildseg3d_ros.masks.learned.network import LIMIT
from wildseg3d_ros.masks.surface.graph import CUES, SUMS

PAIR_FEATURES = (
    "concave", "convex", "sharply_concave", "colour", "other_colour", "vote_share", "rise",
    "shade", "touch", "share_of_smaller_outline", "share_of_larger_outline",
    "gap_share_of_outline", "gap_colour", "share_of_smaller_contacts",
    "share_of_larger_contacts", "extent", "mean_colour",
    "colour_separation", "turned_away", "normals",
    *(f"affinity_{k}" for k in range(REACHES)), "affinity_known",
    *(
        f"{which}_{name}"
        for which in ("smaller", "larger")
        for name in ("area", "support", "height", "common_height", "base", "thickness",
                     "curvature", "at_border", "on_object")
    ),
)  # fmt: skip
"""None depends on the number of views or the size of voxels: rigs and cameras differ."""
NOTHING = 12.0
"""Log-odds that count as certain; what has no neighbour or no parent has as much against it."""


@dataclass(frozen=True, eq=False)
class ClusterShapes:
    """Size, shape and colour of clusters, each array with a row for every cluster.

    Attributes:
        voxels, contact: (n,) size, and length of all contacts with others in voxel edges.
        centre, normal: (n, 3) means; position in metres.
        extents: (n, 3) standard deviations along the principal axes, smallest first [m].
        lab, variance: (n, 3) mean colour and its variance.
        support, height, border, views, curvature, on_object: (n,) means, see ``graph.SUMS``.
        low, high: (n, 4) bounds: x, y, z and the height over the ground [m].
    """

    voxels: NDArray[np.float64]
    contact: NDArray[np.float64]
    centre: NDArray[np.float64]
    normal: NDArray[np.float64]
    extents: NDArray[np.float64]
    lab: NDArray[np.float64]
    variance: NDArray[np.float64]
    support: NDArray[np.float64]
    height: NDArray[np.float64]
    border: NDArray[np.float64]
    views: NDArray[np.float64]
    curvature: NDArray[np.float64]
    on_object: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of_sums(
        cls,
        sums: NDArray[np.float64],
        contact: NDArray[np.float64],
        low: NDArray[np.float64],
        high: NDArray[np.float64],
    ) -> ClusterShapes:
        """Args as of :class:`~wildseg3d_ros.masks.surface.graph.SurfaceGraph`."""
        voxels = sums[:, 0]
        mean = sums / voxels[:, None]
        column = {name: mean[:, k] for k, name in enumerate(SUMS)}
        centre, lab = mean[:, 1:4], mean[:, 13:16]
        i, j = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])
        covariance = np.empty((len(sums), 3, 3))
        covariance[:, i, j] = covariance[:, j, i] = mean[:, 4:10] - centre[:, i] * centre[:, j]
        return cls(
            voxels=voxels,
            contact=contact,
            centre=centre,
            normal=mean[:, 10:13],
            extents=np.sqrt(np.maximum(np.linalg.eigvalsh(covariance), 0.0)),
            lab=lab,
            variance=np.maximum(mean[:, 16:19] - lab**2, 0.0),
            support=column["support"],
            height=column["height"],
            border=column["at_border"],
            views=column["views"],
            curvature=column["curvature"],
            on_object=column["on_object"],
            low=low,
            high=high,
        )

    def take(self, index: NDArray[np.int64]) -> ClusterShapes:
        """The rows of some clusters."""
        return ClusterShapes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def padded(self, count: int) -> ClusterShapes:
        """The same with room for ``count`` clusters."""
        parts = {}
        for field in fields(self):
            values = getattr(self, field.name)
            parts[field.name] = np.zeros((count, *values.shape[1:]))
            parts[field.name][: len(values)] = values
        return ClusterShapes(**parts)

    def put(self, start: int, others: ClusterShapes) -> None:
        """Writes the rows of others from row ``start`` on."""
        for field in fields(self):
            values = getattr(others, field.name)
            getattr(self, field.name)[start : start + len(values)] = values


def pair_features(
    one: ClusterShapes,
    other: ClusterShapes,
    cues: NDArray[np.float64],
    layers: float,
    voxel_size: float,
) -> NDArray[np.float32]:
    """(n, len(PAIR_FEATURES)) of pairs of clusters.

    Args:
        one, other: the n smaller and the n larger clusters.
        cues: (n, len(CUES)) sums over all that is between the two.
        layers, voxel_size: as of :class:`~wildseg3d_ros.masks.surface.graph.SurfaceGraph`.
    """
    cue = {name: cues[:, k] for k, name in enumerate(CUES)}
    contact, gap = cue["contact"], cue["gap"]

    def mean(name: str) -> NDArray[np.float64]:
        return np.where(contact > 0, cue[name] / np.maximum(contact, 1e-9), 0.0)

    # In a thin surface a straight contact crosses 3 edges per voxel of its length.
    length, across = contact / (3.0 * layers**2), gap / (3.0 * layers**2)
    # A disc of n voxels has an outline of 3.5 sqrt(n).
    outline, larger_outline = (3.5 * np.sqrt(each.voxels / layers) for each in (one, other))
    step = (one.lab - other.lab) * np.array([0.7, 1.0, 1.0])
    apart = one.centre - other.centre
    distance = np.maximum(np.linalg.norm(apart, axis=1), 1e-6)
    size = np.maximum(one.high, other.high) - np.minimum(one.low, other.low)
    common = np.minimum(one.high, other.high)[:, 3] - np.maximum(one.low, other.low)[:, 3]
    columns = [
        mean("concave"),
        mean("convex"),
        mean("sharply_concave"),
        mean("colour"),
        mean("other_colour"),
        # Half a vote of either kind is added, so that no view is no evidence.
        (cue["votes_same"] + 0.5) / (cue["votes"] + 1.0),
        mean("rise"),
        mean("shade"),
        (contact > 0).astype(np.float64),
        np.minimum(length / outline, 1.5),
        np.minimum(length / larger_outline, 1.5),
        np.minimum(across / outline, 1.5),
        np.where(gap > 0, cue["gap_colour"] / np.maximum(gap, 1e-9), 0.0),
        contact / np.maximum(one.contact, 1e-9),
        contact / np.maximum(other.contact, 1e-9),
        np.log(np.linalg.norm(size[:, :3], axis=1) + 1e-3),
        np.linalg.norm(step, axis=1) / 12.0,
        np.sqrt((step**2 / (one.variance + other.variance + 9.0)).sum(axis=1)),
        ((one.normal - other.normal) * apart).sum(axis=1) / distance,
        (one.normal * other.normal).sum(axis=1),
    ]
    pixels = [cue[f"pixels_{k}"] for k in range(REACHES)]
    # Half a pixel pair of no word is added: few pixels say little.
    columns += [
        np.clip(cue[f"affinity_{k}"] / (pixels[k] + 0.5), -LIMIT, LIMIT) for k in range(REACHES)
    ]
    columns.append((np.sum(pixels, axis=0) > 0).astype(np.float64))
    for each in (one, other):
        columns += [
            np.log(each.voxels * voxel_size**2 / layers + 1e-6),
            each.support,
            each.height,
            common / np.maximum(each.high[:, 3] - each.low[:, 3], 1e-3),
            np.clip(each.low[:, 3] / 0.02, -2.0, 5.0),
            np.log(each.extents[:, 0] + 1e-3),
            10.0 * each.curvature,
            each.border,
            each.on_object,
        ]
    return np.stack(columns, axis=1).astype(np.float32)


def prior_log_odds(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) log-odds of pairs being of one object by plain rules, for features of any size.

    Flat and convex contacts, equal colours and regions of images that hold both sides speak for
    one object; concave creases, a rise from a support and a short contact against it.
    """
    cue = {name: features[:, k].astype(np.float64) for k, name in enumerate(PAIR_FEATURES)}
    contact = np.clip(1.0 - 3.0 * cue["concave"], -2.3, 1.0) + 0.5 * np.minimum(cue["convex"], 1.0)
    contact += 0.35 * np.clip(1.0 - cue["colour"], -3.0, 1.0) + 2.0 * (cue["vote_share"] - 0.5)
    contact += cue["rise"]
    gap = 0.2 + 0.35 * np.clip(1.0 - cue["gap_colour"], -3.0, 1.0)
    share = cue["share_of_smaller_outline"]
    enclosed = 1.5 * np.clip(share - 0.3, 0.0, 0.7) / 0.7
    neck = 1.2 * np.clip(0.25 - share, 0.0, 1.0) / 0.25
    return np.where(cue["touch"] > 0, contact, gap) + enclosed - neck
