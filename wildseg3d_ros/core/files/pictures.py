"""Image data whose header is checked before OpenCV decodes it.

A file of kilobytes can say that it has gigapixels, and OpenCV would take the memory and the time.
Only formats whose header is read here are decoded.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.files.proportion import take
from wildseg3d_ros.core.files.reading import MIB

READABLE = "PNG, JPEG, TIFF, WebP, BMP, PGM or PPM"
LARGEST_FILE = 512 * MIB
MOST_PIXELS = 85_000_000
_CHUNK, _CHECKSUM = struct.Struct(">I4s").unpack_from, struct.Struct(">I").unpack_from
"""Of a PNG, which has a chunk for each 8 kB."""
_RIFF = struct.Struct("<4sI").unpack_from
"""Of a WebP: kind and size of a chunk."""
_SCANS = 100
"""Of a JPEG, each of which the decoder runs through all pixels; encoders make about ten."""
_TAGS = (256, 257, 258, 274, 277)
"""Of a TIFF: width, height, bits of each sample, orientation, samples of a pixel."""
_OF_PARTS, _MOST_PARTS = (279, 325), 1 << 17
"""Tags of a TIFF with the bytes of each strip or tile, and how many it has at most."""
_ORIENTATION = 274
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
"""Chunks of an animated PNG."""
_BEFORE_PIXELS = 1000
"""Chunks of a PNG among which its EXIF data are looked for."""
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""What whole numbers of a TIFF are stored as, by the kind of a tag."""
_OTHERS = {
    "HEIC or AVIF, as phones write it": tuple(
        (4, b"ftyp" + brand) for brand in (b"hei", b"hev", b"mif1", b"msf1", b"avif", b"avis")
    ),
    "a video": ((4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI ")),
    "a zip or .npz file": ((0, b"PK\x03\x04"),),
    "a .npy file": ((0, b"\x93NUMPY"),),
    "OpenEXR": ((0, b"\x76\x2f\x31\x01"),),
    "JPEG 2000": ((0, b"\x00\x00\x00\x0cjP  "), (0, b"\xff\x4f\xff\x51")),
    "JPEG XL": ((0, b"\xff\x0a"), (0, b"\x00\x00\x00\x0cJXL ")),
    "GIF": ((0, b"GIF8"),),
    "Radiance HDR": ((0, b"#?R"),),
    "PFM": ((0, b"Pf"), (0, b"PF")),
    "PDF": ((0, b"%PDF"),),
    "a web page": ((0, b"<!DOCTYPE"), (0, b"<html")),
}
"""What files that are taken for images may be instead, by what they have where."""


@dataclass(frozen=True)
class ImageHead:
    """What the header of an image says.

    Attributes:
        kind: the format.
        width, height: pixels as stored.
        bits: of a pixel.
        orientation: EXIF: 1 upright, 3 by half a turn, 5 to 8 lying.
        held: bytes that are pixels, without what else a file may be filled with; of a PNG, its
            chunks tell.
    """

    kind: str
    width: int
    height: int
    bits: int = 24
    orientation: int = 1
    held: int = 0


def image_head(data: bytes | memoryview) -> ImageHead:
    """What image data say of themselves.

    Raises:
        ValueError: says what they are instead.
    """
    start = bytes(data[:64])
    try:
        if start[:8] == b"\x89PNG\r\n\x1a\n":
            width, height, depth, color = struct.unpack_from(">IIBB", start, 16)
            if start[12:16] != b"IHDR":
                raise ValueError
            channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(color, 4)
            return ImageHead("PNG", width, height, depth * channels, _png_orientation(data))
        if start[:2] == b"\xff\xd8":
            return _jpeg(data)
        if start[:4] in (b"II*\x00", b"MM\x00*"):
            return _tiff(data)
        if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
            return _webp(data)
        if start[:2] == b"BM":
            if start[14:18] == b"\x0c\x00\x00\x00":  # of OS/2
                raise ValueError
            width, height = struct.unpack_from("<ii", start, 18)
            rows = abs(height) * (-(-width * 3 // 4) * 4)
            return ImageHead("BMP", width, abs(height), held=_stored(data, rows))
        if start[:2] in (b"P5", b"P6"):
            return _pnm(data)
    except (struct.error, IndexError, ValueError):
        raise ValueError("it is truncated or damaged: its header says no size") from None
    for kind, signs in _OTHERS.items():
        if any(start[at : at + len(sign)] == sign for at, sign in signs):
            raise ValueError(
                f"it is {kind}, which is not read; convert it to PNG or JPEG (depth: 16-bit PNG "
                "or .npy)"
            )
    raise ValueError(f"it is truncated or not an image; expected {READABLE}")


def decode_image(
    data: bytes | memoryview,
    who: str,
    flags: int,
    keeps: int = 3,
    file: tuple[int, int] | None = None,
    kinds: Collection[str] = (),
    most: int = MOST_PIXELS,
) -> NDArray:
    """The pixels that OpenCV makes of image data.

    Args:
        data: of a format that :func:`image_head` reads.
        who: what the image is, for error text.
        flags: of ``cv2.imdecode``; the orientation is that of the file unless they say otherwise.
        keeps: bytes of a pixel that stay in memory once the image was looked at.
        file: device and inode of the file that the data are from.
        kinds: formats that are read; empty: all.
        most: pixels, of three bytes each.

    Raises:
        InputError: no such image, larger than any camera's, or damaged (BAD_IMAGE).
    """
    try:
        head = image_head(data)
        size = head.width * head.height * max(head.bits, 24) // 8
        if not 0 < size <= 3 * most:
            raise ValueError(
                f"its header says {head.width}x{head.height} pixels of {head.bits} bits; at most "
                f"{most / 1e6:.0f} megapixels of 24 bits are read"
            )
        if kinds and head.kind not in kinds:
            raise ValueError(f"it is {head.kind}; expected {' or '.join(kinds)}")
        pixels = head.width * head.height
        held = head.held
        if head.kind == "PNG":
            held, data = _still(memoryview(data))
        if head.kind == "TIFF" and head.orientation > 1:
            data = _unturned(data)
        made = head.bits // 8 if flags == cv2.IMREAD_UNCHANGED else 3
        take(pixels * made, pixels * keeps, held, file)
        with _quiet():
            # OpenCV turns some formats and not others, and TIFF whatever the flags say.
            as_stored = flags if flags < 0 else flags | cv2.IMREAD_IGNORE_ORIENTATION
            image = cv2.imdecode(np.frombuffer(data, np.uint8), as_stored)
    except (ValueError, cv2.error) as error:
        reason = error.err if isinstance(error, cv2.error) else str(error)
        raise InputError(f"{who}: {reason}", ErrorCode.BAD_IMAGE) from error
    if image is None:
        raise InputError(f"{who}: it is truncated or damaged", ErrorCode.BAD_IMAGE)
    turns = _TURNS.get(head.orientation) if as_stored != flags else None
    return image if turns is None else np.ascontiguousarray(turns(image))


@contextmanager
def _quiet() -> Iterator[None]:
    """What OpenCV would print of damaged data is said by an error, in one line."""
    before = cv2.setLogLevel(0)
    try:
        yield
    finally:
        cv2.setLogLevel(before)


_TURNS: dict[int, Callable[[NDArray], NDArray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""What turns a stored image upright, by EXIF's orientation."""


def _still(data: memoryview) -> tuple[int, memoryview | bytes]:
    """Bytes of a PNG that are pixels, and the PNG without its animation, whose frames OpenCV may
    write beyond the image. Raises ValueError where it ends early or differs from its checksums, of
    which OpenCV would make an image with what is left."""
    at, kind, size, held = 8, b"", len(data), 0
    kept, begin = [], 0  # what is no animation
    while kind != b"IEND":
        if at + 12 > size:
            raise ValueError("it is truncated")
        length, kind = _CHUNK(data, at)
        end = at + 8 + length
        if end + 4 > size:
            raise ValueError("it is truncated")
        if zlib.crc32(data[at + 4 : end]) != _CHECKSUM(data, end)[0]:
            raise ValueError("it is damaged: its checksums do not hold")
        held += length if kind == b"IDAT" else 0
        if kind in _ANIMATION:
            kept.append(data[begin:at])
            begin = end + 4
        at = end + 4
    return held, b"".join([*kept, data[begin:]]) if kept else data


def _png_orientation(data: bytes | memoryview) -> int:
    """What EXIF before the pixels says."""
    view, at, kind = memoryview(data), 8, b""
    for _ in range(_BEFORE_PIXELS):
        if kind in (b"IDAT", b"eXIf") or at + 12 > len(view):
            break
        length, kind = _CHUNK(view, at)
        exif = view[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"eXIf":
            return _orientation(exif)
    return 1


def _unturned(data: bytes | memoryview) -> bytes:
    """A TIFF that says of itself that it is upright."""
    out = bytearray(data)
    order = "<" if out[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", out, 4)
    (count,) = struct.unpack_from(f"{order}H", out, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", out, entry)
        if tag == _ORIENTATION:
            struct.pack_into(f"{order}{_WHOLE[kind]}", out, entry + 8, 1)
    return bytes(out)


def _jpeg(data: bytes | memoryview) -> ImageHead:
    at, orientation, view = 2, 1, memoryview(data)
    while view[at] == 0xFF:
        marker = view[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:  # without a length
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", view, at + 2)
        if marker == 0xE1 and bytes(view[at + 4 : at + 10]) == b"Exif\x00\x00":
            orientation = _orientation(view[at + 10 : at + 2 + length])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", view, at + 5)
            if bytes(data).count(b"\xff\xda") > _SCANS:
                raise ValueError
            held = _scanned(bytes(data), at + 2 + length)
            return ImageHead("JPEG", width, height, 24, orientation, held)
        at += 2 + length
    raise ValueError


def _scanned(data: bytes, at: int) -> int:
    """Bytes from the first scan of a JPEG to its end: others may be anything."""
    begin = data.find(b"\xff\xda", at)
    end = data.find(b"\xff\xd9", begin)
    return (end if end > 0 else len(data)) - begin if begin > 0 else 0


def _stored(data: bytes | memoryview, most: int) -> int:
    """Bytes that are pixels, where a file says that so many are."""
    return min(len(data), most)


def _orientation(exif: memoryview) -> int:
    try:
        return _of_tags(_tags(exif))
    except (struct.error, ValueError, IndexError):
        return 1


def _of_tags(tags: Mapping[int, tuple[int, ...]]) -> int:
    value = tags.get(_ORIENTATION, (1,))[0]
    return value if 1 <= value <= 8 else 1


def _tiff(data: bytes | memoryview) -> ImageHead:
    tags = _tags(memoryview(data))
    samples = max(tags.get(277, (1,))[0], len(tags.get(258, ())))
    bits = max(tags.get(258, (1,)))
    held = _stored(data, sum(sum(tags.get(tag, ())) for tag in _OF_PARTS))
    size = tags[256][0], tags[257][0]
    return ImageHead("TIFF", *size, samples * max(bits, 8), _of_tags(tags), held)


def _tags(data: memoryview) -> dict[int, tuple[int, ...]]:
    """The numbers of a TIFF's first directory that say what its pixels take, by tag.

    Raises:
        ValueError, struct.error: damaged, or one is twice there or no whole number, of which
            decoders make what they like.
    """
    order = "<" if bytes(data[:2]) == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, entry)
        if tag not in _TAGS and tag not in _OF_PARTS:
            continue
        most = 16 if tag in _TAGS else _MOST_PARTS
        if kind not in _WHOLE or not 0 < number <= most or tag in tags:
            raise ValueError
        values, place = struct.Struct(f"{order}{number}{_WHOLE[kind]}"), entry + 8
        if values.size > 4:
            (place,) = struct.unpack_from(f"{order}I", data, place)
        tags[tag] = values.unpack_from(data, place)
    if not {256, 257} <= tags.keys() and 274 not in tags:
        raise ValueError
    return tags


def _webp(data: bytes | memoryview) -> ImageHead:
    start = bytes(data[:64])
    kind = start[12:16]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(start[24:27], "little")
        height = 1 + int.from_bytes(start[27:30], "little")
    elif kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", start, 21)
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", start, 26))
    at, held, orientation = 12, 0, 1
    while at + 8 <= len(data):
        kind, size = _RIFF(data, at)
        held += size if kind in (b"VP8 ", b"VP8L") else 0
        if kind == b"EXIF":
            exif = memoryview(data)[at + 8 : at + 8 + size]
            # Some write the JPEG's mark before it.
            orientation = _orientation(exif[6:] if bytes(exif[:6]) == b"Exif\x00\x00" else exif)
        at += 8 + size + size % 2
    return ImageHead("WebP", width, height, 24, orientation, _stored(data, held))


def _pnm(data: bytes | memoryview) -> ImageHead:
    start = bytes(data[:1024])
    lines = [line.partition(b"#")[0] for line in start.splitlines()]
    words = b" ".join(lines).split()
    width, height, largest = (int(word) for word in words[1:4])
    bits = (8 if largest < 256 else 16) * (3 if words[0] == b"P6" else 1)
    return ImageHead("PNM", width, height, bits, held=_stored(data, width * height * bits // 8))
