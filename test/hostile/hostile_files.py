"""Files that are meant to hurt, of every kind that is read; the same ones for the same seed.

Each kind has a good file, which is spoilt by one of the kind's ways: bytes that are flipped or cut
off, claims that are larger than any machine, values that no reader expects, and things that are
no files at all.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import re
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from wildseg3d_ros.io.folder import write_folder
from wildseg3d_ros.scene.file.snapshot import save_scene
from wildseg3d_testing.exact import exact_scene
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import treed_cache, true_tree

HEADER = "wildseg3d-scene.json"


@dataclass(frozen=True)
class Case:
    """A hostile file and the command line that reads it.

    Attributes:
        name: its kind, seed and way.
        words: of ``wildseg3d``.
    """

    name: str
    words: tuple[str, ...]


def nested(depth: int, shut: bool = True) -> str:
    return "[" * depth + ("]" * depth if shut else "")


VALUES = (
    None, True, -1, 0, 1, 7, 2**31, 2**63, 10**30, 1e308, -1e-320, float("nan"), float("inf"), "",
    "x" * 300, "x\0y", "\ud800", "\u2603\n", "/dev/zero", "../../etc/passwd", [], {}, [[]],
    [[1, 2], [3]], {"a": {"b": []}}, [None] * 9, [0] * 100_000, {"__class__": "x"}, [1e400],
)  # fmt: skip


def make_good(folder: Path) -> None:
    """A scene, a recording, pairs and a configuration that are good, to be spoilt."""
    truth = construct_scene(views=3, width=96, height=72)
    save_scene(
        exact_scene(truth, cache=treed_cache(truth, true_tree(truth))), folder / "scene.ws3d"
    )
    write_folder(folder / "recording", construct_scene(views=3, width=64, height=48).recording())
    points = np.random.default_rng(0).normal(size=(2, 2, 12, 16, 3)) + [0, 0, 3]
    np.savez(
        folder / "pairs.npz",
        edges=np.array([[0, 1], [1, 2]]),
        pointmap_i=points[0],
        pointmap_j=points[1],
        confidence_i=np.ones((2, 12, 16)),
        confidence_j=np.ones((2, 12, 16)),
        K=np.tile(np.diag([20.0, 20.0, 1.0]), (3, 1, 1)),
    )


def make_case(seed: int, good: Path, folder: Path) -> Case:
    """Writes the hostile file of a seed into an empty folder."""
    rng = random.Random(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    make, ways = KINDS[kind]
    way = ways[seed // len(KINDS) % len(ways)]
    words = make(rng, way, good, folder)
    return Case(f"{seed} {kind}: {way.__name__.strip('_')}", tuple(map(str, words)))


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


def header_spoilt(rng: random.Random, source: Path, target: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members[HEADER] = json_spoilt(rng, members[HEADER])

    rezipped(source, target, change)


# ---- commands that read them -----------------------------------------------------------------


def scene_case(rng: random.Random, way: Callable, good: Path, folder: Path) -> list:
    way(rng, good / "scene.ws3d", folder / "scene.ws3d")
    return ["segment", folder / "scene.ws3d", "--view", "cam_0", "--pixel", 40, 40, "--quiet"]


def pairs_case(rng: random.Random, way: Callable, good: Path, folder: Path) -> list:
    way(rng, good / "pairs.npz", folder / "pairs.npz")
    return ["align", folder / "pairs.npz", "-o", folder / "out.npz", "--quiet"]


def json_way(rng: random.Random, recording: Path) -> None:
    path = recording / "transforms.json"
    path.write_bytes(json_spoilt(rng, path.read_bytes()))


def image_way(rng: random.Random, recording: Path) -> None:
    path = rng.choice(sorted(recording.glob("*/*.png")))
    way = rng.choice([*BYTES, lambda r, _: large_png(r), *BYTES])
    path.write_bytes(way(rng, path.read_bytes()))


def kind_way(rng: random.Random, recording: Path) -> None:
    no_file(rng, rng.choice([*sorted(recording.glob("*/*.png")), recording / "transforms.json"]))


def npy_way(rng: random.Random, recording: Path) -> None:
    path = recording / "transforms.json"
    meta = json.loads(path.read_text())
    (recording / "depth" / "evil.npy").write_bytes(large_npy(rng))
    for frame in meta["frames"][: rng.choice([1, 3])]:
        frame["depth_file_path"] = "depth/evil.npy"
    path.write_text(json.dumps(meta))


def plain_way(rng: random.Random, recording: Path) -> None:
    """A folder of images without a description, with other things among them."""
    (recording / "transforms.json").unlink()
    for path in sorted(recording.glob("images/*.png")):
        path.rename(recording / path.name)
    for k in range(4):
        no_file(rng, recording / rng.choice([f"x{k}.png", f"{k}" * 200 + ".jpg", f"{k}.HEIC"]))
    (recording / f"{'9' * 90}.png").write_bytes(large_png(rng))


def recording_case(rng: random.Random, way: Callable, good: Path, folder: Path) -> list:
    shutil.copytree(good / "recording", folder / "recording")
    way(rng, folder / "recording")
    return ["check", folder / "recording", "--quiet", *rng.choice([[], ["--strict"]])]


def alias_way(rng: random.Random) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, rng.choice([4, 9, 30]))
    ]
    merged = "m: {<<: [*a0, *a0]}\n" if rng.random() < 0.3 else ""
    return "\n".join(lines) + "\n" + merged


def scalar_way(rng: random.Random) -> str:
    odd = ["2001-99-99", "9" * 400, "9" * 5000, "!!int ''", "!!float ''", "!!bool maybe", ".inf",
           "!!timestamp x", "!!binary '?'", "!!python/object/apply:os.system ['true']", "0x", "~",
           "1:99:99", "!!omap [1]", "!!set {1}", "? [1]\n: 2", "*nobody", "&a [*a]", "'", "\x00",
           "-1e999", "\u2028"]  # fmt: skip
    key = rng.choice(
        ["index", "index.click_radius", "masks", "alignment", "x" * 5000, "2001-01-01"]
    )
    return f"{key}: {rng.choice(odd)}\n"


def group_way(rng: random.Random) -> str:
    return f"index:\n  click_radius: {json.dumps(rng.choice(VALUES))}\n"


def deep_way(rng: random.Random) -> str:
    return rng.choice([
        nested(100_000), nested(100_000, shut=False), "- " * 5000, "a: " * 3000, "{" * 3000,
        "a:\n" + "".join(f"{' ' * k}b:\n" for k in range(1, 600)), "[" + "1," * 120_000 + "]",
        "x" * 10**6, "? " * 3000,
    ])  # fmt: skip


def yaml_case(rng: random.Random, way: Callable, good: Path, folder: Path) -> list:
    path = folder / "config.yaml"
    if way is not_there:
        no_file(rng, path)
    else:
        path.write_text(way(rng), errors="replace")
    click = ["--view", "cam_0", "--pixel", 40, 40, "--quiet"]
    return ["segment", good / "scene.ws3d", *click, "--config", path]


def tensors(rng: random.Random, shapes: dict[str, list[int]]) -> bytes:
    """A safetensors file of zeros, whose header may say more."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    if rng.random() < 0.4:
        text = json_spoilt(rng, text)
    length = rng.choice([len(text)] * 6 + [2**62, 0, len(text) - 1])
    return struct.pack("<Q", length) + text + bytes(min(at, 10**6))


