"""Listing, saving and loading over real DDS."""

from __future__ import annotations

import json
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import table

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import invert
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording
from wildseg3d_ros.ros import scene_node
from wildseg3d_ros.ros.replay_node import optical_frame
from wildseg3d_ros.ros.services import objects
from wildseg3d_ros.ros.services.objects import loaded_scene
from wildseg3d_ros.scene.file.snapshot import load_scene

VIEWS = table.make_views()


def red(view: int = 0) -> tuple[str, int, int]:
    return (VIEWS[view].name, *table.pixel_on(VIEWS[view], table.RED))


def refused(call, code, text):
    with pytest.raises(WildSeg3DError, match=text) as error:
        call()
    assert error.value.code == ErrorCode[code], error.value


def test_list_objects_with_boxes(live):
    """Objects are listed with their boxes."""
    _, _, client = live
    assert [thing.object_id for thing in client.list_objects()] == [1, 2]
    frame = optical_frame("left")
    for thing in client.list_objects(frame):
        selected = client.segment(object_ids=[thing.object_id], target_frame=frame)
        assert thing.points == len(selected.points)
        assert (thing.level, thing.parent) == ("whole", 0)
        assert thing.cameras == table.NAMES
        np.testing.assert_array_equal(thing.box.frame_from_box, selected.box.frame_from_box)
        np.testing.assert_array_equal(thing.box.size, selected.box.size)
    refused(lambda: client.list_objects("shelf"), "UNKNOWN_FRAME", "'shelf'")


def test_save_and_load_scene_same_answer(live, tmp_path):
    """A saved scene answers as it did."""
    _, _, client = live
    before = client.segment([red()])
    path = client.save_scene(str(tmp_path / "new" / "scene.ws3d"))
    assert Path(path).is_absolute()
    assert load_scene(path).scene_id == before.scene_id
    assert client.build().scene_id != before.scene_id
    assert client.load_scene(path) == before.scene_id
    after = client.segment([red()])
    np.testing.assert_allclose(after.points, before.points, atol=1e-5)  # as exact as files are
    assert (after.scene_id, after.stamp_ns) == (before.scene_id, before.stamp_ns)
    # Cameras' frames are known from the scene itself.
    frame = optical_frame("right")
    there = client.segment([red()], target_frame=frame)
    expected = before.points @ invert(VIEWS[2].world_from_cam_prior)[:3, :3].T
    expected += invert(VIEWS[2].world_from_cam_prior)[:3, 3]
    np.testing.assert_allclose(there.points, expected, atol=1e-5)


def test_load_scene_into_fresh_node(world, tmp_path):
    """A scene is loaded where nothing was built."""
    node = world.scene_node()
    world.replay()
    client = world.client()
    node.wait_until_started(lambda: False)
    refused(client.list_objects, "NO_SCENE", "build_scene")
    refused(lambda: client.save_scene(str(tmp_path / "x")), "NO_SCENE", "build_scene")
    client.build()
    path = client.save_scene(str(tmp_path / "scene.ws3d"))
    world.end()
    fresh = type(world)()
    try:
        fresh.scene_node()
        client = fresh.client()
        client.load_scene(path)
        found = client.segment([red()])
        assert found.object_ids == (1,)
        assert any("no camera_info yet" in warning for warning in found.warnings)
    finally:
        fresh.end()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_save_scene_read_only_folder(live, tmp_path):
    """A folder that may not be written to."""
    _, _, client = live
    tmp_path.chmod(0o500)
    refused(lambda: client.save_scene(str(tmp_path / "a")), "BAD_FILE", "cannot write.*ermission")


def test_save_and_load_scene_bad_paths(live, tmp_path):
    """Places that cannot be saved to or loaded from."""
    _, _, client = live
    (tmp_path / "file").write_text("this is no scene")
    os.mkfifo(tmp_path / "pipe")
    for path, text in [
        ("", "a path is needed"),
        (str(tmp_path), "is a folder"),
        ("/proc/nothing/here.ws3d", "cannot write"),
        (str(tmp_path / "file" / "below"), "cannot write"),
        ("~nobody_of_that_name/x", "cannot save to"),
        ("/" + "x" * 4000, "cannot"),
    ]:
        refused(lambda path=path: client.save_scene(path), "BAD_FILE", text)
    for path, text in [
        ("", "a path is needed"),
        (str(tmp_path), "is a folder"),
        (str(tmp_path / "none.ws3d"), "cannot read"),
        (str(tmp_path / "file"), "not a saved scene"),
        ("/dev/null", "cannot read.*no file"),
        ("/dev/zero", "cannot read.*no file"),
        (str(tmp_path / "pipe"), "cannot read.*no file"),
    ]:
        refused(lambda path=path: client.load_scene(path), "BAD_FILE", text)
    whole = tmp_path / "whole.ws3d"
    client.save_scene(str(whole))
    (tmp_path / "half.ws3d").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    refused(lambda: client.load_scene(str(tmp_path / "half.ws3d")), "BAD_FILE", "truncated")
    assert client.segment([red()]).object_ids == (1,)


