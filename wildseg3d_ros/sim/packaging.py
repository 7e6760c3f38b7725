"""Printed packaging and glazes of the objects of the cell, drawn in code."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.sim.textures import (
    Texture,
    barcode,
    box_texture,
    canvas,
    fine_print,
    fractal_noise,
    gingham,
    ink,
    plain,
    write,
)

Size = tuple[float, float, float]


def _at(image: Texture, u: float, v: float) -> tuple[int, int]:
    return round(u * image.shape[1]), round(v * image.shape[0])


def _disc(image: Texture, centre: tuple[float, float], radius: float, color: int) -> None:
    pixels = round(radius * image.shape[1])
    cv2.circle(image, _at(image, *centre), pixels, ink(color), -1, cv2.LINE_AA)


def _ellipse(
    image: Texture,
    centre: tuple[float, float],
    axes: tuple[int, int],
    color: int,
    angle: float = 0.0,
    thickness: int = -1,
) -> None:
    at = _at(image, *centre)
    cv2.ellipse(image, at, axes, angle, 0, 360, ink(color), thickness, cv2.LINE_AA)


def _band(image: Texture, top: float, bottom: float, color: int) -> None:
    rows = image.shape[0]
    image[round(top * rows) : round(bottom * rows)] = ink(color)


def _windows(image: Texture, centres: tuple[float, ...], half: float) -> list[Texture]:
    """Views of ``image`` about columns, all as shares of its width."""
    columns = image.shape[1]
    return [image[:, round((u - half) * columns) : round((u + half) * columns)] for u in centres]


def _noise(
    rng: np.random.Generator, like: NDArray, coarsest: float, octaves: int = 5
) -> NDArray[np.float32]:
    return fractal_noise(rng, like.shape[0], like.shape[1], coarsest, octaves)


def _aged(image: Texture, rng: np.random.Generator, strength: float = 0.025) -> Texture:
    """Slight unevenness of print and board."""
    shade = 1 + strength * _noise(rng, image, 80.0)[..., None]
    return np.clip(image * shade, 0, 255).astype(np.uint8)


def _back(
    width: float, height: float, color: int, letters: int, rng: np.random.Generator
) -> Texture:
    """The back of a carton: nutrition table, small print, bar code."""
    face = canvas(width, height, color)
    fine_print(face, (0.1, 0.12, 0.9, 0.36), 8, letters, rng)
    cv2.rectangle(face, _at(face, 0.1, 0.45), _at(face, 0.55, 0.9), ink(0xF5F5F0), -1)
    fine_print(face, (0.13, 0.5, 0.52, 0.86), 9, 0x202020, rng)
    barcode(face, (0.62, 0.72, 0.9, 0.9), rng)
    return face


def cereal(size: Size, rng: np.random.Generator) -> Texture:
    """Of a cereal box."""
    x, y, z = size
    front = canvas(x, z, 0xE8B52B)
    rows, columns = front.shape[:2]
    _ellipse(front, (0.5, 0.72), (columns // 2 - 30, rows // 5), 0xF7F3E8)
    _ellipse(front, (0.5, 0.70), (columns // 2 - 60, rows // 6), 0xFBFAF5)
    for _ in range(110):
        angle, radius = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
        u, v = 0.5 + 0.3 * radius * np.cos(angle), 0.69 + 0.11 * radius * np.sin(angle)
        size_px = int(rng.integers(9, 15))
        color = ink(0xC98A35 if rng.random() < 0.7 else 0xA8662A)
        cv2.circle(front, _at(front, u, v), size_px, color, 5, cv2.LINE_AA)
    cv2.rectangle(front, (0, round(0.08 * rows)), (columns, round(0.34 * rows)), ink(0xB3231F), -1)
    write(front, "MORNING", (0.5, 0.15), 0.075, 0xFFF6DF)
    write(front, "RINGS", (0.5, 0.265), 0.085, 0xFFE36B)
    write(front, "whole grain oats", (0.5, 0.41), 0.03, 0x5A3410, cv2.FONT_HERSHEY_TRIPLEX)
    write(front, "375 g", (0.84, 0.955), 0.025, 0x5A3410)
    side = canvas(y, z, 0xB3231F)
    write(side, "RINGS", (0.5, 0.2), 0.05, 0xFFE36B)
    fine_print(side, (0.12, 0.35, 0.88, 0.85), 20, 0xFFF0D0, rng)
    top = canvas(x, y, 0xE8B52B)
    write(top, "MORNING RINGS", (0.5, 0.5), 0.25, 0xB3231F)
    back, bottom = _back(x, z, 0xE8B52B, 0x5A3410, rng), canvas(x, y, 0xB59A75)
    faces = {"front": front, "back": back, "side": side, "top": top, "bottom": bottom}
    return _aged(box_texture(size, faces), rng)


def crackers(size: Size, rng: np.random.Generator) -> Texture:
    """Of a cracker box."""
    x, y, z = size
    front = canvas(x, z, 0x1F5FA8)
    _band(front, 0.0, 0.07, 0xF2EFE6)
    _disc(front, (0.5, 0.3), 0.34, 0xE9E4D4)
    write(front, "SALTY", (0.5, 0.24), 0.085, 0x1B4C88)
    write(front, "CRACKERS", (0.5, 0.37), 0.06, 0xC23B2A)
    for k in range(7):
        u, v = 0.2 + 0.1 * k + rng.uniform(-0.02, 0.02), 0.76 + 0.09 * (k % 2)
        column, row = _at(front, u, v)
        corners = cv2.boxPoints(((column, row), (62, 62), float(rng.uniform(0, 90))))
        cv2.fillPoly(front, [corners.astype(np.int32)], ink(0xD9AE68), cv2.LINE_AA)
        for du, dv in rng.uniform(-18, 18, (7, 2)):
            cv2.circle(front, (int(column + du), int(row + dv)), 2, ink(0x9A6A30), -1)
    side = canvas(y, z, 0x1F5FA8)
    write(side, "SALTY", (0.5, 0.15), 0.05, 0xF2EFE6)
    fine_print(side, (0.12, 0.4, 0.88, 0.85), 14, 0xDCE8F5, rng)
    top = canvas(x, y, 0xF2EFE6)
    write(top, "CRACKERS", (0.5, 0.5), 0.22, 0x1B4C88)
    back = _back(x, z, 0x1F5FA8, 0xDCE8F5, rng)
    faces = {"front": front, "back": back, "side": side, "top": top}
    return _aged(box_texture(size, faces), rng)


def tea(size: Size, rng: np.random.Generator) -> Texture:
    """Of a box of tea."""
    x, y, z = size
    front = canvas(x, z, 0x2E5B3A)
    leaves = _noise(rng, front, 50.0)
    front[leaves > 0.45] = ink(0x477A4A)
    cv2.rectangle(front, _at(front, 0.18, 0.22), _at(front, 0.82, 0.8), ink(0xEDE3C4), -1)
    write(front, "GREEN TEA", (0.5, 0.42), 0.16, 0x2E5B3A, cv2.FONT_HERSHEY_TRIPLEX)
    write(front, "25 bags", (0.5, 0.67), 0.08, 0x9A5B22)
    side = canvas(y, z, 0x2E5B3A)
    fine_print(side, (0.15, 0.25, 0.85, 0.8), 8, 0xEDE3C4, rng)
    top = canvas(x, y, 0x2E5B3A)
    leaves = _noise(rng, top, 60.0)
    top[leaves > 0.4] = ink(0x5C8E52)
    _disc(top, (0.5, 0.5), 0.2, 0xEDE3C4)
    write(top, "TEA", (0.5, 0.5), 0.18, 0x2E5B3A, cv2.FONT_HERSHEY_TRIPLEX)
    return _aged(box_texture(size, {"front": front, "back": front, "side": side, "top": top}), rng)


def book(size: Size, rng: np.random.Generator) -> Texture:
    """Cover, spine and pages of a book."""
    x, y, z = size
    cover = canvas(x, y, 0x5B2A52)
    hills = canvas(x, y, 0)[..., 0].astype(np.float32)
    rows, columns = hills.shape
    for k, color in enumerate((0xC9607A, 0xE08B5C, 0xF0BE6A, 0x37506B)):
        line = rows * (0.45 + 0.12 * k) + 28 * np.cumsum(rng.normal(0, 0.06, columns))
        line = line + 22 * np.sin(np.linspace(0, 5 + 2 * k, columns) + k)
        below = np.arange(rows)[:, None] > line[None]
        cover[below] = ink(color)
    _disc(cover, (0.68, 0.36), 0.11, 0xF6E7B8)
    write(cover, "FAR", (0.3, 0.12), 0.06, 0xF6E7B8, cv2.FONT_HERSHEY_TRIPLEX)
    write(cover, "HILLS", (0.4, 0.22), 0.06, 0xF6E7B8, cv2.FONT_HERSHEY_TRIPLEX)
    write(cover, "A. N. Author", (0.5, 0.94), 0.025, 0xF6E7B8)
    spine = canvas(y, z, 0x472041)
    write(spine, "FAR HILLS", (0.4, 0.5), 0.36, 0xF6E7B8)
    edge_x, edge_y = canvas(x, z, 0xE9E0CC), canvas(y, z, 0xE9E0CC)
    for edge in (edge_x, edge_y):
        edge[::3] = ink(0xCFC4AB)
        edge[:5], edge[-5:] = ink(0x472041), ink(0x472041)
    faces = {"left": spine, "right": edge_y, "top": cover, "bottom": canvas(x, y, 0x5B2A52)}
    return _aged(box_texture(size, {**faces, "side": edge_x}), rng)


def sponge(size: Size, rng: np.random.Generator) -> Texture:
    """Yellow foam with a green pad on top."""
    x, y, z = size

    def foam(width: float, height: float) -> Texture:
        face = canvas(width, height, 0xE9C63B).astype(np.float32)
        holes = _noise(rng, face, 9.0, 2)
        face *= np.where(holes > 0.45, 0.72, 1.0)[..., None]
        return face.astype(np.uint8)

    def pad(width: float, height: float) -> Texture:
        face = canvas(width, height, 0x2C7A45).astype(np.float32)
        return np.clip(face * (1 + 0.25 * _noise(rng, face, 4.0, 2))[..., None], 0, 255).astype(
            np.uint8
        )

    def edge(width: float) -> Texture:
        face = foam(width, z)
        scour = pad(width, 0.3 * z)
        face[: len(scour)] = scour
        return face

    faces = {"front": edge(x), "back": edge(x), "side": edge(y), "top": pad(x, y)}
    return box_texture(size, {**faces, "bottom": foam(x, y)})


def toy_block(size: Size, rng: np.random.Generator) -> Texture:
    """Letters in painted frames on wood."""
    x = size[0]
    faces = {}
    for name, letter, color in (
        ("front", "A", 0xC8362E),
        ("right", "B", 0x2D6DB5),
        ("back", "C", 0x2F8B4B),
        ("left", "D", 0xE0A526),
        ("top", "R", 0xC8362E),
        ("bottom", "Z", 0x2D6DB5),
    ):
        face = canvas(x, x, 0xDDBB86, 5000.0)
        cv2.rectangle(face, _at(face, 0.07, 0.07), _at(face, 0.93, 0.93), ink(color), 9)
        write(face, letter, (0.5, 0.5), 0.5, color, cv2.FONT_HERSHEY_TRIPLEX)
        faces[name] = face
    return _aged(box_texture(size, faces), rng, 0.05)


def soup_label(rng: np.random.Generator) -> Texture:
    """A paper label, once around."""
    label = canvas(0.21, 0.098, 0xF4EEE0)
    _band(label, 0.0, 0.46, 0xB51F24)
    _band(label, 0.46, 0.485, 0xD8B14A)
    for part in _windows(label, (0.25, 0.75), 0.2):
        write(part, "Tomato", (0.5, 0.25), 0.17, 0xFBF3E0, cv2.FONT_HERSHEY_TRIPLEX)
        write(part, "SOUP", (0.5, 0.82), 0.11, 0xB51F24)
        cv2.circle(part, _at(part, 0.5, 0.58), 30, ink(0xD0342C), -1, cv2.LINE_AA)
        cv2.circle(part, _at(part, 0.5, 0.535), 7, ink(0x3E7A36), -1, cv2.LINE_AA)
    barcode(label, (0.47, 0.62, 0.53, 0.92), rng)
    return _aged(label, rng)


def tuna_label(rng: np.random.Generator) -> Texture:
    """A printed side, once around."""
    label = canvas(0.267, 0.038, 0x1E4F86)
    waves = np.arange(label.shape[1])
    for k, color in enumerate((0x3F88BC, 0x7FB8D2)):
        crest = label.shape[0] * (0.62 + 0.16 * k) + 6 * np.sin(waves / 17.0 + k)
        label[np.arange(label.shape[0])[:, None] > crest[None]] = ink(color)
    for part in _windows(label, (0.2, 0.7), 0.15):
        write(part, "TUNA", (0.5, 0.35), 0.36, 0xFFFFFF)
    return _aged(label, rng)


def chips_label(rng: np.random.Generator) -> Texture:
    """A printed tube, once around."""
    label = canvas(0.232, 0.21, 0x2F8F5B)
    _band(label, 0.0, 0.05, 0xD9C08A)
    for part in _windows(label, (0.25, 0.75), 0.22):
        _ellipse(part, (0.5, 0.24), (110, 62), 0xF2D24B, -12.0)
        write(part, "CRISPS", (0.5, 0.24), 0.085, 0x9E2420)
        for _ in range(16):
            centre = rng.uniform(0.15, 0.85), rng.uniform(0.55, 0.85)
            angle = float(rng.uniform(0, 180))
            _ellipse(part, centre, (34, 22), 0xEBC766, angle)
            _ellipse(part, centre, (34, 22), 0xB98A32, angle, 2)
        write(part, "sour cream & onion", (0.5, 0.43), 0.03, 0xFFFFFF)
    return _aged(label, rng)


def mug_glaze(rng: np.random.Generator) -> tuple[Texture, Texture]:
    """Glaze of the body and of the handle."""
    glaze = canvas(0.26, 0.1, 0x3F6E8C)
    rows, columns = glaze.shape[:2]
    glaze[: round(0.06 * rows)] = ink(0xE9E2D2)
    waves = np.arange(columns) * (2 * np.pi * 9 / columns)
    for k, color in enumerate((0xE9E2D2, 0xD98E4A, 0xE9E2D2)):
        centre = rows * (0.32 + 0.17 * k) + 9 * np.sin(waves + k * np.pi)
        near = np.abs(np.arange(rows)[:, None] - centre[None]) < (5 if k != 1 else 8)
        glaze[near] = ink(color)
    return _aged(glaze, rng, 0.05), plain(0x3F6E8C, rng)


def mustard(rng: np.random.Generator) -> tuple[Texture, Texture]:
    """Body and cap."""
    body = canvas(0.2, 0.15, 0xE2B01E)
    label = body[round(0.2 * len(body)) : round(0.8 * len(body))]
    label[:] = ink(0xF3EBD6)
    _band(label, 0.0, 0.06, 0x7A2A1C)
    _band(label, 0.94, 1.0, 0x7A2A1C)
    for part in _windows(label, (0.25, 0.75), 0.2):
        write(part, "MUSTARD", (0.5, 0.3), 0.13, 0x7A2A1C)
        write(part, "medium hot", (0.5, 0.52), 0.06, 0x3A3A3A, cv2.FONT_HERSHEY_TRIPLEX)
        fine_print(part, (0.15, 0.68, 0.85, 0.86), 4, 0x3A3A3A, rng)
    return _aged(body, rng), plain(0xB8281F, rng)


def jam(rng: np.random.Generator) -> tuple[Texture, Texture]:
    """Body (jam behind glass, paper label) and lid."""
    body = canvas(0.232, 0.08, 0x5A0F1E)
    rows = len(body)
    fruit = _noise(rng, body, 30.0)
    body[fruit > 0.3] = ink(0x7E1A2A)
    for part in _windows(body[round(0.3 * rows) : round(0.82 * rows)], (0.25, 0.75), 0.16):
        part[:] = ink(0xF7F1E1)
        cv2.rectangle(part, (5, 5), (part.shape[1] - 6, part.shape[0] - 6), ink(0x8A1C2C), 2)
        write(part, "Cherry", (0.5, 0.35), 0.24, 0x8A1C2C, cv2.FONT_HERSHEY_TRIPLEX)
        write(part, "Jam", (0.5, 0.72), 0.18, 0x3C5A2A, cv2.FONT_HERSHEY_TRIPLEX)
    return body, gingham(0xB8262B, rng)
