"""The demo as a user runs it: replay, node and client in processes of their own."""

import subprocess
import sys

import numpy as np
import pytest
import table

from wildseg3d_ros.demo import shipped_recording
from wildseg3d_ros.io.folder import load_folder, write_folder
from wildseg3d_ros.io.images import read_color
from wildseg3d_testing.clouds import read_ply


def run_demo(folder, out, *more):
    command = [sys.executable, "-m", "wildseg3d_ros.demo", "--data", folder, "--out", out, *more]
    return subprocess.run(
        list(map(str, command)), check=False, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Three cameras that look at two balls on a table."""
    folder = tmp_path_factory.mktemp("recording")
    write_folder(folder, table.make_recording())
    return folder


def test_demo_clicks_scores_and_writes(recording, tmp_path):
    """It clicks scores and writes."""
    done = run_demo(recording, tmp_path / "out", "--objects", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if " ball " in line]
    assert len(rows) == 2, done.stdout
    for row in rows:
        points, iou, iou_at_depth, milliseconds = row[-4:]
        assert int(points) > 50
        assert 0.7 < float(iou) <= 1.0
        assert 0.7 < float(iou_at_depth) <= 1.0
        assert float(milliseconds) > 0
    clouds = sorted((tmp_path / "out").glob("*.ply"))
    assert len(clouds) == 2
    for path in clouds:
        points = read_ply(path)["points"]
        assert np.isfinite(points).all()
        assert (np.ptp(points, axis=0) < 0.5).all(), "objects are smaller than half a metre"
    sheet = read_color(tmp_path / "out" / "contact_sheet.png", upright=False)
    assert sheet.shape[1] > 1000
    assert sheet.std() > 10, "a picture of something"


def test_demo_recording_not_replayable(recording, tmp_path):
    """A recording that cannot be replayed is one clear error."""
    images = tmp_path / "images_only"
    images.mkdir()
    for image in (recording / "images").iterdir():
        (images / image.name).write_bytes(image.read_bytes())
    done = run_demo(images, tmp_path / "out")
    assert done.returncode != 0
    assert "replay ended with status 2" in done.stderr
    assert "no calibration to publish" in done.stderr


def test_demo_shipped_recording():
    """The shipped recording has what the demo promises."""
    recording = load_folder(shipped_recording())
    assert 4 <= len(recording.views) <= 6
    assert all(view.depth is not None for view in recording.views)
    assert all(view.world_from_cam_prior is not None for view in recording.views)
    assert all(mask is not None for mask in recording.object_masks)
    assert len(recording.object_names) >= 9
    size = sum(path.stat().st_size for path in shipped_recording().rglob("*") if path.is_file())
    assert size <= 3_000_000
