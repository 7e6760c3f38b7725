"""Random textures of random things, their surroundings, and palettes of colours."""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data as photographs

from wildseg3d_ros.sim.textures import Texture, fine_print, fractal_noise, wood

Color = NDArray[np.float32]
"""(3,) sRGB in [0, 255]."""

CELL = 96
"""Height and width of a face in the texture of a "box" [px]; there are 3 across and 2 down."""
_ROUND = (128, 192)
"""Height and width of the texture of a "round" thing [px]."""
_TILE = 256

# Those that scikit-image's wheels hold; others would be downloaded.
_PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry")
_SURFACES = ("brick", "grass", "gravel", "coins", "page", "text", "camera")


@cache
def _photograph(name: str) -> Texture:
    """(H, 256, 3) picture that scikit-image ships."""
    image = getattr(photographs, name)()
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    height = round(256 * image.shape[0] / image.shape[1])
    return _quantised(cv2.resize(image[..., :3], (256, height), interpolation=cv2.INTER_AREA))


@cache
def _noise(index: int) -> NDArray[np.float32]:
    """(256, 256) tileable noise, the coarser the higher the index, 0 to 5."""
    return fractal_noise(np.random.default_rng(index), _TILE, _TILE, 4.0 * 2.0**index, 5)


@cache
def _planks(index: int) -> Texture:
    return wood(np.random.default_rng(index), _TILE, _TILE, 1 + index)


def random_color(rng: np.random.Generator) -> Color:
    """Colours as things have them: saturated paint, pastel, grey, near white and near black."""
    draw = rng.random()
    value, saturation = rng.uniform(0.25, 0.95), rng.uniform(0.4, 0.95)
    if draw < 0.12:
        value, saturation = rng.uniform(0.85, 0.98), rng.uniform(0.0, 0.08)
    elif draw < 0.22:
        value, saturation = rng.uniform(0.06, 0.2), rng.uniform(0.0, 0.3)
    elif draw < 0.36:
        saturation = rng.uniform(0.0, 0.1)
    elif draw < 0.55:
        saturation = rng.uniform(0.1, 0.4)
    hsv = np.array([[[rng.uniform(0, 360), saturation, value]]], dtype=np.float32)
    return 255.0 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]


def near_color(color: Color, rng: np.random.Generator, spread: float = 12.0) -> Color:
    """A colour like another one."""
    return np.clip(color + rng.normal(0.0, spread, 3), 5, 250).astype(np.float32)


class Palette:
    """The colours of one thing: a main colour, and others as they are asked for."""

    def __init__(self, rng: np.random.Generator, main: Color) -> None:
        self.rng, self.main = rng, main

    def other(self) -> Color:
        """Another colour than the main one."""
        for _ in range(4):
            color = random_color(self.rng)
            if np.abs(color - self.main).max() > 50:
                break
        return color

    def like(self) -> Color:
        """A shade of the main one."""
        return np.clip(self.main * self.rng.uniform(0.7, 1.25), 5, 250).astype(np.float32)


# ---- patterns: (height, width, 3) float32 in [0, 255] ----------------------------------------


