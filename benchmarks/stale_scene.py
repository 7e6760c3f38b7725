"""A thing of the simulated cell is moved: seconds until the scene is called stale, and until the
renewed scene has the thing where it lies now.

Cell, node and this client are processes of their own; the node renews stale scenes by itself. The
time counts from when all cameras show the change: a real one does within a frame, the cell has to
render it first.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from visualization_msgs.msg import MarkerArray

from wildseg3d_msgs.srv import ChangeCell
from wildseg3d_ros.demo import NodeProcess, own_domain, until_ready
from wildseg3d_ros.ros.client import SceneClient
from wildseg3d_ros.ros.qos import latched

MOVES = 5
_STEP = 0.06
"""Metres that a thing is moved by."""
_NEAR = 0.03
"""Metres between the middles of the true box and of an object's, for it to be the thing."""
_PATIENCE = 90.0
_QUIET = 8.0
"""Seconds without a change before the next one: the node waits until a view stands still."""


class _Observed:
    """What node and cell say, and requests to them."""

    def __init__(self, client: SceneClient) -> None:
        self.client, self.stale, self.places = client, "", {}
        node = client.node
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 20)
        node.create_subscription(MarkerArray, "truth/boxes", self._told, latched())
        self._change = node.create_client(ChangeCell, "change_cell")

    def _diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            for value in status.values:
                if value.key == "stale cameras":
                    self.stale = value.value

    def _told(self, message: MarkerArray) -> None:
        """Middles of the true boxes [m], by thing."""
        middles = {each.ns: each.pose.position for each in message.markers if each.ns}
        self.places = {name: np.array([p.x, p.y, p.z]) for name, p in middles.items()}

    def change(self, **words: str | float) -> None:
        """Asks the cell."""
        done = threading.Event()
        future = self._change.call_async(ChangeCell.Request(**words))
        future.add_done_callback(lambda _: done.set())
        if not done.wait(_PATIENCE):
            raise TimeoutError("the cell does not answer")

    def distance(self, name: str) -> float:
        """Metres from a thing to the middle of the nearest object's box."""
        boxes = [each.box for each in self.client.list_objects() if each.box is not None]
        off = [np.linalg.norm(box.frame_from_box[:3, 3] - self.places[name]) for box in boxes]
        return float(min(off, default=np.inf))


def _seconds_until(condition: Callable[[], bool], start: float) -> float:
    while not condition():
        if time.monotonic() - start > _PATIENCE:
            return float("nan")
        time.sleep(0.05)
    return time.monotonic() - start


def main() -> dict:
    """Medians and worst of the moves."""
    cameras = [f"cam_{k}" for k in range(4)]
    node = ["--ros-args", "-p", f"cameras:={cameras}", "-p", "rebuild_when_stale:=true"]
    node += ["-p", "image_timeout:=120.0"]
    cell = ["--views=4", "--objects=6", "--rate=2.0"]
    stale, renewed, rng = [], [], np.random.default_rng(0)
    own_domain()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        nodes = [
            running.enter_context(NodeProcess(Path(folder), name, module, words))
            for name, module, words in (
                ("cell", "wildseg3d_ros.ros.cell_node", cell),
                ("scene_node", "wildseg3d_ros.ros.scene_node", node),
            )
        ]
        client = running.enter_context(SceneClient(timeout=_PATIENCE))
        until_ready(client, nodes, _PATIENCE)
        client.build()
        seen = _Observed(client)
        if np.isnan(_seconds_until(lambda: bool(seen.places), time.monotonic())):
            raise TimeoutError("the cell publishes no boxes")
        names = sorted(name for name in seen.places if seen.distance(name) < _NEAR)
        for name in names[:MOVES]:
            time.sleep(_QUIET)
            before, (x, y) = seen.places[name], _STEP * _direction(rng)
            seen.change(what="move", name=name, x=x, y=y)
            start = time.monotonic()
            _seconds_until(lambda: not np.array_equal(seen.places[name], before), start)  # noqa: B023
            stale.append(_seconds_until(lambda: bool(seen.stale), start))
            renewed.append(_seconds_until(lambda: seen.distance(name) < _NEAR, start))  # noqa: B023
    if not stale:
        raise ValueError("no thing of the cell is an object of the scene")
    told, found = (np.array(each)[~np.isnan(each)] for each in (stale, renewed))
    return {
        "things that were moved": len(stale),
        "called stale": len(told),
        "found by the renewed scene": len(found),
        "given up after [s]": _PATIENCE,
        "called stale after [s], median": median(told),
        "called stale after [s], worst": max(told),
        "renewed scene has it after [s], median": median(found),
        "renewed scene has it after [s], worst": max(found),
    }


def _direction(rng: np.random.Generator) -> np.ndarray:
    step = rng.normal(size=2)
    return step / np.linalg.norm(step)
