"""Requests of the scene node's services from plain values and arrays."""

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
from wildseg3d_msgs.msg import Prompt as PromptMessage
from wildseg3d_msgs.srv import DescribeObject, Segment
from wildseg3d_ros.core.types import LEVELS, POSITIVE, Level
from wildseg3d_ros.ros.messages.conversions import (
    header,
    image_from_mask,
    point_message,
    time_message,
)

ClickTuple = tuple[str, float, float] | tuple[str, float, float, int]


class PromptOptions(TypedDict, total=False):
    """What a prompt may have beside clicks; Prompt.msg says what each does.

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
    text: str
    level: Level


class SegmentOptions(PromptOptions, total=False):
    """What a segment request may have beside clicks; Segment.srv says what each does."""

    target_frame: str
    target_now: bool
    voxel_size: float
    include_alternative_clouds: bool
    publish: bool


class DescribeOptions(PromptOptions, total=False):
    """What a describe_object request may have beside clicks; see DescribeObject.srv."""

    target_frame: str
    target_now: bool
    voxel_size: float
    include_surface: bool
    normal_radius: float
    include_context: bool
    context_size: float
    include_surroundings: bool
    surroundings_voxel_size: float
    include_masks: bool
    organized_cameras: Sequence[str]


def segment_request(clicks: Sequence[ClickTuple], options: SegmentOptions) -> Segment.Request:
    """The request; arguments and errors as of :func:`prompt_message`."""
    return Segment.Request(**_fields(clicks, options, SegmentOptions))


def describe_request(
    clicks: Sequence[ClickTuple], options: DescribeOptions
) -> DescribeObject.Request:
    """The request; arguments and errors as of :func:`prompt_message`."""
    return DescribeObject.Request(**_fields(clicks, options, DescribeOptions))


def prompt_message(clicks: Sequence[ClickTuple], options: PromptOptions) -> PromptMessage:
    """The prompt.

    Args:
        clicks: (camera, u, v) or (camera, u, v, label); label 1 is on the object, 0 is not.
        options: see :class:`PromptOptions`.

    Raises:
        TypeError: an option that does not exist.
    """
    return _fields(clicks, options, PromptOptions)["prompt"]


def _fields(clicks: Sequence[ClickTuple], options: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """Fields of a request whose options are ``kind``."""
    known = kind.__optional_keys__
    unknown = set(options) - known
    if unknown:
        listed = ", ".join(sorted(known))
        raise TypeError(f"no option {', '.join(sorted(unknown))}; there are {listed}")
    of_prompt = PromptOptions.__optional_keys__
    plain = {name: options[name] for name in options if name not in of_prompt}
    if "organized_cameras" in plain:
        plain["organized_cameras"] = list(plain["organized_cameras"])
    for name in plain:
        if name.endswith(("_size", "_radius")):
            plain[name] = float(plain[name])
    return {"prompt": _prompt(clicks, options), **plain}


def _prompt(clicks: Sequence[ClickTuple], options: Mapping[str, Any]) -> PromptMessage:
    stamps = {camera: time_message(ns) for camera, ns in options.get("stamps", {}).items()}
    return PromptMessage(
        scene_id=options.get("scene_id", ""),
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
        boxes=[
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
        masks=[
            CameraMask(
                camera=camera,
                mask=image_from_mask(
                    np.asarray(mask) != 0, "", options.get("stamps", {}).get(camera, 0)
                ),
            )
            for camera, mask in options.get("masks", {}).items()
        ],
        points=[
            PointStamped(header=header(frame, 0), point=point_message(np.array(place)))
            for frame, *place in options.get("points", ())
        ],
        object_ids=list(options.get("object_ids", ())),
        text=options.get("text", ""),
        level=LEVELS.index(options.get("level", "whole")),
    )
