"""Which topics of a bag are a camera's: by a rig's file, or by their names and types."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.io.bags.reading import Topic
from wildseg3d_ros.streams.config import CameraConfig

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO, TF_MESSAGE = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
_COLOR = re.compile(r"colou?r|rgb|left_rgb|rgb_raw")
_NOT_COLOR = re.compile(r"(aligned_)?depth|ir\d*$|infra")
_REGISTERED = ("aligned_depth_to_color", "depth_registered", "depth_to_rgb", "registered")
"""What the topic of depth that is registered to colour is named by, the surest first."""
_OURS = re.compile("/(labels|overlay)(/compressed)?$")
"""What the scene node publishes beside a calibration, where its topics were recorded too."""
_LISTED = 40


@dataclass(frozen=True)
class CameraTopics:
    """The topics of one camera, as a bag has them.

    Attributes:
        config: as a rig's file would say it.
        image, info: names of the topics, with transport and leading slash.
        depth: likewise; empty for a camera without.
    """

    config: CameraConfig
    image: str
    info: str
    depth: str


def listed(topics: Mapping[str, Topic]) -> str:
    """The topics that there are, for messages."""
    names = sorted(map(str, topics.values()))
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more if names else "nothing"


def topics_of_rig(
    cameras: Mapping[str, CameraConfig], topics: Mapping[str, Topic], bag: Path
) -> dict[str, CameraTopics]:
    """The topics that a rig's file names.

    A name without a leading slash may stand in any namespace, if in one alone.

    Raises:
        InputError: a topic that the bag does not have, or of another type.
    """
    found = {}
    for name, config in cameras.items():

        def find(topic: str, what: str, *kinds: str, name: str = name) -> str:
            return _find(topics, topic, f"{what} of camera '{name}'", kinds, bag)

        image, depth = config.image_topic, config.depth_topic
        if config.image_transport == "compressed":
            image = find(f"{image}/compressed", "compressed images", COMPRESSED)
        else:
            image = find(image, "images", IMAGE)
        info = find(config.camera_info_topic, "calibration", CAMERA_INFO)
        if depth and config.depth_transport == "compressedDepth":
            depth = find(f"{depth}/compressedDepth", "compressed depth", COMPRESSED)
        elif depth:
            depth = find(depth, "depth", IMAGE)
        found[name] = CameraTopics(config, image, info, depth)
    return found


def topics_by_name(topics: Mapping[str, Topic], bag: Path) -> dict[str, CameraTopics]:
    """The cameras that a bag seems to hold: images beside their camera_info, and registered depth.

    Raises:
        InputError: there are none; the text lists what is there.
    """
    infos = [t.name for t in topics.values() if t.kind == CAMERA_INFO and t.count]
    found: list[tuple[str, CameraTopics]] = []
    for info in sorted(infos):
        place = info.rpartition("/")[0]
        *_, last = place.rpartition("/")
        if _NOT_COLOR.match(last):
            continue
        image = _image_in(place, topics)
        if image is not None:
            root = place.rpartition("/")[0] if _COLOR.match(last) else place
            depth, transport = _depth_of(root, place, image, topics)
            found.append((root or place, _camera(image, info, depth, transport, topics)))
    if not found:
        what = "no images beside a camera_info" if infos else "no sensor_msgs/CameraInfo"
        raise InputError(
            f"bag '{bag}' has {what}, so that no camera is found in it; name the topics in a "
            f"rig's file (--config); it has: {listed(topics)}",
            ErrorCode.BAD_CALIBRATION,
        )
    names = _names([root for root, _ in found])
    return dict(zip(names, (camera for _, camera in found), strict=True))


def _find(
    topics: Mapping[str, Topic], topic: str, what: str, kinds: Sequence[str], bag: Path
) -> str:
    name = topic if topic.startswith("/") else f"/{topic}"
    ends = [each for each in topics if each.endswith(name)]
    if name not in topics and not topic.startswith("/") and len(ends) == 1:
        name = ends[0]
    if name not in topics:
        raise InputError(
            f"bag '{bag}' has no topic '{name}' ({what}); it has: {listed(topics)}",
            ErrorCode.NO_IMAGES,
        )
    if topics[name].kind not in kinds:
        raise InputError(
            f"bag '{bag}': topic '{name}' ({what}) is of {topics[name].kind}, expected "
            f"{' or '.join(kinds)}",
            ErrorCode.NO_IMAGES,
        )
    return name


def _image_in(place: str, topics: Mapping[str, Topic]) -> str | None:
    """The images of a namespace: raw before compressed, as they were taken before rectified."""
    there = [
        t.name
        for t in topics.values()
        if t.count
        and (
            (t.kind == IMAGE and t.name.rpartition("/")[0] == place)
            or (
                t.kind == COMPRESSED
                and re.fullmatch(rf"{re.escape(place)}/[^/]+/compressed", t.name)
            )
        )
        and "depth" not in t.name.removeprefix(place)
        and not _OURS.search(t.name)
    ]
    return min(there, key=lambda t: (topics[t].kind == COMPRESSED, "rect" in t, t), default=None)


def _depth_of(root: str, place: str, image: str, topics: Mapping[str, Topic]) -> tuple[str, str]:
    """Topic and transport of the depth of a camera; empty where there is none."""
    ranked = []
    for topic in topics.values():
        base, transport = topic.name, "raw"
        if topic.kind == COMPRESSED and base.endswith("/compressedDepth"):
            base, transport = base.removesuffix("/compressedDepth"), "compressedDepth"
        elif topic.kind != IMAGE:
            continue
        under = base.startswith((f"{root}/", f"{place}/"))
        if not (under and topic.count and base != image and "depth" in base.removeprefix(root)):
            continue
        rank = next((i for i, word in enumerate(_REGISTERED) if word in base), len(_REGISTERED))
        ranked.append((rank, transport != "raw", base.count("/"), base, transport))
    if not ranked:
        return "", "raw"
    *_, base, transport = min(ranked)
    return base, transport


def _camera(
    image: str, info: str, depth: str, transport: str, topics: Mapping[str, Topic]
) -> CameraTopics:
    compressed = topics[image].kind == COMPRESSED
    base = image.removesuffix("/compressed") if compressed else image
    config = replace(
        CameraConfig(base, info, depth),
        rectified="rect" in base.rpartition("/")[2],
        image_transport="compressed" if compressed else "raw",
        depth_transport="compressedDepth" if transport != "raw" else "raw",
    )
    return CameraTopics(
        config, image, info, f"{depth}/{transport}" if transport != "raw" else depth
    )


def _names(roots: Sequence[str]) -> list[str]:
    """A name for each namespace: its last part, or where that repeats, all of it."""
    plain = [re.sub(r"[^A-Za-z0-9_]+", "_", root.strip("/")) or "camera" for root in roots]
    last = [root.strip("/").rpartition("/")[2] or "camera" for root in roots]
    count = Counter(last)
    return [
        short if count[short] == 1 else whole for short, whole in zip(last, plain, strict=True)
    ]
