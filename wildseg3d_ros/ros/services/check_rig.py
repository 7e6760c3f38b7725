"""The service ``check_rig``: what is wrong with the cameras, before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from wildseg3d_msgs.msg import StreamReport
from wildseg3d_msgs.srv import CheckRig
from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.rig.aligned import check_rig
from wildseg3d_ros.rig.check_pictures import draw_check
from wildseg3d_ros.ros.cameras.camera import Camera, Stream
from wildseg3d_ros.ros.cameras.diagnostics import publisher_problem
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.guard import always_replies
from wildseg3d_ros.ros.messages.conversions import header
from wildseg3d_ros.ros.messages.reports import VERDICTS, picture_message, view_reports
from wildseg3d_ros.streams.config import NodeConfig
from wildseg3d_ros.streams.frames import Heard
from wildseg3d_ros.streams.tf.buffer import Transforms

_AHEAD = 0.1
"""Seconds by which stamps may be ahead of the node's clock: that of two machines in step."""


class RigCheck:
    """Checks what a node listens to.

    Args:
        node: that listens.
        cameras, transforms: what it has heard.
        config: gives its settings.
    """

    def __init__(
        self,
        node: Node,
        cameras: Cameras,
        transforms: Transforms,
        config: Callable[[], NodeConfig],
    ) -> None:
        self._node, self._cameras = node, cameras
        self._transforms, self._config = transforms, config

    def serve(self, require_ready: Callable[[], None]) -> None:
        """Makes the service; ``require_ready`` raises why nothing can be checked yet."""

        def handle(request: CheckRig.Request) -> CheckRig.Response:
            require_ready()
            return self.check(list(request.cameras), request.pictures)

        self._node.create_service(
            CheckRig,
            "check_rig",
            always_replies(handle, CheckRig, self._node.get_logger()),
            callback_group=MutuallyExclusiveCallbackGroup(),
        )

    def check(self, names: Sequence[str] = (), pictures: bool = False) -> CheckRig.Response:
        """What is wrong with the named cameras, or with all; with pictures of it, if wanted.

        Raises:
            PromptError: a camera that the node does not have.
        """
        chosen = tuple(dict.fromkeys(names)) or self._cameras.names
        unknown = [name for name in chosen if name not in self._cameras.names]
        if unknown:
            raise PromptError(
                f"no camera {', '.join(map(repr, unknown))}; the node's cameras are "
                f"{', '.join(self._cameras.names)}",
                ErrorCode.UNKNOWN_CAMERA,
            )
        config = self._config()
        views, problems = self._cameras.inspect(chosen, config, self._transforms)
        streams = [
            self._stream_report(self._cameras[name], stream)
            for name in chosen
            for stream in self._cameras[name].streams
        ]
        rig = check_rig(views)
        # What keeps cameras out comes before what the others say of each other without them.
        named = [] if rig.report.finding is None else [rig.report.finding.text]
        texts = [*named, *_flat(problems), *rig.warnings]
        texts += [text for stream in streams for text in stream.problems if stream.rate >= 0]
        texts += rig.report.doubts
        stamps = [view.stamp_ns for view in views]
        stamp_ns = max(stamps, default=0)
        drawn = draw_check(rig).all if pictures and views else ()
        return CheckRig.Response(
            verdict=VERDICTS.index(rig.verdict),
            problems=list(dict.fromkeys(texts)),
            mistake="" if rig.report.finding is None else rig.report.finding.kind,
            header=header(config.world_frame, stamp_ns),
            cameras=view_reports(views, rig.cameras),
            streams=streams,
            compared=[view.name for view in views],
            stamp_spread=(stamp_ns - min(stamps)) / 1e9 if stamps else 0.0,
            pictures=[picture_message(each, config.world_frame, stamp_ns) for each in drawn],
        )

    def _stream_report(self, camera: Camera, stream: Stream) -> StreamReport:
        node = self._node
        topic = node.resolve_topic_name(stream.topic)
        publishers = node.get_publishers_info_by_topic(topic)
        offered = [each.qos_profile for each in publishers]
        report = StreamReport(
            camera=camera.name,
            part=stream.part,
            topic=topic,
            publishers=sorted({each.node_name for each in publishers}),
            reliability=_joined(ReliabilityPolicy(qos.reliability).name for qos in offered),
            durability=_joined(DurabilityPolicy(qos.durability).name for qos in offered),
            rate=float("nan"),
            age=float("nan"),
            latency=float("nan"),
        )
        heard = camera.matcher.heard(stream.part)
        if heard is None:
            qos = camera.qos(stream)
            report.problems = [
                f"{camera.who}: {publisher_problem(camera.name, stream, qos, node)}"
            ]
            return report
        message = heard.message
        if isinstance(message, CompressedImage):
            report.encoding = message.format
        else:
            report.width, report.height = message.width, message.height
        if isinstance(message, Image):
            report.encoding = message.encoding
        elif isinstance(message, CameraInfo):
            report.encoding = message.distortion_model
        clock_ns = node.get_clock().now().nanoseconds
        report.rate, report.age = heard.rate, heard.age
        report.latency = (clock_ns - heard.stamp_ns) / 1e9 - heard.age
        report.problems = list(_of_times(f"{camera.who}: {stream.part}", heard, report.latency))
        if len(publishers) > 1:
            names = ", ".join(sorted(each.node_name for each in publishers))
            report.problems.append(
                f"{camera.who}: {stream.part}: {len(publishers)} publishers on '{topic}' "
                f"({names}) take turns; stop all but one, or give each a topic of its own"
            )
        if isinstance(message, CameraInfo):
            report.problems += _of_calibration(camera, message)
        return report


def _of_times(who: str, heard: Heard, latency: float) -> Iterator[str]:
    if heard.stamp_ns == 0:
        yield f"{who}: its stamp is 0; the driver has to stamp what it publishes"
    elif latency < -_AHEAD:
        yield (
            f"{who}: its stamps are {-latency:.3f} s ahead of this machine's clock; bring the "
            "clocks in step (chrony, PTP)"
        )


def _of_calibration(camera: Camera, info: CameraInfo) -> Iterator[str]:
    """Where K and P speak of different images and nothing says which is published."""
    K, P = info.k.reshape(3, 3), info.p.reshape(3, 4)
    told = camera.config.rectified or K[0, 0] <= 0 or P[0, 0] <= 0 or any(info.d)
    if not told and abs(P[0, 0] / K[0, 0] - 1.0) > 0.02:
        yield (
            f"{camera.who}: K has the focal length {K[0, 0]:.1f} pixels and P has {P[0, 0]:.1f}, "
            f"without distortion; if its images are rectified, set '{camera.name}.rectified'"
        )


def _flat(problems: Mapping[str, Sequence[str]]) -> list[str]:
    return [text for texts in problems.values() for text in texts]


def _joined(names: Iterator[str]) -> str:
    return "+".join(sorted({name.lower() for name in names}))
