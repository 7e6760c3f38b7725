"""Requests of the service ``segment`` from plain values and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PointStamped
from numpy.typing import NDArray

from wildseg3d_msgs.msg import Box as BoxMessage
from wildseg3d_msgs.msg import CameraMask
from wildseg3d_msgs.msg import Click as ClickMessage
from wildseg3d_msgs.srv import Segment
from wildseg3d_ros.core.types import LEVELS, POSITIVE, Level
from wildseg3d_ros.ros.messages.conversions import (
    header,
    image_from_mask,
    point_message,
    time_message,
)

ClickTuple = tuple[str, float, float] | tuple[str, float, float, int]


class SegmentOptions(TypedDict, total=False):
    """What :func:`segment_request` takes beside clicks; Segment.srv says what each does.

    Attributes:
        boxes: (camera, u0, v0, u1, v1).
        masks: (H, W) bool or uint8 by camera, not 0 on the object.
        points: (frame, x, y, z) [m]; frame "" is the scene's own.
        stamps: time [ns] of the image that clicks, boxes and masks mean, by camera; none: the
            scene's own image.
    """

    boxes: Sequence[tuple[str, float, float, float, float]]
    masks: Mapping[str, NDArray]
    points: Sequence[tuple[str, float, float, float]]
    stamps: Mapping[str, int]
    scene_id: str
    object_ids: Sequence[int]
    level: Level
    add_object: bool
    refine: bool
    target_frame: str
    target_now: bool
    voxel_size: float
    normal_radius: float
    context_size: float
    surroundings_voxel_size: float
    include_normals: bool
    include_confidence: bool
    include_view_count: bool
    include_views: bool
    include_normal_cloud: bool
    include_box: bool
    include_context: bool
    include_surroundings: bool
    include_masks: bool
    include_alternatives: bool
    organized_cameras: Sequence[str]


def segment_request(clicks: Sequence[ClickTuple], options: SegmentOptions) -> Segment.Request:
    """The request.

    Args:
        clicks: (camera, u, v) or (camera, u, v, label); label 1 is on the object, 0 is not.
        options: see :class:`SegmentOptions`.

    Raises:
        TypeError: an option that does not exist.
    """
    unknown = set(options) - SegmentOptions.__optional_keys__
    if unknown:
        listed = ", ".join(sorted(SegmentOptions.__optional_keys__))
        raise TypeError(f"no option {', '.join(sorted(unknown))}; there are {listed}")
    stamps = {camera: time_message(ns) for camera, ns in options.get("stamps", {}).items()}
    pointed = {
        "boxes": [
            BoxMessage(
                camera=camera,
                u0=float(u0),
                v0=float(v0),
                u1=float(u1),
                v1=float(v1),
                stamp=stamps.get(camera, Time()),
            )
            for camera, u0, v0, u1, v1 in options.get("boxes", ())
        ],
        "masks": [
            CameraMask(
                camera=camera,
                mask=image_from_mask(
                    np.asarray(mask) != 0, "", options.get("stamps", {}).get(camera, 0)
                ),
            )
            for camera, mask in options.get("masks", {}).items()
        ],
        "points": [
            PointStamped(header=header(frame, 0), point=point_message(np.array(place)))
            for frame, *place in options.get("points", ())
        ],
        "level": LEVELS.index(options.get("level", "whole")),
    }
    plain: dict[str, Any] = {
        k: value for k, value in options.items() if k not in {*pointed, "stamps"}
    }
    for name in plain.keys() & {"object_ids", "organized_cameras"}:
        plain[name] = list(plain[name])
    sizes = {"voxel_size", "normal_radius", "context_size", "surroundings_voxel_size"}
    for name in plain.keys() & sizes:
        plain[name] = float(plain[name])
    return Segment.Request(
        clicks=[
            ClickMessage(
                camera=camera,
                u=float(u),
                v=float(v),
                label=label[0] if label else POSITIVE,
                stamp=stamps.get(camera, Time()),
            )
            for camera, u, v, *label in clicks
        ],
        **pointed,
        **plain,
    )
