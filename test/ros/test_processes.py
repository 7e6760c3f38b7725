"""Real processes over real DDS with the real pipeline: what a user starts, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import table
from listening import PATIENCE, wait_for

from wildseg3d_ros.core.errors import Cancelled, WildSeg3DError
from wildseg3d_ros.core.types import View
from wildseg3d_ros.demo import shipped_recording
from wildseg3d_ros.io.folder import Recording, load_folder, write_folder
from wildseg3d_ros.ros.client import SceneClient
from wildseg3d_ros.ros.running import run_node

VIEWS = table.make_views()
WAITING = "-p", f"image_timeout:={PATIENCE}"
"""For cameras whose process starts as slowly as the node's own."""


class Process:
    """A node of the product in a process of its own, with its log."""

    def __init__(self, module: str, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("w") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", f"wildseg3d_ros.ros.{module}", *arguments],
                stdout=out,
                stderr=out,
            )

    def interrupt(self) -> None:
        self.popen.send_signal(signal.SIGINT)

    def children(self) -> list[int]:
        threads = Path(f"/proc/{self.popen.pid}/task").glob("*/children")
        return [int(pid) for listed in threads for pid in listed.read_text().split()]

    def wait(self) -> int:
        return self.popen.wait(PATIENCE)


@pytest.fixture
def start(tmp_path):
    running = []

    def run(module: str, *arguments: str) -> Process:
        running.append(Process(module, tmp_path / f"{module}{len(running)}.log", *arguments))
        return running[-1]

    yield run
    for process in running:
        process.popen.kill()
        process.popen.wait()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_scene_client_builds_and_segments_over_processes(start, tmp_path):
    """Replay, node and client: both balls are found, whole, and nothing but them."""
    write_folder(tmp_path / "table", table.make_recording())
    replay = start("replay_node", str(tmp_path / "table"), "--rate", "5")
    node = start("scene_node", "--ros-args", *WAITING, "-p", "cameras:=['front', 'left', 'right']")
    stages = []
    with SceneClient(timeout=PATIENCE) as client:
        report = client.build(progress=lambda stage, _: stages.append(stage))
        assert report.objects >= 2
        assert {"images", "pairs", "pointmaps", "alignment", "masks", "index"} <= set(stages)
        for label in (table.RED, table.GREEN):
            centre, radius = table.BALLS[label]
            found = client.describe(
                [("front", *table.pixel_on(VIEWS[0], label))], include_masks=True
            )
            for view in VIEWS:
                truth = table.trace(view.world_from_cam_prior)[2] == label
                mask = found.masks[view.name]
                assert (mask & truth).sum() / (mask | truth).sum() > 0.7, view.name
            distances = np.linalg.norm(found.points - np.array(centre), axis=1)
            assert np.quantile(np.abs(distances - radius), 0.9) < 0.005
        with pytest.raises(WildSeg3DError, match="'back'"):
            client.segment([("back", 1, 1)])
        with pytest.raises(WildSeg3DError, match=r"at least 2 view\(s\), got 1"):
            client.build(cameras=["front"])
    (builder,) = node.children()
    for process in (node, replay):
        process.interrupt()
    assert (node.wait(), replay.wait()) == (0, 0)
    assert gone(builder)
    for process in (node, replay):
        log = process.log.read_text()
        assert "Traceback" not in log
        assert "never retrieved" not in log


def test_run_node_interrupted_build(start):
    """Under launch the signal comes twice. The build process goes with the node."""
    node = start(
        "scene_node", "--ros-args", "-p", "cameras:=['a', 'b']", "-p", "image_timeout:=60.0"
    )
    wait_for(lambda: "ready" in node.log.read_text())
    (builder,) = node.children()

    def interrupt_twice(stage: str, fraction: float) -> None:
        node.interrupt()
        node.interrupt()

    with (
        SceneClient(timeout=PATIENCE) as client,
        pytest.raises((Cancelled, TimeoutError), match=r"stopped the work|went away"),
    ):
        client.build(progress=interrupt_twice)
    assert node.wait() == 0
    assert gone(builder)
    assert "Traceback" not in node.log.read_text()


def test_run_node_many_signals(start):
    """One may come while the last is being handled, at any point of it."""
    node = start("scene_node", "--ros-args", "-p", "cameras:=['a', 'b']")
    wait_for(lambda: "ready" in node.log.read_text())
    for _ in range(2000):
        node.popen.send_signal(signal.SIGINT)
        node.popen.send_signal(signal.SIGTERM)
        if node.popen.poll() is not None:
            break
    assert node.wait() == 0
    assert "Traceback" not in node.log.read_text()


def test_build_process_ends_with_killed_node(start):
    """A killed node leaves no process behind."""
    node = start("scene_node", "--ros-args", "-p", "cameras:=['a', 'b']")
    wait_for(lambda: "ready" in node.log.read_text())
    (builder,) = node.children()
    node.popen.kill()
    wait_for(lambda: gone(builder))


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ([], "'cameras' must list"),
        (["cameras:=['left', 'right', 'left']"], "two cameras are named 'left'"),
        (["cameras:=['left']", "sync_slop:=-1.0"], "sync_slop"),
        (["cameras:=['left']", "alignment.weighting:=best"], "alignment.weighting"),
    ],
)
def test_run_node_bad_parameters(start, parameters, text):
    """A node that cannot start says why in one line."""
    options = [word for parameter in parameters for word in ("-p", parameter)]
    node = start("scene_node", "--ros-args", *options)
    assert node.wait() == 2
    (line,) = node.log.read_text().splitlines()
    assert "[FATAL]" in line
    assert "BAD_CONFIG" in line
    assert text in line


