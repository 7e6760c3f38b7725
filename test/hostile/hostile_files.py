"""Files that are meant to hurt, of every kind that is read; the same ones for the same seed.

Each kind has a good file, which is spoilt by one of the kind's ways: bytes that are flipped or cut
off, claims that are larger than any machine, values that no reader expects, and things that are
no files at all.
"""

from __future__ import annotations

import json
import random
import shutil
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import hostile_recordings
import numpy as np
from hostile_bombs import FILES, PICKLES, RECORDINGS, any_bomb, described_code
from hostile_recordings import BAG_WAYS, FORMAT_WAYS, HAS_BAGS, bag_case, dataset_case
from spoilt import (
    BYTES,
    VALUES,
    ZIPS,
    json_spoilt,
    large_npy,
    large_png,
    nested,
    no_file,
    noise,
    not_there,
    rezipped,
)

from wildseg3d_ros.io.folder import write_folder
from wildseg3d_ros.scene.file.snapshot import save_scene
from wildseg3d_testing.exact import exact_scene
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import treed_cache, true_tree

NETWORKS = ("sam3", "da3", "loftr")
"""Kinds of networks beside SAM 2, by their folders of weights."""
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
    hostile_recordings.make_good(folder)


def make_case(kind: str, number: int, good: Path, folder: Path) -> Case:
    """Writes a hostile file of a kind into an empty folder; the number is its seed."""
    rng = random.Random(f"{kind} {number}")
    make, ways = KINDS[kind]
    way = ways[number % len(ways)]
    words = make(rng, way, good, folder)
    return Case(f"{kind} {number}: {way.__name__}", tuple(map(str, words)))


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


def sizes_way(rng: random.Random, network: Path) -> None:
    """Numbers of a description that no network has, or not this one."""
    path = network / "config.json"
    value = json.loads(path.read_text())
    for _ in range(rng.choice([1, 1, 3])):
        part, key = value, rng.choice(list(value))
        while isinstance(part[key], dict | list) and part[key]:
            part = part[key]
            key = rng.choice(list(part) if isinstance(part, dict) else range(len(part)))
        part[key] = rng.choice([-1, 0, 3, 5000, 10**5, 10**8, 10**9, 10**30, 1e300, 0.5])
    path.write_text(json.dumps(value))


def lists_way(rng: random.Random, network: Path) -> None:
    """Lists of a description with entries that are twice there, missing, too many or of no use."""
    path = network / "config.json"
    value = json.loads(path.read_text())
    lists = [part for part in _parts(value) if isinstance(part, list)]
    for part in rng.sample(lists, min(len(lists), rng.choice([1, 1, 2]))):
        odd = rng.choice([-1, -3, 0, 1, 3, 1000, 0.5, None, "x", [], [1, 1], {}, True])
        changed = [
            part[:-1], part[1:], part + part[-1:], part[::-1], [], [odd], [odd] * len(part),
            [rng.choice(part or [1])] * len(part), *([*part[:k], odd, *part[k + 1 :]] for k in
            range(len(part))),
        ]  # fmt: skip
        part[:] = rng.choice(changed)
    path.write_text(json.dumps(value))


def _parts(value: object) -> list:
    """A value and all that lies in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(part for each in inner for part in _parts(each))]


def code_way(rng: random.Random, network: Path) -> None:
    path = network / "config.json"
    path.write_bytes(described_code(rng, path.read_bytes()))


def described_way(rng: random.Random, network: Path) -> None:
    path = network / "config.json"
    path.write_bytes(json_spoilt(rng, path.read_bytes()))


def stored_way(rng: random.Random, network: Path) -> None:
    path = rng.choice(sorted(network.iterdir()))
    if rng.random() < 0.5:
        no_file(rng, path)
    else:
        path.write_bytes(rng.choice(BYTES)(rng, path.read_bytes()))


def network_case(
    rng: random.Random, way: Callable, good: Path, folder: Path, kind: str = "network"
) -> list:
    shutil.copytree(good / kind, folder / kind)
    way(rng, folder / kind)
    return network_words(good / "recording", folder / kind, folder / "out.ws3d", kind)


def network_words(recording: Path, weights: Path, out: Path, kind: str = "network") -> list:
    """Builds with a network: SAM 2 or the tracker of SAM 3, EfficientLoFTR or Depth Anything 3."""
    settings = {
        "loftr": (f"pointmaps.depth.matcher={weights}", "pointmaps.backend=depth"),
        "da3": ("pointmaps.backend=da3", f"pointmaps.da3.weights={weights}",
                "pointmaps.da3.device=cpu"),
    }.get(kind) or (
        "masks.backend=sam2", f"masks.sam2.weights={weights}", "masks.sam2.grid=2",
        "masks.sam2.predicted_iou=0", "masks.sam2.stability=0", "masks.sam2.device=cpu",
        "masks.sam2.anchors=1")  # fmt: skip
    every = (*settings, "alignment.check_rig=false")
    options = [word for setting in every for word in ("--set", setting)]
    return ["build", recording, "-o", out, "--quiet", *options]


def pickle_case(rng: random.Random, way: Callable, good: Path, folder: Path) -> list:
    path = folder / ("model.safetensors" if way is PICKLES[-1] else "model.pth")
    way(rng, path)
    return checkpoint_words(good / "recording", path, folder / "out.ws3d")


KINDS: dict[str, tuple[Callable, tuple[Callable, ...]]] = {
    "scene": (scene_case, (*ZIPS, header_spoilt, header_spoilt, header_spoilt)),
    "recording": (recording_case, (json_way, json_way, image_way, kind_way, npy_way, plain_way)),
    "pairs": (pairs_case, ZIPS),
    "yaml": (yaml_case, (alias_way, scalar_way, group_way, deep_way, not_there)),
    "checkpoint": (checkpoint_case, (layers_way, small_way, noise_way, config_way, not_there)),
    "network": (network_case, (sizes_way, sizes_way, lists_way, described_way, stored_way)),
    "dataset": (dataset_case, FORMAT_WAYS),
    **({"bag": (bag_case, BAG_WAYS)} if HAS_BAGS else {}),
    "bomb": (any_bomb, (*RECORDINGS, *FILES)),
    "pickle": (pickle_case, PICKLES),
    **{
        kind: (
            partial(network_case, kind=kind),
            (sizes_way, lists_way, code_way, described_way, stored_way),
        )
        for kind in NETWORKS
    },
}

warnings.filterwarnings("ignore", "Duplicate name")
