"""Guarded reading and writing beside, of each format."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ConfigError, ErrorCode, FileError, InputError
from wildseg3d_ros.core.files.arrays import read_npy, read_npz
from wildseg3d_ros.core.files.pictures import decode_image, image_head
from wildseg3d_ros.core.files.reading import read_bytes
from wildseg3d_ros.core.files.text import parse_json, parse_yaml, read_json, read_yaml
from wildseg3d_ros.core.files.writing import replacing, write_bytes, write_npz
from wildseg3d_ros.io.images import write_image

READERS = {
    "bytes": lambda path: read_bytes(path, "data", 1000),
    "json": lambda path: read_json(path, "data"),
    "yaml": lambda path: read_yaml(path, "data"),
    "npy": lambda path: read_npy(path, "data"),
    "npz": lambda path: read_npz(path, "data"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: None,
    ],
    ids=["pipe", "folder", "dangling", "circle", "device", "nothing"],
)
def test_reading_what_is_no_file(tmp_path, reader, make):
    make(tmp_path / "x")
    with pytest.raises(FileError, match=r"cannot read data '.*x': ") as caught:
        READERS[reader](tmp_path / "x")
    assert caught.value.code == ErrorCode.BAD_FILE


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "\ud800", "line\nbreak"])
def test_reading_names_that_no_file_has(tmp_path, name):
    with pytest.raises(FileError, match="cannot read data") as caught:
        read_bytes(tmp_path / name, "data", 10)
    assert len(str(caught.value).splitlines()) == 1
    str(caught.value).encode()
    if name != "line\nbreak":
        with pytest.raises(FileError, match="cannot write"):
            write_bytes(tmp_path / name, b"")


def test_reading_a_file_that_is_too_large(tmp_path):
    (tmp_path / "x").write_bytes(bytes(1001))
    with pytest.raises(FileError, match=r"has 0.0 MB, and at most"):
        read_bytes(tmp_path / "x", "data", 1000)
    assert len(read_bytes(tmp_path / "x", "data", 1001)) == 1001


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[" * 100_000, "too deep|50 deep"),
        (b"[" * 60 + b"]" * 60, "50 deep"),
        (b"[" + b"9" * 5000 + b"]", "more than 64 bits"),
        (b"[18446744073709551616]", "more than 64 bits"),
        (b"\xff\xfe{", "."),
        (b"{", "Expecting"),
    ],
)
def test_parse_json_refuses(text, says):
    with pytest.raises(ValueError, match=says):
        parse_json(text)


def test_parse_json_reads_what_is_within_the_bounds():
    value = {"a": [[-(2**63), 2**64 - 1, 1.5e308]], "b": json.loads("[" * 48 + "]" * 48)}
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a [1, 2]\n" + "".join(f"a{k}: &a{k} [{'*a, ' * 9}]\n".replace(
            "*a,", f"*a{k - 1}," if k else "*a,") for k in range(9)), "more than 20000 values"),
        ("[" + "1," * 120_000 + "]", "more than 20000 values"),
        ("a: &a [*a]", "holds itself"),
        ("[" * 5000, "deep"),
        ("{" * 3000, "deep"),
        ("? " * 3000, "deep"),
        ("a: 2001-99-99", "month"),
        ("a: !!int ''", "."),
        ("a: !!timestamp x", "."),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("? [1]\n: 2", "unhashable"),
        ("a: [1", r"line 1|line 2"),
        ("a: *nobody", "undefined alias"),
    ],
)  # fmt: skip
def test_parse_yaml_refuses_in_one_line(text, says):
    start = time.process_time()
    with pytest.raises(ValueError, match=says) as caught:
        parse_yaml(text)
    assert len(str(caught.value).splitlines()) == 1
    assert time.process_time() - start < 5


def test_parse_yaml_reads_aliases_and_merge_keys():
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a"
    assert parse_yaml(text) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1}}
    assert parse_yaml("") is None


@pytest.mark.parametrize("digits", [400, 4000])
def test_config_numbers_beyond_all_floats(tmp_path, digits):
    (tmp_path / "c.yaml").write_text(f"index: {{click_radius: {'9' * digits}}}\n")
    with pytest.raises(ConfigError, match=r"click_radius.*9{20}.*\.\.\."):
        SceneConfig.from_yaml(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text(f"alignment: {{prior_rotation_sigma: {'9' * digits}}}\n")
    with pytest.raises(ConfigError, match=r"prior_rotation_sigma' is of type float"):
        SceneConfig.from_yaml(tmp_path / "c.yaml")


def claim(shape: str, dtype: str = "'<f4'", data: bytes = bytes(64)) -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    "data",
    [
        claim("(1048576, 1048576)"),
        claim("(-1, -16)"),
        claim("(15,)"),
        claim("(17,)"),
        claim("(16,)", "'|O'"),
        claim("(4L,)"),
        claim("(" * 300),
        claim("(16,)", "'<U99999999'"),
        b"\x93NUMPY\x09\x00",
        b"\x93NUMPY",
        b"",
    ],
)
def test_read_npy_claims(tmp_path, data):
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(FileError, match=r"cannot read depth .*x.npy"):
        read_npy(tmp_path / "x.npy", "depth")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", data)
    with pytest.raises(FileError, match=r"cannot read pairs .*x.npz"):
        read_npz(tmp_path / "x.npz", "pairs")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=">u2").reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 3)),
        np.array(5),
        np.array(["a", "bc"]),
    ],
)
def test_read_npy_and_npz_as_numpy_reads_them(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    np.savez_compressed(tmp_path / "x.npz", a=array, b=array)
    held = read_npz(tmp_path / "x.npz", "pairs")
    assert sorted(held) == ["a", "b"]
    for found in (read_npy(tmp_path / "x.npy", "depth"), held["b"]):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


def test_read_npz_refuses_what_would_fill_memory(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros((10_000, 10_000), np.uint8))
    assert (tmp_path / "x.npz").stat().st_size < 200_000
    with pytest.raises(FileError, match=r"1 members of 100 MB in 0.1 MB"):
        read_npz(tmp_path / "x.npz", "pairs")


# ---- images ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["tiff", "png", "webp"])
def test_decode_image_turns_as_exif_says_and_only_where_it_is_asked_to(kind, orientation):
    """Against Pillow; OpenCV by itself turns TIFF always and WebP never."""
    blocks = np.random.default_rng(0).integers(0, 255, (3, 5, 3), dtype=np.uint8)
    stored = np.kron(blocks, np.ones((8, 8, 1), np.uint8))
    exif, out = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    more = {"lossless": True} if kind == "webp" else {}
    Image.fromarray(stored).save(out, kind, exif=exif, **more)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(out)).convert("RGB"))
    data = out.getvalue()
    assert image_head(data).orientation == orientation
    turned = decode_image(data, "it", cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(turned[..., ::-1], upright)
    for flags in (cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, cv2.IMREAD_UNCHANGED):
        np.testing.assert_array_equal(decode_image(data, "it", flags)[..., ::-1], stored)


def test_decode_image_of_a_frame_beyond_its_animation():
    """OpenCV would write outside of the image."""
    plain = cv2.imencode(".png", np.arange(64 * 48, dtype=np.uint16).reshape(48, 64))[1].tobytes()
    frame = struct.pack(">IIIIIHHBB", 0, 65, 49, 0, 0, 1, 1, 0, 0)
    chunks = b""
    for kind, body in ((b"acTL", struct.pack(">II", 2, 0)), (b"fcTL", frame)):
        chunks += struct.pack(">I", len(body)) + kind + body
        chunks += struct.pack(">I", zlib.crc32(kind + body))
    pixels = decode_image(plain[:33] + chunks + plain[33:], "it", cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(pixels, decode_image(plain, "it", cv2.IMREAD_UNCHANGED))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm"])
@pytest.mark.parametrize("size", [(37, 53), (480, 2)])
def test_image_head_as_opencv_decodes(suffix, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, image)[1].tobytes()
    head = image_head(data)
    assert (head.height, head.width) == size
    if suffix != ".png":  # whose chunks are counted when they are checked
        assert len(data) - 800 < head.held <= len(data)
        assert image_head(data + bytes(10_000)).held == head.held
    assert decode_image(data, "it", cv2.IMREAD_COLOR).shape == (*size, 3)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_image_head_bits(suffix):
    for pixels, bits in ((np.zeros((4, 5), np.uint16), 16), (np.zeros((4, 5, 3), np.uint16), 48)):
        assert image_head(cv2.imencode(suffix, pixels)[1].tobytes()).bits == bits


def test_decode_image_refuses_a_bomb_at_once():
    head = struct.pack(">8sI4sIIBB", b"\x89PNG\r\n\x1a\n", 13, b"IHDR", 30000, 30000, 8, 2)
    start = time.process_time()
    with pytest.raises(InputError, match="it: its header says 30000x30000 pixels of 24 bits"):
        decode_image(head + bytes(1000), "it", cv2.IMREAD_COLOR)
    assert time.process_time() - start < 1


def test_decode_image_refuses_a_png_that_is_cut_or_flipped():
    """OpenCV alone would make an image of what is left of some."""
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    data = cv2.imencode(".png", image)[1].tobytes()
    for at in (40, 3000, len(data) - 13, len(data) - 1):
        with pytest.raises(InputError, match="truncated"):
            decode_image(data[:at], "it", cv2.IMREAD_COLOR)
        flipped = bytearray(data)
        flipped[at] ^= 4
        with pytest.raises(InputError, match="truncated|damaged"):
            decode_image(bytes(flipped), "it", cv2.IMREAD_COLOR)


@pytest.mark.parametrize(("kind", "code"), [(1, "B"), (3, "H"), (4, "I"), (6, "b"), (9, "i")])
def test_image_head_of_tiff_reads_whole_numbers_of_every_kind(kind, code):
    sizes = {1: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 9: 4}

    def tiff(*tags: tuple[int, int, bytes]) -> bytes:
        entries = b"".join(
            struct.pack("<HHI", tag, kind, len(value) // sizes[kind]) + value.ljust(4)
            for tag, kind, value in sorted(tags)
        )
        return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)

    size = (256, 4, struct.pack("<I", 92)), (257, 4, struct.pack("<I", 100))
    bits, samples = (258, kind, struct.pack(code, 64)), (277, kind, struct.pack(code, 4))
    assert image_head(tiff(*size, bits, samples)).bits == 256
    for wrong in (
        (*size, (258, 5, bytes(8)), samples),
        (*size, (258, 7, b"\x40"), samples),
        (*size, bits, samples, samples),
    ):
        with pytest.raises(ValueError, match="its header says no size"):
            image_head(tiff(*wrong))


def test_decode_image_refuses_a_jpeg_of_endless_scans():
    data = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    with pytest.raises(InputError, match="damaged"):
        decode_image(data + b"\xff\xda" * 200, "it", cv2.IMREAD_COLOR)


# ---- writing ---------------------------------------------------------------------------------


def test_write_bytes_keeps_mode_and_link(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    write_bytes(real, b"1")
    assert stat.S_IMODE(real.stat().st_mode) == 0o666 & ~_umask()
    real.chmod(0o640)
    link.symlink_to("real")
    write_bytes(link, b"2")
    assert link.is_symlink()
    assert real.read_bytes() == b"2"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    new = tmp_path / "new"
    new.symlink_to("made")
    write_bytes(new, b"3")
    assert (tmp_path / "made").read_bytes() == b"3"
    write_bytes(tmp_path / ("n" * 255), b"4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "made", "new", "n" * 255, "real"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_write_bytes_on_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    write_bytes(path, b"old")
    with pytest.raises(FileError, match="No space left"), replacing(path) as file:
        file.write(b"half")
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("write", [
    lambda path: write_bytes(path, bytes(1 << 20)),
    lambda path: write_npz(path, a=np.zeros(1 << 17)),
    lambda path: write_image(path, np.random.default_rng().integers(0, 9, (600, 900), np.uint8)),
])  # fmt: skip
def test_write_beyond_what_the_disk_takes_leaves_the_old_file(tmp_path, write):
    """A bound of the kernel's stands for the full disk."""
    path = tmp_path / "x.png"
    write_bytes(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, before[1]))
    try:
        with pytest.raises(FileError, match=r"cannot write '.*x.png': File too large"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.png"]


def test_write_bytes_removes_what_a_killed_save_left(tmp_path):
    path = tmp_path / "x"
    code = (
        "import sys, time; from wildseg3d_ros.core.files.writing import replacing\n"
        "with replacing(sys.argv[1]) as file: print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        write_bytes(path, b"mine")  # while the other one still writes
        assert len(names(tmp_path)) == 2
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert len(names(tmp_path)) == 2
    write_bytes(path, b"mine")
    assert names(tmp_path) == ["x"]


def test_write_bytes_to_pipes_and_devices(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="No such device"):  # nobody reads it
        write_bytes(tmp_path / "pipe", b"1")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_bytes(tmp_path / "pipe", b"12")
    assert os.read(reader, 10) == b"12"
    os.close(reader)
    write_bytes("/dev/null", b"1")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(FileError, match="no file"):
        write_bytes(tmp_path, b"1")


def test_read_bytes_of_a_file_that_says_nothing_of_its_size():
    """As those of /proc do, some of which never end."""
    with Path("/proc/self/pagemap").open("rb") as file:
        assert file.read(8)
    assert read_bytes("/proc/self/pagemap", "data", 1000) == b""
