"""Progress: stages, fractions, times and cancellation."""

import pytest

from wildseg3d_ros.core.errors import Cancelled
from wildseg3d_ros.core.progress import Progress


def test_stage_reports_from_zero_to_one_and_is_timed():
    seen = []
    progress = Progress(lambda stage, fraction: seen.append((stage, fraction)))
    with progress.stage("one") as step:
        step.update(0.5)
        step.update(7.0)
    with progress.stage("two"):
        pass
    assert seen == [("one", 0), ("one", 0.5), ("one", 1), ("one", 1), ("two", 0), ("two", 1)]
    assert set(progress.seconds) == {"one", "two"}


def test_progress_cancelled_raises_inside_the_stage_that_runs():
    asked = []
    progress = Progress(cancelled=lambda: bool(asked))
    with pytest.raises(Cancelled, match="stage 'one'"), progress.stage("one") as step:
        asked.append(True)
        step.update(0.5)
    assert progress.seconds["one"] >= 0


def test_warn_keeps_the_order():
    progress = Progress()
    progress.warn("first")
    progress.warn("second")
    assert progress.warnings == ["first", "second"]
