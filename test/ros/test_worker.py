"""The build process: IPC transport of scenes, cancellation, death, recovery."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import table
from listening import PATIENCE, wait_for

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import Cancelled, ConfigError, ErrorCode, WildSeg3DError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.demo import shipped_recording
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.ros.building import ipc
from wildseg3d_ros.ros.building import worker as worker_module
from wildseg3d_ros.ros.building.ipc import Channel
from wildseg3d_ros.ros.building.process import Settings
from wildseg3d_ros.ros.building.worker import BuildWorker


@pytest.fixture
def make_worker():
    made = []

    def make(builder: str) -> BuildWorker:
        made.append(BuildWorker(Settings(SceneConfig(), f"table:{builder}"), print))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


def build(worker: BuildWorker, report=lambda *_: None, cancelled=lambda: False):
    return worker.build(table.make_views(), "world", report, cancelled)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


# ---- IPC transport -----------------------------------------------------------------------------


def pass_on(*things):
    ours, theirs = Channel.pair()
    for thing in things:
        sender = threading.Thread(target=ours.send, args=(thing,))
        sender.start()
        yield theirs.receive()
        sender.join()
    ours.close()
    with pytest.raises(EOFError):
        theirs.receive()
    theirs.close()


def test_channel_all_kinds_of_arrays():
    """Arrays of all kinds arrive."""
    things = {
        "large": np.arange(1_000_000, dtype=np.float32).reshape(1000, 1000),
        "empty": np.zeros((0, 3)),
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "strided": np.arange(20)[::3],
        "mask": np.eye(5, dtype=bool),
        "text": "text",
    }
    first, second = pass_on(things, ("no arrays", 1))
    assert second == ("no arrays", 1)
    for name, thing in things.items():
        np.testing.assert_array_equal(first[name], thing)
    # Mapped, not copied: nobody may write to what another process shares.
    assert not first["large"].flags.writeable
    assert not first["large"].flags.owndata


def test_channel_leaves_nothing_open():
    """Nothing is left open."""

    def descriptors() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for _ in range(20):
        for received in pass_on({"array": np.ones(100_000)}):
            assert received["array"].sum() == 100_000
        del received
    assert descriptors() == before


def test_channel_end_vanishes():
    """An end that vanishes in the middle of a message."""
    ours, theirs = Channel.pair()
    ours._socket.sendall(b"\x10\x00")
    ours.close()
    with pytest.raises(EOFError, match="middle"):
        theirs.receive()


# ---- builds ------------------------------------------------------------------------------------


def test_build_worker_scene(make_worker):
    """The scene is the one that was built."""
    worker, stages = make_worker("color_builder"), []
    built = build(worker, lambda stage, fraction: stages.append((stage, fraction)))
    expected = table.scene_by_color(table.make_views(), Progress(), "world")
    assert built.scene.object_ids == (1, 2)
    assert built.scene.frame_id == "world"
    np.testing.assert_array_equal(built.scene.index.points, expected.index.points)
    np.testing.assert_array_equal(built.scene.labels[1], expected.labels[1])
    assert not built.scene.index.points.flags.writeable
    assert stages[0] == ("color", 0.0)
    assert stages[-1] == ("color", 1.0)
    # The overview shows the table too, thinned to voxels.
    assert (np.abs(built.overview.points[:, 2]) < 0.01).sum() > 1000
    cells = np.floor(built.overview.points.astype(float) / 0.005)
    assert len(np.unique(cells, axis=0)) > 0.9 * len(cells)


def test_build_worker_process_stays(make_worker):
    """The process and its back ends stay."""
    worker = make_worker("color_builder")
    worker.load()
    pid = worker.pid
    assert build(worker).scene.scene_id != build(worker).scene.scene_id
    assert worker.pid == pid
    worker.configure(Settings(SceneConfig(), "table:color_builder"))
    build(worker)
    assert worker.pid == pid
    other = SceneConfig(alignment=AlignmentConfig(max_iterations=3))
    worker.configure(Settings(other, "table:color_builder"))
    build(worker)
    assert worker.pid != pid
    assert not alive(pid)


def test_build_worker_cancel(make_worker, monkeypatch, tmp_path):
    """Cancelling and building again."""
    monkeypatch.setenv("PATIENT_UNTIL", str(tmp_path / "go"))
    worker, started = make_worker("patient_builder"), threading.Event()
    with pytest.raises(Cancelled, match="waiting"):
        build(worker, lambda *_: started.set(), started.is_set)
    pid = worker.pid
    (tmp_path / "go").touch()
    assert build(worker).scene.object_ids == (1, 2)
    assert worker.pid == pid


def test_build_worker_cancel_deaf_build(make_worker, monkeypatch):
    """A build that does not listen is ended."""
    monkeypatch.setattr(worker_module, "CANCEL_SECONDS", 0.2)
    worker, started = make_worker("deaf_builder"), threading.Event()
    with pytest.raises(Cancelled, match="was ended"):
        build(worker, lambda *_: started.set(), started.is_set)
    assert worker.pid is None


def test_build_worker_killed_build(make_worker, monkeypatch, tmp_path):
    """A killed build is an error and the next one works."""
    monkeypatch.setenv("PATIENT_UNTIL", str(tmp_path / "died"))
    worker = make_worker("dying_builder")
    with pytest.raises(WildSeg3DError, match=r"died.*SIGKILL.*memory") as died:
        build(worker)
    assert died.value.code == ErrorCode.INTERNAL
    assert build(worker).scene.object_ids == (1, 2)


def test_build_worker_send_fails(make_worker, monkeypatch):
    """Images that cannot be sent leave the process alone."""
    worker = make_worker("color_builder")
    build(worker)
    pid = worker.pid

    def full(views, file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(ipc, "_write_shared", full)
        with pytest.raises(WildSeg3DError, match=r"could not be sent.*No space left") as refused:
            build(worker)
    assert refused.value.code == ErrorCode.INTERNAL
    assert build(worker).scene.object_ids == (1, 2)
    assert worker.pid == pid


def test_build_worker_receive_fails(make_worker, monkeypatch):
    """A scene that cannot be received."""
    worker = make_worker("color_builder")

    def full(descriptor, sizes):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as broken:
        broken.setattr(ipc, "_map_shared", full)
        with pytest.raises(WildSeg3DError, match=r"could not be received.*Cannot allocate"):
            build(worker)
    assert build(worker).scene.object_ids == (1, 2)


def test_build_worker_died_between_builds(make_worker):
    """A process that died between builds."""
    worker = make_worker("color_builder")
    build(worker)
    pid = worker.pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid))
    assert build(worker).scene.object_ids == (1, 2)
    assert worker.pid != pid


def test_build_worker_defect_or_missing_weights(make_worker):
    """Defects and missing weights are told apart."""
    with pytest.raises(WildSeg3DError, match=r"ZeroDivisionError.*on purpose") as defect:
        build(make_worker("broken_builder"))
    assert defect.value.code == ErrorCode.INTERNAL
    with pytest.raises(WildSeg3DError, match="weights are not there") as unloadable:
        build(make_worker("unloadable_builder"))
    assert unloadable.value.code == ConfigError.code


def test_build_worker_close(make_worker):
    """Closing ends a running build."""
    worker, started, raised = make_worker("deaf_builder"), threading.Event(), []

    def run():
        try:
            build(worker, lambda *_: started.set())
        except WildSeg3DError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(PATIENCE)
    pid = worker.pid
    worker.close()
    thread.join(10)
    assert "shutting down" in str(raised[0])
    assert not alive(pid)
    worker.close()
    with pytest.raises(WildSeg3DError, match="shutting down"):
        build(worker)


def test_build_process_parent_killed():
    """The process does not outlive a killed node."""
    script = (
        "import time, table\n"
        "from wildseg3d_ros.config import SceneConfig\n"
        "from wildseg3d_ros.ros.building.process import Settings\n"
        "from wildseg3d_ros.ros.building.worker import BuildWorker\n"
        "w = BuildWorker(Settings(SceneConfig(), 'table:deaf_builder'), print)\n"
        "w.build(table.make_views(), 'world', lambda *_: print(w.pid, flush=True), lambda: False)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(pid))


def test_build_process_free_of_ros(make_worker):
    """The process is free of ros."""
    worker = make_worker("color_builder")
    build(worker)
    maps = Path(f"/proc/{worker.pid}/maps").read_text()
    assert "librmw" not in maps
    assert "rclpy" not in maps


def test_build_process_imports_nothing_of_its_folder(make_worker, tmp_path, monkeypatch):
    """A file that has a standard module's name, where the node happens to be started."""
    for name in ("random.py", "queue.py", "table.py"):
        (tmp_path / name).write_text("open('ran', 'w')\nraise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    tests = str(Path(table.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", tests, ""]))
    make_worker("Builder").load()
    assert not (tmp_path / "ran").exists()


def test_pipeline_update_one_view():
    """The scene goes there and back: ids and masks of the other views stay as they are."""
    views = load_folder(shipped_recording()).views[1:4]
    worker = BuildWorker(Settings(SceneConfig()), print)
    try:
        nothing = (lambda *_: None, lambda: False)
        scene = worker.build(views, "world", *nothing).scene
        renewed = worker.build(views, "world", *nothing, (scene, ("cam_2",))).scene
    finally:
        worker.close()
    assert renewed.scene_id != scene.scene_id
    assert set(renewed.object_ids) >= set(scene.object_ids)
    assert renewed.view_names == ("cam_1", "cam_2", "cam_3")
    for view, same in enumerate((True, False, True)):
        differ = (renewed.labels[view] != scene.labels[view]).mean()
        assert differ == 0 if same else differ < 0.03
