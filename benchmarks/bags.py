"""Reading bags of 1 GB: processor and wall time, and memory, each in a process of its own.

Four fixed cameras of 640x480 with depth in 32FC1, 116 moments, uncompressed; from the page cache
where it holds them. The rate is bytes of the bag over wall time; that of a quarter shows whether
memory grows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOMENTS = 116


def main() -> dict[str, Any]:
    """Figures by storage and number of moments."""
    results = {}
    with tempfile.TemporaryDirectory() as place:
        for storage in ("mcap", "sqlite3"):
            for moments in (MOMENTS // 4, MOMENTS):
                name = f"{storage}, {moments} moments"
                folder = Path(place, name)
                _write(folder, storage, moments)
                words = [sys.executable, "-m", "benchmarks.bags", str(folder)]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                results[name] = json.loads(done.stdout.splitlines()[-1])
    return results


def read(folder: Path) -> dict[str, float]:
    """What reading a bag takes in this process."""
    from wildseg3d_ros.evaluation import peak_memory_mb
    from wildseg3d_ros.io.loading import load_recording

    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    wall, cpu, before = time.perf_counter(), time.process_time(), peak_memory_mb()
    load_recording(folder)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "MB": size,
        "wall": wall,
        "cpu": cpu,
        "MB/s": size / wall,
        "MB per cpu second": size / cpu,
        "memory_mb before": before,
        "memory_mb": peak_memory_mb(),
    }


def _write(folder: Path, storage: str, moments: int) -> None:
    from wildseg3d_testing.bags import START_NS, camera_messages, fixed_cameras, write_bag
    from wildseg3d_testing.scenes import construct_scene

    views = construct_scene(4, 640, 480).views

    def messages() -> Iterator[tuple[str, int, Any]]:
        yield from fixed_cameras(views, 1)
        for moment in range(1, moments):
            for view in views:
                yield from camera_messages(view.name, view, START_NS + moment * 100_000_000)

    write_bag(folder, messages(), storage)


if __name__ == "__main__":
    print(json.dumps(read(Path(sys.argv[1]))))
