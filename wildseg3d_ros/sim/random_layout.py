"""Where random things start: apart, flush, stacked, leaning, in vessels, in piles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.sim.layout import polygon_gap
from wildseg3d_ros.sim.random_body import Shape

Relation = Literal["free", "beside", "on", "in", "leaning", "pile"]
RELATIONS: tuple[Relation, ...] = ("free", "beside", "on", "in", "leaning", "pile")

_CLEARANCE = 0.0005
"""Between what touches at the start [m]: physics closes it without a push."""


@dataclass(frozen=True)
class Region:
    """The part of the support that things start on.

    Attributes:
        half: half extents in x and y [m] about the origin; z = 0 is the support.
        walled: whether walls stand around it, so that nothing may reach over its border.
        ceiling: height of what is above it [m].
    """

    half: tuple[float, float]
    walled: bool = False
    ceiling: float = np.inf


@dataclass(eq=False)
class _Standing:
    shape: Shape
    outline: NDArray[np.float64]
    top: float
    upright: bool


@dataclass(eq=False)
class Arranger:
    """Puts things one after the other; physics then decides how they come to rest.

    A relation chooses how a thing is turned and where it is in x and y. How high it starts follows
    from what it is above, in all cases.

    Attributes:
        region: where.
        rng: of all choices.
        weights: (6,) how often each of :data:`RELATIONS` is tried.
    """

    region: Region
    rng: np.random.Generator
    weights: NDArray[np.float64]
    standing: list[_Standing] = field(default_factory=list)
    _lean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    """(2,) which way what leans was tilted last."""

    def put(self, shape: Shape, attempts: int = 20) -> NDArray[np.float64] | None:
        """(4, 4) start pose of the next thing; None when it fits nowhere.

        A relation is tried some times before another is drawn: those that often fail would be
        rare otherwise.
        """
        relation = "free"
        for attempt in range(attempts):
            if attempt % 5 == 0 and self.standing:
                relation = str(self.rng.choice(RELATIONS, p=self.weights))
            if attempt == attempts - 1:
                relation = "pile"
            pose = self._propose(relation, shape)
            if pose is not None:
                return pose
        return None

    def _propose(self, relation: str, shape: Shape) -> NDArray[np.float64] | None:
        partner = None
        if relation not in ("free", "pile"):
            partner = self._partner(shape, relation)
            if partner is None:
                return None
        rotation = self._rotation(relation, shape, partner)
        points = shape.points @ rotation.T
        outline = _outline(points)
        centre = self._centre(relation, outline, partner)
        if centre is None:
            return None
        outline = outline + centre
        if not self._inside(outline):
            return None
        below = [other for other in self.standing if _overlap(other.outline, outline)]
        if below and relation in ("free", "beside", "leaning"):
            return None
        floor = max((other.top for other in below), default=0.0)
        low, high = points[:, 2].min(), points[:, 2].max()
        top = floor + high - low + _CLEARANCE
        if top > self.region.ceiling:
            return None
        upright = bool(rotation[2, 2] > 0.9)
        self.standing.append(_Standing(shape, outline, top, upright))
        return make_transform(rotation, [*centre, floor - low + _CLEARANCE])

    def _partner(self, shape: Shape, relation: str) -> _Standing | None:
        able = self.standing
        if relation == "in":
            radius = 0.5 * np.sort(np.ptp(shape.points, axis=0))[1]
            able = [
                other
                for other in able
                if other.shape.hollow
                and other.upright
                and radius < 0.4 * np.ptp(other.outline, axis=0).min()
            ]
        if relation == "leaning":
            able = [other for other in able if other.top > 0.03]
        if not able:
            return None
        # The newest often: rows, stacks, and twins next to each other come of it.
        return able[-1] if self.rng.random() < 0.4 else able[int(self.rng.integers(len(able)))]

    def _rotation(self, relation: str, shape: Shape, partner: _Standing | None) -> NDArray:
        rng = self.rng
        yaw = rotation_from_vector([0, 0, rng.uniform(-np.pi, np.pi)])
        if relation == "pile" or (relation == "in" and rng.random() < 0.5):
            spin = rng.standard_normal(4)
            return yaw @ rotation_from_vector(np.pi * spin[:3] / np.linalg.norm(spin))
        extent = np.ptp(shape.points, axis=0)
        if relation == "leaning":
            assert partner is not None
            return self._tilted(extent)
        if relation == "beside" and partner is not None and rng.random() < 0.8:
            yaw = _aligned(partner.outline) @ rotation_from_vector(
                [0, 0, np.pi / 2 * rng.integers(4)]
            )
        draw, slender = rng.random(), extent[2] > 2.5 * extent[:2].min()
        if draw < (0.4 if slender else 0.18):
            axis = np.eye(3)[int(rng.integers(2))]
            return yaw @ rotation_from_vector(axis * np.pi / 2 * rng.choice([-1, 1]))
        if draw > 0.93:
            return yaw @ rotation_from_vector([np.pi, 0, 0])
        return yaw

    def _tilted(self, extent: NDArray) -> NDArray:
        """On an edge, the thinnest axis level, leaning over by 12 to 35 degrees."""
        thin, long = int(np.argmin(extent)), int(np.argmax(extent))
        if thin == long:
            thin, long = 0, 2
        x, z = np.eye(3)[thin], np.eye(3)[long]
        stand = np.stack([x, np.cross(z, x), z])
        tilt = rotation_from_vector([0, np.radians(self.rng.uniform(12, 35)), 0])
        yaw = rotation_from_vector([0, 0, self.rng.uniform(-np.pi, np.pi)])
        self._lean = yaw[:2, 0]
        return yaw @ tilt @ stand

    def _centre(
        self, relation: str, outline: NDArray, partner: _Standing | None
    ) -> NDArray[np.float64] | None:
        rng, half = self.rng, np.array(self.region.half)
        if partner is None:
            spread = 0.6 if relation == "pile" else 1.0
            return rng.uniform(-spread, spread, 2) * half
        middle = 0.5 * (partner.outline.min(axis=0) + partner.outline.max(axis=0))
        reach = 0.5 * np.ptp(partner.outline, axis=0).min()
        if relation in ("on", "in"):
            return middle + rng.uniform(-1, 1, 2) * reach * (0.15 if relation == "in" else 0.35)
        heading = self._heading(relation, partner)
        return _touching(outline, partner.outline, heading)

    def _heading(self, relation: str, partner: _Standing) -> NDArray[np.float64]:
        """From the partner to what is put beside it."""
        if relation == "leaning":
            return -self._lean
        if self.rng.random() < 0.8:
            side = _aligned(partner.outline)[:2, 0]
            across = np.array([-side[1], side[0]])
            return (side, across)[int(self.rng.integers(2))] * self.rng.choice([-1, 1])
        angle = self.rng.uniform(-np.pi, np.pi)
        return np.array([np.cos(angle), np.sin(angle)])

    def _inside(self, outline: NDArray) -> bool:
        reach = np.abs(outline) if self.region.walled else np.abs(outline.mean(axis=0))
        return bool((reach <= self.region.half).all())


def _outline(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 2) convex outline from above of (V, 3) points, counter-clockwise."""
    flat = points[:, :2]
    return flat[ConvexHull(flat).vertices]


