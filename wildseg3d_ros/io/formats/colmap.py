"""Reconstructions of COLMAP (https://colmap.github.io/format.html), binary or text.

``sparse/0/cameras`` and ``images``, as ``.bin`` or ``.txt``, with the pictures in ``images/``. The
three record types that are needed are a page to read, with sizes checked; pycolmap would bring a
whole reconstruction (8 MB) for them. Poses are world to camera with OpenCV's axes, the quaternion
w first. The centre of the first pixel is at 0.5, here at 0. The scale is arbitrary.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError
from wildseg3d_ros.core.files.reading import MIB, is_regular, opened, shown
from wildseg3d_ros.core.files.text import read_text
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.resizing import rescaled
from wildseg3d_ros.core.geometry.transforms import (
    invert,
    make_transform,
    rotation_from_quaternion,
)
from wildseg3d_ros.io.formats.base import Format, Frame, Frames, frame_of, named, pinhole
from wildseg3d_ros.io.frames import unique_names
from wildseg3d_ros.io.images import read_color

_TITLE = "a COLMAP reconstruction"
_PLACES = ("sparse/0", "sparse", "colmap/sparse/0", "0", ".")
_LARGEST = 1 << 33
_MOST_IMAGES = 50_000
"""Of which each takes a kilobyte, and 30 microseconds."""
_LONGEST = 16 * MIB
"""Bytes of a line of text: an image's points."""
_MODELS = {
    "SIMPLE_PINHOLE": (0, "f cx cy"),
    "PINHOLE": (1, "fx fy cx cy"),
    "SIMPLE_RADIAL": (2, "f cx cy k1"),
    "RADIAL": (3, "f cx cy k1 k2"),
    "OPENCV": (4, "fx fy cx cy k1 k2 p1 p2"),
    "OPENCV_FISHEYE": (5, "fx fy cx cy k1 k2 k3 k4"),
    "FULL_OPENCV": (6, "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    "SIMPLE_RADIAL_FISHEYE": (8, "f cx cy k1"),
    "RADIAL_FISHEYE": (9, "f cx cy k1 k2"),
}
"""Number and parameters of each camera model that is read (src/colmap/sensor/models.h)."""
_BY_NUMBER = {number: name for name, (number, _) in _MODELS.items()}
_PERSPECTIVE, _FISHEYE = ["k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"], ["k1", "k2", "k3", "k4"]


@dataclass(frozen=True)
class _Camera:
    model: str
    size: tuple[int, int]
    values: tuple[float, ...]

    def lens(self, size: tuple[int, int]) -> Lens:
        """Of images that were resized to (height, width)."""
        given = dict(zip(_MODELS[self.model][1].split(), self.values, strict=True))
        f = given.get("f", 0.0)
        center = given["cx"] - 0.5, given["cy"] - 0.5
        K = pinhole(given.get("fx", f), given.get("fy", f), *center)
        fisheye = "FISHEYE" in self.model
        order = _FISHEYE if fisheye else _PERSPECTIVE
        coefficients = np.array([given.get(key, 0.0) for key in order])
        if not (fisheye or coefficients.any()):
            coefficients = np.zeros(0)
        return Lens(rescaled(K, self.size, size), size, coefficients, fisheye)


@dataclass(frozen=True)
class _Image:
    name: str
    camera: int
    world_from_cam: NDArray[np.float64]


def list_frames(folder: Path) -> Frames:
    """See :class:`wildseg3d_ros.io.formats.base.Format`."""
    place = _place(folder)
    assert place is not None
    suffix = ".bin" if is_regular(place / "cameras.bin") else ".txt"
    for part in ("cameras", "images"):
        if not is_regular(place / f"{part}{suffix}"):
            raise FileError(
                f"{_TITLE} lacks '{part}{suffix}': it is not in '{place}', where the other part is"
            )
    try:
        if suffix == ".bin":
            with opened(place / "cameras.bin", "cameras", _LARGEST) as file:
                cameras = dict(islice(_binary_cameras(file), _MOST_IMAGES))
            with opened(place / "images.bin", "images", _LARGEST) as file:
                images = list(islice(_binary_images(file), _MOST_IMAGES + 1))
        else:
            cameras = dict(_text_cameras(read_text(place / "cameras.txt", "cameras")))
            images = list(islice(_text_images(place / "images.txt"), _MOST_IMAGES + 1))
    except (struct.error, ValueError, KeyError, OverflowError) as error:
        raise FileError(
            f"{_TITLE} in '{place}' is truncated or damaged: {shown(error)}"
        ) from error
    if len(images) > _MOST_IMAGES:
        raise FileError(f"{_TITLE} lists more than {_MOST_IMAGES} images; split it")
    if not images:
        raise FileError(f"'{place / f'images{suffix}'}' lists no images", ErrorCode.NO_IMAGES)
    images.sort(key=lambda image: image.name)
    names = unique_names([image.name for image in images])
    pictures = _pictures(folder, [image.name for image in images])

    def read(i: int) -> Frame:
        found = images[i]
        if found.camera not in cameras:
            raise FileError(
                f"image '{found.name}' is of camera {found.camera}, which '{place}' does not have"
            )
        picture = read_color(pictures / found.name, upright=False)
        camera, size = cameras[found.camera], picture.shape[:2]
        (height, width) = camera.size
        if abs(width * size[0] - height * size[1]) >= 2 * max(width, height):
            raise InputError(
                f"camera '{names[i]}': its image is {size[1]}x{size[0]} but its camera is of "
                f"{width}x{height}, which is another shape",
                ErrorCode.BAD_CALIBRATION,
            )
        return frame_of(names[i], picture, camera.lens(size), found.world_from_cam)

    others = [path for path in sorted(place.parent.glob("[0-9]*")) if path != place]
    names_left = named([path.name for path in others])
    told = f"{_TITLE} is in several parts: '{place}' is read, and not {names_left}"
    return Frames(len(images), read, warnings=(told,) if others else (), metric=False)


def _place(folder: Path) -> Path | None:
    for place in (folder / each for each in _PLACES):
        for suffix in (".bin", ".txt"):
            if any(is_regular(place / f"{part}{suffix}") for part in ("cameras", "images")):
                return place
    return None


def _pictures(folder: Path, names: Sequence[str]) -> Path:
    """Where the images lie: the first folder that has one of them."""
    for place in (folder / "images", *sorted(folder.glob("images_*")), folder):
        if any(is_regular(place / name) for name in names):
            return place
    raise FileError(
        f"{_TITLE} lists images as '{shown(names[0])}', which are in none of 'images', 'images_*' "
        f"and '{folder}' itself; give the folder that has images/ beside sparse/",
        ErrorCode.NO_IMAGES,
    )


def _camera(model: str, width: int, height: int, values: tuple[float, ...]) -> _Camera:
    if model not in _MODELS:
        raise FileError(
            f"{_TITLE} has a camera model {shown(model)}, which is not read; known are "
            f"{', '.join(_MODELS)}: undistort the images with `colmap image_undistorter`"
        )
    wanted = len(_MODELS[model][1].split())
    if len(values) != wanted or width < 1 or height < 1:
        raise ValueError(f"a camera {model} of {width}x{height} with {len(values)} parameters")
    return _Camera(model, (height, width), values)


def _image(name: str, camera: int, quat_wxyz: list[float], t: list[float]) -> _Image:
    w, x, y, z = quat_wxyz
    pose = invert(make_transform(rotation_from_quaternion([x, y, z, w]), t))
    return _Image(name, camera, pose)


def _binary_cameras(file: BinaryIO) -> Iterator[tuple[int, _Camera]]:
    (count,) = struct.unpack("<Q", file.read(8))
    for _ in range(count):
        number, model, width, height = struct.unpack("<iiQQ", file.read(24))
        name = _BY_NUMBER.get(model, f"number {model}")
        wanted = len(_MODELS[name][1].split()) if name in _MODELS else 0
        values = struct.unpack(f"<{wanted}d", file.read(8 * wanted))
        yield number, _camera(name, width, height, values)


def _binary_images(file: BinaryIO) -> Iterator[_Image]:
    (count,) = struct.unpack("<Q", file.read(8))
    for _ in range(count):
        _, *numbers, camera = struct.unpack("<I7di", file.read(64))
        name = bytearray()
        while (letter := file.read(1)) != b"\0":
            if not letter or len(name) > 4096:
                raise ValueError("the name of an image does not end")
            name += letter
        (points,) = struct.unpack("<Q", file.read(8))
        file.seek(24 * points, 1)
        yield _image(name.decode(), camera, numbers[:4], numbers[4:])


def _text_cameras(text: str) -> Iterator[tuple[int, _Camera]]:
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            number, model, width, height, *values = line.split()
            numbers = tuple(float(value) for value in values)
            yield int(number), _camera(model, int(width), int(height), numbers)


def _text_images(path: Path) -> Iterator[_Image]:
    """Of every two lines the first; the second has the image's points, and may be empty."""
    with opened(path, "images", _LARGEST) as file:
        lines = (line for line in _lines(file) if not line.startswith(b"#"))
        for line in lines:
            if not line.strip():
                continue
            words = line.decode().split(maxsplit=9)
            _, *numbers, camera, name = words
            values = [float(number) for number in numbers]
            yield _image(name.strip(), int(camera), values[:4], values[4:])
            next(lines, None)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise ValueError(f"a line of more than {_LONGEST / 1e6:.0f} MB")
        yield line


FORMAT = Format(
    "colmap",
    _TITLE,
    "sparse/0/cameras.bin or .txt",
    lambda folder: _place(folder) is not None,
    list_frames,
)
