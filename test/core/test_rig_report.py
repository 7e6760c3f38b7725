"""What a rig's report makes of verdicts before and after alignment, and of odd views."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wildseg3d_ros.core.types import CameraVerdict
from wildseg3d_ros.rig.report import ONLY_PLANES, CameraReport, RigReport


def told(verdict, as_given=True, why="before"):
    return CameraReport(
        "a", True, 0.7, {"b": 0.9}, 0.9, 30.0, verdict, why, depth_share=0.8, as_given=as_given
    )


def aligned(verdict):
    return CameraVerdict("a", True, 0.02, 0.01, 0.001, 0.001, 3.0, 1.0, verdict, "after")


@pytest.mark.parametrize(
    ("before", "as_given", "after", "expected", "why"),
    [
        ("ok", True, "ok", "ok", "after"),
        ("ok", True, "unchecked", "ok", "before"),
        # What bears out a pose near the given one says nothing for the given one.
        ("ok", False, "unchecked", "unchecked", "after"),
        ("ok", True, "moved", "moved", "after"),
        ("ok", True, "suspect", "suspect", "after"),
        ("ok", True, "left out", "left out", "after"),
        ("unchecked", True, "ok", "ok", "after"),
        ("unchecked", True, "unchecked", "unchecked", "after"),
        ("suspect", True, "ok", "suspect", "before"),
        ("suspect", False, "unchecked", "suspect", "before"),
        ("suspect", True, "moved", "moved", "after"),
        ("suspect", True, "left out", "left out", "after"),
    ],
)
def test_joined_takes_what_is_known_of_either(before, as_given, after, expected, why):
    report = RigReport((told(before, as_given),))
    (joined,) = report.joined([aligned(after)])
    assert (joined.verdict, joined.why) == (expected, why)
    assert (joined.translation, joined.weight) == (0.02, 1.0)
    assert (joined.agreement, joined.overlap) == (0.9, {"b": 0.9})
    assert (joined.median_depth, joined.depth_share) == (0.7, 0.8)


def test_joined_without_alignment_is_what_was_told_before():
    report = RigReport((told("ok"),))
    assert [c.to_dict() for c in report.joined(())] == [c.to_dict() for c in report.verdicts]


def test_joined_leaves_unchecked_what_shares_only_a_plane():
    """It may be slid along it: the alignment says ok of where it happens to be."""
    (joined,) = RigReport((told("unchecked", why=ONLY_PLANES),)).joined([aligned("ok")])
    assert (joined.verdict, joined.why) == ("unchecked", ONLY_PLANES)
    (joined,) = RigReport((told("unchecked", why=ONLY_PLANES),)).joined([aligned("moved")])
    assert joined.verdict == "moved"


def test_warnings_name_groups_that_share_nothing():
    pairs = {"a": "b", "b": "a", "c": "d", "d": "c"}
    cameras = tuple(
        replace(told("ok", why=""), name=name, overlap={other: 0.9})
        for name, other in pairs.items()
    )
    (text,) = RigReport(cameras).warnings
    assert "('a', 'b'; 'c', 'd'): nothing checks how they lie to each other" in text
    bridged = replace(cameras[1], overlap={"a": 0.9, "c": 0.9})
    assert RigReport((cameras[0], bridged, *cameras[2:])).warnings == []


BLACK, CROPPED = "its image is black", "its principal point is far from the middle"


@pytest.mark.parametrize(
    ("verdict", "takes_part", "nothing", "odd", "expected", "why"),
    [
        ("ok", True, (), (), "ok", "before"),
        ("ok", True, (BLACK,), (), "suspect", BLACK),
        ("unchecked", False, (BLACK,), (), "suspect", BLACK),
        # A calibration that the others bear out is right, however odd.
        ("ok", True, (), (CROPPED,), "ok", "before"),
        ("unchecked", True, (), (CROPPED,), "suspect", CROPPED),
        ("unchecked", False, (), (CROPPED,), "unchecked", "before"),
        ("suspect", True, (BLACK,), (CROPPED,), "suspect", "before"),
    ],
)
def test_doubted_view(verdict, takes_part, nothing, odd, expected, why):
    camera = replace(told(verdict), takes_part=takes_part).doubted(nothing, odd)
    report = RigReport((camera,))
    assert (camera.verdict, camera.why) == (expected, why)
    assert report.doubts == [f"camera 'a': {text}" for text in (*nothing, *odd)]
    assert (f"camera 'a': {why}" in report.warnings) == (why in (BLACK, CROPPED))
    if why == BLACK:
        assert not any("contradict" in text for text in report.warnings)
