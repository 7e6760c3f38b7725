"""Round trip of the service `segment` over DDS: node and client in processes of their own.

Measured with a reply of 20,000 points (x, y, z, rgb), with Fast DDS's default transports, with
LARGE_DATA and with config/fastdds.xml, while the node is idle and while its build process is busy;
and without ROS (the same answer, in process) as the baseline of what DDS and rclpy add.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median, quantiles

from benchmarks.prompt import make_scene
from benchmarks.transports import TRANSPORTS, environment

POINTS = 20_000
REPEATS = 300
WARM_UP = 20
CACHED_REPEATS = 30
CLICK = ("camera0", 200.0, 110.0)


def busy_builder(settings):
    """A builder for the node's build process that calculates on all cores until it is ended."""
    import numpy as np

    def build(views, progress, world_frame):
        matrix = np.random.default_rng(0).random((700, 700))
        while True:
            progress.update(0.5)
            matrix = np.tanh(matrix @ matrix / 700)

    return build


def serve(load: str) -> None:
    """The node, answering from a scene that was not built from cameras."""
    from sensor_msgs.msg import CameraInfo

    from wildseg3d_ros.config import SceneConfig
    from wildseg3d_ros.grasping.graspable import bounding_boxes
    from wildseg3d_ros.ros.building.process import Settings
    from wildseg3d_ros.ros.building.worker import BuildWorker
    from wildseg3d_ros.ros.running import run_node
    from wildseg3d_ros.ros.scene_node import SceneNode
    from wildseg3d_ros.ros.services.current import CurrentScene
    from wildseg3d_ros.streams.camera_info import lens_from_info

    scene = make_scene(POINTS)
    calibrations = {
        name: lens_from_info(CameraInfo(k=K.ravel()), image.shape[:2], name, "")
        for name, image, K in zip(scene.view_names, scene.images, scene.K, strict=True)
    }

    def make() -> SceneNode:
        node = SceneNode()
        node.trigger_configure()
        node.trigger_activate()
        node.adopt(CurrentScene(scene, calibrations, {}, boxes=bounding_boxes(scene)))
        if load == "building":
            settings = Settings(SceneConfig(), "benchmarks.service_latency:busy_builder")
            # Reports and waits as a build of the node does, in the node's own process.
            work = BuildWorker(settings, print).build
            build = ((), "world", lambda *_: None, lambda: not node.context.ok())
            threading.Thread(target=work, args=build, daemon=True).start()
        return node

    parameters = ["-p", f"cameras:={list(scene.view_names)}", "-p", "autostart:=false"]
    sys.exit(run_node(make, ["--ros-args", *parameters]))


def ask() -> dict:
    """The client: times round trips."""
    from wildseg3d_ros.ros.client import SceneClient

    with SceneClient(timeout=60.0) as client:
        client.wait_until_ready()
        points, times = 0, []
        for _ in range(WARM_UP + REPEATS):
            start = time.perf_counter()
            found = client.segment([CLICK])
            times.append(1e3 * (time.perf_counter() - start))
            points = len(found.points)
        # Cached after the first time: normals and coverage.
        rich = []
        for _ in range(CACHED_REPEATS):
            start = time.perf_counter()
            client.describe([CLICK], include_surface=True)
            rich.append(1e3 * (time.perf_counter() - start))
    return {
        "points": points,
        **statistics(times[WARM_UP:]),
        "described": {"first_ms": rich[0], "later_median_ms": median(rich[1:])},
    }


def statistics(milliseconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {"median_ms": median(milliseconds), "p99_ms": quantiles(milliseconds, n=100)[98]}


def _in_process() -> dict[str, float]:
    from wildseg3d_ros.core.types import Click, Prompt
    from wildseg3d_ros.pipeline import segment

    scene, prompt = make_scene(POINTS), Prompt((Click(*CLICK),))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        segment(scene, prompt)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics(times)


@contextmanager
def serving(load: str, transports: str, number: int) -> Iterator[tuple[subprocess.Popen, dict]]:
    """The node in a process of its own, on a domain of its own; gives it and the environment.

    Args:
        load: idle or building.
        transports, number: see :func:`benchmarks.transports.environment`.
    """
    command = [sys.executable, "-m", "benchmarks.service_latency", "serve", load]
    variables = environment(transports, number)
    server = subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL)
    try:
        yield server, variables
    finally:
        server.terminate()
        server.wait(30)


def main() -> dict:
    """Milliseconds per round trip, by transports and load."""
    results: dict = {"in_process": _in_process()}
    runs = [(transports, load) for transports in TRANSPORTS for load in ("idle", "building")]
    command = [sys.executable, "-m", "benchmarks.service_latency", "ask"]
    for number, (transports, load) in enumerate(runs):
        with serving(load, transports, number) as (_, variables):
            done = subprocess.run(
                command, env=variables, stdout=subprocess.PIPE, text=True, check=True
            )
        found = json.loads(done.stdout.splitlines()[-1])
        results.setdefault(transports, {})[load] = found
    return results


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    elif sys.argv[1:] == ["ask"]:
        print(json.dumps(ask()))
    else:
        print(json.dumps(main(), indent=1))
