"""The things on the table: household objects."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.sim import packaging, textures
from wildseg3d_ros.sim.prop import Collider, Part, Prop, circle, rectangle
from wildseg3d_ros.sim.shapes import arc, box, disc, lathe, tube

Make = Callable[[np.random.Generator], Prop]
Draw = Callable[[np.random.Generator], NDArray[np.uint8]]


def _carton(
    name: str,
    size: packaging.Size,
    draw: Callable[[packaging.Size, np.random.Generator], NDArray[np.uint8]],
    mass: float,
    gloss: float = 0.12,
    leans: bool = False,
) -> Make:
    def make(rng: np.random.Generator) -> Prop:
        x, y, z = size
        return Prop(
            name,
            (Part(box(size), draw(size, rng), gloss),),
            (Collider("box", (x / 2, y / 2, z / 2), (0.0, 0.0, z / 2)),),
            mass,
            rectangle(x, y),
            z,
            top_radius=0.5 * min(x, y),
            leans=leans,
        )

    return make


def _tin(
    name: str, radius: float, height: float, draw: Draw, mass: float, metal: int = 0xB9BCC0
) -> Make:
    def make(rng: np.random.Generator) -> Prop:
        rim, lid = 0.0022, height - 0.004
        body = lathe([([(radius - 0.0005, rim), (radius - 0.0005, height - rim)], (1.0, 0.0))])
        raised = [(0.7 * radius, lid), (0.66 * radius, lid + 0.0012), (1e-6, lid + 0.0012)]
        ends = lathe(
            [
                disc(radius, 0.0, False, (0.9, 1.0)),
                (arc((radius - 0.001, rim), 0.0014, -90, 90, 6), (0.8, 0.9)),
                (arc((radius - 0.001, height - rim), 0.0022, -90, 180, 8), (0.1, 0.3)),
                ([(radius - 0.003, height - rim), (radius - 0.0035, lid)], (0.3, 0.4)),
                ([(radius - 0.0035, lid), *raised], (0.4, 1.0)),
            ]
        )
        plain = textures.plain(metal, np.random.default_rng(len(name)))
        return Prop(
            name,
            (Part(body, draw(rng), 0.3), Part(ends, plain, 0.7)),
            (Collider("cylinder", (radius, height / 2), (0, 0, height / 2)),),
            mass,
            circle(radius),
            height,
            top_radius=0.9 * radius,
        )

    return make


def _ball(name: str, radius: float, draw: Draw, mass: float, gloss: float) -> Make:
    def make(rng: np.random.Generator) -> Prop:
        mesh = lathe([(arc((0.0, radius), radius, -90, 90, 40), (1.0, 0.0))])
        return Prop(
            name,
            (Part(mesh, draw(rng), gloss),),
            (Collider("sphere", (radius,), (0, 0, radius)),),
            mass,
            circle(radius),
            2 * radius,
        )

    return make


def mug(rng: np.random.Generator) -> Prop:
    """A mug with a handle."""
    radius, height, wall = 0.041, 0.094, 0.004
    rim, inside, floor = height - wall / 2, radius - wall, (radius - wall - 0.006, 0.006)
    body = lathe(
        [
            disc(radius - 0.004, 0.0, False, (0.96, 1.0)),
            ([*arc((radius - 0.006, 0.006), 0.006, -70, 0, 5), (radius, rim)], (0.96, 0.04)),
            (arc((radius - wall / 2, rim), wall / 2, 0, 180, 8), (0.04, 0.0)),
            ([(inside, rim), (inside, 0.012), floor], (0.0, 0.01)),
            ([floor, (1e-6, 0.006)], (0.0, 0.01)),
        ]
    )
    angle = np.radians(np.linspace(-100, 100, 24))
    path = np.stack(
        [radius - 0.004 + 0.030 * np.cos(angle), 0 * angle, 0.048 + 0.030 * np.sin(angle)], axis=1
    )
    glaze, handle = packaging.mug_glaze(rng)
    handle_end = radius + 0.028
    outline = np.concatenate([circle(radius), [[handle_end, -0.007], [handle_end, 0.007]]])
    return Prop(
        "mug",
        (Part(body, glaze, 0.5), Part(tube(path, 0.0058), handle, 0.5)),
        (
            Collider("cylinder", (radius, height / 2), (0, 0, height / 2)),
            Collider("box", (0.016, 0.006, 0.033), (handle_end - 0.016, 0, 0.048)),
        ),
        0.32,
        cv2.convexHull(outline.astype(np.float32), clockwise=False)[:, 0].astype(np.float64),
        height,
    )


def bowl(rng: np.random.Generator) -> Prop:
    """A stoneware bowl, into which a small object fits."""
    radius, height, wall, foot = 0.078, 0.062, 0.0045, 0.034
    rim = height - wall / 2
    outer = [(foot, 0.006), (0.052, 0.014), (0.067, 0.030), (0.075, 0.047), (radius, rim)]
    slope = [(0.070, 0.046), (0.060, 0.030), (0.044, 0.015), (0.022, 0.0095), (1e-6, 0.009)]
    mesh = lathe(
        [
            disc(foot, 0.0, False, (0.97, 1.0)),
            ([(foot, 0.0), (foot, 0.006)], (0.97, 0.93)),
            (outer, (0.93, 0.05)),
            (arc((radius - wall / 2, rim), wall / 2, 0, 180, 8), (0.05, 0.0)),
            ([(radius - wall, rim), *slope], (0.0, 0.93)),
        ],
        segments=96,
    )
    walls = []
    for k, yaw in enumerate(np.linspace(0, 2 * np.pi, 16, endpoint=False)):
        r, z, tall = (0.069, 0.045, 0.016) if k % 2 else (0.054, 0.022, 0.011)
        at = (r * np.cos(yaw), r * np.sin(yaw), z)
        walls.append(Collider("box", (0.006, 0.016, tall), at, float(yaw)))
    return Prop(
        "bowl",
        (Part(mesh, textures.stoneware(rng), 0.45),),
        (Collider("cylinder", (0.048, 0.005), (0, 0, 0.005)), *walls),
        0.4,
        circle(radius),
        height,
        hollow_radius=0.042,
    )


def mustard_bottle(rng: np.random.Generator) -> Prop:
    """A squeezing bottle with a pointed cap."""
    r, label_low, label_high = 0.032, 0.03, 0.115
    shoulder = [(r - 0.001, 0.125), (r - 0.006, 0.138), (0.018, 0.150), (0.0165, 0.156)]
    body = lathe(
        [
            disc(r - 0.004, 0.0, False, (0.98, 1.0)),
            ([*arc((r - 0.005, 0.005), 0.005, -80, 0, 5), (r, label_low)], (0.98, 0.8)),
            ([(r, label_low), (r, label_high)], (0.8, 0.2)),
            ([(r, label_high), *shoulder], (0.2, 0.0)),
        ]
    )
    cap = lathe(
        [
            ([(0.018, 0.154), (0.018, 0.168)], (1.0, 0.7)),
            ([(0.018, 0.168), (0.013, 0.172), (0.0075, 0.175), (0.0045, 0.196)], (0.7, 0.1)),
            disc(0.0045, 0.196, True, (0.1, 0.0)),
        ]
    )
    picture, lid = packaging.mustard(rng)
    return Prop(
        "mustard_bottle",
        (Part(body, picture, 0.4), Part(cap, lid, 0.3)),
        (
            Collider("cylinder", (r, 0.064), (0, 0, 0.064)),
            Collider("cylinder", (0.018, 0.022), (0, 0, 0.15)),
            Collider("cylinder", (0.006, 0.013), (0, 0, 0.183)),
        ),
        0.4,
        circle(r),
        0.196,
    )


def jam_jar(rng: np.random.Generator) -> Prop:
    """A jar with a cloth lid."""
    r, height = 0.037, 0.088
    foot = arc((r - 0.006, 0.006), 0.006, -80, 0, 6)
    side = [*foot, (r, 0.062), *arc((r - 0.008, 0.062), 0.008, 0, 70, 6)]
    body = lathe([disc(r - 0.004, 0.0, False, (0.97, 1.0)), (side, (0.97, 0.0))])
    lid = lathe(
        [
            ([(0.034, 0.068), (0.034, 0.084)], (0.95, 0.62)),
            (arc((0.030, 0.084), 0.004, 0, 90, 5), (0.62, 0.55)),
            disc(0.030, height, True, (0.55, 0.0)),
        ]
    )
    picture, cloth = packaging.jam(rng)
    return Prop(
        "jam_jar",
        (Part(body, picture, 0.5), Part(lid, cloth, 0.1)),
        (
            Collider("cylinder", (r, 0.034), (0, 0, 0.034)),
            Collider("cylinder", (0.034, 0.022), (0, 0, 0.066)),
        ),
        0.35,
        circle(r),
        height,
        top_radius=0.028,
    )


def apple(rng: np.random.Generator) -> Prop:
    """An apple with its stem."""
    angle = np.linspace(-90, 90, 48)
    s, c = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    # A dimple at the stem and a smaller one below.
    z = (
        0.034 * s
        - 0.013 * np.exp(-((c / 0.28) ** 2)) * (s > 0)
        + 0.006 * np.exp(-((c / 0.3) ** 2)) * (s < 0)
    )
    profile = np.stack([np.maximum(0.037 * c * (1 + 0.08 * s), 1e-6), z - z.min()], axis=1)
    body = lathe([(profile, (1.0, 0.0))])
    stem = tube(np.array([[0, 0, 0.046], [0.001, 0, 0.056], [0.004, 0, 0.066]]), 0.0016, 8)
    return Prop(
        "apple",
        (
            Part(body, textures.fruit(0xB3202A, 0xD8923A, rng), 0.4),
            Part(stem, textures.plain(0x4A3420, rng), 0.0),
        ),
        (Collider("sphere", (0.036,), (0, 0, 0.036)),),
        0.15,
        circle(0.038),
        0.067,
    )


CATALOGUE: tuple[Make, ...] = (
    _carton("cereal_box", (0.165, 0.055, 0.235), packaging.cereal, 0.45),
    _carton("book", (0.15, 0.21, 0.028), packaging.book, 0.40, 0.2, leans=True),
    bowl,
    _tin("chips_tube", 0.037, 0.215, packaging.chips_label, 0.2, 0xE6E3DA),
    _carton("cracker_box", (0.11, 0.062, 0.15), packaging.crackers, 0.30),
    mug,
    _tin("soup_can", 0.0335, 0.102, packaging.soup_label, 0.35),
    mustard_bottle,
    apple,
    _ball("tennis_ball", 0.033, textures.tennis, 0.058, 0.0),
    _carton("tea_box", (0.13, 0.075, 0.07), packaging.tea, 0.15),
    jam_jar,
    _tin("tuna_can", 0.0425, 0.042, packaging.tuna_label, 0.2),
    _ball("rubber_ball", 0.045, textures.rubber_ball, 0.12, 0.4),
    _carton("sponge", (0.105, 0.07, 0.032), packaging.sponge, 0.02, 0.0),
    _carton("toy_block", (0.05, 0.05, 0.05), packaging.toy_block, 0.06, 0.25),
)
"""Makers of all objects, in the order in which a scene takes them."""