def _window(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.floating]:
    """Noise of a random coarseness, from a random place."""
    tile = np.roll(_noise(int(rng.integers(0, 6))), rng.integers(0, _TILE, 2), axis=(0, 1))
    return np.tile(tile, (-(-shape[0] // _TILE), -(-shape[1] // _TILE)))[: shape[0], : shape[1]]


def _mix(a: Color, b: Color, share: NDArray) -> NDArray[np.floating]:
    return a + share[..., None].astype(np.float32) * (b - a)


def _solid(shape: tuple[int, int], palette: Palette) -> NDArray[np.floating]:
    rough = palette.rng.choice([0.0, 2.0, 5.0])
    return palette.main + np.float32(rough) * _window(shape, palette.rng)[..., None]


def _clouds(shape: tuple[int, int], palette: Palette) -> NDArray[np.floating]:
    rng = palette.rng
    share = 0.5 + rng.uniform(0.3, 1.2) * _window(shape, rng)
    if rng.random() < 0.25:
        share = share > 0.5
    second = palette.like() if rng.random() < 0.5 else palette.other()
    return _mix(palette.main, second, np.clip(share, 0, 1))


def _stripes(shape: tuple[int, int], palette: Palette) -> NDArray[np.floating]:
    rng = palette.rng
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    period = rng.uniform(6.0, 48.0)
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period
    wave = np.mod(phase, 1.0) < rng.uniform(0.2, 0.8)
    if rng.random() < 0.3:
        wave = np.logical_xor(
            wave, np.mod((y * np.cos(angle) - x * np.sin(angle)) / period, 1) < 0.5
        )
    return _mix(palette.main, palette.other(), wave)


def _print(shape: tuple[int, int], palette: Palette) -> NDArray[np.floating]:
    """Packaging: a field, a logo, a title, lines of small print."""
    rng = palette.rng
    height, width = shape
    out = np.ascontiguousarray(np.broadcast_to(palette.main, (*shape, 3)).astype(np.uint8))
    for _ in range(int(rng.integers(1, 4))):
        color = tuple(int(c) for c in palette.other())
        u, v = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        du, dv = int(rng.uniform(0.15, 0.6) * width), int(rng.uniform(0.08, 0.5) * height)
        if rng.random() < 0.6:
            cv2.rectangle(out, (u, v), (u + du, v + dv), color, -1)
        else:
            cv2.ellipse(out, ((u, v), (du, dv), rng.uniform(0, 90)), color, -1, cv2.LINE_AA)
    ink = tuple(int(c) for c in palette.other())
    letters = "".join(rng.choice(list(string.ascii_uppercase), int(rng.integers(2, 7))))
    scale = rng.uniform(0.4, 1.3) * height / 96
    place = int(rng.uniform(0, 0.4) * width), int(rng.uniform(0.2, 0.8) * height)
    cv2.putText(out, letters, place, cv2.FONT_HERSHEY_DUPLEX, scale, ink, max(1, round(2 * scale)))
    if rng.random() < 0.7:
        top = rng.uniform(0.1, 0.7)
        dark = int(np.dot(ink, (1 << 16, 1 << 8, 1)))
        box = (0.08, top, rng.uniform(0.4, 0.92), min(0.95, top + rng.uniform(0.1, 0.4)))
        fine_print(out, box, int(rng.integers(3, 8)), dark, rng)
    return out.astype(np.float32)


def _photo(shape: tuple[int, int], palette: Palette) -> NDArray[np.floating]:
    return _crop(shape, palette.rng, _PHOTOGRAPHS)


def _crop(shape: tuple[int, int], rng: np.random.Generator, names: tuple[str, ...]) -> NDArray:
    image = _photograph(str(rng.choice(names)))
    share = rng.uniform(0.4, 1.0)
    height, width = (int(share * n) for n in image.shape[:2])
    v = int(rng.integers(0, image.shape[0] - height + 1))
    u = int(rng.integers(0, image.shape[1] - width + 1))
    part = image[v : v + height, u : u + width]
    return cv2.resize(part, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)


def _bands(shape: tuple[int, int], palette: Palette) -> NDArray[np.floating]:
    """Two to four bands from the top down, one of them perhaps a printed label."""
    rng = palette.rng
    out = np.empty((*shape, 3), dtype=np.float32)
    edges = np.sort(rng.uniform(0.1, 0.95, int(rng.integers(1, 4))))
    rows = np.concatenate([[0.0], edges, [1.0]]) * shape[0]
    for top, bottom in zip(rows[:-1].astype(int), rows[1:].astype(int), strict=True):
        part = Palette(rng, palette.main if rng.random() < 0.4 else palette.other())
        if bottom - top > 0.25 * shape[0] and rng.random() < 0.5:
            out[top:bottom] = _print((bottom - top, shape[1]), part)
        else:
            out[top:bottom] = part.main
    return out


def _wood(shape: tuple[int, int], palette: Palette) -> NDArray[np.floating]:
    image = _planks(int(palette.rng.integers(0, 4)))[: shape[0], : shape[1]].astype(np.float32)
    tint = palette.rng.uniform(0.5, 1.25) * palette.rng.uniform(0.9, 1.1, 3)
    return image * tint.astype(np.float32)


def _surface(shape: tuple[int, int], palette: Palette) -> NDArray[np.floating]:
    image = _crop(shape, palette.rng, _SURFACES)
    return image * (0.5 + palette.main / 255.0) if palette.rng.random() < 0.6 else image


Pattern = Callable[[tuple[int, int], Palette], NDArray[np.floating]]

_THINGS: tuple[tuple[Pattern, float], ...] = (
    (_solid, 0.38),
    (_clouds, 0.12),
    (_stripes, 0.08),
    (_print, 0.22),
    (_photo, 0.08),
    (_bands, 0.10),
    (_wood, 0.02),
)
_GROUNDS: tuple[tuple[Pattern, float], ...] = (
    (_solid, 0.30),
    (_clouds, 0.16),
    (_wood, 0.24),
    (_surface, 0.12),
    (_stripes, 0.06),
    (_print, 0.06),
    (_photo, 0.06),
)


def _draw(options: tuple[tuple[Pattern, float], ...], rng: np.random.Generator) -> Pattern:
    weights = np.array([weight for _, weight in options])
    return options[int(rng.choice(len(options), p=weights / weights.sum()))][0]


def _quantised(image: NDArray) -> Texture:
    return np.ascontiguousarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))


def thing_texture(
    layout: Literal["box", "round"], main: Color, rng: np.random.Generator
) -> Texture:
    """A texture of one piece of a thing, in a layout of :mod:`~wildseg3d_ros.sim.random_body`.

    (192, 288, 3) for a "box", (128, 192, 3) for what is "round".
    """
    palette, pattern = Palette(rng, main), _draw(_THINGS, rng)
    if layout == "round":
        return _quantised(pattern(_ROUND, palette))
    if pattern in (_solid, _clouds, _stripes, _wood):
        return _quantised(pattern((2 * CELL, 3 * CELL), palette))
    # Opposite faces look alike, as on packaging.
    front, side, top = (pattern((CELL, CELL), palette) for _ in range(3))
    rows = [np.concatenate(row, axis=1) for row in ((front, side, front), (side, top, top))]
    return _quantised(np.concatenate(rows))


def paper_texture(rng: np.random.Generator) -> Texture:
    """The cut pages of a book: (32, 32, 3)."""
    lines = rng.uniform(190, 245, (32, 1, 1)) * np.array([1.0, 0.97, 0.9])
    return _quantised(np.broadcast_to(lines, (32, 32, 3)))


def ground_texture(rng: np.random.Generator, busy: bool = False) -> Texture:
    """(256, 256, 3) of a table top, a floor, a wall; ``busy``: patterned as things are."""
    color = random_color(rng)
    if rng.random() < 0.6:
        # Furniture and floors are rarely as bright as toys.
        color = color.mean() + rng.uniform(0.1, 0.5) * (color - color.mean())
    palette = Palette(rng, color.astype(np.float32))
    pattern = _draw(((_print, 1.0), (_photo, 1.0), (_stripes, 1.0), (_clouds, 1.0)), rng)
    if not busy:
        pattern = _draw(_GROUNDS, rng)
    return _quantised(pattern((_TILE, _TILE), palette))
