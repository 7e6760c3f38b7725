"""Small files that ask for all memory or for hours: claims, pages that are shared, values that
hold themselves twice, what is named a thousand times."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

_PAGE = 4096


def png(width: int, height: int) -> bytes:
    """A black image of one channel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer, row = zlib.compressobj(9), bytes(width + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


# ---- recordings ------------------------------------------------------------------------------


def described(recording: Path, change: Callable[[dict], object]) -> None:
    path = recording / "transforms.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


def one_image_way(rng: random.Random, recording: Path) -> None:
    """One image by many names: of the description, or of the folder."""
    (recording / "images" / "big.png").write_bytes(png(rng.choice([5000, 9000]), 9000))
    frames = [{"file_path": f"images/{'../images/' * k}big.png"} for k in range(30)]
    if rng.random() < 0.5:
        return described(recording, lambda meta: meta.update(frames=frames))
    (recording / "transforms.json").unlink()
    link = rng.choice([os.link, os.symlink, shutil.copy])
    for k in range(12):
        link(recording / "images" / "big.png", recording / f"{k}.png")
    return None


def keys_way(rng: random.Random, recording: Path) -> None:
    """Keys without end, alike to those that are read."""
    known = rng.choice(["depth_file_path", "camera_pose", "fl_x", "x"])
    keys = {f"{known}{k}": 1 for k in range(rng.choice([100, 300_000]))}
    keys[known * rng.choice([1, 500_000])] = 1

    def change(meta: dict) -> None:
        (meta if rng.random() < 0.7 else meta["frames"][0]).update(keys)

    described(recording, change)


def texts_way(rng: random.Random, recording: Path) -> None:
    """Texts that errors and warnings repeat."""
    text = rng.choice("x\u2603\x1b\n") * rng.choice([1000, 5_000_000])
    key = rng.choice(["camera_model", "frame_id", "file_path", "stamp_ns", "is_fisheye", "w"])
    value = rng.choice([text, [text], {text: text}])

    def change(meta: dict) -> None:
        meta["object_names"] = {rng.choice(["1", text]): text}
        meta["frames"][rng.randrange(3)][key] = value

    described(recording, change)


def hole_way(rng: random.Random, recording: Path) -> None:
    """Depth that is a hole in the file."""
    kind, size = rng.choice([("<i2", 2), ("<u4", 4), ("<f8", 8), ("<f4", 4), ("|u1", 1)])
    rows, columns = rng.choice([5000, 60]), (250 << 20) // size
    shape = rows, columns // rows
    text = f"{{'descr': '{kind}', 'fortran_order': {rng.random() < 0.5}, 'shape': {shape}, }}\n"
    for k in range(3):
        path = recording / "depth" / f"hole{k}.npy"
        path.write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text.encode())
        os.truncate(path, 10 + len(text) + shape[0] * shape[1] * size)

    def change(meta: dict) -> None:
        for k, frame in enumerate(meta["frames"]):
            frame["depth_file_path"] = f"depth/hole{k}.npy"

    described(recording, change)


def images_way(rng: random.Random, recording: Path) -> None:
    """A reconstruction of COLMAP that lists images without end, all of them or one there."""
    sparse = recording / "sparse" / "0"
    sparse.mkdir(parents=True)
    (recording / "transforms.json").unlink()
    camera = struct.pack("<QiiQQ4d", 1, 1, 1, 64, 48, 60, 60, 32, 24)
    (sparse / "cameras.bin").write_bytes(camera)
    count = rng.choice([1000, 400_000])
    names = [b"%d.png" % (k if rng.random() < 0.99 else 0) for k in range(count)]
    names[0] = next(iter(recording.glob("images/*.png"))).name.encode()
    start = struct.pack("<I7di", 1, 1, 0, 0, 0, 0, 0, 0, 1)
    images = b"".join(start + name + struct.pack("<xQ", 0) for name in names)
    said = rng.choice([count, count, 2**60])
    (sparse / "images.bin").write_bytes(struct.pack("<Q", said) + images)


def recording_bomb(rng: random.Random, way: Callable, good: Path, folder: Path) -> list:
    shutil.copytree(good / "recording", folder / "recording")
    way(rng, folder / "recording")
    return ["check", folder / "recording", "--quiet", *rng.choice([[], ["--strict"]])]


