"""``wildseg3d demo-live``: a simulated cell, a scene node and the page, by one command."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

from wildseg3d_ros.core.progress_bar import ProgressBar
from wildseg3d_ros.demo import NodeProcess, end_on_sigterm, own_domain, until_ready
from wildseg3d_ros.sim.things import Things


def main(arguments: Sequence[str] | None = None, prog: str = "wildseg3d demo-live") -> int:
    """Starts all, builds a first scene and serves the page until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="A simulated robot cell, a scene node and a page to click objects in.",
    )
    option = parser.add_argument
    option("--views", type=int, default=4, help="fixed cameras (%(default)s)")
    option("--objects", type=int, default=10, help="things on the table (%(default)s)")
    option("--seed", type=int, default=0, help="another seed, another cell (%(default)s)")
    option("--rate", type=float, default=1.0, help="frames per second (%(default)s)")
    text = "household things, or a random scene: of any kind, on a table, in a bin, on a shelf"
    option("--things", choices=get_args(Things), default="catalogue", help=f"{text} (%(default)s)")
    option("--arm", action="store_true", help="an arm that passes, and is left out by its URDF")
    option("--port", type=int, default=8080, help="of the page (%(default)s)")
    option("--host", default="127.0.0.1", help="0.0.0.0: for other machines, with a token")
    option("--out", type=Path, default=Path("out/demo-live"), help="folder for logs")
    given = parser.parse_args(arguments)
    from wildseg3d_ros.ros.client import SceneClient

    end_on_sigterm()
    cameras = [f"cam_{k}" for k in range(given.views)]
    given.out.mkdir(parents=True, exist_ok=True)
    passed = ("views", "objects", "seed", "rate", "things")
    cell = [f"--{name}={getattr(given, name)}" for name in passed]
    node = ["--ros-args", "-p", f"cameras:={cameras}", "-p", "image_timeout:=120.0"]
    if given.arm:
        cell.append("--arm")
        node += ["-p", "robot.description_topic:=robot_description"]
    print(f"ROS_DOMAIN_ID {own_domain()}, logs in {given.out}/", flush=True)
    with ExitStack() as running:
        nodes = [
            running.enter_context(NodeProcess(given.out, name, module, words))
            for name, module, words in (
                ("cell", "wildseg3d_ros.ros.cell_node", cell),
                ("scene_node", "wildseg3d_ros.ros.scene_node", node),
            )
        ]
        with SceneClient(timeout=60.0) as client, ProgressBar() as bar:
            until_ready(client, nodes)
            report = client.build(progress=bar.report)
        print(f"scene {report.scene_id}: {report.objects} objects in {report.seconds:.1f} s")
        page = ["view", "--live", f"--port={given.port}", f"--host={given.host}"]
        try:
            served = subprocess.run(
                [sys.executable, "-m", "wildseg3d_ros.cli", *page], check=False
            )
            return served.returncode
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
