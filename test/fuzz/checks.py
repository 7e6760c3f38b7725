"""Whether answers are right: against what the cameras see, and the scene that gave them."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import table
from random_requests import TRUTH

from wildseg3d_msgs.msg import Click, Prompt
from wildseg3d_msgs.srv import DescribeObject, Segment
from wildseg3d_ros.core.errors import ErrorCode
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.ros.messages.replies import Description, Selection
from wildseg3d_ros.ros.replay_node import optical_frame

WORLD_FROM = {
    "world": np.eye(4),
    **{optical_frame(name): pose for name, pose in table.POSES.items()},
}
_CLICK_RADIUS = 6
"""Pixels about a click, of which the nearest with an object decides."""
_BOX_MARGIN, _BOX_SHARE = 0.012, 0.99
"""Of the points 0.2 % may lie beyond each face of a box; a cell of its fit is 10 mm."""


class Checks:
    """Remembers what was said of each scene; safe to use from several threads.

    Attributes:
        built: ids of scenes that were built and not edited: their objects are the balls.
        verified: how many answers were compared with the truth or with a second answer.
    """

    def __init__(self) -> None:
        self.built: set[str] = set()
        self.verified = 0
        self._stamps: dict[str, int] = {}
        self._lock = threading.Lock()

    def segment(self, request: Segment.Request, reply: Segment.Response, now_ns: int) -> None:
        """Raises AssertionError for an answer that is wrong."""
        found = Selection.of(reply)
        self._check_common(request, found, now_ns)
        assert all(0 <= each.score <= 1 for each in found.alternatives)
        sizes = [(each.larger, each.count, len(found.points)) for each in found.alternatives]
        if not request.voxel_size:
            assert all((count > own) == larger for larger, count, own in sizes), sizes
        assert reply.object_ids or not request.prompt.object_ids

    def description(
        self, request: DescribeObject.Request, reply: DescribeObject.Response, now_ns: int
    ) -> None:
        """The same for a description."""
        found = Description.of(reply)
        self._check_common(request, found, now_ns)
        if request.include_masks:
            assert list(found.masks) == list(found.view_points)
            for click in request.prompt.clicks:
                _check_in_mask(click, found)
            self._check_masks_true(found)
        if request.include_surface:
            lengths = np.linalg.norm(found.normals, axis=1)
            assert np.abs(lengths - 1).max() < 1e-4, lengths
            assert len(found.normals) == len(found.points) == len(found.views)
            assert 0 <= found.box.coverage <= 1
        fine = not request.context_size and request.surroundings_voxel_size <= 0.01
        if request.include_context and fine:  # a small cube lies inside of the ball
            assert found.context.on_object.any()
        for name, place in found.view_points.items():
            frame = WORLD_FROM[found.frame_id]
            true = apply(invert(frame), table.POSES[name.partition("@")[0]][:3, 3])
            np.testing.assert_allclose(place, true, atol=1e-5)

    def _check_common(self, request, found: Selection | Description, now_ns: int) -> None:
        assert found.frame_id == (request.target_frame.lstrip("/") or "world"), found.frame_id
        if request.target_now:
            assert abs(found.stamp_ns - now_ns) < 30e9, found.stamp_ns
        else:
            with self._lock:
                stamp_ns = self._stamps.setdefault(found.scene_id, found.stamp_ns)
            assert found.stamp_ns == stamp_ns, "two stamps of one scene"
        assert len(found.points)
        assert np.isfinite(found.points).all()
        inside = apply(invert(found.box.frame_from_box), found.points.astype(float))
        share = (np.abs(inside) <= found.box.size / 2 + _BOX_MARGIN).all(axis=1).mean()
        assert share > _BOX_SHARE or len(found.points) < 100, f"{share} of the cloud is in its box"
        if found.scene_id in self.built:
            self._check_balls(request, found)
        with self._lock:
            self.verified += 1

    def _check_balls(self, request, found: Selection | Description) -> None:
        """Points of objects lie on the balls, and one click on a ball means it."""
        points = apply(WORLD_FROM[found.frame_id], found.points.astype(float))
        balls = [table.BALLS[i] for i in found.object_ids or table.BALLS]
        off = np.min(
            [np.abs(np.linalg.norm(points - np.array(c), axis=1) - r) for c, r in balls], axis=0
        )
        assert off.max() < 1e-3 + request.voxel_size, off.max()
        prompt: Prompt = request.prompt
        if len(prompt.clicks) != 1 or prompt.boxes or prompt.masks or prompt.points:
            return
        (click,) = prompt.clicks
        labels = TRUTH[click.camera.partition("@")[0]]
        inner = cv2.erode((labels > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
        row, column = round(click.v), round(click.u)
        if click.label == Click.POSITIVE and not prompt.object_ids and inner[row, column]:
            assert found.object_ids == (labels[row, column],)

    def _check_masks_true(self, found: Description) -> None:
        if found.scene_id not in self.built:
            return
        for name, mask in found.masks.items():
            true = np.isin(TRUTH[name.partition("@")[0]], found.object_ids)
            np.testing.assert_array_equal(mask, true)


def _check_in_mask(click: Click, found: Description) -> None:
    """A click on the object is in its mask, and one off it is not."""
    mask = found.masks.get(click.camera)
    if mask is None:  # carried into the scene by its ray
        return
    row, column = round(click.v), round(click.u)
    if click.label == Click.POSITIVE:
        near = mask[
            max(row - _CLICK_RADIUS, 0) : row + _CLICK_RADIUS + 1,
            max(column - _CLICK_RADIUS, 0) : column + _CLICK_RADIUS + 1,
        ]
        assert near.any(), f"the click ({click.u}, {click.v}) in {click.camera} is off the mask"
    elif click.label == Click.NEGATIVE:
        assert not mask[row, column], "what was excluded is in the mask"


def check_refusal(code: int, message: str) -> None:
    """Raises AssertionError where an error is a defect, or says nothing."""
    assert code != ErrorCode.INTERNAL, message
    assert code in set(ErrorCode), code
    assert len(message) > 10
