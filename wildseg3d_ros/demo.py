"""The main job, end to end: real processes over real DDS.

A replay node publishes a recording as live cameras, the scene node builds a scene from them, and
a client clicks objects and gets their clouds. Where the recording has label images, the clicks are
made at the most interior pixels of objects and the answers are scored; elsewhere the largest
objects that the scene found are clicked.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.domain import free_domain
from wildseg3d_ros.core.errors import FileError, WildSeg3DError
from wildseg3d_ros.core.progress_bar import ProgressBar
from wildseg3d_ros.core.types import Click, View
from wildseg3d_ros.evaluation import Truth, mean, most_interior_pixel
from wildseg3d_ros.io.clouds import write_ply
from wildseg3d_ros.io.images import write_image
from wildseg3d_ros.io.loading import load_recording
from wildseg3d_ros.io.pictures import PicturedScene, Selection, contact_sheet
from wildseg3d_ros.io.recording import Recording

CLICKS_TIMED = 9
"""Round trips of which the median is printed."""


@dataclass(frozen=True)
class Target:
    """An object to click, and its label in the label images; None where there are none."""

    name: str
    click: Click
    label: int | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """One row of the table. The IoUs are NaN without a given mask."""

    target: Target
    selection: Selection | None
    iou: float
    iou_at_depth: float
    milliseconds: float
    error: str = ""


def main(arguments: Sequence[str] | None = None, prog: str = "wildseg3d demo") -> int:
    """``wildseg3d demo``; returns 0 when every click was answered, else 1."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Build, click and score a small scene over ROS 2."
    )
    parser.add_argument("--data", type=Path, help="recording to replay (default: the shipped one)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for results")
    parser.add_argument(
        "--objects", type=int, default=None, help="clicks (default: 3; with --data: all, up to 8)"
    )
    given = parser.parse_args(arguments)
    if given.objects is not None and given.objects < 1:
        parser.error(f"--objects must be 1 or more, got {given.objects}")
    end_on_sigterm()
    limit = given.objects or (8 if given.data else 3)
    results = run(given.data or shipped_recording(), given.out, limit)
    return 0 if results and not any(result.error for result in results) else 1


def shipped_recording() -> Path:
    """The tabletop scene that comes with the project.

    Raises:
        FileError: it is not where it should be.
    """
    package = Path(__file__).resolve().parent
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if p]
    places = [package.parent / "examples" / "tabletop"]
    places += [p / "share" / "wildseg3d" / "examples" / "tabletop" for p in prefixes]
    for place in places:
        if (place / "transforms.json").is_file():
            return place
    raise FileError(
        f"the shipped recording is in none of {', '.join(map(str, places))}; name one with --data"
    )


def run(folder: Path, out: Path, limit: int) -> list[Result]:
    """Replays a folder, builds its scene, clicks up to ``limit`` objects, writes the answers."""
    from wildseg3d_ros.ros.client import SceneClient
    from wildseg3d_ros.ros.replay_node import camera_names

    recording = load_recording(folder)
    cameras = camera_names(recording)
    views = [
        replace(view, name=camera) for view, camera in zip(recording.views, cameras, strict=True)
    ]
    recording = replace(recording, views=tuple(views))
    posed = any(view.world_from_cam_prior is not None for view in views)
    out.mkdir(parents=True, exist_ok=True)
    domain = own_domain()
    print(
        f"replaying {folder}: {len(views)} cameras, ROS_DOMAIN_ID {domain}, logs in {out}/",
        flush=True,
    )
    with ExitStack() as running:
        nodes = [
            running.enter_context(NodeProcess(out, name, module, arguments))
            for name, module, arguments in (
                ("replay", "wildseg3d_ros.ros.replay_node", [str(folder), "--rate", "0.5"]),
                (
                    "scene_node",
                    "wildseg3d_ros.ros.scene_node",
                    [
                        *("--ros-args", "-p", f"cameras:={list(cameras)}"),
                        # A recording may take longer to load than the node to start.
                        *("-p", "image_timeout:=60.0"),
                        *("-p", f"allow_missing_poses:={str(not posed).lower()}"),
                    ],
                ),
            )
        ]
        with SceneClient(timeout=60.0) as client, ProgressBar() as bar:
            until_ready(client, nodes)
            try:
                report = client.build(progress=bar.report)
            except WildSeg3DError:
                for node in nodes:  # a node that ended is the cause, and what came back its effect
                    node.check()
                raise
            labels = client.label_maps(cameras)
            print(f"scene {report.scene_id}: {report.objects} objects in {report.seconds:.1f} s")
            for warning in report.warnings:
                print(f"warning: {warning}")
            truth = _truth(recording)
            targets = _given_targets(recording, truth, limit) or _found_targets(labels, limit)
            results = [_click(client, target, truth) for target in targets]
    _print_table(results)
    _write(out, views, labels, results)
    return results


def own_domain() -> int:
    """A ROS domain of our own, so that the demo neither disturbs nor hears a running robot."""
    domain = free_domain()
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    # Camera images do not fit the default UDP buffers: most would be lost.
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
    return domain


