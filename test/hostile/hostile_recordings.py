"""Recordings in the formats of data sets, and bags, that are meant to hurt."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from spoilt import BYTES, VALUES, json_spoilt, large_npy, large_png, no_file, spoilt_value

from wildseg3d_testing.layouts import WRITERS
from wildseg3d_testing.scenes import construct_scene

try:
    from backports import zstd

    from wildseg3d_testing.bags import compressed, fixed_cameras, write_bag
except ModuleNotFoundError:  # of the extra 'bags'
    HAS_BAGS = False
else:
    HAS_BAGS = True
BAGS = {
    "mcap": ("mcap", "none"),
    "chunks": ("mcap", "storage"),
    "messages": ("mcap", "message"),
    "packed": ("mcap", "file"),
    "sqlite3": ("sqlite3", "none"),
}
WORDS = ("nan", "inf", "-inf", "1e308", "1e999999", "9" * 400, "-1", "0", "", "x", "\u2603", "\0",
         "/dev/zero", "../../etc/passwd", "1e-320", "x" * 5000, "#", ",", "0x10")  # fmt: skip
COUNTS = (0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**62, 2**63, 2**64 - 1)


def make_good(folder: Path) -> None:
    """A folder of each format, and a bag of each storage and compression."""
    truth = construct_scene(views=3, width=64, height=48)
    for name, write in WRITERS.items():
        (folder / name).mkdir(parents=True)
        write(folder / name, truth)
    for name, (storage, compression) in BAGS.items() if HAS_BAGS else ():
        write_bag(folder / "bags" / name, fixed_cameras(truth.views), storage, compression)


# ---- folders ---------------------------------------------------------------------------------


def text_spoilt(rng: random.Random, data: bytes) -> bytes:
    """Words or lines replaced, removed or repeated; now and then far too many of them."""
    lines = [line.split(b" ") for line in data.split(b"\n")]
    for _ in range(rng.choice([1, 1, 3, 20])):
        line = rng.choice(lines) or [b""]
        way = rng.randrange(8)
        if way < 4:
            line[rng.randrange(len(line))] = rng.choice(WORDS).encode()
        elif way == 4:
            line *= rng.choice([0, 2, 50])
        elif way == 5:
            lines *= rng.choice([0, 2, 50]) if len(lines) < 100 else 1
            lines = lines or [[b""]]
        elif way == 6:
            rng.shuffle(lines)
        else:
            lines.append([rng.choice([b"9 " * 10**6, b" " * 10**6, b"#" * 10**6, b"\t" * 10**5])])
    return b"\n".join(b" ".join(line or [b""]) for line in lines)


def counts_spoilt(rng: random.Random, data: bytes) -> bytes:
    """Whole numbers and floats of binary records replaced by wild ones."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        code = rng.choice("QQIid")
        size = struct.calcsize(f"<{code}")
        at = min(rng.choice([0, 4 * rng.randrange(len(out) // 4)]), max(len(out) - size, 0))
        if code == "d":
            value = struct.pack("<d", rng.choice([float("nan"), float("inf"), 1e308, 0.0, -1.0]))
        else:
            value = (rng.choice(COUNTS) % 2 ** (8 * size)).to_bytes(size, "little")
        out[at : at + size] = value
    return bytes(out)


def npy_spoilt(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.5:
        return large_npy(rng)
    out = bytearray(data)
    for _ in range(rng.choice([1, 3, 10])):
        at = 128 + 8 * rng.randrange((len(out) - 128) // 8)
        value = rng.choice([float("nan"), float("inf"), -float("inf"), 1e308, -1e300, 0.0, 1e-320])
        out[at : at + 8] = struct.pack("<d", value)
    return bytes(out)


SPOILING = {".txt": text_spoilt, ".bin": counts_spoilt, ".npy": npy_spoilt, ".json": json_spoilt}


def format_way(name: str) -> Callable:
    """Spoils a part of a folder of a format: mostly one that is no image."""

    def spoil(rng: random.Random, folder: Path) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        told = [path for path in files if path.suffix in SPOILING]
        if rng.random() < 0.1:
            no_file(rng, rng.choice(files))
            return
        path = rng.choice(told if rng.random() < 0.8 else files)
        data = path.read_bytes()
        if path.suffix not in SPOILING:
            way = rng.choice([*BYTES, lambda r, _: large_png(r)])
        else:
            way = rng.choice([*[SPOILING[path.suffix]] * 6, *BYTES])
        path.write_bytes(way(rng, data))
        if rng.random() < 0.03 and path.suffix != ".npy":
            with path.open("r+b") as file:  # much of nothing, which takes no room on a disk
                file.truncate(rng.choice([10**8, 4 * 10**9, 10**11]))

    spoil.__name__ = name.replace(" ", "_")
    return spoil


def dataset_case(rng: random.Random, way: Callable, good: Path, folder: Path) -> list:
    name = way.__name__.replace("_", " ")
    shutil.copytree(good / name, folder / "recording")
    way(rng, folder / "recording")
    return ["check", folder / "recording", "--quiet", *rng.choice([[], ["--strict"]])]


# ---- bags ------------------------------------------------------------------------------------


def store_of(bag: Path) -> Path:
    return next(path for path in bag.iterdir() if path.name != "metadata.yaml")


def bytes_way(rng: random.Random, bag: Path) -> None:
    path = store_of(bag)
    path.write_bytes(rng.choice([*BYTES, counts_spoilt])(rng, path.read_bytes()))


def metadata_way(rng: random.Random, bag: Path) -> None:
    import yaml

    path = bag / "metadata.yaml"
    if rng.random() < 0.4:
        spoil = rng.choice([*BYTES, text_spoilt, json_spoilt_yaml])
        path.write_bytes(spoil(rng, path.read_bytes()))
        return
    value = yaml.safe_load(path.read_text())
    for _ in range(rng.choice([1, 1, 3])):
        value = spoilt_value(rng, value)
    if rng.random() < 0.2 and isinstance(value, dict):
        told = value.get("rosbag2_bagfile_information")
        if isinstance(told, dict):
            told["relative_file_paths"] = rng.choice(
                [["/dev/zero"], ["../x"], [store_of(bag).name] * 500, [""], ["metadata.yaml"]]
            )
    path.write_bytes(json.dumps(value).encode("utf-8", "replace"))


def json_spoilt_yaml(rng: random.Random, data: bytes) -> bytes:
    aliases = [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    bomb = "\n".join(["a0: &a0 [x, x]", *aliases])
    return rng.choice([bomb.encode(), b"[" * 50_000, b"a: [" + b"1," * 10**6 + b"]", data * 300])


def record_ends(data: bytes) -> list[int]:
    """Where MCAP's records begin."""
    at, found = 8, []
    while at + 9 < len(data) - 8:
        found.append(at)
        at += 9 + struct.unpack_from("<Q", data, at + 1)[0]
    return found


def record_way(rng: random.Random, bag: Path) -> None:
    """Lengths and counts of MCAP's records, where they are; or noise where there is no MCAP."""
    path = store_of(bag)
    data = bytearray(path.read_bytes())
    if data[:5] != b"\x89MCAP":
        bytes_way(rng, bag)
        return
    starts = record_ends(bytes(data))
    for _ in range(rng.choice([1, 1, 3])):
        at = rng.choice(starts)
        field = at + rng.choice([1, 9, 17, 25, 9 + rng.randrange(40)])
        data[field : field + 8] = struct.pack("<Q", rng.choice(COUNTS))
    path.write_bytes(data)


@cache
def bomb() -> bytes:
    """2 GB in 200 kB."""
    packer = zstd.ZstdCompressor(level=1)
    parts = [packer.compress(bytes(1 << 26)) for _ in range(32)]
    return b"".join([*parts, packer.flush()])


def bomb_way(rng: random.Random, bag: Path) -> None:
    """What is packed unpacks to gigabytes; a chunk may say so, or not."""
    path = store_of(bag)
    if path.suffix == ".zstd":
        path.write_bytes(bomb())
        return
    data = path.read_bytes()
    chunks = [at for at in record_ends(data) if data[at] == 6]
    if path.suffix != ".mcap" or not chunks:
        metadata = bag / "metadata.yaml"
        text = metadata.read_text()
        metadata.write_text(text.replace("compression_mode: ''", "compression_mode: MESSAGE"))
        messages = [at for at in record_ends(data) if data[at] == 5] or [8]
        at = rng.choice(messages)
        length = struct.unpack_from("<Q", data, at + 1)[0]
        body = data[at + 9 : at + 31] + bomb()
        path.write_bytes(
            data[:at] + data[at : at + 1] + struct.pack("<Q", len(body)) + body
            + data[at + 9 + length :]
        )  # fmt: skip
        return
    at = chunks[0]
    said = rng.choice([1000, 1 << 28, 1 << 32])
    body = data[at + 9 : at + 25] + struct.pack("<QI", said, 0) + struct.pack("<I", 4) + b"zstd"
    body += struct.pack("<Q", len(bomb())) + bomb()
    footer = b"\x02" + struct.pack("<Q", 20) + bytes(20) + b"\x89MCAP0\r\n"
    path.write_bytes(data[:at] + b"\x06" + struct.pack("<Q", len(body)) + body + footer)


def merges() -> str:
    """YAML of a kilobyte that says gigabytes, by aliases that are merged."""
    layers = [f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 12)]
    return "a0: &a0 {x: 1, y: 2}\n" + "".join(layers)


def qualities_way(rng: random.Random, bag: Path) -> None:
    """Qualities of service that are far more than they seem, where a storage keeps them."""
    import yaml

    bomb = rng.choice([merges(), "[" * 20_000, "- {history: 1, depth: 2}\n" * 4000, "\0", "a: ["])
    path = store_of(bag)
    if path.suffix == ".db3":
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE topics SET offered_qos_profiles = ?", (bomb,))
        return
    value = yaml.safe_load((bag / "metadata.yaml").read_text())
    for each in value["rosbag2_bagfile_information"]["topics_with_message_count"]:
        each["topic_metadata"]["offered_qos_profiles"] = bomb
    (bag / "metadata.yaml").write_text(json.dumps(value))
    if path.suffix == ".mcap":
        body = struct.pack("<HH", 9, 1) + b"".join(
            struct.pack("<I", len(text)) + text
            for text in (b"/x", b"cdr", metadata_of(b"offered_qos_profiles", bomb.encode()))
        )
        inserted(path, b"\x04" + struct.pack("<Q", len(body)) + body)


def metadata_of(key: bytes, value: bytes) -> bytes:
    return struct.pack("<I", len(key)) + key + struct.pack("<I", len(value)) + value


def inserted(path: Path, record: bytes, hole: int = 0) -> None:
    """A record before all others of an MCAP file, which loses its index; with a hole after it,
    which takes no room on a disk."""
    data = path.read_bytes()
    starts = record_ends(data)
    first, last = starts[1], next((at for at in starts if data[at] in (2, 15)), len(data) - 37)
    footer = b"\x02" + struct.pack("<Q", 20) + bytes(20) + b"\x89MCAP0\r\n"
    with path.open("wb") as file:
        file.write(data[:first] + record)
        file.seek(hole, 1)
        file.write(data[first:last] + footer)


def holes_way(rng: random.Random, bag: Path) -> None:
    """A record of gigabytes, all of which is there, as a hole in the file."""
    path = store_of(bag)
    hole = rng.choice([10**6, 10**8, 3 * 10**9])
    head = struct.pack("<HIQQ", rng.choice([1, 2, 3]), 0, rng.choice([0, 2**62]), 0)
    code = rng.choice([3, 4, 5, 5, 6, 7, 9, 12])
    if path.suffix == ".mcap":
        inserted(path, bytes([code]) + struct.pack("<Q", hole + len(head)) + head, hole)
    else:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size + hole)


TYPES = "'a' topic_type, 'b' encoding, 'c' encoded_message_definition, '' type_description_hash"
LARGE = "data BLOB GENERATED ALWAYS AS (zeroblob(900000000)) VIRTUAL"
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT"
PROGRAMS = (
    (
        "DROP TABLE message_definitions",
        f"CREATE VIEW message_definitions AS {ENDLESS} {TYPES}, x AS id FROM n",
    ),
    ("DROP TABLE schema", f"CREATE VIEW schema AS {ENDLESS} max(x) AS schema_version FROM n"),
    (
        "DROP TABLE messages",
        f"CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INT, timestamp INT, {LARGE})",
        "INSERT INTO messages(topic_id, timestamp) SELECT id, 1 FROM topics",
    ),
    ("UPDATE messages SET timestamp = timestamp * 10.5",),
    ("UPDATE messages SET data = 'text'",),
    ("UPDATE messages SET data = substr(data, 1, 30)",),
    ("UPDATE topics SET name = NULL",),
    ("UPDATE topics SET type = 'sensor_msgs/msg/Image'",),
    ("UPDATE topics SET offered_qos_profiles = '[[[['",),
    ("UPDATE topics SET id = 7",),
    (
        "ALTER TABLE topics RENAME TO before",
        "CREATE TABLE topics(id, name, type, serialization_format)",
        "INSERT INTO topics SELECT 1, name, type, serialization_format FROM before",
        "INSERT INTO topics SELECT t.* FROM topics t, messages a, messages b",
    ),
    ("DELETE FROM topics",),
    ("UPDATE schema SET schema_version = 'x'",),
    ("PRAGMA writable_schema = 1", "UPDATE sqlite_master SET sql = 'CREATE TABLE x'"),
)


def database_way(rng: random.Random, bag: Path) -> None:
    """A database that is whole, and says what no recorder writes."""
    database = sqlite3.connect(store_of(bag))
    try:
        for statement in rng.choice(PROGRAMS):
            try:
                database.execute(statement)
            except sqlite3.Error:  # constraints
                continue
        database.commit()
    finally:
        database.close()


def kind_way(rng: random.Random, bag: Path) -> None:
    no_file(rng, rng.choice([store_of(bag), bag / "metadata.yaml"]))


def message_way(rng: random.Random, bag: Path) -> None:
    """Messages whose fields are wild."""
    shutil.rmtree(bag)
    messages = []
    for topic, stamp_ns, message in fixed_cameras(views()):
        for field in ("height", "width", "step", "encoding", "distortion_model", "d", "k"):
            if hasattr(message, field) and rng.random() < 0.1:
                old = getattr(message, field)
                if isinstance(old, int):
                    object.__setattr__(message, field, rng.choice([0, 1, 2**32 - 1]))
                elif isinstance(old, str):
                    text = next(v for v in rng.sample(VALUES, len(VALUES)) if isinstance(v, str))
                    object.__setattr__(message, field, text.encode("utf-8", "replace").decode())
                else:
                    wild = rng.choice([np.nan, np.inf, 0.0, 1e308])
                    object.__setattr__(message, field, np.full(len(old), wild))
        messages.append((topic, rng.choice([stamp_ns, stamp_ns, 0, 2**62]), message))
    write_bag(bag, messages, rng.choice(["mcap", "sqlite3"]))


@cache
def picture(side: int, channels: int) -> bytes:
    """A flat PNG: of bytes of colour, or of 16-bit depth."""
    shape = (side, side) if channels == 1 else (side, side, channels)
    pixels = np.full(shape, 900, np.uint16) if channels == 1 else np.zeros(shape, np.uint8)
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


def pictures_way(rng: random.Random, bag: Path) -> None:
    """Pictures of kilobytes with millions of pixels, as colour or as depth."""
    shutil.rmtree(bag)
    side, wild = rng.choice([3500, 9000, 20_000]), rng.choice(["color", "depth", "both"])
    kind = rng.choice(["16UC1; compressedDepth png", "32FC1; compressedDepth png"])
    messages = []
    for topic, stamp_ns, message in fixed_cameras(views(), moments=1):
        is_depth = "depth" in topic
        if topic.endswith("/image_raw") and wild in ("both", "depth" if is_depth else "color"):
            topic = f"{topic}/compressed{'Depth' * is_depth}"
            data = picture(side, 1 if is_depth else 3)
            data = struct.pack("<iff", 0, 100.0, 1.0) * is_depth + data
            layout = kind if is_depth else "rgb8; png compressed bgr8"
            message = compressed(data, layout, message.header.frame_id, stamp_ns)
        messages.append((topic, stamp_ns, message))
    write_bag(bag, messages, rng.choice(["mcap", "sqlite3"]))


@cache
def views() -> tuple:
    return construct_scene(views=3, width=64, height=48).views


STORES: dict[Callable, tuple[str, ...]] = {
    record_way: ("mcap", "chunks", "messages"),
    bomb_way: ("mcap", "chunks", "packed"),
    database_way: ("sqlite3",),
}


def bag_case(rng: random.Random, way: Callable, good: Path, folder: Path) -> list:
    name = rng.choice(STORES.get(way, tuple(BAGS)))
    shutil.copytree(good / "bags" / name, folder / "bag")
    way(rng, folder / "bag")
    whole = rng.random() < 0.7 or not (folder / "bag").is_dir()
    return ["check", folder / "bag" if whole else store_of(folder / "bag"), "--quiet"]


FORMAT_WAYS = tuple(format_way(name) for name in WRITERS if name != "nerfstudio")
BAG_WAYS = (
    bytes_way,
    metadata_way,
    record_way,
    bomb_way,
    database_way,
    kind_way,
    message_way,
    qualities_way,
    holes_way,
    pictures_way,
)
