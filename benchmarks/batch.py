"""Batches of small scenes: two workers against one, memory over the scenes, and looking again.

Recordings are constructed: three views of 160x120 each. One worker with one thread builds all of
them, then two workers do. The wall times are those of the machine with whatever else it runs;
beside them stand the processor seconds of a scene, in which other programs' share does not count:
what two workers take more than one is what they cost each other.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from wildseg3d_ros import cli
from wildseg3d_ros.batch.records import RECORD, read_record

SCENES = int(os.environ.get("BENCH_BATCH_SCENES", "100"))
FINISHED = 1000
VIEWS, WIDTH, HEIGHT, OBJECTS = 3, 160, 120, 3


def main() -> dict[str, Any]:
    """Figures by name."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        _construct(root / "in")
        one, two = _measured(root, 1), _measured(root, 2)
        return {
            "scenes": SCENES,
            "one worker": one,
            "two workers": two,
            "two against twice one, wall": one["seconds"] / two["seconds"] / 2,
            "two against twice one, processor": one["cpu_per_scene"] / two["cpu_per_scene"],
            "finished batch": _looked_through(root),
        }


def _construct(folder: Path) -> None:
    from wildseg3d_ros.io.folder import write_folder
    from wildseg3d_testing.scenes import construct_scene

    for seed in range(SCENES):
        truth = construct_scene(VIEWS, WIDTH, HEIGHT, OBJECTS, seed)
        write_folder(folder / f"{seed:04d}", truth.recording())


def _measured(root: Path, workers: int) -> dict[str, Any]:
    output = root / f"out{workers}"
    before, start, load = _child_seconds(), time.perf_counter(), os.getloadavg()[0]
    paths = [str(path) for path in sorted((root / "in").iterdir())]
    words = ["--workers", str(workers), "--threads", "1", "--quiet"]
    code = cli.main(["batch", *paths, "-o", str(output), *words])
    seconds, cpu = time.perf_counter() - start, _child_seconds() - before
    records = [
        r for path in sorted((root / "in").iterdir()) if (r := read_record(output / path.name))
    ]
    done = [record for record in records if record.state == "done"]
    workers_of = {record.worker for record in done}
    memory = [[r.peak_memory_mb for r in done if r.worker == w] for w in sorted(workers_of)]
    return {
        "exit code": code,
        "done": len(done),
        "seconds": seconds,
        "scenes an hour": len(records) / seconds * 3600,
        "cpu_per_scene": cpu / max(len(records), 1),
        "share of a core had": cpu / seconds / workers,
        "median seconds of a scene": statistics.median(r.seconds for r in records),
        "load before and after": [round(load, 1), round(os.getloadavg()[0], 1)],
        "peak MB of each worker after its 5th, middle and last": [
            [m[min(4, len(m) - 1)], m[len(m) // 2], m[-1]] for m in memory
        ],
    }


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _looked_through(root: Path) -> dict[str, Any]:
    """A batch of many finished scenes, which are links to one, run again."""
    source, made = root / "in" / "0000", root / "out1" / "0000"
    record = read_record(made)
    assert record is not None
    for number in range(FINISHED):
        name = f"{number:04d}"
        for start, end in ((source, root / "many" / name), (made, root / "many_out" / name)):
            for path in start.rglob("*"):
                if path.is_file() and path.name != RECORD:
                    target = end / path.relative_to(start)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(path, target)
        again = replace(record, name=name, recording=str(root / "many" / name))
        again.write(root / "many_out" / name)
    paths = [str(path) for path in sorted((root / "many").iterdir())]
    start, cpu = time.perf_counter(), time.process_time()
    code = cli.main(["batch", *paths, "-o", str(root / "many_out"), "--threads", "1", "--quiet"])
    summary = json.loads((root / "many_out" / "batch.json").read_text())
    return {
        "exit code": code,
        "scenes": summary["done"],
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
    }


if __name__ == "__main__":
    json.dump(main(), sys.stdout, indent=1)
