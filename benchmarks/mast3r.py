"""MASt3R at its published size with random weights: time, memory, and what one direction costs.

On a processor the parts are timed on a few items, and the sums over all are extrapolated.
``python -m benchmarks.mast3r --full`` runs all 8 views and 56 directed pairs there as well, in
turn with the naive loop (half an hour on two cores); ``--full 4`` does so for four views. A GPU
is measured by ``benchmarks.gpu``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alignment import CONFIG, dga_errors
from benchmarks.alignment_problems import KINDS, problem
from wildseg3d_testing.pairs import complete_pairs

VIEWS = 8
SIZE = (384, 512)
LIMIT = 0.6
"""Largest acceptable share of the naive loop's time."""

_ROUNDS = 3


def main(full: int = 0) -> dict:
    """All figures; see the module's text.

    Args:
        full: number of views whose complete graph is run on the processor; 0 = none.
    """
    return {
        "operations": operations(),
        "processor": processor(full),
        "one direction per pair instead of both": one_direction(4),
    }


def operations() -> dict:
    """Counted multiply-adds, times two, of the published size at 512x384."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from wildseg3d_ros.pointmaps.mast3r.network import Mast3r

    with torch.device("meta"), torch.inference_mode():
        network, image = Mast3r(), torch.empty(1, 3, *SIZE)

        def count(work: Callable[[], Any]) -> tuple[float, Any]:
            with FlopCounterMode(display=False) as counter:
                result = work()
            return counter.get_total_flops() / 1e12, result

        encoding, tokens = count(lambda: network.encode(image))
        grid = network.grid(image)
        role, roles = count(lambda: [network.role(tokens, grid, k) for k in (1, 2)])
        decoding, _ = count(lambda: network.decode(*roles))
    pairs = VIEWS * (VIEWS - 1)
    naive = pairs * (2 * encoding + role + decoding)
    ours = VIEWS * (encoding + role) + pairs * decoding
    return {
        "an encoding [TFLOP]": encoding,
        "a view's part in its pairs, both roles [TFLOP]": role,
        "decoders and heads of a directed pair without it [TFLOP]": decoding,
        f"{VIEWS} views, {pairs} directed pairs [TFLOP]": ours,
        "over the naive loop": ours / naive,
    }


def processor(full: int) -> dict:
    """Seconds and memory of the parts in float32, and of the whole, extrapolated or run."""
    import torch

    from benchmarks.gpu.measuring import Device
    from benchmarks.gpu.networks import random_weights
    from wildseg3d_ros.pointmaps.mast3r.matching import matched_flags
    from wildseg3d_ros.pointmaps.mast3r.network import Architecture, Mast3r, Role

    network = random_weights(Mast3r, Architecture(), Device(torch.device("cpu")))
    images = random_images(VIEWS)
    batch = [torch.from_numpy(i).permute(2, 0, 1)[None] / 127.5 - 1.0 for i in images]
    clocks = {name: Clock() for name in ("encode", "roles", "decode", "naive", "match")}
    out: dict[str, Any] = {
        "weights [GB]": sum(p.numel() * p.element_size() for p in network.parameters()) / 1e9
    }
    grid = network.grid(batch[0])
    with torch.inference_mode():
        # One after the other in each round, so that all see the same load of the machine.
        for k in range(_ROUNDS):
            with clocks["encode"].measure():
                tokens = network.encode(batch[k])
            with clocks["roles"].measure():
                one, two = (network.role(tokens, grid, number) for number in (1, 2))
            with clocks["decode"].measure():
                maps = network.decode(one, two)
            with clocks["match"].measure():
                matched_flags(maps[0].descriptors[0], maps[1].descriptors[0])
            with clocks["naive"].measure():
                network(batch[k], batch[k + 1])
        for size in (1, 2, 4):
            with peak_memory(out, f"peak of the process, {size} pair(s) at once [GB]"):
                network.decode(Role.stack([one] * size), Role.stack([two] * size))
    for name, clock in clocks.items():
        out[f"{name}, wall, least of {_ROUNDS} [s]"] = clock.wall()
        out[f"{name}, processor time [s]"] = clock.processor()
    pairs = complete_pairs(VIEWS)
    for kind in ("wall", "processor"):
        part = {name: getattr(clock, kind)() for name, clock in clocks.items()}
        ours = VIEWS * (part["encode"] + part["roles"]) + len(pairs) * part["decode"]
        # The naive call is these parts and nothing else; timed whole, it is twice as long and
        # catches more of the machine's other load.
        naive = len(pairs) * (2 * part["encode"] + part["roles"] + part["decode"])
        out[f"extrapolated, {kind}: {VIEWS} views, {len(pairs)} directed pairs [s]"] = ours
        out[f"extrapolated, {kind}: naive loop [s]"] = naive
        out[f"extrapolated, {kind}: over the naive loop (at most {LIMIT})"] = ours / naive
    if full:
        out[f"run whole, {full} views"] = run_whole(network, images[:full], batch[:full])
    return out


def run_whole(network: Any, images: list[np.ndarray], batch: list[Any]) -> dict:
    """The complete graph and the naive loop, pair by pair in turn, under the same load."""
    import torch

    from wildseg3d_ros.pointmaps.mast3r.inference import Inference

    pairs = complete_pairs(len(images))
    counted, run = count_calls(network), Inference(network)
    ours, naive = Clock(), Clock()
    out: dict[str, Any] = {}
    with ours.measure():
        encoded = list(run.encode(images))
    encodings = counted["encoder"]
    with peak_memory(out, "peak of the process, both loops [GB]"):
        decoded = run.decode(dict(enumerate(encoded)), pairs)
        for a, b in pairs:
            with ours.measure():
                next(decoded)
            with torch.inference_mode(), naive.measure():
                network(batch[a], batch[b])
    out["encodings"] = encodings
    for kind in ("wall", "processor"):
        whole = ours.total(kind)
        out[f"{kind}: {len(images)} views, {len(pairs)} directed pairs [s]"] = whole
        out[f"{kind}: naive loop [s]"] = naive.total(kind)
        out[f"{kind}: over the naive loop"] = whole / naive.total(kind)
    return out


def one_direction(seeds: int) -> dict:
    """Errors of aligned constructed pairs with network-like errors, both directions against a < b.

    Median error of object points [mm], mean over seeds, of six views.
    """
    out = {}
    for kind in KINDS:
        both, half = [], []
        for seed in range(seeds):
            made = problem(kind, seed)
            kept = [k for k, p in enumerate(made.predictions) if p.a < p.b]
            one = replace(
                made,
                predictions=tuple(made.predictions[k] for k in kept),
                pair_scale=made.pair_scale[kept],
            )
            both.append(dga_errors(made, CONFIG).median)
            half.append(dga_errors(one, CONFIG).median)
        out[kind] = {
            "both [mm]": float(np.mean(both)),
            "one [mm]": float(np.mean(half)),
            "one over both": float(np.mean(half) / np.mean(both)),
        }
    return out


class Clock:
    """Wall and processor seconds of repeated work."""

    def __init__(self) -> None:
        self._wall: list[float] = []
        self._processor: list[float] = []

    @contextmanager
    def measure(self):
        """Times the ``with`` block."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self._wall.append(time.perf_counter() - wall)
        self._processor.append(time.process_time() - cpu)

    def total(self, kind: str) -> float:
        """Sum over all work: wall or processor."""
        return sum(self._wall if kind == "wall" else self._processor)

    def wall(self) -> float:
        """Minimum wall time: what the load of the machine adds is left out."""
        return min(self._wall)

    def processor(self) -> float:
        """Minimum processor time, summed over cores."""
        return min(self._processor)


@contextmanager
def peak_memory(out: dict[str, Any], name: str):
    """Stores the largest resident memory of the process within the block (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        out[name] = "not measured: this system cannot reset the peak"
        yield
        return
    yield
    lines = Path("/proc/self/status").read_text().splitlines()
    out[name] = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e6


def random_images(count: int) -> list[np.ndarray]:
    """(H, W, 3) uint8 each."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


def count_calls(network: Any) -> dict[str, int]:
    """Images and pairs that the network gets from now on."""
    counted = {"encoder": 0, "decoder": 0}

    def count_images(_: Any, inputs: tuple) -> None:
        counted["encoder"] += len(inputs[0])

    def count_pairs(_: Any, inputs: tuple) -> None:
        counted["decoder"] += len(inputs[0].embedded)

    network.encoder.register_forward_pre_hook(count_images)
    network.decoders.register_forward_pre_hook(count_pairs)
    return counted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mast3r", description=__doc__)
    parser.add_argument("--full", type=int, nargs="?", const=VIEWS, default=0, metavar="VIEWS")
    print(json.dumps(main(parser.parse_args().full), indent=2))
    sys.exit(0)
