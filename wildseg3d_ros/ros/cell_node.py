"""``wildseg3d cell``: a simulated robot cell that publishes as real cameras do.

Topics are those of realsense2_camera with aligned depth (16UC1, millimetres), TF has the poses
that the rig reports, and ``truth/`` what is really there. The service ``change_cell`` changes it.
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields

from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from wildseg3d_msgs.srv import ChangeCell
from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.ros.guard import always_replies
from wildseg3d_ros.ros.messages.conversions import (
    header,
    image_from_array,
    time_message,
    transform_from_matrix,
)
from wildseg3d_ros.ros.messages.grasps import pose_message
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.replay_node import WORLD_FRAME, camera_messages, optical_frame
from wildseg3d_ros.ros.running import run_node
from wildseg3d_ros.sim.live import WRIST, CellSpec, LiveCell
from wildseg3d_ros.streams.config import CameraConfig

_REPLY_SECONDS = 60.0


class CellNode(Node):
    """Publishes a live cell.

    Rendering and publishing have a thread of their own, as OpenGL wants it; what changes the cell
    is done there between two frames.

    Args:
        spec: of the cell.
        rate: frames per second of every camera.
        dwell: seconds for which the wrist camera stands at each place of its tour.
        options: of :class:`rclpy.node.Node`.

    Raises:
        InputError: the cell cannot be made or rendered here.
    """

    def __init__(
        self, spec: CellSpec, rate: float = 2.0, dwell: float = 4.0, **options: object
    ) -> None:
        super().__init__("cell", **options)  # type: ignore[arg-type]
        self._spec, self._period, self._dwell = spec, 1.0 / rate, dwell
        self._off: set[str] = set()
        self._changes: queue.Queue[Callable[[LiveCell], None]] = queue.Queue()
        self._topics: dict[str, Publisher] = {}
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
        self._thread.join(timeout=10.0)
        super().destroy_node()

    # ---- the cell's own thread ---------------------------------------------------------------

    def _run(self) -> None:
        try:
            cell = LiveCell(self._spec)
            self._publish_static(cell)
        except Exception as error:  # noqa: BLE001  the constructor raises it
            self._failure = error
            self._started.set()
            return
        self.things = cell.things
        self._started.set()
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
            if self._spec.wrist and start - moved > self._dwell:
                place, moved = place + 1, start
                cell.place_wrist(place)
            self._publish_all(cell)
            self._stopping.wait(max(self._period - (time.monotonic() - start), 0.0))
        cell.close()

    def _publish_static(self, cell: LiveCell) -> None:
        fixed = [
            transform_from_matrix(cell.reported[name], WORLD_FRAME, optical_frame(name))
            for name in cell.cameras
            if name != WRIST
        ]
        self._static = self.create_publisher(TFMessage, "/tf_static", latched())
        self._static.publish(TFMessage(transforms=fixed))
        if self._spec.wrist:
            self._moving = self.create_publisher(TFMessage, "/tf", 100)

    def _publish_all(self, cell: LiveCell) -> None:
        for name in cell.cameras:
            if name not in self._off and not self._stopping.is_set():
                self._publish_camera(cell, name)

    def _publish_camera(self, cell: LiveCell, name: str) -> None:
        view = cell.sensed(name)
        stamp = time_message(self.get_clock().now().nanoseconds)
        if name == WRIST:
            transform = transform_from_matrix(
                cell.reported[name], WORLD_FRAME, optical_frame(name)
            )
            transform.header.stamp = stamp
            self._moving.publish(TFMessage(transforms=[transform]))
        qos = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
        for field, message in camera_messages(name, view, "16UC1").items():
            message.header.stamp = stamp
            self._publish(getattr(CameraConfig.of(name), field), message, qos)

    def _publish_truth(self, cell: LiveCell) -> None:
        self.things = cell.things
        stamp_ns = self.get_clock().now().nanoseconds
        poses = [pose_message(pose) for pose in cell.poses().values()]
        message = PoseArray(header=header(WORLD_FRAME, stamp_ns), poses=poses)
        self._publish("truth/poses", message, latched())
        for name in cell.cameras:
            if name != WRIST:
                labels = image_from_array(
                    cell.labels(name), "mono8", optical_frame(name), stamp_ns
                )
                self._publish(f"truth/{name}/labels", labels, latched())

    def _publish(
        self, topic: str, message: Image | CameraInfo | PoseArray, qos: QoSProfile
    ) -> None:
        if topic not in self._topics:
            self._topics[topic] = self.create_publisher(type(message), topic, qos)
        self._topics[topic].publish(message)

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
        elif what in ("off", "on"):
            if name not in cell.cameras:
                raise PromptError(f"there is no camera '{name}', but {', '.join(cell.cameras)}")
            (self._off.add if what == "off" else self._off.discard)(name)
        else:
            raise PromptError(
                f"what is one of shuffle, move, remove, kick, off, on and light; got '{what}'"
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
    text = f"one more camera, '{WRIST}', that tours the table as on an arm"
    option("--wrist", action="store_true", help=text)
    option("--width", type=int, default=spec.width, help="of the pictures (%(default)s)")
    option("--height", type=int, default=spec.height, help="of the pictures (%(default)s)")
    text = "passes of light per picture: more is smoother and slower (%(default)s)"
    option("--light-samples", type=int, default=spec.light_samples, help=text)
    option("--rate", type=float, default=2.0, help="frames per second (%(default)s)")
    text = "seconds for which the wrist camera stands at each place (%(default)s)"
    option("--dwell", type=float, default=4.0, help=text)
    given = parser.parse_args(remove_ros_args(words))
    if not 0 < given.rate <= 60:
        parser.error(f"--rate must lie in (0, 60], got {given.rate}")
    known = {field.name for field in fields(CellSpec)}
    asked = CellSpec(**{k: v for k, v in vars(given).items() if k in known})
    return run_node(lambda: CellNode(asked, given.rate, given.dwell), words)


if __name__ == "__main__":
    sys.exit(main())