def test_load_scene_damaged(live, tmp_path):
    """Not only what cannot be read: also what could not be answered from, or not be sent."""
    _, _, client = live
    path = client.save_scene(str(tmp_path / "scene.ws3d"))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["wildseg3d-scene.json"])
    built = client.build().scene_id
    for group, name, value, text in [
        ("scene", "frame_id", "\ud800", "frame_id.* has half of a character"),
        ("scene", "camera_frames", ["a", "b"], "camera_frames: expected 3"),
        ("masks", "object_ids", [2, 1], "ids of whole objects: expected each once"),
    ]:
        damaged = json.dumps({**header, group: {**header[group], name: value}})
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in {**members, "wildseg3d-scene.json": damaged}.items():
                archive.writestr(member, data)
        refused(lambda: client.load_scene(path), "BAD_FILE", f"{text}.*build it again")
        assert client.segment([red()]).scene_id == built


def test_load_scene_failing_reply(live, tmp_path, monkeypatch):
    """The scene before answers until the reply is made."""
    _, _, client = live
    path = client.save_scene(str(tmp_path / "scene.ws3d"))
    built = client.build().scene_id

    def broken(_):
        raise RuntimeError("no reply can be made")

    monkeypatch.setattr(objects, "_load_reply", broken)
    refused(lambda: client.load_scene(path), "INTERNAL", "no reply can be made")
    assert client.segment([red()]).scene_id == built


def test_load_scene_refuses_builds(live, tmp_path, monkeypatch):
    """Builds are refused while a scene is loaded."""
    _, _, client = live
    path = client.save_scene(str(tmp_path / "scene.ws3d"))
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*arguments):
        begun.set()
        assert go_on.wait(20.0)
        return loaded_scene(*arguments)

    monkeypatch.setattr(scene_node, "loaded_scene", slowly)
    with ThreadPoolExecutor() as pool:
        loaded = pool.submit(client.load_scene, path)
        try:
            assert begun.wait(20.0)
            with pytest.raises(
                WildSeg3DError, match="being changed already .loading a sc"
            ) as busy:
                client.build()
        finally:
            go_on.set()
        assert loaded.result()
    assert busy.value.code == ErrorCode.BUSY
    assert "cancel" not in str(busy.value)


def test_load_scene_other_rig(fresh, tmp_path):
    """A scene of another rig is refused."""
    world, _, client = fresh
    path = client.save_scene(str(tmp_path / "scene.ws3d"))
    world.end()
    for names, change, text in [
        (["front", "left", "top"], lambda view: view, "has camera 'right'.*front, left, top"),
        (table.NAMES, narrower, "'front' are 160x120, and the camera now has 80x60"),
        (table.NAMES, zoomed, "focal length of camera 'front' is 150.0 px in it, and 200.0"),
    ]:
        other = type(world)()
        try:
            other.scene_node(cameras=list(names))
            other.replay(Recording(tuple(change(view) for view in VIEWS)))
            client = other.client()
            load = partial(client.load_scene, path)
            if "top" in names:  # a camera that is not there: nothing can be built
                refused(load, "OTHER_RIG", text)
                continue
            built = client.build().scene_id
            refused(load, "OTHER_RIG", text)
            assert client.segment(object_ids=[1]).scene_id == built
        finally:
            other.end()


def narrower(view: View) -> View:
    K = view.K / 2
    K[2, 2] = 1
    return View(view.name, view.image[::2, ::2].copy(), K, view.depth[::2, ::2].copy(),
                view.world_from_cam_prior)  # fmt: skip


def zoomed(view: View) -> View:
    K = view.K.copy()
    K[0, 0] = K[1, 1] = 200.0
    return View(view.name, view.image, K, view.depth, view.world_from_cam_prior)


def test_files_stay_inside_the_scene_folder(world, tmp_path):
    """Names, absolute paths, dots and links that lead out; and files that are something else."""
    folder, outside = tmp_path / "scenes", tmp_path / "outside"
    outside.mkdir()
    world.scene_node(scene_folder=str(folder))
    world.replay()
    client = world.client()
    client.build()
    saved = client.save_scene("shelf/monday.ws3d")
    assert saved == str(folder / "shelf" / "monday.ws3d")
    assert client.load_scene("shelf/monday.ws3d") == client.load_scene(saved)
    client.save_scene(saved)  # a scene may be replaced
    (folder / "way_out").symlink_to(outside)
    (outside / "theirs.ws3d").write_bytes(Path(saved).read_bytes())
    for path in (
        str(outside / "x.ws3d"), "../outside/x.ws3d", "way_out/x.ws3d", "~/x.ws3d", "/etc/passwd",
    ):  # fmt: skip
        for ask in (client.save_scene, client.save_poses):
            refused(lambda ask=ask, path=path: ask(path), "BAD_FILE", "scene_folder")
    for path in (str(outside / "theirs.ws3d"), "../outside/theirs.ws3d", "way_out/theirs.ws3d"):
        refused(lambda path=path: client.load_scene(path), "BAD_FILE", "scene_folder")
    assert [p.name for p in outside.iterdir()] == ["theirs.ws3d"]
    notes = folder / "notes.txt"
    notes.write_text("what a person wrote")
    refused(lambda: client.save_scene("notes.txt"), "BAD_FILE", "no scene: it is not written over")
    refused(lambda: client.save_poses("notes.txt"), "BAD_FILE", "is there and no file of poses")
    assert notes.read_text() == "what a person wrote"
    assert client.save_poses("poses.yaml") == client.save_poses("poses.yaml")
