"""Ways in which bytes, JSON, text and zip files are spoilt, by a generator of random numbers."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np


def nested(depth: int, shut: bool = True) -> str:
    return "[" * depth + ("]" * depth if shut else "")


VALUES = (
    None, True, -1, 0, 1, 7, 2**31, 2**63, 10**30, 1e308, -1e-320, float("nan"), float("inf"), "",
    "x" * 300, "x\0y", "\ud800", "\u2603\n", "/dev/zero", "../../etc/passwd", [], {}, [[]],
    [[1, 2], [3]], {"a": {"b": []}}, [None] * 9, [0] * 100_000, {"__class__": "x"}, [1e400],
)  # fmt: skip


# ---- bytes -----------------------------------------------------------------------------------


def flipped(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 30])):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def swapped(rng: random.Random, data: bytes) -> bytes:
    a, b, n = rng.randrange(len(data)), rng.randrange(len(data)), rng.randrange(1, 400)
    out = bytearray(data)
    out[a : a + n], out[b : b + n] = data[b : b + n], data[a : a + n]
    return bytes(out)


def noise(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.choice([0, 4, 16])] + rng.randbytes(rng.choice([0, 1, 1000, 100_000]))


BYTES = (flipped, cut, swapped, noise)


def no_file(rng: random.Random, path: Path) -> None:
    """Puts something else where a file should be."""
    path.unlink(missing_ok=True)
    rng.choice([
        lambda: os.mkfifo(path),
        path.mkdir,
        lambda: path.symlink_to("nowhere"),
        lambda: path.symlink_to(path.name),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to("/dev/tty"),
        lambda: path.symlink_to("/proc/self/mem"),
        lambda: path.write_bytes(b""),
    ])()  # fmt: skip


def large_npy(rng: random.Random) -> bytes:
    """An array that says more than is there, or is no array of numbers."""
    kind = rng.choice(["'<f4'", "'|O'", "'<U99999999'", "'|V0'", "[('a', '<f4')]", "'<f4' #", "{"])
    shape = rng.choice(
        ["(1048576, 1048576)", "(-1, 4)", "(4L,)", "(10**9,)", "((" * 200, "(2,)*9", "()", "(0,)"]
    )
    order = rng.choice(["False", "True", "None"])
    text = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    version = rng.choice([1, 1, 2, 3, 9])
    size = struct.pack("<H" if version == 1 else "<I", rng.choice([len(text), 65535]))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + bytes(64)


def large_png(rng: random.Random) -> bytes:
    """A PNG that says gigapixels, of which the first rows are there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    side = rng.choice([9000, 30_000, 65_500, 2**31 - 1])
    head = struct.pack(">IIBBBBB", side, side, rng.choice([8, 16]), rng.choice([0, 2, 6]), 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(10**6)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rows + chunk(b"IEND", b"")


# ---- zip files -------------------------------------------------------------------------------


@cache
def members_of(source: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(source) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezipped(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    good = members_of(source)
    change(members := dict(good))
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            # What is as it was is not deflated again: of thousands of files that takes most time.
            way = zipfile.ZIP_STORED if good.get(name) is data else zipfile.ZIP_DEFLATED
            archive.writestr(name, data, way, compresslevel=1)


def member_spoilt(rng: random.Random, source: Path, target: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        name = rng.choice(list(members))
        way = rng.choice([*BYTES, lambda r, _: large_npy(r), lambda r, _: large_png(r)])
        members[name] = way(rng, members[name])

    rezipped(source, target, change)


def member_large(rng: random.Random, source: Path, target: Path) -> None:
    """Members that take a thousand times their bytes."""

    def change(members: dict[str, bytes]) -> None:
        count, side = rng.choice([(1, 6000), (3, 3000), (len(members), 1000)])
        for name in rng.sample(list(members), count):
            if name.endswith(".npy"):
                dtype = np.load(io.BytesIO(members[name]), allow_pickle=False).dtype
                buffer = io.BytesIO()
                np.save(buffer, np.zeros((side, side), dtype))
                members[name] = buffer.getvalue()
            elif name.endswith(".json"):
                members[name] = b'{"a": ' + nested(200).encode() + b"," * 10**6

    rezipped(source, target, change)


def member_names(rng: random.Random, source: Path, target: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        for k in range(rng.choice([1, 1000, 40_000])):
            members[f"{k}" * rng.choice([1, 50])] = b""
        members.pop(rng.choice(list(members)))

    rezipped(source, target, change)


def member_flags(rng: random.Random, source: Path, target: Path) -> None:
    """Members said to be encrypted, of an unknown compression, or of another size."""
    data = bytearray(source.read_bytes())
    at = [found.start() for found in re.finditer(rb"PK(?:\x01\x02|\x03\x04)", data)]
    for i in rng.sample(at, min(len(at), 4)):
        central = data[i + 2] == 1
        offset = rng.choice([8, 10, 20, 24, 42]) if central else rng.choice([6, 8, 18, 22])
        data[i + offset] = rng.randrange(256)
    target.write_bytes(data)


def whole_spoilt(rng: random.Random, source: Path, target: Path) -> None:
    target.write_bytes(rng.choice(BYTES)(rng, source.read_bytes()))


def not_there(rng: random.Random, source: Path, target: Path) -> None:
    no_file(rng, target)


ZIPS = (member_spoilt, member_spoilt, member_large, member_names, member_flags, whole_spoilt,
        not_there)  # fmt: skip


def spoilt_value(rng: random.Random, value: object) -> object:
    """The value with one of its parts, however deep, replaced, removed or repeated."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        if rng.random() < 0.1:
            del value[key]
        elif isinstance(value, list) and len(value) < 100 and rng.random() < 0.1:
            value *= rng.choice([2, 500])
        else:
            value[key] = spoilt_value(rng, value[key])
        return value
    return copy.deepcopy(rng.choice(VALUES))


def json_spoilt(rng: random.Random, text: bytes) -> bytes:
    if rng.random() < 0.15:
        return rng.choice([
            nested(100_000).encode(), nested(100_000, shut=False).encode(),
            b"9" * 5000, b'{"frames": ' + b"9" * 5000 + b"}", b"\xff\xfe{",
            b"[{}" + b",{}" * 10**6,
            b'{"a":' * 3000, b"nul", b"",
        ])  # fmt: skip
    value = json.loads(text)
    for _ in range(rng.choice([1, 1, 2, 5])):
        value = spoilt_value(rng, value)
    return json.dumps(value).encode("utf-8", "replace")
