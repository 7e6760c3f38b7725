"""Image files (colour in RGB, depth in metres, labels) and files as such; errors name the file."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def _decode(path: Path, flags: int) -> NDArray:
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        image = cv2.imdecode(data, flags) if data.size else None
    except (OSError, cv2.error) as error:
        raise FileError(f"cannot read image '{path}': {error}", ErrorCode.BAD_IMAGE) from error
    if image is None:
        raise FileError(
            f"cannot read image '{path}': it is truncated or not an image",
            ErrorCode.BAD_IMAGE,
        )
    return image


def read_color(path: Path, upright: bool) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB.

    Args:
        path: the file.
        upright: rotate the image as its EXIF data say; a calibration is of the stored image.

    Raises:
        FileError: missing, truncated or not an image.
    """
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return np.asarray(cv2.cvtColor(_decode(path, flags), cv2.COLOR_BGR2RGB), np.uint8)


def read_depth(path: Path, unit: float) -> NDArray[np.float32]:
    """(H, W) depth in metres, 0 = none, from steps of ``unit`` metres in an image or .npy file.

    Raises:
        FileError: missing or unreadable. InputError: not one channel of uint16 or float.
    """
    if path.suffix == ".npy":
        try:
            depth = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise FileError(f"cannot read depth '{path}': {error}", ErrorCode.BAD_DEPTH) from error
    else:
        depth = _decode(path, cv2.IMREAD_UNCHANGED)
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.float32, np.float64):
        raise InputError(
            f"depth '{path}' must be one channel of 16-bit integers or floats, got shape "
            f"{depth.shape}, dtype {depth.dtype}",
            ErrorCode.BAD_DEPTH,
        )
    return (depth * np.float64(unit)).astype(np.float32)


def read_labels(path: Path) -> NDArray:
    """(H, W) uint8 or uint16 labels.

    Raises:
        FileError: missing or unreadable. InputError: not one channel of integers.
    """
    labels = _decode(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"object mask '{path}' must be one channel of 8- or 16-bit labels (not colours, not a "
            f"palette), got shape {labels.shape}, dtype {labels.dtype}"
        )
    return labels


def is_depth_image(path: Path) -> bool:
    """Whether a PNG's header says 16 bits per sample and one channel."""
    with path.open("rb") as file:
        head = file.read(26)
    return head[:8] == b"\x89PNG\r\n\x1a\n" and head[24:26] == b"\x10\x00"


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


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes a file and the folders above it.

    Raises:
        FileError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise FileError(f"cannot write '{path}': {error}") from error


def write_npz(path: Path, **arrays: ArrayLike) -> None:
    """Writes arrays by name as a .npz file.

    Raises:
        FileError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_bytes(path, buffer.getbuffer())