def test_run_node_malformed_parameter_file(start, tmp_path):
    """A parameter file for which rcl would wait is one line."""
    path = tmp_path / "rig.yaml"
    os.mkfifo(path)
    node = start("scene_node", "--ros-args", "--params-file", str(path))
    assert node.wait() == 2
    (line,) = node.log.read_text().splitlines()
    assert "[FATAL]" in line
    assert f"BAD_FILE: cannot read parameter file '{path}'" in line


@pytest.fixture
def signals():
    """What run_node sets is undone."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a: [", "BAD_FILE: cannot read parameter file"),
        ("a: &a [*a]", "BAD_FILE: cannot read parameter file"),
        ("[" * 3000, "BAD_FILE: cannot read parameter file"),
        ("cameras: [left]", "BAD_FILE: parameter file '.*': cameras has no 'ros__parameters'"),
        ("[]", "BAD_FILE: parameter file '.*': it has no 'ros__parameters'"),
        ("n: {ros__parameters: {cameras: [a, 3]}}", "BAD_CONFIG: .* should be of same type"),
        ("n: {ros__parameters: {a: &a [x], b: *a}}", "BAD_CONFIG: .* not support aliasing"),
    ],
)
def test_run_node_parameter_files_are_refused_in_one_line(content, text, signals, tmp_path, capfd):
    """Also those that rcl refuses; in this process, where a start costs nothing."""
    path = tmp_path / "rig.yaml"
    path.write_text(content)
    made = []
    assert run_node(lambda: made.append(1), ["--ros-args", "--params-file", str(path)]) == 2
    assert not made
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(text, line)
    assert "/src/" not in line


def test_run_node_names_arguments_that_it_does_not_know(signals, capfd):
    words = ["--foo", "--ros-args", "-p", "cameras:=[a]", "--", "bar"]
    assert run_node(lambda: pytest.fail("it starts"), words, "what --help prints") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "BAD_CONFIG: unknown arguments: --foo bar;" in line


def test_scene_node_help(start):
    node = start("scene_node", "--help")
    assert node.wait() == 0
    text = node.log.read_text()
    assert text.count("usage: scene_node --ros-args") == 1
    for name in ("world_frame", "<camera>.depth_scale", "pointmaps.depth.max_depth"):
        assert f"\n  {name} (" in text


def test_replay_node_no_recording(start, tmp_path):
    """A replay without recording says why."""
    replay = start("replay_node", str(tmp_path / "nothing"))
    assert replay.wait() == 2
    (line,) = replay.log.read_text().splitlines()
    assert "BAD_FILE" in line
    assert "does not exist" in line


def test_scene_node_two_namespaces(start, tmp_path):
    """Names are relative: each namespace has a node of its own, which tell each other nothing."""
    write_folder(tmp_path / "table", table.make_recording())
    for namespace, cameras in (("one", "['front', 'left']"), ("two", "['front', 'right']")):
        there = ["--ros-args", "-r", f"__ns:=/{namespace}"]
        start("replay_node", str(tmp_path / "table"), "--rate", "5", *there)
        start("scene_node", *there, *WAITING, "-p", f"cameras:={cameras}")
    click = [("front", *table.pixel_on(VIEWS[0], table.RED))]
    with SceneClient("one", timeout=PATIENCE) as one, SceneClient("two", timeout=PATIENCE) as two:
        one.build()
        assert sorted(one.describe(click, include_masks=True).masks) == ["front", "left"]
        with pytest.raises(WildSeg3DError, match="'left'"):
            two.build(cameras=["left"])  # waits until the node has started
        with pytest.raises(WildSeg3DError, match="no scene yet"):
            two.segment(click)


def test_scene_node_camera_unknown_to_tf(start, tmp_path):
    """Its pose comes of what it sees; a click in it finds the object where the others see it."""
    whole = load_folder(shipped_recording())
    views = {view.name: view for view in whole.views if view.name in ("cam_1", "cam_2", "cam_5")}
    masks = dict(zip((view.name for view in whole.views), whole.object_masks, strict=True))
    lost = views["cam_5"]
    views["cam_5"] = View(lost.name, lost.image, lost.K, lost.depth)
    write_folder(tmp_path / "table", Recording(tuple(views.values())))
    start("replay_node", str(tmp_path / "table"), "--rate", "5")
    options = ["-p", "cameras:=['cam_1', 'cam_2', 'cam_5']", "-p", "tf_timeout:=0.5"]
    start("scene_node", "--ros-args", *WAITING, *options)
    with SceneClient(timeout=PATIENCE) as client:
        report = client.build()
        assert any("'cam_5' has no pose in 'world'" in warning for warning in report.warnings)
        assert any("placed by what the cameras see" in warning for warning in report.warnings)
        assert report.frame_id == "world"
        can = next(k for k, name in whole.object_names.items() if "soup" in name.lower())
        v, u = np.argwhere(masks["cam_5"] == can).mean(axis=0)
        found = client.describe([("cam_5", u, v)], include_masks=True)
        assert set(report.warnings) <= set(found.warnings)
    for name in ("cam_1", "cam_2"):
        truth, mask = masks[name] == can, found.masks[name]
        assert (truth & mask).sum() / (truth | mask).sum() > 0.7, name
