"""``wildseg3d cell``: a simulated robot cell that publishes as real cameras do.

Topics are those of realsense2_camera with aligned depth (16UC1, millimetres), TF has the poses
that the rig reports, and ``truth/`` what is really there. The service ``change_cell`` changes it.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import get_args

from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock

from wildseg3d_msgs.srv import ChangeCell
from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.ros.cell_topics import CellTopics
from wildseg3d_ros.ros.guard import always_replies
from wildseg3d_ros.ros.messages.conversions import time_message
from wildseg3d_ros.ros.running import run_node
from wildseg3d_ros.sim.live import WRIST, CellSpec, LiveCell
from wildseg3d_ros.sim.things import Things

_REPLY_SECONDS = 60.0
_TICK = 0.02
"""Seconds between two messages on ``/clock``."""


class CellNode(Node):
    """Publishes a live cell.

    Rendering and publishing have a thread of their own, as OpenGL wants it; what changes the cell
    is done there between two frames.

    Args:
        spec: of the cell.
        rate: frames per second of every camera.
        dwell: seconds for which the wrist camera stands at each place of its tour.
        compressed: whether images are published compressed as well.
        clock: whether the cell has a time of its own, published on ``/clock``, from 1 s on.
        options: of :class:`rclpy.node.Node`.

    Raises:
        InputError: the cell cannot be made or rendered here.
    """

    def __init__(
        self,
        spec: CellSpec,
        rate: float = 2.0,
        dwell: float = 4.0,
        compressed: bool = False,
        clock: bool = False,
        **options: object,
    ) -> None:
        super().__init__("cell", **options)  # type: ignore[arg-type]
        self._spec, self._period, self._dwell = spec, 1.0 / rate, dwell
        self._off: set[str] = set()
        self._changes: queue.Queue[Callable[[LiveCell], None]] = queue.Queue()
        self._touring = True
        self._out = CellTopics(self, compressed)
        self._start = time.monotonic() if clock else None
        if clock:
            self._time = self.create_publisher(Clock, "/clock", 10)
            self.create_timer(_TICK, self._tick)
        self._stopping, self._started = threading.Event(), threading.Event()
        self._failure: Exception | None = None
        self.things: tuple[str, ...] = ()
        self.create_service(
            ChangeCell, "change_cell", always_replies(self._change, ChangeCell, self.get_logger())
        )
        self._thread = threading.Thread(target=self._run, name="cell", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self.destroy_node()
            raise self._failure

    def destroy_node(self) -> None:
        """Stops rendering and leaves the graph."""
        self._stopping.set()
        self._thread.join()  # a thread that renders while Python ends takes the process with it
        super().destroy_node()

    # ---- the cell's own thread ---------------------------------------------------------------

    def _run(self) -> None:
        try:
            cell = LiveCell(self._spec)
            self._out.static(cell)
        except Exception as error:  # noqa: BLE001  the constructor raises it
            self._failure = error
            self._started.set()
            return
        self.things = cell.things
        self._started.set()
        with contextlib.closing(cell):
            self._publish(cell)

    def _publish(self, cell: LiveCell) -> None:
        self.get_logger().info("rendering the first pictures")
        self._publish_truth(cell)
        self._publish_all(cell)
        names = ", ".join(cell.cameras)
        self.get_logger().info(f"publishing cameras {names} at {1 / self._period:g} Hz")
        moved = time.monotonic()
        place = 0
        while not self._stopping.is_set():
            start = time.monotonic()
            while not self._changes.empty():
                self._changes.get()(cell)
                self._publish_truth(cell)
            if self._touring and start - moved > self._dwell:
                place, moved = place + 1, start
                cell.next_place(place)
            self._publish_all(cell)
            self._stopping.wait(max(self._period - (time.monotonic() - start), 0.0))

    def _publish_all(self, cell: LiveCell) -> None:
        """What all cameras sense, of one time: it may take long to render."""
        sensed = [
            cell.sensed(name)
            for name in cell.cameras
            if name not in self._off and not self._stopping.is_set()
        ]
        if not self._stopping.is_set():
            self._out.cameras(cell, sensed, self._now_ns())

    def _publish_truth(self, cell: LiveCell) -> None:
        self.things = cell.things
        self._out.truth(cell, self._now_ns())

    def _now_ns(self) -> int:
        if self._start is None:
            return self.get_clock().now().nanoseconds
        return 1_000_000_000 + int(1e9 * (time.monotonic() - self._start))

    def _tick(self) -> None:
        now = time_message(self._now_ns())
        self._time.publish(Clock(clock=now))

    # ---- requests ----------------------------------------------------------------------------

    def _change(self, request: ChangeCell.Request) -> ChangeCell.Response:
        done: queue.Queue[Exception | None] = queue.Queue()

        def change(cell: LiveCell) -> None:
            try:
                self._apply(cell, request)
                self._publish_all(cell)  # what is built from now on sees the change
                done.put(None)
            except Exception as error:  # noqa: BLE001  it is the reply
                done.put(error)

        self._changes.put(change)
        error = done.get(timeout=_REPLY_SECONDS)
        if error is not None:
            raise error
        return ChangeCell.Response(things=list(self.things))

    def _apply(self, cell: LiveCell, request: ChangeCell.Request) -> None:
        what, name = request.what, request.name
        if what == "shuffle":
            cell.shuffle()
        elif what == "move":
            cell.move(name, request.x, request.y, request.angle)
        elif what == "remove":
            cell.remove(name)
        elif what == "kick":
            cell.kick(name, request.x, request.y)
        elif what == "light":
            cell.set_light(request.x)
        elif what == "arm":
            self._touring = name == "tour"
            if not self._touring:
                cell.place_arm(name)
        elif what in ("off", "on"):
            if name not in cell.cameras:
                raise PromptError(f"there is no camera '{name}', but {', '.join(cell.cameras)}")
            (self._off.add if what == "off" else self._off.discard)(name)
        else:
            raise PromptError(
                f"what is one of shuffle, move, remove, kick, off, on, light and arm; got '{what}'"
            )
        self.things = cell.things


def main(args: Sequence[str] | None = None, prog: str = "cell") -> int:
    """Publishes a cell until it is told to stop.

    Args:
        args: command line without the program's name; None for the process's own.
        prog: name of the command in its help.
    """
    words = list(sys.argv[1:] if args is None else args)
    spec = CellSpec()
    parser = argparse.ArgumentParser(
        prog=prog, description="A simulated robot cell that publishes as real cameras do."
    )
    option = parser.add_argument
    option("--seed", type=int, default=spec.seed, help="another seed, another cell (%(default)s)")
    option("--objects", type=int, default=spec.objects, help="how many things (%(default)s)")
    option("--views", type=int, default=spec.views, help="how many fixed cameras (%(default)s)")
    text = "household things, or a random scene: of any kind, on a table, in a bin, on a shelf"
    option("--things", choices=get_args(Things), default=spec.things, help=f"{text} (%(default)s)")
    text = f"one more camera, '{WRIST}', that tours the table as on an arm"
    option("--wrist", action="store_true", help=text)
    text = "an arm that passes through the views, and carries the wrist camera where there is one"
    option("--arm", action="store_true", help=text)
    option("--width", type=int, default=spec.width, help="of the pictures (%(default)s)")
    option("--height", type=int, default=spec.height, help="of the pictures (%(default)s)")
    text = "passes of light per picture: more is smoother and slower (%(default)s)"
    option("--light-samples", type=int, default=spec.light_samples, help=text)
    option("--rate", type=float, default=2.0, help="frames per second (%(default)s)")
    text = "seconds for which wrist camera and arm stand at each place (%(default)s)"
    option("--dwell", type=float, default=4.0, help=text)
    option("--compressed", action="store_true", help="publish images compressed as well")
    option("--clock", action="store_true", help="publish a time of its own on /clock")
    given = parser.parse_args(remove_ros_args(words))
    if not 0 < given.rate <= 60:
        parser.error(f"--rate must lie in (0, 60], got {given.rate}")
    known = {field.name for field in fields(CellSpec)}
    asked = CellSpec(**{k: v for k, v in vars(given).items() if k in known})
    extras = given.compressed, given.clock
    return run_node(lambda: CellNode(asked, given.rate, given.dwell, *extras), words)


if __name__ == "__main__":
    sys.exit(main())
