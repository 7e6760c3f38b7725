"""What is wrong with a camera's topics, in words that say what to do."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.ros.cameras.camera import Camera, Stream
from wildseg3d_ros.streams.config import NodeConfig

_SILENT = {
    "image": ("an image", ErrorCode.NO_IMAGES),
    "depth": ("depth", ErrorCode.BAD_DEPTH),
    "camera_info": ("its camera_info", ErrorCode.BAD_CALIBRATION),
}


def why_no_set(camera: Camera, config: NodeConfig, node: Node) -> InputError:
    """Why a camera has no image, depth and calibration that belong together."""
    who = camera.who
    for stream in camera.streams:
        if not camera.matcher.counts.received[stream.part]:
            what, code = _SILENT[stream.part]
            problem = publisher_problem(camera.name, stream, camera.qos(stream), node)
            return InputError(f"{who} has not published {what}: {problem}", code)
    age, gap = camera.matcher.age(), camera.matcher.closest_stamps()
    topic = node.resolve_topic_name(camera.image.topic)
    if age is None:
        apart = "" if gap is None else f"; the closest are {gap:.3f} s apart"
        return InputError(
            f"{who}: no image and depth within sync_slop {config.sync_slop} s of each "
            f"other{apart}; are both stamped when the picture was taken?",
            ErrorCode.BAD_DEPTH,
        )
    return InputError(
        f"{who} has stopped: its newest image{' with depth' if camera.config.depth_topic else ''} "
        f"arrived {age:.1f} s ago on '{topic}', and max_image_age is {config.max_image_age} s",
        ErrorCode.NO_IMAGES,
    )


def publisher_problem(camera: str, stream: Stream, qos: QoSProfile, node: Node) -> str:
    """Why nothing arrives on a topic: nobody, another type, or a QoS that does not fit."""
    full = node.resolve_topic_name(stream.topic)
    publishers = node.get_publishers_info_by_topic(full)
    if not publishers:
        return f"nobody publishes '{full}'; check the driver and the camera's topic parameters"
    expected = f"{stream.kind.__module__.split('.')[0]}/msg/{stream.kind.__name__}"
    kinds = sorted({publisher.topic_type for publisher in publishers})
    if expected not in kinds:
        return (
            f"'{full}' carries {', '.join(kinds)}, expected {expected}; check the camera's "
            "topic parameters, image_transport and depth_transport"
        )
    reasons = []
    for publisher in publishers:
        compatibility, reason = qos_check_compatible(publisher.qos_profile, qos)
        if compatibility == QoSCompatibility.ERROR:
            reasons.append(f"{publisher.node_name}: {reason}")
    if reasons:
        return (
            f"'{full}' is published with a quality of service that does not fit "
            f"({'; '.join(reasons)}); set the parameter '{camera}.reliability' to auto or to "
            "best_effort"
        )
    return (
        f"nothing arrived on '{full}', although {len(publishers)} node(s) publish there; "
        "large images over the default transports get lost: start the driver with "
        "FASTDDS_DEFAULT_PROFILES_FILE=.../config/fastdds.xml"
    )