def layers_way(rng: random.Random) -> bytes:
    """The keys of a network, with a layer beyond all."""
    head = "downstream_head1."
    shapes = {
        "patch_embed.proj.weight": [64, 3, 16, 16],
        "decoder_embed.weight": [64, 64],
        f"{head}head_local_features.fc2.weight": [6400, 8],
        f"enc_blocks.{rng.choice([0, 10**8, 10**30])}.mlp.fc1.weight": [8, 8],
        "enc_blocks.0.mlp.fc1.weight": [8, 8],
        f"dec_blocks.{rng.choice([0, 10**8, 10**30])}.mlp.fc1.weight": [8, 8],
        "dec_blocks.0.mlp.fc1.weight": [8, 8],
        f"{head}dpt.scratch.refinenet1.out_conv.weight": [8, 8, 1, 1],
        f"{head}dpt.head.0.weight": [8, 8, 1, 1],
        **{f"{head}dpt.act_postprocess.{n}.0.weight": [8, 8, 1, 1] for n in range(4)},
    }
    return tensors(rng, shapes)


def small_way(rng: random.Random) -> bytes:
    return tensors(rng, {"a": [rng.choice([0, 1, 8])]})


def noise_way(rng: random.Random) -> bytes:
    return noise(rng, b"\x80\x02PK\x03\x04 no tensors")


def config_way(rng: random.Random) -> bytes:
    return b""


def checkpoint_case(rng: random.Random, way: Callable, good: Path, folder: Path) -> list:
    path = folder / rng.choice(["model.safetensors", "model.safetensors", "model.pth"])
    if way is not_there:
        no_file(rng, path)
    else:
        path.write_bytes(layers_way(rng) if way is config_way else way(rng))
    if way is config_way:
        (folder / "config.json").write_bytes(json_spoilt(rng, b'{"enc_num_heads": 16, "x": [1]}'))
    return checkpoint_words(good / "recording", path, folder / "out.ws3d")


def checkpoint_words(recording: Path, weights: Path, out: Path) -> list:
    settings = ("pointmaps.backend=mast3r", f"pointmaps.mast3r.weights={weights}",
                "alignment.check_rig=false")  # fmt: skip
    options = [word for setting in settings for word in ("--set", setting)]
    return ["build", recording, "-o", out, "--quiet", *options]


KINDS: dict[str, tuple[Callable, tuple[Callable, ...]]] = {
    "scene": (scene_case, (*ZIPS, header_spoilt, header_spoilt, header_spoilt)),
    "recording": (recording_case, (json_way, json_way, image_way, kind_way, npy_way, plain_way)),
    "pairs": (pairs_case, ZIPS),
    "yaml": (yaml_case, (alias_way, scalar_way, group_way, deep_way, not_there)),
    "checkpoint": (checkpoint_case, (layers_way, small_way, noise_way, config_way, not_there)),
}

warnings.filterwarnings("ignore", "Duplicate name")
