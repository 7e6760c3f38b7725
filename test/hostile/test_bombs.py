"""What small files ask for is refused before it is taken."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hostile_bombs import (
    bomb_way,
    described_code,
    header_way,
    keys_way,
    pickled_way,
    png,
    shared_pages_way,
)

from wildseg3d_ros.cli.report import lines_of
from wildseg3d_ros.core import models
from wildseg3d_ros.core.errors import FileError, InputError
from wildseg3d_ros.core.files import proportion
from wildseg3d_ros.core.files.arrays import array_from
from wildseg3d_ros.core.files.tensors import check_pth, check_safetensors
from wildseg3d_ros.io.folder import load_folder, write_folder
from wildseg3d_ros.io.pairs_file import load_pairs
from wildseg3d_ros.io.recording import Recording
from wildseg3d_ros.streams.rvl import decode_rvl
from wildseg3d_testing.scenes import construct_scene


@pytest.fixture(scope="module")
def recording():
    return construct_scene(views=3, width=64, height=48).recording()


def test_a_database_that_walks_in_circles_is_left(tmp_path):
    pytest.importorskip("rosbags")
    from wildseg3d_ros.io.bags.loading import load_bag

    begin = time.process_time()
    for seed in range(4):
        (tmp_path / f"{seed}").mkdir()
        shared_pages_way(random.Random(seed), tmp_path / f"{seed}")
        with pytest.raises(FileError, match="bag.db3"):
            load_bag(tmp_path / f"{seed}" / "bag.db3")
    assert time.process_time() - begin < 12


def test_what_a_pth_file_has_pickled_is_refused_at_once(tmp_path):
    """Whatever is in it: none of these is a file of tensors; some are what torch takes."""
    import pickle

    begin, refused = time.process_time(), 0
    for seed in range(24):
        way = bomb_way if seed % 8 == 7 else pickled_way
        way(random.Random(seed), tmp_path / "a.pth")
        try:
            check_pth(tmp_path / "a.pth")
        except (ValueError, pickle.UnpicklingError):
            refused += 1
    assert refused > 18
    assert time.process_time() - begin < 60


def nested(depth: int) -> tuple:
    value = ("aaaaaaaa",)
    for _ in range(depth):
        value = (value, value)
    return value


@pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch")
def test_a_pth_file_of_torch_is_taken_and_one_with_nested_keys_is_not(tmp_path):
    import argparse
    import pickle

    import torch

    path = tmp_path / "a.pth"
    args = argparse.Namespace(model="enc_num_heads=4", rates=(1, (2, [3])), scale=np.float64(2))
    network = torch.nn.Linear(3, 2)
    torch.save({"model": network.state_dict(), "args": args, "p": network.weight}, path)
    check_pth(path)
    # Nothing hashes or prints these, however often they hold each other.
    torch.save({"model": {}, "args": [nested(60)]}, path)
    check_pth(path)
    counted = Counter(dict.fromkeys(range(300), 1))
    kept = {("a", 1): 1}, {f"k{i}" for i in range(300)}, frozenset("ab"), counted
    torch.save({"kept": kept, "losses": [0.1 * i for i in range(600_000)]}, path)
    check_pth(path)
    for key in (nested(1), tuple("abcdefghi")):
        for value in ({key: 1}, {key}):
            torch.save({"model": torch.zeros(1), "value": value}, path)
            with pytest.raises(pickle.UnpicklingError, match="a tuple as a key"):
                check_pth(path)


@pytest.mark.parametrize(
    ("pickled", "says"),
    [
        (b"](" + b"}" * 5_000_000 + b"e", "millions of lists"),
        (b")" + b"\x85" * 5_000_000, "millions of lists"),
        (b"N" * 17_000_000, "at most 17 MB"),
        (
            # One list of 1,000 numbers of which 2,000 sets are made.
            b"](" + b"K\1" * 1000 + b"eq\0" + b"cbuiltins\nset\nq\1" + b"h\1h\0\x85R" * 2000,
            "sets of more than",
        ),
    ],
)
def test_what_a_pth_file_makes_of_a_few_bytes_is_bounded(tmp_path, pickled, says):
    import pickle

    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + pickled + b".")
    with pytest.raises((ValueError, pickle.UnpicklingError), match=says):
        check_pth(tmp_path / "a.pth")


@pytest.mark.parametrize("spoil", ["packed", "moved", "twice", "empty"])
def test_a_zip_file_that_torch_does_not_write_is_refused(tmp_path, spoil):
    path = tmp_path / "a.pth"
    way = zipfile.ZIP_DEFLATED if spoil == "packed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", way) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}." + bytes(99))
        if spoil == "twice":
            archive.writestr("A/DATA.pkl", b"\x80\x02}.")
    if spoil in ("moved", "empty"):
        path.write_bytes(b"" if spoil == "empty" else b"xx" + path.read_bytes())
    with pytest.raises(ValueError, match=r"packed|where its end|one name|not a zip"):
        check_pth(path)


def test_headers_of_safetensors_are_bounded(tmp_path):
    path = tmp_path / "a.safetensors"
    header_way(random.Random(3), path)
    size = path.stat().st_size
    if size <= 8 << 20:
        path.write_bytes((9 << 20).to_bytes(8, "little") + bytes(9 << 20))
    with pytest.raises(ValueError, match="a header of"):
        check_safetensors(path)


def test_arrays_without_bytes_have_no_rows_without_end(tmp_path):
    path = tmp_path / "a.npy"
    for shape, fits in (((0, 3), True), ((0, 500, 700, 3), False), ((10**9, 0, 0), False)):
        np.lib.format.write_array_header_1_0(
            file := path.open("wb"), {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        file.close()
        with path.open("rb") as file:
            if fits or np.prod([max(axis, 1) for axis in shape]) <= 1 << 20:
                assert array_from(file, path.stat().st_size).shape == shape
            else:
                with pytest.raises(ValueError, match="of nothing"):
                    array_from(file, path.stat().st_size)


def test_pairs_of_tiny_images_are_counted(tmp_path):
    edges = np.zeros((100_001, 2), np.uint8) + [0, 1]
    one = np.ones((len(edges), 1, 1, 3), np.float16)
    maps = {"pointmap_i": one, "pointmap_j": one}
    weights = dict.fromkeys(("confidence_i", "confidence_j"), one[..., 0])
    np.savez(tmp_path / "a.npz", edges=edges, **maps, **weights)
    with pytest.raises(FileError, match="100001 edges"):
        load_pairs(tmp_path / "a.npz")


@pytest.mark.parametrize("how", [os.link, os.symlink, "named"])
def test_one_image_by_many_names_is_out_of_proportion(tmp_path, recording, how, monkeypatch):
    monkeypatch.setattr(proportion, "_ANYWAY", 10_000)
    write_folder(tmp_path, recording)
    assert len(load_folder(tmp_path).views) == 3
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "0.png").write_bytes(png(100, 100))
    for k in range(1, 9):
        if how == "named":
            (tmp_path / "plain" / f"{k}.png").write_bytes(png(100, 100))
        else:
            how(tmp_path / "plain" / "0.png", tmp_path / "plain" / f"{k}.png")
    with pytest.raises(FileError, match=r"out of proportion; read fewer"):
        load_folder(tmp_path / "plain")


def test_masks_that_are_let_go_do_not_count(tmp_path, monkeypatch):
    """Ten masks of an image become one label image; what is decoded for it has a bound too."""
    for name in ("rgb", "mask_visib"):
        (tmp_path / name).mkdir()
    (tmp_path / "rgb" / "000000.png").write_bytes(png(200, 100))
    for k in range(10):
        (tmp_path / "mask_visib" / f"000000_{k:06d}.png").write_bytes(png(200, 100))
    camera = {"cam_K": [200, 0, 100, 0, 200, 50, 0, 0, 1]}
    (tmp_path / "scene_camera.json").write_text(json.dumps({"0": camera}))
    kinds = [{"obj_id": k, "cam_t_m2c": [0, 0, 100]} for k in range(10)]
    (tmp_path / "scene_gt.json").write_text(json.dumps({"0": kinds}))

    def load() -> Recording:
        with proportion.one_recording(ratio=0):
            return load_folder(tmp_path)

    # What is kept, and a mask that is decoded.
    monkeypatch.setattr(proportion, "_ANYWAY", 200 * 100 * (3 + 2 + 1))
    assert len(load().views) == 1
    monkeypatch.setattr(proportion, "_ANYWAY", 200 * 100 * (3 + 2 + 1) - 1)
    with pytest.raises(FileError, match=r"kept.*set the environment variable WILDSEG3D_IMAGES_MB"):
        load()
    monkeypatch.setenv(proportion.ALLOWED, "1")
    assert len(load().views) == 1
    monkeypatch.delenv(proportion.ALLOWED)
    monkeypatch.setattr(proportion, "_ANYWAY", 200 * 100 * (3 + 2 + 1))
    monkeypatch.setattr(proportion, "_TIMES", 1)
    monkeypatch.setattr(proportion, "_DEFLATED", 0)
    with pytest.raises(FileError, match="decoded.*out of proportion"):
        load()


def test_bytes_of_a_png_that_are_no_pixels_allow_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(proportion, "_ANYWAY", 10_000)
    data, kind = png(200, 200), b"prVt" + bytes(100_000)
    chunk = struct.pack(">I", 100_000) + kind + struct.pack(">I", zlib.crc32(kind))
    (tmp_path / "0.png").write_bytes(data[:33] + chunk + data[33:])
    with pytest.raises(FileError, match="out of proportion"):
        load_folder(tmp_path)


def test_depth_that_is_a_hole_counts_what_the_disk_has(tmp_path, recording, monkeypatch):
    write_folder(tmp_path, recording)
    path = tmp_path / "transforms.json"
    path.write_text(path.read_text().replace("depth/cam_0.png", "depth/hole.npy"))
    np.save(tmp_path / "depth" / "hole.npy", np.zeros((4800, 6400), np.float32))
    held = (tmp_path / "depth" / "hole.npy").read_bytes()[:128]
    (tmp_path / "depth" / "hole.npy").write_bytes(held)
    os.truncate(tmp_path / "depth" / "hole.npy", 128 + 4800 * 6400 * 4)
    assert load_folder(tmp_path, strict=True).views[0].depth is not None
    monkeypatch.setattr(proportion, "_ANYWAY", 1_000_000)
    with pytest.raises(FileError, match="out of proportion"):
        load_folder(tmp_path, strict=True)


def test_unread_keys_without_end_are_a_few_lines(tmp_path, recording):
    write_folder(tmp_path, recording)
    keys_way(random.Random(1), tmp_path)
    lines = list(lines_of(load_folder(tmp_path).warnings))
    assert len(lines) <= 51
    assert max(map(len, lines)) < 2100
    assert list(lines_of(["x" * 10**6, *"y" * 200]))[-1] == "and 101 more"


def test_errors_are_short_whatever_was_given():
    error = InputError("camera '" + "x" * 10**7 + "' is unknown; name another")
    assert len(str(error)) < 2100
    assert str(error).endswith("is unknown; name another")


def test_descriptions_name_no_code_of_others():
    config = b'{"vision_config": {"hidden_size": 8}, "_attn_implementation": "sdpa"}'
    for seed in range(30):
        described = described_code(random.Random(seed), config)
        cleaned = str(models._of_the_network_alone(json.loads(described)))
        assert "evil" not in cleaned.replace("'torch_dtype': 'evil'", "")
        assert "gptq" not in cleaned
        assert "checkpoint_path" not in cleaned


def test_rvl_of_runs_without_end():
    pixels = 4096 * 2048
    with pytest.raises(ValueError, match="runs of pixels"):
        decode_rvl(b"\x11" * 4_000_000, pixels)
    assert not decode_rvl(b"\x11\x11\x11\x11", 4)[::2].any()


def test_what_cannot_be_printed_is_one_line(tmp_path, recording):
    write_folder(tmp_path, recording)
    command = [sys.executable, "-m", "wildseg3d_ros.cli", "check", tmp_path]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 2
    told = [line for line in run.stderr.splitlines() if "wildseg3d:" in line]
    assert told == ["wildseg3d: error: cannot write what was found: No space left on device"]
    assert cv2.imdecode(np.frombuffer(png(9, 7), np.uint8), 0).shape == (7, 9)
