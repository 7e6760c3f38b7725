"""Batches of recordings: on real processes, and on a real Ray cluster of this machine."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from wildseg3d_ros import cli
from wildseg3d_ros.batch.jobs import BatchSettings, fingerprint, plan_jobs
from wildseg3d_ros.batch.local import LocalExecutor
from wildseg3d_ros.batch.records import read_record
from wildseg3d_ros.batch.run import BatchResult, Executor, run_batch
from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.export.contents import Contents
from wildseg3d_ros.io.folder import write_folder
from wildseg3d_ros.scene.file.snapshot import load_scene
from wildseg3d_testing.scenes import construct_scene

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """Three small recordings, and an empty folder."""
    root = tmp_path_factory.mktemp("recordings")
    for seed, name in enumerate(NAMES):
        write_folder(root / name, construct_scene(2, 96, 72, 3, seed).recording())
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def made(recordings, tmp_path_factory):
    """Output of the command, of two processes."""
    output = tmp_path_factory.mktemp("made") / "scenes"
    assert cli.main(words(recordings, output, workers=2)) == 3  # one of them is empty
    return output


def words(recordings: Path, output: Path, *more: str, workers: int = 1) -> list[str]:
    paths = [str(recordings / name) for name in (*NAMES, "empty")]
    shares = () if "--ray" in more else ("--workers", str(workers), "--threads", "1")
    return ["batch", *paths, "-o", str(output), "--quiet", *shares, *more]


def run(paths: list[Path], output: Path, executor: Executor) -> BatchResult:
    return run_batch(plan_jobs(paths, output), output, executor, BatchSettings())


def times(output: Path) -> dict[str, int]:
    return {name: (output / name / "record.json").stat().st_mtime_ns for name in NAMES}


def children(name: str) -> list[int]:
    """Processes below this one whose command line holds the name."""
    parents, found = {}, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int(entry.joinpath("stat").read_text().split()[-49])
                if name in entry.joinpath("cmdline").read_text():
                    found.append(int(entry.name))
            except (OSError, ValueError):
                continue

    def is_ours(pid: int) -> bool:
        while pid not in (0, 1, os.getpid()):
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return [pid for pid in found if is_ours(pid)]


def kill_when_there(name: str, killed: list[int]) -> threading.Thread:
    """Kills the first process of that name, as soon as there is one."""

    def run() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            for pid in children(name):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_batch_builds_each_and_records_what_failed(made, recordings):
    for name in NAMES:
        scene, record = load_scene(made / name / "scene.ws3d"), read_record(made / name)
        assert record.state == "done" and record.figures["objects"] == len(scene.object_ids) > 0
        assert record.recording == str(recordings / name)
    failed = read_record(made / "empty")
    assert failed.state == "failed" and failed.lasting and "is empty" in failed.error
    summary = json.loads((made / "batch.json").read_text())
    assert (summary["done"], summary["failed"]) == (3, 1)
    assert [row["name"] for row in summary["scenes"]] == [*NAMES, "empty"]


def test_batch_does_again_only_what_changed(made, recordings, tmp_path, capsys):
    output, copies = tmp_path / "scenes", tmp_path / "in"
    shutil.copytree(made, output)
    shutil.copytree(recordings, copies)  # keeps the times of modification
    before = times(output)
    assert cli.main(words(copies, output)) == 3
    assert times(output) == before
    was = read_record(output / "a")  # as if killed before the end
    begun = replace(was, state="failed", error="begun", lasting=False, files={}, figures={})
    begun.write(output / "a")
    (output / "b" / "scene.ws3d").write_bytes(b"half")
    assert cli.main(words(copies, output)) == 3
    after = times(output)
    assert [after[name] != before[name] for name in NAMES] == [True, True, False]
    assert load_scene(output / "b" / "scene.ws3d").object_ids
    (copies / "c" / "transforms.json").touch()
    assert cli.main(words(copies, output)) == 3
    assert [times(output)[name] != after[name] for name in NAMES] == [False, False, True]
    assert not capsys.readouterr().out


def test_batch_exports_scenes_that_are_there_and_makes_a_page(made, recordings, tmp_path):
    output = tmp_path / "scenes"
    shutil.copytree(made, output)
    before = (output / "a" / "scene.ws3d").stat().st_mtime_ns
    assert cli.main(words(recordings, output, "--export", "labels", "html")) == 3
    assert (output / "a" / "scene.ws3d").stat().st_mtime_ns == before
    record = read_record(output / "a")
    labels = cv2.imread(str(output / "a" / "export/labels/cam_0.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(
        labels, Contents(load_scene(made / "a" / "scene.ws3d")).labels(0)
    )
    there = {str(p.relative_to(output / "a")) for p in (output / "a").rglob("*") if p.is_file()}
    assert set(record.files) == there - {"record.json"} and record.exports == ("labels", "html")
    page = (output / "index.html").read_text()
    links = re.findall('(?:href|src)="(?!data:)([^"]+)"', page)
    assert len(links) == 6 and all((output / link).is_file() for link in links)
    assert "a/export/index.html" in links and "is empty" in page
    done = times(output)
    assert cli.main(words(recordings, output, "--export", "html")) == 3
    assert times(output) == done
    (output / "b" / "export/labels/cam_1.png").unlink()
    assert cli.main(words(recordings, output, "--export", "html", "json")) == 3
    assert read_record(output / "c").exports == ("labels", "html", "json")
    assert (output / "b" / "export/labels/cam_1.png").is_file()


def test_batch_refuses_an_unknown_format_before_it_begins(recordings, tmp_path, capsys):
    assert cli.main(words(recordings, tmp_path / "out", "--export", "cocoa")) == 2
    assert "no format 'cocoa' (did you mean 'coco'?)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_batch_refuses_a_folder_of_other_settings(made, recordings, tmp_path, capsys):
    output = tmp_path / "scenes"
    shutil.copytree(made, output)
    other = ("--set", "index.click_radius=9")
    assert cli.main(words(recordings, output, *other)) == 2
    assert "4 of 4 scenes" in (error := capsys.readouterr().err) and "--redo" in error
    assert cli.main(words(recordings, output, *other, "--redo")) == 3
    assert read_record(output / "a").settings != read_record(made / "a").settings


def test_batch_makes_a_scene_anew_whose_record_is_damaged(made, recordings, tmp_path, capsys):
    output = tmp_path / "scenes"
    shutil.copytree(made, output)
    scene = (output / "a" / "scene.ws3d").read_bytes()
    for name in ("a", "b"):
        (output / name / "record.json").write_text("")
    (notes := output / "b" / "notes.txt").write_text("mine")
    before = times(output)
    assert cli.main(words(recordings, output)) == 3
    assert [times(output)[name] != before[name] for name in NAMES] == [True, False, False]
    assert (output / "a" / "scene.ws3d").read_bytes() == scene
    rows = json.loads((output / "batch.json").read_text())["scenes"]
    (error,) = (row["error"] for row in rows if row["name"] == "b")
    assert "holds 'notes.txt' and a damaged record.json" in error
    notes.unlink()
    (output / "batch.json").write_text("{")
    assert cli.main(words(recordings, output)) == 3
    assert read_record(output / "b").state == "done"
    assert len(json.loads((output / "batch.json").read_text())["scenes"]) == len(rows)


def test_batch_tells_records_of_another_version(made, recordings, tmp_path, capsys):
    output = tmp_path / "scenes"
    shutil.copytree(made, output)
    record = output / "a" / "record.json"
    record.write_text(record.read_text().replace('"version": 2', '"version": 1'))
    assert cli.main(words(recordings, output)) == 2
    assert "1 of 4 scenes" in (error := capsys.readouterr().err) and "e.g. 'a'" in error
    assert cli.main(words(recordings, output, "--redo")) == 3
    assert read_record(output / "a").state == "done"


def test_batch_exports_a_scene_that_is_made_anew_in_the_formats_that_it_had(made, tmp_path):
    output = tmp_path / "scenes"
    recording = read_record(made / "a").recording
    shutil.copytree(made / "a", output / "a")
    command = ["batch", recording, "-o", str(output), "--quiet", "--workers", "1"]
    assert cli.main([*command, "--export", "json"]) == 0
    assert cli.main([*command, "--redo", "--set", "index.click_radius=9"]) == 0
    record, scene = read_record(output / "a"), load_scene(output / "a" / "scene.ws3d")
    assert record.exports == ("json",) and "export/scene.json" in record.files
    said = json.loads((output / "a/export/wildseg3d-export.json").read_text())
    assert scene.click_radius == 9 and said["scene_id"] == scene.scene_id


def test_batch_records_an_export_that_cannot_be_written(made, recordings, tmp_path):
    output = tmp_path / "scenes"
    shutil.copytree(made, output)
    (notes := output / "a" / "export" / "notes.txt").parent.mkdir()
    notes.write_text("mine")
    assert cli.main(words(recordings, output, "--export", "json")) == 3
    assert notes.read_text() == "mine" and read_record(output / "b").exports == ("json",)
    failed = read_record(output / "a")
    assert failed.state == "failed" and "the scene is built" in failed.error
    assert "holds files that no export wrote" in failed.error
    notes.unlink()
    assert cli.main(words(recordings, output, "--export", "json")) == 3  # "empty" fails
    assert read_record(output / "a").state == "done"


def test_batch_lists_all_scenes_of_its_folder(made, tmp_path):
    output = tmp_path / "scenes"
    shutil.copytree(made, output)
    (output / "a").rename(output / "old")
    recording = read_record(made / "b").recording
    assert cli.main(["batch", recording, "-o", str(output), "--quiet"]) == 0
    summary = json.loads((output / "batch.json").read_text())
    assert [row["name"] for row in summary["scenes"]] == ["b", "c", "empty", "old"]
    assert (summary["done"], summary["failed"]) == (3, 1)
    page = (output / "index.html").read_text()
    assert 'href="old/scene.ws3d"' in page and "3 scenes with" in page
    assert "1 recording failed" in page


@pytest.mark.parametrize(
    "foreign",
    ["a/scene.ws3d", "a/preview.jpg", "a/images/0.png", "a", "index.html", "batch.json"],
)
def test_batch_replaces_nothing_that_no_batch_wrote(recordings, tmp_path, capsys, foreign):
    path = tmp_path / foreign
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("{}")
    assert cli.main(words(recordings, tmp_path)) == 2
    error = capsys.readouterr().err
    assert foreign.split("/")[0] in error and "no batch wrote it: move it away" in error
    assert path.read_text() == "{}" and not (tmp_path / "b").exists()


def test_batch_locks_its_folder(recordings, tmp_path):
    class Nested:
        """Starts another batch from within one."""

        def run(self, jobs, settings):
            run([recordings / "a"], tmp_path, LocalExecutor(1, 1, 0))
            yield

    with pytest.raises(ConfigError, match=f"another batch works .*process {os.getpid()} on"):
        run([recordings / "a"], tmp_path, Nested())


def test_workers_end_with_a_killed_batch_and_keep_its_folder_until_then(recordings, tmp_path):
    class Idle:
        """Does nothing."""

        def run(self, jobs, settings):
            return iter(())

    command = [sys.executable, "-m", "wildseg3d_ros.cli", *words(recordings, tmp_path)]
    begun = tmp_path / "a" / "record.json"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as batch:
        while not begun.exists():
            time.sleep(0.01)
        (worker,) = children("wildseg3d_ros.batch.worker")
        os.kill(worker, signal.SIGSTOP)  # what it was at, it would go on with
        batch.kill()
        batch.wait()
        with pytest.raises(ConfigError, match="another batch works"):
            run([recordings / "a"], tmp_path, Idle())
        os.kill(worker, signal.SIGCONT)
        assert batch.stderr.read() == ""  # until the worker, which has it, too, has ended
    assert read_record(tmp_path / "a").state == "failed" and not list(tmp_path.glob("*/scene*"))
    run([recordings / "a"], tmp_path, Idle())


def test_batch_survives_a_killed_worker(recordings, tmp_path):
    paths, killed = [recordings / name for name in NAMES], []
    killer = kill_when_there("wildseg3d_ros.batch.worker", killed)
    result = run(paths, tmp_path, LocalExecutor(2, 1, retries=1))
    killer.join()
    assert killed and [record.state for record in result.records] == ["done"] * 3
    assert str(killed[0]) not in {record.worker.split(":")[1] for record in result.records}


def test_batch_tries_a_lost_recording_again_next_time(recordings, tmp_path):
    killed = []
    killer = kill_when_there("wildseg3d_ros.batch.worker", killed)
    result = run([recordings / "a"], tmp_path, LocalExecutor(1, 1, retries=0))
    killer.join()
    (record,) = result.failed
    assert "SIGKILL" in record.error and not record.lasting
    assert read_record(tmp_path / "a") == record
    assert not run([recordings / "a"], tmp_path, LocalExecutor(1, 1, retries=0)).failed


def test_plan_jobs_names_scenes(recordings, tmp_path):
    (tmp_path / "x" / "a").mkdir(parents=True)
    both = [recordings / "a", tmp_path / "x" / "a"]
    with pytest.raises(ConfigError, match="'a': give --root"):
        plan_jobs(both, tmp_path / "out")
    below = plan_jobs(both[1:], tmp_path / "out", tmp_path)
    assert [job.name for job in below] == ["x/a"]
    with pytest.raises(FileError, match="does not lie below"):
        plan_jobs(both, tmp_path / "out", tmp_path)
    with pytest.raises(FileError, match="no recording"):
        plan_jobs([tmp_path / "nothing"], tmp_path / "out")
    for inside in (recordings / "a", recordings / "a" / "scenes"):
        with pytest.raises(ConfigError, match="into the recording '.*/a', which changes it"):
            plan_jobs([recordings / "a"], inside)
    with pytest.raises(ConfigError, match="no recording is given"):
        plan_jobs([], tmp_path / "out")


def test_fingerprint_sees_files_come_go_and_change(tmp_path):
    folder, seen = tmp_path / "r", set()
    (folder / "images").mkdir(parents=True)
    path = folder / "images" / "0.png"
    for change in (
        lambda: None,
        lambda: path.write_bytes(b"1"),
        lambda: path.write_bytes(b"12"),
        lambda: os.utime(path, ns=(1, 1)),
        lambda: path.rename(folder / "images" / "1.png"),
        lambda: (folder / "link").symlink_to("nowhere"),
    ):
        change()
        seen.add(fingerprint(folder))
    assert len(seen) == 6 and fingerprint(folder) in seen


def test_settings_survive_the_way_to_a_worker():
    from wildseg3d_ros.config import SceneConfig

    config = SceneConfig.from_mapping({"masks": {"sam2": {"device": "cpu"}}, "index": {}})
    settings = BatchSettings(config, 5, True)
    back = BatchSettings.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert back == settings and back.key == settings.key != BatchSettings(config, 6, True).key


def test_batch_stops_where_nothing_can_be_written(recordings, tmp_path, capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as a disk that is full
    try:
        assert cli.main(words(recordings, tmp_path)) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write" in capsys.readouterr().err


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of one node on this machine."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        yield cluster
        cluster.shutdown()


def test_ray_loses_nothing_and_writes_the_same_bytes(cluster, made, recordings, tmp_path):
    killed = []
    killer = kill_when_there("ray::_work", killed)
    command = words(recordings, tmp_path, "--ray", cluster.address)
    with subprocess.Popen([sys.executable, "-m", "wildseg3d_ros.cli", *command]) as batch:
        cluster.add_node(num_cpus=1)
        assert batch.wait() == 3
    killer.join()
    assert killed
    for name in NAMES:
        ours, theirs = (folder / name / "scene.ws3d" for folder in (tmp_path, made))
        assert ours.read_bytes() == theirs.read_bytes()
    assert read_record(tmp_path / "empty").error == read_record(made / "empty").error


def test_ray_says_what_is_missing(cluster, recordings, tmp_path, capfd):
    other = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    of_other = f"127.0.0.1:{other.server_port}"
    for more, error in (
        (("--ray", of_other), f"no Ray cluster answers at '{of_other}' (what listens there is no"),
        (("--ray", "127.0.0.1:9"), "no Ray cluster answers at '127.0.0.1:9'"),
        (("--ray", cluster.address, "--gpus-per-worker", "0.5"), "takes 0.5 GPU"),
        (("--ray", cluster.address, "--workers", "2"), "--workers is for this machine"),
    ):
        assert cli.main(words(recordings, tmp_path, *more)) == 2
        assert error in capfd.readouterr().err
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize(
    "said, raised, shown",
    [
        (
            "",
            "The current node timed out during startup.",
            "does not start on this machine (The current node timed out",
        ),
        (
            "W 1 1] gcs_client.cc:210: Unauthenticated: RPC error: InvalidAuthToken: ...\n",
            "Failed to connect",
            "wants its token (Failed to connect); copy ~/.ray/auth_token",
        ),
    ],
    ids=["late", "token"],
)
def test_ray_that_cannot_be_had_is_one_line(
    recordings, tmp_path, monkeypatch, capfd, said, raised, shown
):
    ray = pytest.importorskip("ray")

    def slow(**_: object) -> None:
        os.write(2, said.encode())  # as Ray's libraries do, past Python
        raise Exception(raised)  # as Ray has it

    monkeypatch.setattr(ray, "init", slow)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    assert cli.main(words(recordings, tmp_path, "--ray", "local")) == 2
    error = capfd.readouterr().err
    assert shown in error and error.count("\n") == 1
