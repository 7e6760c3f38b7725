"""Procedural textures: wood, concrete, packaging with print, ceramics, fruit.

All are (H, W, 3) uint8 sRGB. Colours are given as 0xRRGGBB.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from wildseg3d_ros.sim.shapes import BOX_FACES, box_face_sizes

Texture = NDArray[np.uint8]


def rgb(color: int) -> NDArray[np.float32]:
    """(3,) float32 in [0, 255] of 0xRRGGBB."""
    return np.array(ink(color), dtype=np.float32)


def ink(color: int) -> tuple[int, int, int]:
    """0xRRGGBB as OpenCV draws it."""
    return color >> 16 & 255, color >> 8 & 255, color & 255


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, coarsest: float, octaves: int = 5
) -> NDArray[np.float32]:
    """(height, width) noise in about [-1, 1], tileable, features from ``coarsest`` pixels down."""
    total = np.zeros((height, width), dtype=np.float32)
    for octave in range(octaves):
        sigma = coarsest / 2.0**octave / 2.0
        if sigma < 0.3:
            break
        # Coarse noise is made small and enlarged: the filter's cost does not grow with sigma.
        shrink = max(1, int(sigma / 3.0))
        small = rng.standard_normal((max(4, height // shrink), max(4, width // shrink)))
        small = ndimage.gaussian_filter(small.astype(np.float32), sigma / shrink, mode="wrap")
        layer = cv2.resize(small / small.std(), (width, height), interpolation=cv2.INTER_CUBIC)
        total += layer * 0.5**octave
    return total / (2.2 * total.std())


def _quantised(image: NDArray) -> Texture:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def plain(
    color: int, rng: np.random.Generator, height: int = 64, width: int = 64, grain: float = 3.0
) -> Texture:
    """One colour with a little unevenness, as paint or plastic."""
    noise = fractal_noise(rng, height, width, 16.0)[..., None]
    return _quantised(rgb(color) + grain * noise)


def wood(rng: np.random.Generator, height: int, width: int, planks: int = 5) -> Texture:
    """A table top of planks; the grain runs along the width."""
    out = np.empty((height, width, 3), dtype=np.float32)
    light, dark = rgb(0xC39A6B), rgb(0x8A5F38)
    edges = np.linspace(0, height, planks + 1).astype(int)
    for top, bottom in pairwise(edges):
        rows = bottom - top
        y = np.arange(rows, dtype=np.float32)[:, None]
        x = np.arange(width, dtype=np.float32)[None]
        warp = fractal_noise(rng, rows, width, 0.4 * width, 4)
        # A saw cut through growth rings that are nearly parallel to it, of uneven spacing.
        centre, bow = rng.uniform(-0.6, 1.6) * rows, rng.uniform(0.03, 0.08)
        radius = np.hypot(y - centre, bow * (x - rng.uniform(0, width)))
        phase = radius / rng.uniform(20, 34) + 1.6 * warp
        rings = np.mod(phase + 0.35 * np.sin(0.7 * phase), 1.0) ** 2
        fibre = cv2.resize(fractal_noise(rng, rows, max(8, width // 40), 4.0, 3), (width, rows))
        tone = fractal_noise(rng, rows, width, 0.6 * width, 3)
        share = np.clip(0.2 + 0.28 * rings + 0.13 * fibre + 0.16 * tone, 0, 1)[..., None]
        plank = light * (1 - share) + dark * share
        out[top:bottom] = plank * rng.uniform(0.9, 1.08)
        out[bottom - 2 : bottom] *= 0.62
    return _quantised(out)


def concrete(rng: np.random.Generator, size: int = 1024) -> Texture:
    """A workshop floor: grey, stained, with joints and a yellow safety line."""
    stains = fractal_noise(rng, size, size, size / 4.0, 7)
    speckle = fractal_noise(rng, size, size, 2.0, 2)
    out = rgb(0x8D8F8E) * (1 + 0.09 * stains + 0.04 * speckle)[..., None]
    joint = size // 2
    out[joint - 2 : joint + 2] *= 0.6
    out[:, joint - 2 : joint + 2] *= 0.6
    return _quantised(out)


def speckled(
    color: int,
    spots: int,
    rng: np.random.Generator,
    size: int = 512,
    density: float = 0.015,
    band: int | None = None,
) -> Texture:
    """Stoneware: a glaze with small spots and perhaps a coloured band at the rim (first rows)."""
    base = rgb(color) * (1 + 0.05 * fractal_noise(rng, size, size, 128.0))[..., None]
    seeds = ndimage.gaussian_filter(
        (rng.random((size, size)) < density).astype(np.float32), 1.2, mode="wrap"
    )
    share = np.clip(seeds * 8.0, 0, 0.9)[..., None]
    out = base * (1 - share) + rgb(spots) * share
    if band is not None:
        edge = int(0.12 * size) + (4 * np.sin(np.linspace(0, 40, size))).astype(int)
        on_band = np.arange(size)[:, None] < edge[None]
        out[on_band] = rgb(band)
    return _quantised(out)


def fruit(color: int, streak: int, rng: np.random.Generator, size: int = 512) -> Texture:
    """Skin with streaks from pole to pole and freckles."""
    across = fractal_noise(rng, size // 16, size, 10.0, 4)
    share = cv2.resize(across, (size, size), interpolation=cv2.INTER_CUBIC)
    share = np.clip(0.4 + 0.5 * share + 0.3 * fractal_noise(rng, size, size, 160.0), 0, 1)
    out = rgb(color) * (1 - share[..., None]) + rgb(streak) * share[..., None]
    freckles = ndimage.gaussian_filter(
        (rng.random((size, size)) < 0.002).astype(np.float32), 1.0, mode="wrap"
    )
    out += np.clip(freckles * 9.0, 0, 0.6)[..., None] * (rgb(0xF0D890) - out)
    return _quantised(out)


def tennis(rng: np.random.Generator, size: int = 512) -> Texture:
    """Felt with the white seam."""
    out = rgb(0xC3D82E) * (1 + 0.10 * fractal_noise(rng, size, size, 6.0, 3))[..., None]
    u = np.linspace(0, 2 * np.pi, size)
    seam = (0.5 + 0.22 * np.sin(2 * u)) * size
    rows = np.arange(size)[:, None]
    line = np.clip(9.0 - np.abs(rows - seam[None]), 0, 1)[..., None]
    return _quantised(out * (1 - line) + rgb(0xF2F2E8) * line)


def rubber_ball(rng: np.random.Generator, colors: tuple[int, ...], size: int = 512) -> Texture:
    """A ball with segments of several colours."""
    part = np.arange(size) * len(colors) // size
    out = np.stack([rgb(color) for color in colors])[part][None].repeat(size, axis=0)
    caps = int(0.13 * size)
    out[:caps], out[-caps:] = rgb(0xF4F1E6), rgb(0xF4F1E6)
    return _quantised(out * (1 + 0.03 * fractal_noise(rng, size, size, 64.0))[..., None])


def gingham(color: int, rng: np.random.Generator, size: int = 256, squares: int = 12) -> Texture:
    """Checked cloth."""
    stripe = (np.arange(size) * squares // size % 2).astype(np.float32)
    share = 0.5 * (stripe[:, None] + stripe[None])
    weave = 1 + 0.06 * fractal_noise(rng, size, size, 2.0, 2)
    out = rgb(0xF6F2EA) * (1 - share[..., None]) + rgb(color) * share[..., None]
    return _quantised(out * weave[..., None])


def write(
    image: Texture,
    text: str,
    centre: tuple[float, float],
    height: float,
    color: int,
    font: int = cv2.FONT_HERSHEY_DUPLEX,
    bold: float = 0.10,
) -> None:
    """Prints a line of text into ``image``, shrunk to fit its width.

    Args:
        image: changed in place.
        text: what to print.
        centre: of the line, as shares of the image's width and height.
        height: of capital letters, as a share of the image's height.
        color: 0xRRGGBB.
        font: an OpenCV font.
        bold: thickness of the strokes as a share of the letters' height.
    """
    rows, columns = image.shape[:2]
    (width, tall), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = min(height * rows / tall, 0.9 * columns / width)
    thickness = max(1, round(bold * scale * tall))
    (width, tall), _ = cv2.getTextSize(text, font, scale, thickness)
    origin = (round(centre[0] * columns - width / 2), round(centre[1] * rows + tall / 2))
    cv2.putText(image, text, origin, font, scale, ink(color), thickness, cv2.LINE_AA)


def fine_print(
    image: Texture,
    box: tuple[float, float, float, float],
    lines: int,
    color: int,
    rng: np.random.Generator,
) -> None:
    """Lines of unreadable small print in the box (u0, v0, u1, v1), as shares of the image."""
    rows, columns = image.shape[:2]
    left, right = int(box[0] * columns), int(box[2] * columns)
    for row in np.linspace(box[1] * rows, box[3] * rows, lines):
        x = left
        while x < right - 4:
            word = int(rng.integers(3, 14))
            start, end = (x, int(row)), (min(x + word, right), int(row))
            cv2.line(image, start, end, ink(color), 1, cv2.LINE_AA)
            x += word + 4


def barcode(
    image: Texture, box: tuple[float, float, float, float], rng: np.random.Generator
) -> None:
    """A bar code in the box (u0, v0, u1, v1), as shares of the image."""
    rows, columns = image.shape[:2]
    u0, v0, u1, v1 = (round(s * n) for s, n in zip(box, (columns, rows) * 2, strict=True))
    bars = np.repeat(rng.random(max(4, (u1 - u0) // 3)) < 0.5, 3)[: u1 - u0]
    image[v0:v1, u0 : u0 + len(bars)] = np.where(bars, 20, 245)[None, :, None]


def box_texture(size: ArrayLike, faces: Mapping[str, Texture], density: float = 2600.0) -> Texture:
    """The texture of a :func:`~wildseg3d_ros.sim.shapes.box` from pictures of its faces.

    Args:
        size: (x, y, z) of the box [m].
        faces: picture per face; "side" stands for faces that are not given.
        density: pixels per metre.
    """
    sizes = box_face_sizes(size)
    total = round(sum(width for width, _ in sizes.values()) * density)
    tallest = round(max(height for _, height in sizes.values()) * density)
    out = np.zeros((tallest, total, 3), dtype=np.uint8)
    start = 0.0
    for name in BOX_FACES:
        width, height = sizes[name]
        left, right = round(start * density), min(total, round((start + width) * density))
        picture = faces.get(name, faces["side"])
        shrunk = cv2.resize(
            picture, (right - left, round(height * density)), interpolation=cv2.INTER_AREA
        )
        out[: len(shrunk), left:right] = shrunk
        start += width
    return out


def canvas(width: float, height: float, color: int, density: float = 2600.0) -> Texture:
    """A face of ``width`` by ``height`` metres in one colour, to print on."""
    shape = (max(8, round(height * density)), max(8, round(width * density)), 3)
    return np.broadcast_to(rgb(color).astype(np.uint8), shape).copy()
