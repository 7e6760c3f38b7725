from __future__ import annotations

import struct

import numpy as np
import pytest

from wildseg3d_ros.core.errors import ConfigError, FileError, InputError
from wildseg3d_ros.core.types import ObjectCloud, ViewMasks
from wildseg3d_ros.io.clouds import write_cloud, write_pcd, write_ply
from wildseg3d_testing.clouds import read_ply

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(7, 3)).astype(np.float32)
COLORS = RNG.integers(0, 256, (7, 3)).astype(np.uint8)
CLOUD = ObjectCloud(
    POINTS, COLORS, np.arange(7, dtype=np.float32), np.arange(1, 8, dtype=np.uint8), (2, 5),
    ViewMasks([], [], np.array([[2, 3]], np.int32)), "base", 123, "scene",
)  # fmt: skip


def test_write_ply_is_what_the_format_says(tmp_path):
    path = tmp_path / "deep" / "a.ply"
    write_ply(path, POINTS, COLORS, normals=-POINTS, confidence=CLOUD.confidence,
              view_count=CLOUD.view_count, comments=("two\nlines",))  # fmt: skip
    head, body = path.read_bytes().split(b"end_header\n", 1)
    assert head.decode().splitlines() == [
        "ply", "format binary_little_endian 1.0", "comment two lines", "element vertex 7",
        "property float x", "property float y", "property float z",
        "property float nx", "property float ny", "property float nz",
        "property uchar red", "property uchar green", "property uchar blue",
        "property float confidence", "property uchar view_count",
    ]  # fmt: skip
    record = struct.Struct("<6f3BfB")
    assert len(body) == 7 * record.size
    for i, row in enumerate(record.iter_unpack(body)):
        assert row == (*POINTS[i], *-POINTS[i], *COLORS[i], i, i + 1)


def test_read_ply_returns_what_was_written(tmp_path):
    path = tmp_path / "a.ply"
    write_cloud(path, CLOUD)
    columns = read_ply(path)
    assert set(columns) == {"points", "colors", "confidence", "view_count"}
    np.testing.assert_array_equal(columns["points"], POINTS)
    np.testing.assert_array_equal(columns["colors"], COLORS)
    np.testing.assert_array_equal(columns["confidence"], CLOUD.confidence)
    np.testing.assert_array_equal(columns["view_count"], CLOUD.view_count)
    write_ply(path, POINTS[:0])
    assert read_ply(path)["points"].shape == (0, 3)


def test_write_pcd_is_what_pcl_reads(tmp_path):
    path = tmp_path / "a.pcd"
    write_cloud(path, CLOUD)
    head, body = path.read_bytes().split(b"DATA binary\n", 1)
    lines = dict(line.split(" ", 1) for line in head.decode().splitlines()[1:])
    assert lines["FIELDS"] == "x y z rgb"
    assert lines["SIZE"] == "4 4 4 4"
    assert lines["TYPE"] == "F F F U"
    assert lines["COUNT"] == "1 1 1 1"
    assert lines["WIDTH"] == lines["POINTS"] == "7"
    for i, (*xyz, rgb) in enumerate(struct.iter_unpack("<3fI", body)):
        assert tuple(xyz) == tuple(POINTS[i])
        assert [(rgb >> 16) & 255, (rgb >> 8) & 255, rgb & 255] == COLORS[i].tolist()
    write_pcd(path, POINTS)
    assert b"FIELDS x y z\n" in path.read_bytes()


def test_write_cloud_npz_has_everything(tmp_path):
    path = tmp_path / "b" / "a.npz"
    write_cloud(path, CLOUD)
    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["points"], POINTS)
        np.testing.assert_array_equal(stored["view_count"], CLOUD.view_count)
        assert stored["object_ids"].tolist() == [2, 5]
        assert str(stored["frame_id"]) == "base"
        assert int(stored["stamp_ns"]) == 123


def test_clouds_refuse_bad_columns_suffixes_and_files(tmp_path):
    with pytest.raises(InputError, match="must have one length"):
        write_ply(tmp_path / "a.ply", POINTS, COLORS[:3])
    with pytest.raises(InputError, match="expected columns x, y, z"):
        write_ply(tmp_path / "a.ply", POINTS[:, :2])
    with pytest.raises(ConfigError, match=r"suffix must be .ply, .pcd, .npz"):
        write_cloud(tmp_path / "a.obj", CLOUD)
    (tmp_path / "file").write_text("")
    for suffix in ("ply", "pcd", "npz"):
        with pytest.raises(FileError, match="cannot write"):
            write_cloud(tmp_path / "file" / f"a.{suffix}", CLOUD)
    with pytest.raises(FileError, match="cannot read"):
        read_ply(tmp_path / "none.ply")
    (tmp_path / "text.ply").write_text("ply\nformat ascii 1.0\nend_header\n")
    with pytest.raises(FileError, match="not a binary little-endian PLY"):
        read_ply(tmp_path / "text.ply")
    write_ply(tmp_path / "cut.ply", POINTS)
    (tmp_path / "cut.ply").write_bytes((tmp_path / "cut.ply").read_bytes()[:-5])
    with pytest.raises(FileError, match="truncated"):
        read_ply(tmp_path / "cut.ply")
