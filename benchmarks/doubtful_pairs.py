"""By what a registration that ended in a wrong place is told from a right one: its consistency.

Pairs of simulated scenes, each with another sensor, and of constructed ones, registered from poses
that are 5 to 120 mm off. Right is what ends within 3 % of the distance, wrong what is 5 % off or
more. The limit :data:`wildseg3d_ros.pointmaps.depth.registration.pair.DOUBTFUL` lies between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from wildseg3d_ros.core.geometry.transforms import (
    invert,
    make_transform,
    rotation_angle,
    rotation_from_vector,
)
from wildseg3d_ros.core.types import View
from wildseg3d_ros.pointmaps.depth.backend import DepthPointmaps
from wildseg3d_ros.pointmaps.depth.registration.dense import MIN_AGREEING
from wildseg3d_ros.pointmaps.depth.registration.pair import DOUBTFUL, register_from_prior
from wildseg3d_ros.pointmaps.depth.registration.prior import PosePrior
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_ros.sim.random_scene import RandomSceneSpec, record_random_scene
from wildseg3d_testing.scenes import construct_scene

_OFF = (0.005, 0.03, 0.05, 0.08, 0.12)
"""Metres, and half as many radians."""


def scenes(simulated: int = 10, constructed: int = 4) -> Iterator[Sequence[View]]:
    """Of four views each."""
    for seed in range(20, 20 + simulated):
        yield record_random_scene(RandomSceneSpec(seed=seed, views=4)).views
    for seed in range(80, 80 + constructed):
        made = construct_scene(4, 320, 240, seed=seed, arc_degrees=111.0, depth_noise=DepthNoise())
        yield made.views


def main() -> dict:
    """Quantiles of either, and what the limit does with them."""
    rng, backend = np.random.default_rng(0), DepthPointmaps()
    errors: list[float] = []
    consistencies: list[float] = []
    for views in scenes():
        frames = [backend._prepare(view, False).frame for view in views]
        poses = [np.asarray(view.world_from_cam_prior) for view in views]
        for a in range(len(views)):
            for b in range(a + 1, len(views)):
                right = invert(poses[a]) @ poses[b]
                for off in _OFF:
                    shift, turn = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
                    error = make_transform(rotation_from_vector(0.5 * off * turn), off * shift)
                    found = register_from_prior(
                        frames[a], frames[b], PosePrior(right @ error, 0.01, 0.01)
                    )
                    if found.a_from_b is None or found.compared < MIN_AGREEING:
                        continue
                    distance = float(np.median(frames[a].sample_points[:, 2]))
                    angle = rotation_angle(found.a_from_b[:3, :3].T @ right[:3, :3])
                    moved = np.linalg.norm(found.a_from_b[:3, 3] - right[:3, 3])
                    errors.append(float(moved / distance + angle))
                    consistencies.append(found.consistency)
    error, consistency = np.array(errors), np.array(consistencies)
    right, wrong = consistency[error < 0.03], consistency[error > 0.05]
    return {
        "right": len(right),
        "wrong": len(wrong),
        **{f"right, {q} % have less than": float(np.percentile(right, q)) for q in (1, 5, 50)},
        **{f"wrong, {q} % have less than": float(np.percentile(wrong, q)) for q in (50, 95, 99)},
        "right ones that are doubted": float((right < DOUBTFUL).mean()),
        "wrong ones that are believed": float((wrong >= DOUBTFUL).mean()),
    }
