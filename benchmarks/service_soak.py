"""Many clients for a minute: errors, round trips, and whether the node's memory grows.

Eight clients, each a node of its own, in two processes; the replies are those of
:mod:`benchmarks.service_latency`, every tenth a description with normals and masks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.service_latency import CLICK, serving, statistics
from benchmarks.transports import PROFILE

CLIENTS, PROCESSES = 8, 2
SECONDS = 60.0


def ask(clients: int, seconds: float) -> dict:
    """Some clients of this process ask as fast as they are answered."""
    from wildseg3d_ros.ros.client import SceneClient

    times: list[float] = []
    errors: list[str] = []
    barrier = threading.Barrier(clients)

    def one() -> None:
        with SceneClient(timeout=60.0) as client:
            client.wait_until_ready()
            barrier.wait()
            end, count = time.monotonic() + seconds, 0
            while time.monotonic() < end:
                count += 1
                rich = count % 10 == 0
                start = time.perf_counter()
                try:
                    if rich:
                        client.describe([CLICK], include_surface=True, include_masks=True)
                    else:
                        client.segment([CLICK])
                except Exception as error:  # noqa: BLE001  counted, whatever it is
                    errors.append(f"{type(error).__name__}: {error}")
                times.append(1e3 * (time.perf_counter() - start))

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"times": times, "errors": errors}


def main(seconds: float = SECONDS) -> dict:
    """By transports: requests, errors, milliseconds, the node's resident memory over the time."""
    results: dict = {"clients": CLIENTS, "seconds": seconds}
    for number, transports in enumerate(("LARGE_DATA", PROFILE)):
        results[transports] = _soak(transports, number, seconds)
    return results


def _soak(transports: str, number: int, seconds: float) -> dict:
    command = [sys.executable, "-m", "benchmarks.service_soak", "ask"]
    command += [str(CLIENTS // PROCESSES), str(seconds)]
    memory: list[float] = []
    with serving("idle", transports, number) as (server, variables), ExitStack() as files:
        # Not pipes: they would fill before anybody reads them.
        outputs = [files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(PROCESSES)]
        askers = [subprocess.Popen(command, env=variables, stdout=out) for out in outputs]
        while any(asker.poll() is None for asker in askers):
            memory.append(_resident_mib(server.pid))
            time.sleep(0.5)
        found = []
        for out in outputs:
            out.seek(0)
            found.append(json.loads(out.read().splitlines()[-1]))
    times = [t for each in found for t in each["times"]]
    errors = [e for each in found for e in each["errors"]]
    # After a quarter of the time the memory must not grow any more.
    warm = memory[len(memory) // 4 :]
    return {
        "requests": len(times),
        "errors": len(errors),
        "first_error": errors[0] if errors else "",
        **statistics(times),
        "node_mib_warm": warm[0],
        "node_mib_at_the_end": warm[-1],
        "node_mib_max": max(memory),
    }


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    if sys.argv[1:2] == ["ask"]:
        print(json.dumps(ask(int(sys.argv[2]), float(sys.argv[3]))))
    else:
        print(json.dumps(main(), indent=1))
