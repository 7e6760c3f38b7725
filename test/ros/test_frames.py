"""Messages of a camera that belong together."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image

from wildseg3d_ros.ros.messages.conversions import header
from wildseg3d_ros.streams.frames import FrameMatcher, FrameSet, aligned

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
    made.add("camera_info", CameraInfo())
    return made


def test_frame_matcher_complete_set():
    """A set is complete with image depth and calibration."""
    matcher = FrameMatcher(0.02, with_depth=True)
    matcher.add("image", image(100))
    assert matcher.newest() is None
    matcher.add("depth", image(105))
    assert matcher.newest() is None
    matcher.add("camera_info", CameraInfo(width=7))
    assert times(matcher) == (100, 105)
    assert matcher.newest().info.width == 7


def test_frame_matcher_without_depth():
    """A colour camera needs no depth."""
    matcher = FrameMatcher(0.02, with_depth=False)
    matcher.add("camera_info", CameraInfo())
    matcher.add("image", image(100))
    assert matcher.newest().depth is None


def test_frame_matcher_late_depth(matcher):
    """Depth that comes late finds its image."""
    for t in (0, 33, 66, 100):
        matcher.add("image", image(t))
    matcher.add("depth", image(1))
    assert times(matcher) == (0, 1)
    matcher.add("depth", image(67))
    assert times(matcher) == (66, 67)
    # The image at 33 is older than what there is: it is of no use any more.
    matcher.add("depth", image(99))
    assert times(matcher) == (100, 99)


def test_frame_matcher_closest_depth(matcher):
    """The closest depth is taken."""
    matcher.add("depth", image(85))
    matcher.add("depth", image(98))
    matcher.add("depth", image(115))
    matcher.add("image", image(100))
    assert times(matcher) == (100, 98)


def test_frame_matcher_beyond_slop(matcher):
    """What is too far apart does not belong together."""
    for k in range(50):
        matcher.add("image", image(100 * k))
        matcher.add("depth", image(100 * k + 30))
    assert matcher.newest() is None
    assert matcher.age() is None
    assert matcher.closest_stamps() == pytest.approx(0.03)
    assert matcher.counts.received == {"image": 50, "depth": 50, "camera_info": 1}


def test_frame_matcher_restart(matcher):
    """A recording that starts again."""
    for t in (1000, 1100):
        matcher.add("image", image(t))
        matcher.add("depth", image(t))
    matcher.add("image", image(1200))
    for t in (0, 100, 200):
        matcher.add("image", image(t))
        matcher.add("depth", image(t))
    assert times(matcher) == (200, 200)


def test_frame_matcher_restart_is_reported():
    """Also before a new pair is complete: the old one is of another time."""
    told = []
    matcher = FrameMatcher(0.02, with_depth=True, history=3, on_restart=told.append)
    matcher.add("camera_info", CameraInfo())
    for t in (5000, 5100, 5200):
        matcher.add("image", image(t))
        matcher.add("depth", image(t))
    matcher.add("image", image(1000))
    assert told == [pytest.approx(4.2)]
    assert matcher.newest() is None
    assert matcher.counts.restarts == 1
    matcher.add("depth", image(1010))
    assert times(matcher) == (1000, 1010)
    assert len(told) == 1


def test_frame_matcher_late_message(matcher):
    """A message that comes a little late is no restart."""
    for t in (1000, 1100):
        matcher.add("image", image(t))
        matcher.add("depth", image(t))
    matcher.add("image", image(1033))
    matcher.add("depth", image(1033))
    assert times(matcher) == (1100, 1100)
    assert matcher.counts.restarts == 0


def test_frame_matcher_counts_lost():
    """What is lost shows in the gaps."""
    matcher = FrameMatcher(0.02, with_depth=False)
    sent = [t for t in range(60) if t not in (30, 40, 41, 42)]
    for t in sent:
        matcher.add("image", image(33.3 * t))
    assert matcher.counts.lost == 4


@pytest.mark.parametrize("pause", [3.6e6, 5e3], ids=["clock set", "paused"])
def test_frame_matcher_pause_is_no_loss(pause):
    """A jump of the clock or a pause is no loss."""
    matcher = FrameMatcher(0.02, with_depth=False)
    for t in range(60):
        matcher.add("image", image(33.3 * t + (pause if t >= 30 else 0)))
    assert matcher.counts.lost == 0
    matcher.add("image", image(33.3 * 62 + pause))
    assert matcher.counts.lost == 2


def test_frame_matcher_counts_unpaired(matcher):
    """Images without depth are counted."""
    for t in range(9):
        matcher.add("image", image(33.3 * t))
        if t % 3 == 2:
            matcher.add("depth", image(33.3 * t))
    assert (matcher.counts.sets, matcher.counts.unpaired) == (3, 6)


def test_frame_matcher_rate(matcher, monkeypatch):
    for k in range(100):
        monkeypatch.setattr(time, "monotonic", lambda k=k: 1000 + k / 10)
        matcher.add("image", image(100 * k))
        matcher.add("depth", image(100 * k))
    assert matcher.rate() == pytest.approx(10, rel=0.1)
    monkeypatch.setattr(time, "monotonic", lambda: 1020)
    assert matcher.rate() == 0


def sets(*milliseconds: float) -> list[FrameSet]:
    return [FrameSet(image(t), CameraInfo(), None, 0.0) for t in milliseconds]


def chosen(recent: dict[str, list[FrameSet]], slop: float) -> dict[str, float] | None:
    found = aligned(recent, slop)
    return None if found is None else {name: s.stamp_ns / MS for name, s in found.items()}


def test_aligned_newest_choice():
    """The newest sets of one time."""
    recent = {
        "a": sets(1100, 1067, 1033, 1000),
        "b": sets(1070, 1037, 1003),
        "c": sets(1041, 1008),
    }
    assert chosen(recent, 0.0) == {"a": 1100, "b": 1070, "c": 1041}
    assert chosen(recent, 0.03) == {"a": 1067, "b": 1070, "c": 1041}
    assert chosen(recent, 0.01) == {"a": 1033, "b": 1037, "c": 1041}
    assert chosen(recent, 0.005) is None


def test_aligned_against_brute_force():
    """Whenever some choice is within the slop, one is given, and none is newer."""
    rng = np.random.default_rng(5)
    for _ in range(300):
        recent = {
            name: sets(*sorted(rng.integers(0, 200, 3).tolist(), reverse=True)) for name in "abc"
        }
        slop = float(rng.uniform(0.005, 0.08))
        stamps = [[s.stamp_ns / MS for s in candidates] for candidates in recent.values()]
        good = [c for c in itertools.product(*stamps) if max(c) - min(c) <= 1000 * slop]
        found = chosen(recent, slop)
        assert (found is not None) == bool(good)
        if found is not None:
            assert tuple(found.values()) in good
            assert max(found.values()) == max(max(c) for c in good)


def test_frame_matcher_bounded_memory(matcher):
    for k in range(1000):
        matcher.add("image", image(100 * k))
    assert len(matcher._images) <= 10


def test_frame_matcher_max_age(matcher, monkeypatch):
    """Old sets are not given."""
    now = time.monotonic()
    matcher.add("image", image(0))
    matcher.add("depth", image(0))
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    assert matcher.newest(max_age=10) is None
    assert matcher.age() >= 59
    assert matcher.newest(max_age=0) is not None
    assert matcher.newest(max_age=100) is not None
