"""Requests are gone through to their last text before a handler sees them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from geometry_msgs.msg import PointStamped
from std_msgs.msg import Header

from wildseg3d_msgs.msg import Box, CameraMask, Click, Prompt
from wildseg3d_msgs.srv import DescribeObject, Segment
from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.ros.guard import LONGEST, LONGEST_TEXT, check_lengths, status_of
from wildseg3d_ros.ros.messages.conversions import image_from_mask
from wildseg3d_ros.ros.services.describe import check_describe

LONG = "x" * (LONGEST_TEXT + 1)


def image(encoding: str = "mono8", frame: str = ""):
    import numpy as np

    made = image_from_mask(np.ones((300, 400), bool), frame, 0)
    made.encoding = encoding
    return made


@pytest.mark.parametrize(
    "request_",
    [
        Segment.Request(prompt=Prompt(clicks=[Click(), Click(camera=LONG)])),
        Segment.Request(prompt=Prompt(boxes=[Box(camera=LONG)])),
        Segment.Request(prompt=Prompt(points=[PointStamped(header=Header(frame_id=LONG))])),
        Segment.Request(prompt=Prompt(masks=[CameraMask(mask=image(LONG))])),
        Segment.Request(prompt=Prompt(masks=[CameraMask(mask=image(frame=LONG))])),
        Segment.Request(prompt=Prompt(text=LONG)),
        Segment.Request(prompt=Prompt(object_ids=[1] * (LONGEST + 1))),
        Segment.Request(target_frame=LONG),
        DescribeObject.Request(organized_cameras=["a"] * (LONGEST + 1)),
        DescribeObject.Request(organized_cameras=["a", LONG]),
    ],
)
def test_texts_and_lists_are_bounded_wherever_they_are(request_):
    with pytest.raises(PromptError, match="at most") as caught:
        check_lengths(request_)
    assert len(str(caught.value)) < 200


def test_requests_in_earnest_are_taken():
    clicks = [Click(camera="c" * 60)] * LONGEST
    check_lengths(Segment.Request(prompt=Prompt(clicks=clicks, masks=[CameraMask(mask=image())])))


def test_what_is_logged_and_answered_is_short():
    said = []
    logger = SimpleNamespace(error=said.append, warning=said.append)
    for error in (PromptError(LONG * 100), RuntimeError(LONG * 100)):
        assert len(status_of(error, logger).message) < 2200
    assert max(map(len, said)) < 21_000


def test_a_camera_is_organized_once():
    current = SimpleNamespace(scene=SimpleNamespace(view_index=lambda name: 0))
    request = DescribeObject.Request(organized_cameras=["left", "right", "left"])
    with pytest.raises(PromptError, match="names 'left' twice") as caught:
        check_describe(request, current)
    assert caught.value.code == ErrorCode.BAD_REQUEST
