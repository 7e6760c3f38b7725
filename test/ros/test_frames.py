"""Messages of a camera that belong together."""

from __future__ import annotations

import time

import pytest
from sensor_msgs.msg import CameraInfo, Image

from wildseg3d_ros.ros.conversions import header
from wildseg3d_ros.ros.frames import FrameMatcher

MS = 1_000_000


def image(milliseconds: float, encoding: str = "rgb8") -> Image:
    return Image(header=header("eye", int(milliseconds * MS)), encoding=encoding)


def times(matcher: FrameMatcher) -> tuple[float, float]:
    frames = matcher.newest()
    depth_ns = frames.depth.header.stamp.sec * 10**9 + frames.depth.header.stamp.nanosec
    return frames.stamp_ns / MS, depth_ns / MS


@pytest.fixture
def matcher() -> FrameMatcher:
    made = FrameMatcher(slop_seconds=0.02, with_depth=True)
    made.add_info(CameraInfo())
    return made


def test_a_set_is_complete_with_image_depth_and_calibration():
    matcher = FrameMatcher(0.02, with_depth=True)
    matcher.add_image(image(100))
    assert matcher.newest() is None
    matcher.add_depth(image(105))
    assert matcher.newest() is None
    matcher.add_info(CameraInfo(width=7))
    assert times(matcher) == (100, 105)
    assert matcher.newest().info.width == 7


def test_a_colour_camera_needs_no_depth():
    matcher = FrameMatcher(0.02, with_depth=False)
    matcher.add_info(CameraInfo())
    matcher.add_image(image(100))
    assert matcher.newest().depth is None


def test_depth_that_comes_late_finds_its_image(matcher):
    for t in (0, 33, 66, 100):
        matcher.add_image(image(t))
    matcher.add_depth(image(1))
    assert times(matcher) == (0, 1)
    matcher.add_depth(image(67))
    assert times(matcher) == (66, 67)
    # The image at 33 is older than what there is: it is of no use any more.
    matcher.add_depth(image(99))
    assert times(matcher) == (100, 99)


def test_the_closest_depth_is_taken(matcher):
    matcher.add_depth(image(85))
    matcher.add_depth(image(98))
    matcher.add_depth(image(115))
    matcher.add_image(image(100))
    assert times(matcher) == (100, 98)


def test_what_is_too_far_apart_does_not_belong_together(matcher):
    for k in range(50):
        matcher.add_image(image(100 * k))
        matcher.add_depth(image(100 * k + 30))
    assert matcher.newest() is None
    assert matcher.age() is None
    assert matcher.closest_stamps() == pytest.approx(0.03)
    assert matcher.counts.images == matcher.counts.depths == 50


def test_a_recording_that_starts_again(matcher):
    for t in (1000, 1100):
        matcher.add_image(image(t))
        matcher.add_depth(image(t))
    matcher.add_image(image(1200))
    for t in (0, 100, 200):
        matcher.add_image(image(t))
        matcher.add_depth(image(t))
    assert times(matcher) == (200, 200)


def test_memory_is_bounded(matcher):
    for k in range(1000):
        matcher.add_image(image(100 * k))
    assert len(matcher._images) <= 10


def test_old_sets_are_not_given(matcher, monkeypatch):
    now = time.monotonic()
    matcher.add_image(image(0))
    matcher.add_depth(image(0))
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    assert matcher.newest(max_age=10) is None
    assert matcher.age() >= 59
    assert matcher.newest(max_age=0) is not None
    assert matcher.newest(max_age=100) is not None