def end_on_sigterm() -> None:
    """Makes SIGTERM end this process as Ctrl-C does, with all that it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


class NodeProcess:
    """A node in a process of its own, stopped at the end of the ``with`` block."""

    def __init__(self, out: Path, name: str, module: str, arguments: Sequence[str]) -> None:
        self.name, self.log = name, out / f"{name}.log"
        self._command = [sys.executable, "-m", module, *arguments]

    def __enter__(self) -> NodeProcess:
        with self.log.open("w") as log:
            self._running = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.send_signal(signal.SIGINT)
        try:
            self._running.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()

    def check(self) -> None:
        """Raises WildSeg3DError with the end of the log when the process has ended."""
        if self._running.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])
            raise WildSeg3DError(
                f"{self.name} ended with status {self._running.returncode}; the end of its log "
                f"{self.log}:\n{tail}"
            )


def until_ready(client, nodes: Sequence[NodeProcess], timeout: float = 90.0) -> None:
    """Waits until the scene node answers.

    Raises:
        WildSeg3DError: a process ended; with the end of its log. TimeoutError: none answers.
    """
    deadline = time.monotonic() + timeout
    while True:
        for node in nodes:
            node.check()
        try:
            return client.wait_until_ready(timeout=2.0)
        except TimeoutError:
            if time.monotonic() > deadline:
                raise


def _truth(recording: Recording) -> Truth:
    masks = zip(recording.views, recording.object_masks, strict=True)
    return Truth(
        {view.name: mask for view, mask in masks if mask is not None},
        {
            view.name: np.ones(view.size, bool) if view.depth is None else view.depth > 0
            for view in recording.views
        },
    )


def _given_targets(recording: Recording, truth: Truth, limit: int) -> list[Target]:
    """Objects of the label images: large, medium and small ones of the view with the most."""
    if not truth.labels:
        return []
    camera = truth.view_with_most_objects()
    area = truth.areas(camera)
    ranked = sorted(area, key=lambda label: area[label], reverse=True)
    picked = np.linspace(0, len(ranked) - 1, min(limit, len(ranked))).round().astype(int)
    labels = [ranked[i] for i in picked]
    return [Target(recording.name_of(i), truth.click(camera, i), i) for i in labels]


def _found_targets(labels: dict[str, NDArray[np.int32]], limit: int) -> list[Target]:
    """The largest objects of the view with the most."""
    camera = max(labels, key=lambda name: len(np.unique(labels[name])))
    ids, counts = np.unique(labels[camera][labels[camera] > 0], return_counts=True)
    return [
        Target(f"object {i}", Click(camera, *most_interior_pixel(labels[camera] == i)))
        for i in ids[np.argsort(-counts)][:limit]
    ]


def _click(client, target: Target, truth: Truth) -> Result:
    """Asks once for cloud and masks, then times the cloud alone."""
    from wildseg3d_ros.ros.messages.answers import object_cloud

    click = (target.click.view, target.click.u, target.click.v)
    nothing = np.nan if target.label is None else 0.0
    try:
        more = client.describe([click], include_masks=True)
    except WildSeg3DError as error:
        return Result(target, None, nothing, nothing, np.nan, str(error))
    times = []
    for _ in range(CLICKS_TIMED):
        start = time.perf_counter()
        found = client.segment([click])
        times.append(1e3 * (time.perf_counter() - start))
    answer = object_cloud(found, more)  # pyright: ignore[reportPossiblyUnboundVariable]
    iou = iou_at_depth = nothing
    if target.label is not None:
        scores = truth.compare(answer.masks, target.label, truth.labels)
        means = [mean(score.iou for score in by_view.values()) for by_view in scores]
        iou, iou_at_depth = (np.nan if value is None else value for value in means)
    selection = Selection((target.click,), answer, target.name)
    return Result(target, selection, iou, iou_at_depth, median(times))


def _print_table(results: Sequence[Result]) -> None:
    width = max([len(result.target.name) for result in results] + [6])
    columns = f"{'click':>16}  {'points':>7}  {'IoU':>5}  {'at depth':>8}  {'ms':>6}"
    print(f"\n{'object':{width}}  {columns}")
    for result in results:
        target = result.target
        click = f"{target.click.view} {target.click.u},{target.click.v}"
        points = len(result.selection.cloud.points) if result.selection else 0
        print(
            f"{target.name:{width}}  {click:>16}  {points:7d}  {result.iou:5.3f}"
            f"  {result.iou_at_depth:8.3f}  {result.milliseconds:6.1f}"
        )
        if result.error:
            print(f"{'':{width}}  no answer: {result.error}")
    print(
        "IoU: mean over all cameras; ms: median round trip of the service with the whole cloud\n"
    )


def _write(
    out: Path,
    views: Sequence[View],
    labels: dict[str, NDArray[np.int32]],
    results: Sequence[Result],
) -> None:
    selections = [result.selection for result in results if result.selection]
    for selection in selections:
        path = out / f"{selection.title.replace(' ', '_')}.ply"
        write_ply(path, selection.cloud.points, selection.cloud.colors)
        print(f"wrote {path}")
    poses = [
        np.eye(4) if view.world_from_cam_prior is None else view.world_from_cam_prior
        for view in views
    ]
    received = PicturedScene(
        view_names=tuple(view.name for view in views),
        images=tuple(view.image for view in views),
        labels=tuple(labels[view.name] for view in views),
        world_from_cam=np.stack(poses),
    )
    path = out / "contact_sheet.png"
    write_image(path, contact_sheet(received, selections))
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
