"""Procedural textures: wood, concrete, packaging with print, ceramics, fruit.

All are (H, W, 3) uint8 sRGB. Colours are given as 0xRRGGBB.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wildseg3d_ros.sim.shapes import box_faces

Texture = NDArray[np.uint8]

_SIZE = 512
"""Height and width of the textures of round things [px]."""


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


def _blend(a: NDArray, b: NDArray, share: NDArray) -> NDArray[np.float32]:
    """(H, W, 3) of ``b`` by the shares (H, W), and of ``a`` for the rest."""
    return a * (1 - share[..., None]) + b * share[..., None]


def _spots(rng: np.random.Generator, density: float, sigma: float) -> NDArray[np.float32]:
    """(_SIZE, _SIZE) of blurred spots, ``density`` of them per pixel."""
    seeds = (rng.random((_SIZE, _SIZE)) < density).astype(np.float32)
    return ndimage.gaussian_filter(seeds, sigma, mode="wrap")


def plain(color: int, rng: np.random.Generator) -> Texture:
    """One colour with a little unevenness, as paint or plastic."""
    return _quantised(rgb(color) + 3.0 * fractal_noise(rng, 64, 64, 16.0)[..., None])


def wood(rng: np.random.Generator, height: int, width: int, planks: int = 5) -> Texture:
    """A table top of planks; the grain runs along the width."""
    out = np.empty((height, width, 3), dtype=np.float32)
    light, dark = rgb(0xC39A6B), rgb(0x8A5F38)
    for top, bottom in pairwise(np.linspace(0, height, planks + 1).astype(int)):
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
        share = np.clip(0.2 + 0.28 * rings + 0.13 * fibre + 0.16 * tone, 0, 1)
        out[top:bottom] = _blend(light, dark, share) * rng.uniform(0.9, 1.08)
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


def stoneware(rng: np.random.Generator) -> Texture:
    """A glaze with small spots and a coloured band at the rim (first rows)."""
    base = rgb(0xCFC7B4) * (1 + 0.05 * fractal_noise(rng, _SIZE, _SIZE, 128.0))[..., None]
    out = _blend(base, rgb(0x5B4A3A), np.clip(_spots(rng, 0.015, 1.2) * 8.0, 0, 0.9))
    edge = int(0.12 * _SIZE) + (4 * np.sin(np.linspace(0, 40, _SIZE))).astype(int)
    out[np.arange(_SIZE)[:, None] < edge[None]] = rgb(0x2A6F74)
    return _quantised(out)


def fruit(color: int, streak: int, rng: np.random.Generator) -> Texture:
    """Skin with streaks from pole to pole and freckles."""
    across = fractal_noise(rng, _SIZE // 16, _SIZE, 10.0, 4)
    share = cv2.resize(across, (_SIZE, _SIZE), interpolation=cv2.INTER_CUBIC)
    share = np.clip(0.4 + 0.5 * share + 0.3 * fractal_noise(rng, _SIZE, _SIZE, 160.0), 0, 1)
    out = _blend(rgb(color), rgb(streak), share)
    freckles = np.clip(_spots(rng, 0.002, 1.0) * 9.0, 0, 0.6)
    out += freckles[..., None] * (rgb(0xF0D890) - out)
    return _quantised(out)


def tennis(rng: np.random.Generator) -> Texture:
    """Felt with the white seam."""
    felt = rgb(0xC3D82E) * (1 + 0.10 * fractal_noise(rng, _SIZE, _SIZE, 6.0, 3))[..., None]
    seam = (0.5 + 0.22 * np.sin(2 * np.linspace(0, 2 * np.pi, _SIZE))) * _SIZE
    line = np.clip(9.0 - np.abs(np.arange(_SIZE)[:, None] - seam[None]), 0, 1)
    return _quantised(_blend(felt, rgb(0xF2F2E8), line))


def rubber_ball(rng: np.random.Generator) -> Texture:
    """A ball with segments of several colours."""
    colors = (0xD23B36, 0xF0C33C, 0x2F6FC0, 0xF4F1E6, 0x3C9A55, 0xEE8A2E)
    part = np.arange(_SIZE) * len(colors) // _SIZE
    out = np.stack([rgb(color) for color in colors])[part][None].repeat(_SIZE, axis=0)
    caps = int(0.13 * _SIZE)
    out[:caps], out[-caps:] = rgb(0xF4F1E6), rgb(0xF4F1E6)
    return _quantised(out * (1 + 0.03 * fractal_noise(rng, _SIZE, _SIZE, 64.0))[..., None])


def gingham(color: int, rng: np.random.Generator) -> Texture:
    """Checked cloth."""
    size = 256
    stripe = (np.arange(size) * 12 // size % 2).astype(np.float32)
    out = _blend(rgb(0xF6F2EA), rgb(color), 0.5 * (stripe[:, None] + stripe[None]))
    return _quantised(out * (1 + 0.06 * fractal_noise(rng, size, size, 2.0, 2))[..., None])


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


def box_texture(
    size: tuple[float, float, float], faces: Mapping[str, Texture], density: float = 2600.0
) -> Texture:
    """The texture of a :func:`~wildseg3d_ros.sim.shapes.box` from pictures of its faces.

    Args:
        size: (x, y, z) of the box [m].
        faces: picture per face; "side" stands for faces that are not given.
        density: pixels per metre.
    """
    sizes = box_faces(size)
    total = round(sum(width for width, _ in sizes.values()) * density)
    tallest = round(max(height for _, height in sizes.values()) * density)
    out = np.zeros((tallest, total, 3), dtype=np.uint8)
    start = 0.0
    for name, (width, height) in sizes.items():
        left, right = round(start * density), min(total, round((start + width) * density))
        picture = faces[name] if name in faces else faces["side"]
        shape = right - left, round(height * density)
        out[: shape[1], left:right] = cv2.resize(picture, shape, interpolation=cv2.INTER_AREA)
        start += width
    return out


def canvas(width: float, height: float, color: int, density: float = 2600.0) -> Texture:
    """A face of ``width`` by ``height`` metres in one colour, to print on."""
    return np.full((round(height * density), round(width * density), 3), ink(color), np.uint8)
