"""What matters in the network of the masks: short trainings that differ in one thing each.

``python -m benchmarks.network_variants`` trains each variant for the same number of steps on the
frames of ``wildseg3d train-masks`` and judges it on held-out frames. Finished ones are kept in
``out/network_variants``: the same command goes on where it was. Short trainings rank variants;
they do not say how good the network is that is shipped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks import machine
from wildseg3d_ros.masks.learned.inputs import CHANNELS, OFFSETS, REACH
from wildseg3d_ros.training.loss import affinity_targets, balanced_loss, network_loss
from wildseg3d_ros.training.network import WIDTHS, AffinityNetwork
from wildseg3d_ros.training.samples import UNKNOWN, Samples

COLOUR = ("lightness", "a", "b")
DEPTH = tuple(name for name in CHANNELS if name not in COLOUR)
NORMALS = ("normal_x", "normal_y", "normal_z")


@dataclass(frozen=True)
class Variant:
    """What differs from the network that is shipped.

    Attributes:
        without: input channels that are 0.
        widths: channels by level.
        untrained: outputs that no loss is asked of.
        length: steps, as a multiple of the others'.
    """

    without: tuple[str, ...] = ()
    widths: tuple[int, ...] = WIDTHS
    untrained: tuple[int, ...] = ()
    length: float = 1.0


VARIANTS = {
    "as shipped": Variant(),
    "without normals": Variant(NORMALS),
    "without relief": Variant(("relief",)),
    "without normals and relief": Variant((*NORMALS, "relief")),
    "colour alone": Variant(DEPTH),
    "depth alone": Variant(COLOUR),
    "half the channels": Variant(widths=tuple(width // 2 for width in WIDTHS)),
    "one and a half times the channels": Variant(widths=tuple(w * 3 // 2 for w in WIDTHS)),
    "without 'is it an object'": Variant(untrained=(len(OFFSETS),)),
    "near offsets alone": Variant(untrained=tuple(k for k, r in enumerate(REACH) if r > 1)),
    "twice as long": Variant(length=2.0),
}


def trained(variant: Variant, paths: Sequence[Path], steps: int) -> AffinityNetwork:
    """A network after so many steps of 8 views; the batches are the same for all variants."""
    torch.manual_seed(0)
    network = AffinityNetwork(variant.widths).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    asked = [k for k in range(len(OFFSETS) + 1) if k not in variant.untrained]
    samples = Samples(paths, 8, steps, 0)
    loader = DataLoader(samples, batch_size=None, num_workers=1, prefetch_factor=4)
    for data, labels in loader:
        with torch.autocast("cpu", torch.bfloat16):
            output = network(_without(data, variant.without))
        optimizer.zero_grad(set_to_none=True)
        network_loss(output.float(), labels)[asked].mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rates.step()
    return network.eval()


@torch.no_grad()
def judged(network: AffinityNetwork, variant: Variant, paths: Sequence[Path]) -> dict[str, float]:
    """Log loss [nats] on held-out views as they are, by reach and of what is an object, and of all
    affinities without depth; yes and no weigh alike, so that guessing gives 0.693."""
    samples = Samples(paths, 10, len(paths) // 10, 0, variation=None)
    rows, blind = [], []
    for data, labels in DataLoader(samples, batch_size=None):
        data = _without(data, variant.without)
        rows.append(_losses(network(data), labels))
        blind.append(_losses(network(_without(data, DEPTH)), labels))
    loss, dark = torch.stack(rows).mean(dim=0), torch.stack(blind).mean(dim=0)
    reach = torch.tensor(REACH)
    pixels = ("2", "4", "12", "32")
    found = {f"{px} pixels": float(loss[:-1][reach == r].mean()) for r, px in enumerate(pixels)}
    return found | {
        "affinities": float(loss[:-1].mean()),
        "object": float(loss[-1]),
        "affinities without depth": float(dark[:-1].mean()),
    }


def _losses(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    losses = [
        balanced_loss(output[:, k], *affinity_targets(labels, offset))
        for k, offset in enumerate(OFFSETS)
    ]
    return torch.stack([*losses, balanced_loss(output[:, -1], labels > 0, labels != UNKNOWN)])


def _without(data: torch.Tensor, channels: Sequence[str]) -> torch.Tensor:
    data = data.clone()
    data[:, [CHANNELS.index(name) for name in channels]] = 0.0
    return data.to(memory_format=torch.channels_last)


def main() -> None:
    """Trains and judges what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--frames", type=Path, default=Path("out/training/frames"))
    parser.add_argument("--folder", type=Path, default=Path("out/network_variants"))
    parser.add_argument("--steps", type=int, default=1000)
    given = parser.parse_args()
    # The seeds of the scenes are in the files' names: see training/command.py.
    paths = sorted(given.frames.glob("*.npz"))
    held_out = [path for path in paths if int(path.name.split("_")[0]) < 100_000]
    paths = [path for path in paths if path not in set(held_out)]
    if not held_out or not paths:
        parser.error(f"no frames in '{given.frames}': run wildseg3d train-masks first")
    torch.set_num_threads(1)
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, variant in VARIANTS.items():
        file = given.folder / f"{name.replace(' ', '_')}.json"
        if not file.exists():
            began = time.time()
            network = trained(variant, paths, round(given.steps * variant.length))
            found = judged(network, variant, held_out)
            found["million weights"] = sum(p.numel() for p in network.parameters()) / 1e6
            found["minutes"] = (time.time() - began) / 60
            found["machine"] = machine.describe()
            file.write_text(json.dumps(found, indent=1) + "\n")
        found = json.loads(file.read_text())
        figures = " | ".join(f"{v:.3f}" for k, v in found.items() if isinstance(v, float))
        print(f"| {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