# ---- pairs and bags --------------------------------------------------------------------------


def npy(kind: str, shape: tuple[int, ...], data: bytes = b"") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + data


def nothing_way(rng: random.Random, folder: Path) -> list:
    """Arrays without a byte that say they have rows without end, and tiny ones by millions."""
    count, pixels = rng.choice([(1, (0, 0)), (1, (0, 8)), (10**6, (1, 1)), (1, (0, 10**12))])
    size = count * pixels[0] * pixels[1]
    arrays = {
        "edges": npy("<u4", (count, 2), np.tile(np.arange(2, dtype="<u4"), count).tobytes()),
        **{k: npy("|b1", (count, *pixels), bytes(size)) for k in ("matched_i", "matched_j")},
        **{
            k: npy("<f2", (count, *pixels, 3), bytes(6 * size))
            for k in ("pointmap_i", "pointmap_j")
        },
        **{
            k: npy("<f2", (count, *pixels), bytes(2 * size))
            for k in ("confidence_i", "confidence_j")
        },
    }
    if rng.random() < 0.7:
        arrays["soft_mask"] = npy("<f4", (rng.choice([10**9, 10**6, 2]), 0, pixels[1]))
    if rng.random() < 0.3:
        arrays["K"] = npy("<f2", (3 * 10**6, 3, 3), bytes(54 * 10**6))
    with zipfile.ZipFile(
        folder / "pairs.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)
    return ["align", folder / "pairs.npz", "-o", folder / "out.npz", "--quiet"]


def large_points_way(rng: random.Random, folder: Path) -> list:
    """Numbers whose squares are none."""
    points = np.random.default_rng(rng.randrange(99)).normal(size=(2, 1, 12, 16, 3)) + [0, 0, 3]
    points *= rng.choice([1e38, 1e20, 1e-40, np.inf])
    weights = np.full((1, 12, 16), rng.choice([1.0, 1e38, 1e-45, np.inf]), np.float32)
    with np.errstate(all="ignore"):
        np.savez(
            folder / "pairs.npz",
            edges=[[0, 1]],
            pointmap_i=points[0].astype(np.float32),
            pointmap_j=points[1].astype(np.float32),
            confidence_i=weights,
            confidence_j=weights,
        )
    return ["align", folder / "pairs.npz", "-o", folder / "out.npz", "--quiet"]


def shared_pages_way(rng: random.Random, folder: Path) -> list:
    """A database whose inner pages share their children: a walk through it never ends."""
    path = folder / "bag.db3"
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA page_size={_PAGE}")
    database.execute(
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, "
        "serialization_format TEXT, offered_qos_profiles TEXT)"
    )
    database.execute(
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, "
        "data BLOB)"
    )
    kind = rng.choice(["sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"])
    database.execute("INSERT INTO topics VALUES(1, '/cam/image_raw', ?, 'cdr', '')", (kind,))
    size = rng.choice([10, 10, 3000, 100_000])
    rows = [(1, k, bytes(size)) for k in range(12)]
    database.executemany("INSERT INTO messages(topic_id, timestamp, data) VALUES(?, ?, ?)", rows)
    database.commit()
    table = rng.choice(["messages", "messages", "topics"])
    found = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
    root = found.fetchone()[0]
    database.close()
    data = bytearray(path.read_bytes())
    data += data[(root - 1) * _PAGE : root * _PAGE]
    for _ in range(rng.choice([1, 3, 8, 15])):
        data += _inner(len(data) // _PAGE)
    data[(root - 1) * _PAGE : root * _PAGE] = _inner(len(data) // _PAGE)
    struct.pack_into(">I", data, 28, len(data) // _PAGE)
    path.write_bytes(data)
    return ["check", path, "--quiet"]


def _inner(child: int, children: int = 300) -> bytearray:
    page = bytearray(_PAGE)
    struct.pack_into(">BHHHBI", page, 0, 5, 0, children, _PAGE - 5 * children, 0, child)
    for k in range(children):
        at = _PAGE - 5 * (k + 1)
        struct.pack_into(">H", page, 12 + 2 * k, at)
        struct.pack_into(">IB", page, at, child, min(k + 1, 127))
    return page


def file_bomb(rng: random.Random, way: Callable, _: Path, folder: Path) -> list:
    return way(rng, folder)


# ---- weights ---------------------------------------------------------------------------------


def pickled_way(rng: random.Random, path: Path) -> None:
    """A .pth file whose pickle nests, repeats, or goes on and on."""
    start, tuples = b"\x80\x02}X\x05\x00\x00\x00model", b"U\x08aaaaaaaaq\x00"
    for k in range(rng.choice([3, 28, 200])):
        tuples += b"h%c\x86q%c" % (k, k + 1)
    count = rng.choice([1000, 2**20, 2**23])
    data = rng.choice([
        start + tuples + b"s.",
        start + b"}" + tuples + b"K\x01ss.",
        start + b"ccollections\nOrderedDict\n](" + tuples + b"K\x01\x86e\x85Rs.",
        start + b"cbuiltins\nset\n]" + tuples + b"a\x85Rs.",
        start + b"cargparse\nNamespace\n)\x81}(X\x05\x00\x00\x00model" + tuples + b"ubs.",
        start + tuples + b"Qs.",
        b"\x80\x02](" + b"}" * count + b"e.",
        b"\x80\x02" + b"(" * count, b"\x80\x02" + b"]" * count + b"a" * (count - 1) + b".",
        b"N" * count + b".", start + pickle.dumps(10 ** 5000, 2)[2:] + b"s.",
        b"\x80\x02r\xff\xff\xff\x7f.", b"cos\nsystem\nU\x04true\x85R.",
    ])  # fmt: skip
    way = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(path, "w", way) as archive:
        archive.writestr(rng.choice(["a/data.pkl", "a/DATA.PKL"]), data)
        archive.writestr("a/version", "3\n")
        if rng.random() < 0.2:
            archive.writestr("a/Data.pkl", data[:9])
    if rng.random() < 0.2:
        path.write_bytes(rng.choice([b"x", bytes(5000)]) + path.read_bytes())


def bomb_way(rng: random.Random, path: Path) -> None:
    """A .pth file of kilobytes that says it has gigabytes."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a/data.pkl", "w") as file,
    ):
        for _ in range(rng.choice([5, 100])):
            file.write(rng.choice([b"N", b"}"]) * 2**20)


def header_way(rng: random.Random, path: Path) -> None:
    """A .safetensors file with a header of empty tensors, deep or long."""
    count = rng.choice([10, 50_000, 300_000])
    part = {"dtype": "F32", "shape": [rng.choice([0, 2**64 - 1])], "data_offsets": [0, 0]}
    header = rng.choice([
        json.dumps({f"k{k}": part for k in range(count)}).encode(),
        b"[" * count, b'{"__metadata__":{"a":"' + b"x" * 20 * count + b'"}}',
    ])  # fmt: skip
    path.write_bytes(struct.pack("<Q", len(header)) + header)


RECORDINGS = (one_image_way, keys_way, texts_way, hole_way, images_way)
FILES = (nothing_way, shared_pages_way, large_points_way)
PICKLES = (pickled_way, pickled_way, pickled_way, bomb_way, header_way)
"""Of weights; the last one of .safetensors."""


def any_bomb(rng: random.Random, way: Callable, good: Path, folder: Path) -> list:
    make = recording_bomb if way in RECORDINGS else file_bomb
    return make(rng, way, good, folder)


def described_code(rng: random.Random, config: bytes) -> bytes:
    """A description that names what is to be fetched and run."""
    value = json.loads(config)
    parts = [value, *(part for part in value.values() if isinstance(part, dict))]
    rng.choice(parts).update(
        rng.choice([
            {"_attn_implementation": "kernels-community/evil"},
            {"attn_implementation": {"": "evil/evil:code"}},
            {"auto_map": {"AutoModel": "evil/evil--code.Model"}},
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            {"use_kernels": True}, {"use_pretrained_backbone": True, "backbone": "evil/evil"},
            {"experts_implementation": "evil/evil"}, {"torch_dtype": "evil"},
            {"model_args": {"checkpoint_path": "/dev/zero", "pretrained": True}},
        ])
    )  # fmt: skip
    return json.dumps(value).encode()
