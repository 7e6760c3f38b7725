"""Measures what a GPU changes: networks, masks, alignment and fusion, each beside its floor.

Weights are random, of the published sizes: time does not depend on their values. What is measured
is written after each part, so that nothing is lost when the time is over.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.gpu.masks import sam2
from benchmarks.gpu.measuring import ROUNDS, Device, Rates, measure_rates
from benchmarks.gpu.networks import da3, mast3r
from benchmarks.gpu.scenes import alignment_and_fusion
from benchmarks.gpu.table import as_json, markdown

LIMIT = 480.0
"""Seconds after which no further part begins."""


def published() -> dict[str, Callable[[Device, Rates], None]]:
    """The parts at the sizes that the documentation gives."""
    return {
        "da3": partial(da3, views=8, size=(378, 504)),
        "mast3r": partial(mast3r, views=8, size=(384, 512)),
        "sam2": partial(sam2, views=8, grid=32, objects=60),
        "alignment": partial(alignment_and_fusion, views=16, size=(384, 512)),
    }


def small() -> dict[str, Callable[[Device, Rates], None]]:
    """The same parts with small networks: a dry run, for a processor."""
    from wildseg3d_testing.da3_weights import TINY
    from wildseg3d_testing.mast3r_weights import TINY as SMALL_MAST3R
    from wildseg3d_testing.sam2_weights import write_small_sam2

    return {
        "da3": partial(da3, views=2, size=(28, 42), sizes={"tiny": TINY}),
        "mast3r": partial(mast3r, views=2, size=(32, 48), architecture=SMALL_MAST3R),
        "sam2": partial(
            sam2, views=2, grid=2, objects=6, size=(60, 80), write_weights=write_small_sam2
        ),
        "alignment": partial(alignment_and_fusion, views=3, size=(24, 32)),
    }


def run(
    device: Device,
    parts: dict[str, Callable[[Device, Rates], None]],
    rates: Rates,
    limit: float,
    written: Callable[[dict[str, Any]], None],
) -> dict[str, str]:
    """Runs the parts in order; what failed or was left out, by part.

    Args:
        limit: seconds after which no further part begins.
        written: is given all results after each part.
    """
    start, missing = time.perf_counter(), {}
    for name, part in parts.items():
        if time.perf_counter() - start > limit:
            missing[name] = f"not begun: {limit:g} s were over"
        else:
            try:
                part(device, rates)
            except Exception as error:  # noqa: BLE001  the other parts are still worth their time
                traceback.print_exc()
                missing[name] = f"{type(error).__name__}: {error}"
        spent = time.perf_counter() - start
        print(f"{name}: {missing.get(name, 'done')} ({spent:.0f} s)", flush=True)
        written({"seconds": spent, "missing": missing, "figures": as_json(device.figures)})
    return missing


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="torch device; default: cuda")
    parser.add_argument("--small", action="store_true", help="a dry run with small networks")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=list(published()))
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="SECONDS")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), metavar="FOLDER")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(
            f"PyTorch {torch.__version__} finds no GPU; for a dry run on the processor: "
            "--device cpu --small"
        )
    device = Device(torch.device(options.device), rounds=1 if options.small else ROUNDS)
    rates = measure_rates(device, *((128, 4) if options.small else (8192, 1024)))
    about = machine.describe() | {"torch": torch.__version__, "device": options.device}
    options.out.mkdir(parents=True, exist_ok=True)

    def written(results: dict[str, Any]) -> None:
        everything = {"machine": about, "rates": rates.as_json(), "small": options.small}
        text = json.dumps(everything | results, indent=2)
        (options.out / "gpu.json").write_text(text + "\n")
        (options.out / "gpu.md").write_text(markdown(device.figures) + "\n")

    parts = small() if options.small else published()
    chosen = {name: parts[name] for name in options.only or parts}
    print(json.dumps(about | rates.as_json(), indent=2), flush=True)
    missing = run(device, chosen, rates, options.limit, written)
    print(f"\n{markdown(device.figures)}\n\nwritten to {options.out}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
