"""Asks one node random things from several clients at once, while it is built, edited, captured,
saved, loaded, restarted and configured: python test/fuzz --help."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Before rclpy reads them: a domain of its own, as the tests of the ROS layer have.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
PATHS = [str(HERE.parents[1]), str(HERE.parent / "ros"), str(HERE)]
os.environ["PYTHONPATH"] = os.pathsep.join([*PATHS, os.environ.get("PYTHONPATH", "")])
sys.path[:0] = PATHS
if "ROS_DOMAIN_ID" not in os.environ:
    from wildseg3d_ros.core.domain import free_domain

    os.environ["ROS_DOMAIN_ID"] = str(free_domain())

LONGEST = 5.0
"""Seconds that a call may take, but for those of `SLOW`."""
SLOW = ("build", "configure")
"""Calls that may take longer: builds, and the start of the build process with its models."""
_DEFECTS = ("Traceback", "defect in", "message dropped", "Segmentation fault", "not shown")


def serve(folder: str) -> int:
    """The node, whose build process knows the colours of the table's balls."""
    from wildseg3d_ros.ros.running import run_node
    from wildseg3d_ros.ros.scene_node import SceneNode

    parameters = ["cameras:=[front, left, right]", "image_timeout:=60.0"]
    given = [word for each in (*parameters, f"scene_folder:={folder}") for word in ("-p", each)]
    return run_node(lambda: SceneNode("table:color_builder"), ["--ros-args", *given])


def cameras() -> int:
    """The cameras of the table."""
    import table

    from wildseg3d_ros.ros.replay_node import ReplayNode
    from wildseg3d_ros.ros.running import run_node

    return run_node(lambda: ReplayNode(table.make_recording(), rate=10.0), [])


def attack(given: argparse.Namespace, node: subprocess.Popen, folder: Path) -> dict:
    """Asks until all requests were made; returns what became of them."""
    from actors import Asker, Builder, Capturer, Editor, Filer, Journal, Manager
    from checks import Checks

    journal, checks, seed = Journal(given.requests), Checks(), given.seed
    Filer.folder = folder
    first = Builder(journal, checks, seed, 0.0)
    checks.built.add(first.client.build().scene_id)
    askers = [Asker(journal, checks, seed + k, 0.0) for k in range(given.clients)]
    others = [first, *(
        kind(journal, checks, seed + 100 + k, pause)
        for k, (kind, pause) in enumerate(
            ((Editor, 0.3), (Capturer, 0.3), (Filer, 0.4), (Manager, 2.0))
        )
    )]  # fmt: skip
    first._pause = 0.5
    for actor in (*askers, *others):
        actor.start()
    for asker in askers:
        asker.join()
    for actor in (*others, *askers):
        actor.end()
    if node.poll() is not None:
        journal.fault(f"the node died with status {node.returncode}")
    slow = [
        f"{kind}: {max(seconds):.1f} s"
        for kind, seconds in journal.seconds.items()
        if kind not in SLOW and max(seconds) > given.longest
    ]
    journal.faults += slow
    if checks.verified < given.requests / 5:
        journal.fault(f"only {checks.verified} answers could be verified: too few to tell")
    return {
        "calls": sum(map(len, journal.seconds.values())),
        "verified": checks.verified,
        "seconds": {
            kind: {
                "calls": len(seconds),
                "median": statistics.median(seconds),
                "longest": max(seconds),
            }
            for kind, seconds in sorted(journal.seconds.items())
        },
        "outcomes": {" ".join(key): n for key, n in sorted(journal.outcomes.items())},
        "faults": journal.faults,
    }


def run(given: argparse.Namespace) -> dict:
    """Starts node and cameras, attacks, and reads the node's log."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, log = Path(scratch) / "scenes", Path(scratch) / "log"
        folder.mkdir()
        (folder / "notes").write_text("what a person wrote")
        command = [sys.executable, str(HERE)]
        with log.open("w") as file:
            node = subprocess.Popen([*command, "--serve", str(folder)], stdout=file, stderr=file)
        publishing = subprocess.Popen([*command, "--cameras"], stderr=subprocess.DEVNULL)
        try:
            found = attack(given, node, folder)
        finally:
            for process in (node, publishing):
                process.send_signal(signal.SIGINT)
            statuses = [process.wait(30) for process in (node, publishing)]
        lines = log.read_text(errors="replace").splitlines()
        if statuses[0] != 0:
            found["faults"].append(f"the node ended with status {statuses[0]}")
        for number, line in enumerate(lines):
            if any(word in line for word in _DEFECTS):
                found["faults"].append("\n".join(lines[max(number - 1, 0) : number + 25]))
        if (folder / "notes").read_text() != "what a person wrote":
            found["faults"].append("a file that is no scene was written over")
        found["written"] = sorted(path.name for path in Path(scratch).iterdir())
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=11_000, help="look-ups to make")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=3, help="that ask at once")
    parser.add_argument("--longest", type=float, default=LONGEST, help="call [s]")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--cameras", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.serve)
    if given.cameras:
        return cameras()
    start, before = time.monotonic(), os.getloadavg()
    found = run(given)
    faults = found.pop("faults")
    print(json.dumps(found, indent=1))
    for text in faults[:20]:
        print(text)
    load = f"load {before[0]:.1f} before, {os.getloadavg()[0]:.1f} after"
    print(f"{found['calls']} calls in {time.monotonic() - start:.0f} s, {load}")
    print(f"{given.requests} requests, {found['verified']} verified, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
