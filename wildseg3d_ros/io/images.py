"""Image files: colour in RGB, depth in metres, labels; errors name the file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError
from wildseg3d_ros.core.files.arrays import read_npy
from wildseg3d_ros.core.files.pictures import (
    LARGEST_FILE,
    MOST_PIXELS,
    ImageHead,
    decode_image,
    image_head,
)
from wildseg3d_ros.core.files.reading import opened, shown
from wildseg3d_ros.core.files.writing import write_bytes
from wildseg3d_ros.core.geometry.depth import EVERY_STEP, looked_up, unsaturated

_OF_DEPTH = re.compile(r"(?i)(^|[\W_])depth($|[\W_\d])")
"""What drivers write into the names of pictures of depth, which may be of 8 bits."""
_AT_ONCE = 1 << 20
"""Pixels of depth that are brought to metres at once: they become doubles in between."""
_ROWS = 256
"""Of an image whose colours are brought into order at once."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class ImageFile:
    """An image that is read and not yet decoded."""

    path: Path
    data: bytes
    head: ImageHead
    inode: tuple[int, int]

    @classmethod
    def read(cls, path: Path) -> ImageFile:
        """Reads a file.

        Raises:
            FileError: missing, no file, or no image that can be read (BAD_IMAGE).
        """
        with opened(path, "image", LARGEST_FILE, ErrorCode.BAD_IMAGE) as file:
            found = os.fstat(file.fileno())
            data = file.read(found.st_size)  # some of /proc never end
        try:
            return cls(path, data, image_head(data), (found.st_dev, found.st_ino))
        except ValueError as error:
            raise FileError(f"cannot read image '{path}': {error}", ErrorCode.BAD_IMAGE) from None

    def pixels(self, flags: int, keeps: int = 3) -> NDArray:
        """As OpenCV decodes them, ``keeps`` bytes of each to stay in memory; raises FileError
        where it cannot."""
        try:
            return decode_image(
                self.data, f"cannot read image '{shown(self.path)}'", flags, keeps, self.inode
            )
        except InputError as error:
            raise FileError(str(error), ErrorCode.BAD_IMAGE) from error

    def color(self, upright: bool) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, as stored or rotated as EXIF says; raises FileError."""
        flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = np.asarray(self.pixels(flags, keeps=3), np.uint8)
        for at in range(0, len(image), _ROWS):  # in place: no second image in memory
            part = image[at : at + _ROWS]
            part[:] = cv2.cvtColor(part, cv2.COLOR_BGR2RGB)
        return image


def read_color(path: Path, upright: bool) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB.

    Args:
        path: the file.
        upright: rotate the image as its EXIF data say; a calibration is of the stored image.

    Raises:
        FileError: missing, truncated or not an image.
    """
    return ImageFile.read(path).color(upright)


def read_depth(path: Path, unit: float) -> NDArray[np.float32]:
    """(H, W) depth in metres, 0 = none, from steps of ``unit`` metres in an image or .npy file.

    Raises:
        FileError: missing or unreadable. InputError: not one channel of 16 bits or more.
    """
    if path.suffix.lower() == ".npy":
        depth = read_npy(path, "depth", ErrorCode.BAD_DEPTH)
    else:
        depth = ImageFile.read(path).pixels(cv2.IMREAD_UNCHANGED, keeps=4)
    if depth.ndim == 3 and depth.shape[2] == 1:
        depth = depth[..., 0]
    # 8 bits are a picture of depth, to be looked at.
    if depth.ndim != 2 or depth.dtype.kind not in "uif" or depth.itemsize < 2:
        raise InputError(
            f"depth '{path}' must be one channel of 16-bit integers, larger ones or floats, got "
            f"shape {depth.shape}, dtype {depth.dtype}",
            ErrorCode.BAD_DEPTH,
        )
    if depth.size > MOST_PIXELS:
        raise InputError(
            f"depth '{shown(path)}' has {depth.size / 1e6:.0f} megapixels; at most "
            f"{MOST_PIXELS / 1e6:.0f} are read",
            ErrorCode.BAD_DEPTH,
        )
    with np.errstate(over="ignore", invalid="ignore"):  # what is no depth is none in a View
        if depth.dtype != np.uint16:
            depth = depth if depth.flags.forc else np.ascontiguousarray(depth)
            metres = np.empty_like(depth, np.float32)
            steps, out = depth.ravel(order="K"), metres.ravel(order="K")  # as they lie in memory
            for at in range(0, len(steps), _AT_ONCE):
                part = slice(at, at + _AT_ONCE)
                out[part] = unsaturated(steps[part]) * np.float64(unit)
            return metres
        table = unsaturated(EVERY_STEP) * np.float64(unit)
        return looked_up(depth, table.astype(np.float32))


def read_labels(path: Path, keeps: int = 2) -> NDArray:
    """(H, W) uint8 or uint16 labels.

    Args:
        path: the file.
        keeps: bytes of a pixel that stay in memory once the labels were looked at.

    Raises:
        FileError: missing or unreadable. InputError: not one channel of integers.
    """
    labels = ImageFile.read(path).pixels(cv2.IMREAD_UNCHANGED, keeps)
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"object mask '{path}' must be one channel of 8- or 16-bit labels (not colours, not a "
            f"palette), got shape {labels.shape}, dtype {labels.dtype}"
        )
    return labels


def left_out_because(path: Path) -> str:
    """Why a file of a plain folder is no colour image of it; empty where it may be one."""
    try:
        with opened(path, "image", LARGEST_FILE) as file:
            start = file.read(64)
    except FileError as error:
        return str(error).rpartition(": ")[2]
    # What is truncated is said when it is read; what is something else is left out.
    if start[:8] == b"\x89PNG\r\n\x1a\n" and start[24:26] == b"\x10\x00":
        return "16 bits of one channel: depth or labels"
    if path.suffix.lower() in SUFFIXES:
        return "named as depth" if _OF_DEPTH.search(path.stem) else ""
    try:
        image_head(start)
    except ValueError as error:
        return str(error) if "which is not read" in str(error) else "no image"
    return f"an image, but not named {', '.join(SUFFIXES)}"


def write_image(path: Path, image: NDArray, jpeg_quality: int | None = None) -> None:
    """Writes a PNG of an (H, W, 3) uint8 RGB image or of an (H, W) uint8 or uint16 one.

    With ``jpeg_quality`` (1 to 100) an RGB image becomes a JPEG instead, its colours not
    subsampled.

    Raises:
        FileError: the file cannot be written.
    """
    suffix, options = ".png", []
    if jpeg_quality is not None:
        suffix = ".jpg"
        options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    write_bytes(path, cv2.imencode(suffix, image, options)[1].tobytes())
