"""The things on the table: household objects."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.sim import packaging, textures
from wildseg3d_ros.sim.prop import Collider, Part, Prop, circle, rectangle
from wildseg3d_ros.sim.shapes import arc, box, disc, lathe, tube


def _carton(
    name: str,
    size: tuple[float, float, float],
    picture: NDArray[np.uint8],
    mass: float,
    gloss: float = 0.12,
    leans: bool = False,
) -> Prop:
    x, y, z = size
    return Prop(
        name,
        (Part(box(size), picture, gloss),),
        (Collider("box", (x / 2, y / 2, z / 2), (0.0, 0.0, z / 2)),),
        mass,
        rectangle(x, y),
        z,
        top_radius=0.5 * min(x, y),
        leans=leans,
    )


def cereal_box(rng: np.random.Generator) -> Prop:
    """A tall carton."""
    size = (0.165, 0.055, 0.235)
    return _carton("cereal_box", size, packaging.cereal(size, rng), 0.45)


def cracker_box(rng: np.random.Generator) -> Prop:
    """A carton."""
    size = (0.11, 0.062, 0.15)
    return _carton("cracker_box", size, packaging.crackers(size, rng), 0.30)


def tea_box(rng: np.random.Generator) -> Prop:
    """A low carton."""
    size = (0.13, 0.075, 0.07)
    return _carton("tea_box", size, packaging.tea(size, rng), 0.15)


def book(rng: np.random.Generator) -> Prop:
    """A book, which may lean."""
    size = (0.15, 0.21, 0.028)
    return _carton("book", size, packaging.book(size, rng), 0.40, 0.2, leans=True)


def sponge(rng: np.random.Generator) -> Prop:
    """A scouring sponge."""
    size = (0.105, 0.07, 0.032)
    return _carton("sponge", size, packaging.sponge(size, rng), 0.02, 0.0)


def toy_block(rng: np.random.Generator) -> Prop:
    """A wooden letter block."""
    size = (0.05, 0.05, 0.05)
    return _carton("toy_block", size, packaging.toy_block(size, rng), 0.06, 0.25)


def _tin(
    name: str,
    radius: float,
    height: float,
    label: NDArray[np.uint8],
    mass: float,
    metal: int = 0xB9BCC0,
) -> Prop:
    rng = np.random.default_rng(len(name))
    rim, inset = 0.0022, 0.004
    body = lathe([([(radius - 0.0005, rim), (radius - 0.0005, height - rim)], (1.0, 0.0))])
    ends = lathe(
        [
            disc(radius, 0.0, False, (0.9, 1.0)),
            (arc((radius - 0.001, rim), 0.0014, -90, 90, 6), (0.8, 0.9)),
            (arc((radius - 0.001, height - rim), 0.0022, -90, 180, 8), (0.1, 0.3)),
            ([(radius - 0.003, height - rim), (radius - 0.0035, height - inset)], (0.3, 0.4)),
            (
                [
                    (radius - 0.0035, height - inset),
                    (0.7 * radius, height - inset),
                    (0.66 * radius, height - inset + 0.0012),
                    (1e-6, height - inset + 0.0012),
                ],
                (0.4, 1.0),
            ),
        ]
    )
    return Prop(
        name,
        (Part(body, label, 0.3), Part(ends, textures.plain(metal, rng), 0.7)),
        (Collider("cylinder", (radius, height / 2), (0, 0, height / 2)),),
        mass,
        circle(radius),
        height,
        top_radius=0.9 * radius,
    )


def soup_can(rng: np.random.Generator) -> Prop:
    """A tin with a paper label."""
    return _tin("soup_can", 0.0335, 0.102, packaging.soup_label(rng), 0.35)


def tuna_can(rng: np.random.Generator) -> Prop:
    """A flat tin."""
    return _tin("tuna_can", 0.0425, 0.042, packaging.tuna_label(rng), 0.2)


def chips_tube(rng: np.random.Generator) -> Prop:
    """A cardboard tube with a plastic lid."""
    return _tin("chips_tube", 0.037, 0.215, packaging.chips_label(rng), 0.2, 0xE6E3DA)


def mug(rng: np.random.Generator) -> Prop:
    """A mug with a handle."""
    radius, height, wall = 0.041, 0.094, 0.004
    body = lathe(
        [
            disc(radius - 0.004, 0.0, False, (0.96, 1.0)),
            (
                np.concatenate(
                    [arc((radius - 0.006, 0.006), 0.006, -70, 0, 5), [[radius, height - wall / 2]]]
                ),
                (0.96, 0.04),
            ),
            (arc((radius - wall / 2, height - wall / 2), wall / 2, 0, 180, 8), (0.04, 0.0)),
            (
                [
                    (radius - wall, height - wall / 2),
                    (radius - wall, 0.012),
                    (radius - wall - 0.006, 0.006),
                ],
                (0.0, 0.01),
            ),
            ([(radius - wall - 0.006, 0.006), (1e-6, 0.006)], (0.0, 0.01)),
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
    outer = [
        (foot, 0.006),
        (0.052, 0.014),
        (0.067, 0.030),
        (0.075, 0.047),
        (radius, height - wall / 2),
    ]
    inner = [
        (radius - wall, height - wall / 2),
        (0.070, 0.046),
        (0.060, 0.030),
        (0.044, 0.015),
        (0.022, 0.0095),
        (1e-6, 0.009),
    ]
    mesh = lathe(
        [
            disc(foot, 0.0, False, (0.97, 1.0)),
            ([(foot, 0.0), (foot, 0.006)], (0.97, 0.93)),
            (outer, (0.93, 0.05)),
            (arc((radius - wall / 2, height - wall / 2), wall / 2, 0, 180, 8), (0.05, 0.0)),
            (inner, (0.0, 0.93)),
        ],
        segments=96,
    )
    walls = []
    for k, yaw in enumerate(np.linspace(0, 2 * np.pi, 16, endpoint=False)):
        r, z, tall = (0.069, 0.045, 0.016) if k % 2 else (0.054, 0.022, 0.011)
        walls.append(
            Collider(
                "box", (0.006, 0.016, tall), (r * np.cos(yaw), r * np.sin(yaw), z), float(yaw)
            )
        )
    return Prop(
        "bowl",
        (Part(mesh, packaging.bowl_glaze(rng), 0.45),),
        (Collider("cylinder", (0.048, 0.005), (0, 0, 0.005)), *walls),
        0.4,
        circle(radius),
        height,
        hollow_radius=0.042,
    )


def mustard_bottle(rng: np.random.Generator) -> Prop:
    """A squeezing bottle with a pointed cap."""
    r, label_low, label_high = 0.032, 0.03, 0.115
    body = lathe(
        [
            disc(r - 0.004, 0.0, False, (0.98, 1.0)),
            (
                np.concatenate([arc((r - 0.005, 0.005), 0.005, -80, 0, 5), [[r, label_low]]]),
                (0.98, 0.8),
            ),
            ([(r, label_low), (r, label_high)], (0.8, 0.2)),
            (
                [
                    (r, label_high),
                    (r - 0.001, 0.125),
                    (r - 0.006, 0.138),
                    (0.018, 0.150),
                    (0.0165, 0.156),
                ],
                (0.2, 0.0),
            ),
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
    body = lathe(
        [
            disc(r - 0.004, 0.0, False, (0.97, 1.0)),
            (
                np.concatenate(
                    [
                        arc((r - 0.006, 0.006), 0.006, -80, 0, 6),
                        [[r, 0.062]],
                        arc((r - 0.008, 0.062), 0.008, 0, 70, 6),
                    ]
                ),
                (0.97, 0.0),
            ),
        ]
    )
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


def _ball(name: str, radius: float, picture: NDArray[np.uint8], mass: float, gloss: float) -> Prop:
    mesh = lathe([(arc((0.0, radius), radius, -90, 90, 40), (1.0, 0.0))])
    return Prop(
        name,
        (Part(mesh, picture, gloss),),
        (Collider("sphere", (radius,), (0, 0, radius)),),
        mass,
        circle(radius),
        2 * radius,
    )


def tennis_ball(rng: np.random.Generator) -> Prop:
    """A tennis ball."""
    return _ball("tennis_ball", 0.033, textures.tennis(rng), 0.058, 0.0)


def rubber_ball(rng: np.random.Generator) -> Prop:
    """A ball of coloured segments."""
    colors = (0xD23B36, 0xF0C33C, 0x2F6FC0, 0xF4F1E6, 0x3C9A55, 0xEE8A2E)
    return _ball("rubber_ball", 0.045, textures.rubber_ball(rng, colors), 0.12, 0.4)


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


CATALOGUE: tuple[Callable[[np.random.Generator], Prop], ...] = (
    cereal_box,
    book,
    bowl,
    chips_tube,
    cracker_box,
    mug,
    soup_can,
    mustard_bottle,
    apple,
    tennis_ball,
    tea_box,
    jam_jar,
    tuna_can,
    rubber_ball,
    sponge,
    toy_block,
)
"""All objects, in the order in which a scene takes them."""
