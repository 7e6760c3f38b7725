"""Runs the benchmarks, prints a table and writes JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import (
    alignment,
    association,
    bags,
    batch,
    camera_throughput,
    doubtful_pairs,
    grasping,
    kicked_cameras,
    machine,
    mast3r,
    prompt,
    recordings,
    rgb_rigs,
    rig_mistakes,
    sam2,
    scaling,
    scene_file,
    service_latency,
    service_soak,
    stability,
    stereo,
)


def stale_scene() -> dict[str, Any]:
    """Of :mod:`benchmarks.stale_scene`, which is loaded where ROS is there."""
    from benchmarks.stale_scene import main

    return main()


BENCHMARKS = {
    "alignment": alignment.main,
    "mast3r": mast3r.main,
    "association": association.main,
    "sam2": sam2.main,
    "prompt": prompt.main,
    "grasping": grasping.main,
    "service": service_latency.main,
    "soak": service_soak.main,
    "stale": stale_scene,
    "cameras": camera_throughput.main,
    "tabletop": recordings.tabletop,
    "shelf": recordings.shelf,
    "stability": stability.main,
    "stereo": stereo.measure,
    "rgb_rigs": rgb_rigs.measure,
    "rig": rig_mistakes.main,
    "kicked": kicked_cameras.main,
    "doubtful": doubtful_pairs.main,
    "batch": batch.main,
    "bags": bags.main,
    "scaling": scaling.main,
    "scene_file": scene_file.main,
}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", type=Path, default=Path("out/benchmarks.json"))
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(
            f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}"
        )
    results: dict[str, Any] = {"machine": machine.describe()}
    _table("machine", results["machine"])
    for name in arguments.names or BENCHMARKS:
        results[name] = BENCHMARKS[name]()
        _table(name, results[name])
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten to {arguments.json}")
    return 0


def _table(title: str, values: Mapping[str, Any]) -> None:
    print(f"\n{title}\n{'-' * len(title)}")
    for key, value in _flat(values):
        print(f"{key:<44} {value:.3f}" if isinstance(value, float) else f"{key:<44} {value}")
    sys.stdout.flush()


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key} / ")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


if __name__ == "__main__":
    sys.exit(main())
