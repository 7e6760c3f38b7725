"""The share of a build that is done: it grows with the stages and never goes back."""

from __future__ import annotations

import math

import pytest

from wildseg3d_ros.ros.building.overall import OverallProgress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_overall_progress_of_a_whole_build():
    clock = Clock()
    whole, shares = OverallProgress(clock=clock), []
    stages = ("starting", "images", "rig", "pairs", "pointmaps", "alignment", "masks",
              "alignment", "index")  # fmt: skip
    for stage in stages:
        for fraction in (0.0, 0.5, 1.0):
            clock.now += 0.5
            share, left = whole.update(stage, fraction)
            shares.append(share)
            if share >= 0.1:
                # At this pace the rest takes as long as what is done did, by their shares.
                assert left == pytest.approx((clock.now - 100.0) * (1 - share) / share)
            else:
                assert math.isnan(left)
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == pytest.approx(1.0)
    # The second alignment is not taken for the first.
    assert shares[stages.index("index") * 3 - 1] > shares[stages.index("masks") * 3 + 2]


def test_overall_progress_never_goes_back():
    whole = OverallProgress(clock=Clock())
    done, _ = whole.update("pointmaps", 0.8)
    for stage, fraction in (("pointmaps", 0.1), ("images", 0.0), ("theirs", 0.9), ("masks", 0.0)):
        share, _ = whole.update(stage, fraction)
        assert share >= done
        done = share
    assert whole.update("index", 5.0)[0] == pytest.approx(1.0)
