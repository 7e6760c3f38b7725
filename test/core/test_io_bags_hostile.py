"""Bags that say more than is there are refused at once; good ones are read as rosbags does."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags")

from rosbags.rosbag2 import Reader

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.io.bags.loading import load_bag
from wildseg3d_ros.io.bags.reading import opened_bag
from wildseg3d_ros.io.bags.sqlite import Sqlite
from wildseg3d_ros.io.bags.storage import zstd
from wildseg3d_testing.bags import START_NS, TYPES, fixed_cameras, transforms, write_bag
from wildseg3d_testing.scenes import construct_scene

TF = "tf2_msgs/msg/TFMessage"
MAGIC = b"\x89MCAP0\r\n"
LAYERS = "".join(f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 9))
BOMB = "a0: &a0 {x: 1, y: 2}\n" + LAYERS
"""YAML of a kilobyte, of which PyYAML and ruamel make gigabytes."""


@pytest.fixture(scope="module")
def views():
    return construct_scene(views=3, width=64, height=48).views


# ---- MCAP, record by record ------------------------------------------------------------------


def record(code: int, body: bytes, length: int | None = None) -> bytes:
    return bytes([code]) + struct.pack("<Q", len(body) if length is None else length) + body


def text(value: str | bytes) -> bytes:
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<I", len(value)) + value


HEAD = MAGIC + record(1, text("ros2") + text(""))
END_SIZE = 37


def end(summary: int) -> bytes:
    return record(2, struct.pack("<QQI", summary, 0, 0)) + MAGIC


def schema(number: int, kind: str) -> bytes:
    return record(3, struct.pack("<H", number) + text(kind) + text("ros2msg") + text(""))


def channel(number: int, kind: int, topic: str, said: bytes = b"") -> bytes:
    return record(4, struct.pack("<HH", number, kind) + text(topic) + text("cdr") + text(said))


def message(number: int, stamp_ns: int, data: bytes) -> bytes:
    return record(5, struct.pack("<HIQQ", number, 0, stamp_ns, stamp_ns) + data)


def chunk(raw: bytes, said: int | None = None) -> bytes:
    packed = zstd().compress(raw)
    head = struct.pack("<QQQI", 0, 2**62, len(raw) if said is None else said, 0) + text("zstd")
    return record(6, head + struct.pack("<Q", len(packed)) + packed)


def index(at: int, length: int, unpacked: int) -> bytes:
    body = struct.pack("<QQQQ", START_NS, START_NS, at, length) + text(b"")
    return record(8, body + struct.pack("<Q", 0) + text("zstd") + struct.pack("<QQ", 0, unpacked))


def cameras(views) -> bytes:
    """All records of good cameras, and a topic /tf whose number is 1."""
    kinds: dict[str, int] = {TF: 1}
    topics: dict[str, int] = {"/tf": 1}
    found = schema(1, TF) + channel(1, 1, "/tf")
    for topic, stamp_ns, value in fixed_cameras(views):
        kind = value.__msgtype__
        if kind not in kinds:
            kinds[kind] = len(kinds) + 1
            found += schema(kinds[kind], kind)
        if topic not in topics:
            topics[topic] = len(topics) + 1
            found += channel(topics[topic], kinds[kind], topic)
        found += message(topics[topic], stamp_ns, bytes(TYPES.serialize_cdr(value, kind)))
    return found


def mcap(path: Path, data: bytes, summary: bytes = b"") -> Path:
    start = len(HEAD) + len(data)
    path.write_bytes(HEAD + data + summary + end(start if summary else 0))
    return path


def many_transforms(count: int) -> bytes:
    one = bytes(TYPES.serialize_cdr(transforms(0, ("a", "b", np.eye(4))), TF))
    return one[:4] + struct.pack("<I", count) + one[8:] * count


# ---- what they do ----------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compression", ["none", "message", "file", "storage"])
def test_messages_are_those_that_rosbags_reads(storage, compression, views, tmp_path):
    if (storage, compression) == ("sqlite3", "storage"):
        pytest.skip("no such bags")
    bag = write_bag(tmp_path / "bag", fixed_cameras(views, 5), storage, compression)
    with opened_bag(bag) as ours, Reader(bag) as theirs:
        assert {t.name: (t.kind, t.count) for t in ours.topics.values()} == {
            name: (each.msgtype, each.msgcount) for name, each in theirs.topics.items()
        }
        assert ours.seconds == theirs.duration / 1e9
        found = [
            (m.topic, bytes(TYPES.serialize_cdr(m.value, m.value.__msgtype__)))
            for _, m in ours.messages(ours.topics)
        ]
        expected = [(c.topic, bytes(data)) for c, _, data in theirs.messages()]
    assert sorted(found) == sorted(expected)
    assert len(found) == 1 + 5 * 9
    assert found[0][0] == "/tf_static"


@pytest.mark.parametrize("indexed", [True, False])
def test_load_bag_of_mcap_of_other_writers(indexed, views, tmp_path):
    """Without a summary; and with one, and a chunk without a message index."""
    data = cameras(views)
    if indexed:
        packed = chunk(data)
        count = struct.pack("<QHIIIIQQ", 1, 0, 0, 0, 0, 1, START_NS, START_NS) + text(b"")
        said = b"".join(record(code, bytes(body)) for code, body in described(data))
        summary = said + index(len(HEAD), len(packed), len(data)) + record(11, count)
        bag = mcap(tmp_path / "x.mcap", packed, summary)
        with opened_bag(bag) as found:
            assert len(list(found.messages(found.topics))) == 19
        return
    bag = mcap(tmp_path / "x.mcap", data)
    assert len(load_bag(bag).views) == 3
    assert len(load_bag(mcap(tmp_path / "y.mcap", chunk(data))).views) == 3


def described(data: bytes):
    """The schemas and channels among records."""
    at = 0
    while at < len(data):
        code, length = struct.unpack_from("<BQ", data, at)
        if code in (3, 4):
            yield code, data[at + 9 : at + 9 + length]
        at += 9 + length


def hostile(views, folder: Path) -> dict[str, Path]:
    good = cameras(views)
    tiny = message(1, START_NS, bytes(8)) * 1_200_000
    packed = chunk(tiny[:3_900_000])
    return {
        "more than .* messages": mcap(folder / "tiny.mcap", good + chunk(tiny)),
        "share bytes": mcap(
            folder / "shared.mcap",
            packed,
            schema(1, TF) + channel(1, 1, "/tf") + 2 * index(len(HEAD), len(packed), 3_900_000),
        ),
        "/tf has a message of": mcap(
            folder / "links.mcap", good + message(1, START_NS + 10**9, many_transforms(100_000))
        ),
        "more than 2000 topics": mcap(
            folder / "topics.mcap", b"".join(channel(k, 1, f"/t{k}") for k in range(2001))
        ),
        "larger than what is read: its .* unpack to": mcap(
            folder / "claim.mcap", chunk(b"x", said=1 << 40)
        ),
        "more than 10.* other records": holes(folder / "hole.mcap"),
        "more than 1.* other records": mcap(folder / "kinds.mcap", chunk(bytes(9 * 4_000_000))),
        "a record of 3000 MB": sparse(folder / "schema.mcap", 3),
        "a message of 3000 MB": sparse(folder / "message.mcap", 5, good),
    }


def sparse(path: Path, code: int, before: bytes = b"") -> Path:
    """A record of gigabytes, which take no room on a disk."""
    length = 3 * 10**9
    with path.open("wb") as file:
        file.write(HEAD + before + record(code, struct.pack("<HIQQ", 1, 0, 2**62, 0), length))
        file.seek(length - 22, os.SEEK_CUR)
        file.write(end(0))
    return path


def holes(path: Path) -> Path:
    """Records of no kind and no length, which take no room on a disk."""
    with path.open("wb") as file:
        file.write(HEAD)
        file.seek(9 * 100_000_000, os.SEEK_CUR)
        file.write(end(0))
    return path


def test_load_bag_of_flat_images_in_chunks(views, tmp_path):
    """What a drawn scene's raw images unpack to, a thousand times their bytes."""
    flat = chunk(record(200, bytes(20_000_000))) * 6
    assert 1000 * len(flat) < 120_000_000
    bag = mcap(tmp_path / "x.mcap", cameras(views) + flat)
    assert len(load_bag(bag).views) == 3