def _aligned(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation about z whose x axis is along the outline's longest edge."""
    edges = np.roll(outline, -1, axis=0) - outline
    edge = edges[np.argmax(np.linalg.norm(edges, axis=1))]
    return rotation_from_vector([0, 0, np.arctan2(edge[1], edge[0])])


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether two convex outlines overlap; most pairs are told apart by their bounding boxes."""
    apart = (a.min(axis=0) > b.max(axis=0)) | (b.min(axis=0) > a.max(axis=0))
    return not apart.any() and polygon_gap(a, b) < 0.0


def _touching(outline: NDArray, partner: NDArray, heading: NDArray) -> NDArray[np.float64]:
    """(2,) where the outline touches its partner when it comes along ``heading``.

    Convex outlines are apart as soon as one of their edges' normals separates them, and what it
    separates by grows with the way at the rate of its component along ``heading``.
    """
    start = partner.mean(axis=0)
    moved = outline + start
    normals = np.concatenate([_normals(partner), -_normals(moved)])
    gap = (moved @ normals.T).min(axis=0) - (partner @ normals.T).max(axis=0)
    rate = normals @ heading
    able = rate > 1e-6
    way = ((_CLEARANCE / 2 - gap[able]) / rate[able]).min()
    return start + max(way, 0.0) * heading


def _normals(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 2) unit normals of a polygon's edges, outwards."""
    edge = np.roll(outline, -1, axis=0) - outline
    normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1)
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