def test_load_bag_of_pages_that_share_their_children_in_a_hole(views, tmp_path):
    """The steps that are taken go by what the disk has, not by the file's size."""
    bag = write_bag(tmp_path / "bag", fixed_cameras(views), "sqlite3")
    (file,) = bag.glob("*.db3")
    before = Sqlite(file)
    os.truncate(file, 1 << 31)
    after = Sqlite(file)
    assert after._most_steps < 1.1 * before._most_steps
    before.close()
    after.close()


def test_load_bag_refuses_claims_in_little_memory(views, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for says, path in hostile(views, tmp_path).items():
        with pytest.raises(FileError, match=says):
            load_bag(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


@pytest.mark.parametrize("place", ["metadata", "channel", "topics"])
def test_load_bag_reads_no_yaml_of_qualities(place, views, tmp_path):
    """In a process that may use so many seconds of a processor."""
    storage = "sqlite3" if place == "topics" else "mcap"
    bag = write_bag(tmp_path / "bag", fixed_cameras(views), storage)
    (file,) = (path for path in bag.iterdir() if path.name != "metadata.yaml")
    if place == "metadata":
        import yaml

        value = yaml.safe_load((bag / "metadata.yaml").read_text())
        for each in value["rosbag2_bagfile_information"]["topics_with_message_count"]:
            each["topic_metadata"]["offered_qos_profiles"] = BOMB
        (bag / "metadata.yaml").write_text(json.dumps(value))
    elif place == "topics":
        with contextlib.closing(sqlite3.connect(file)) as database, database:
            database.execute("UPDATE topics SET offered_qos_profiles = ?", (BOMB,))
    else:
        bag = mcap(
            tmp_path / "x.mcap",
            cameras(views) + channel(99, 1, "/x", text("offered_qos_profiles") + text(BOMB)),
        )
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (10, 10))\n"
        "from pathlib import Path; from wildseg3d_ros.io.bags.loading import load_bag\n"
        f"assert len(load_bag(Path({str(bag)!r})).views) == 3"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_load_bag_joins_no_topics_of_one_number(views, tmp_path):
    bag = write_bag(tmp_path / "bag", fixed_cameras(views), "sqlite3")
    (file,) = bag.glob("*.db3")
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("ALTER TABLE topics RENAME TO before")
        database.execute("CREATE TABLE topics(id, name, type, serialization_format)")
        columns = "1, name, type, serialization_format"
        database.execute(f"INSERT INTO topics SELECT {columns} FROM before")
    with pytest.raises(FileError, match="two topics of one number"):
        load_bag(bag)


def test_load_bag_of_other_encodings(views, tmp_path):
    said = struct.pack("<HH", 1, 0) + text("/x") + text("json") + text(b"")
    with pytest.raises(FileError, match="'/x' are in 'json', not in CDR"):
        load_bag(mcap(tmp_path / "x.mcap", record(4, said)))
