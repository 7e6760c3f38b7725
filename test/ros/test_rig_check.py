"""What a node says of its cameras: the service, the reports of builds, and poses to take away."""

from __future__ import annotations

import dataclasses
import json
import time

import cv2
import numpy as np
import pytest
import table
import yaml
from listening import PATIENCE, Listener, wait_for
from sensor_msgs.msg import Image

from wildseg3d_msgs.action import BuildScene
from wildseg3d_ros import cli
from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import (
    invert,
    make_transform,
    rotation_from_quaternion,
)
from wildseg3d_ros.io.folder import Recording, write_folder
from wildseg3d_ros.rig.aligned import check_rig
from wildseg3d_ros.rig.check_pictures import draw_check
from wildseg3d_ros.ros.building.process import PIPELINE
from wildseg3d_ros.ros.messages.conversions import transform_from_matrix
from wildseg3d_ros.ros.replay_node import optical_frame

VIEWS = table.make_views()
PARTS = {"image", "depth", "camera_info"}


def recording(change) -> Recording:
    """The table with changed views."""
    whole = table.make_recording()
    return dataclasses.replace(whole, views=tuple(map(change, whole.views)))


def inverted(view):
    pose = invert(view.world_from_cam_prior)
    return dataclasses.replace(view, world_from_cam_prior=pose)


def as_pose(entry) -> np.ndarray:
    """(4, 4) of an entry of the YAML file."""
    place = [entry["translation"][k] for k in "xyz"]
    turn = [entry["rotation"][k] for k in "xyzw"]
    return make_transform(rotation_from_quaternion(np.array(turn)), np.array(place))


def test_check_rig_right_rig(live):
    _, _, client = live
    client.build()  # so that the cameras are there
    report = client.check_rig()
    assert report.verdict == "ok"
    assert report.problems == ()
    assert report.pictures == ()
    assert report.mistake == ""
    assert report.frame_id == "world"
    assert {(s.camera, s.part) for s in report.streams} == {
        (name, part) for name in table.NAMES for part in PARTS
    }
    for stream in report.streams:
        assert stream.publishers == ("replay",), stream
        assert 0.0 < stream.rate < 15.0
        assert 0.0 <= stream.age < 10.0
        assert abs(stream.latency) < 10.0
        assert (stream.width, stream.height) == table.SIZE[::-1]
        assert stream.durability == "volatile"
    encodings = {s.part: s.encoding for s in report.streams}
    assert encodings["image"] == "rgb8"
    for camera, view in zip(report.cameras, VIEWS, strict=True):
        verdict = camera.verdict
        assert (verdict.name, verdict.posed, verdict.verdict) == (view.name, True, "ok")
        assert camera.optical_frame == optical_frame(view.name)
        np.testing.assert_allclose(camera.frame_from_optical, view.world_from_cam_prior, atol=1e-6)
        assert verdict.agreement > 0.9
        assert set(verdict.overlap) == set(table.NAMES) - {view.name}
        assert verdict.median_depth == pytest.approx(np.median(view.depth), rel=0.01)
    with pytest.raises(WildSeg3DError, match="no camera 'top'") as unknown:
        client.check_rig(["top"])
    assert unknown.value.code == ErrorCode.UNKNOWN_CAMERA


def test_check_rig_names_the_mistake_and_builds_are_refused(world):
    world.scene_node(PIPELINE)
    world.replay(recording(inverted))
    client = world.client()
    client.wait_until_ready()
    wait_for(lambda: len(client.check_rig().cameras) == 3)
    report = client.check_rig(pictures=True)
    assert report.verdict == "suspect"
    assert report.mistake == "inverse"
    views = recording(inverted).views
    drawn = draw_check(check_rig(views)).all
    assert [each.title for each in report.pictures] == [each.title for each in drawn]
    assert drawn[1].title == "All cameras without the mistake"
    for packed, true in zip(report.pictures, drawn, strict=True):
        image = cv2.imdecode(np.frombuffer(packed.jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert image.shape == true.image.shape
        # JPEG smears the colours of small dots.
        smooth = [cv2.blur(each.astype(np.float32), (16, 16)) for each in (image, true.image)]
        assert np.abs(smooth[0] - smooth[1]).mean() < 2
    assert "the poses look inverted" in report.problems[0]
    assert {camera.verdict.verdict for camera in report.cameras} == {"suspect"}

    handle = client._wait(client._build.send_goal_async(BuildScene.Goal()))
    result = client._wait(handle.get_result_async()).result
    assert result.status.code == ErrorCode.WRONG_RIG
    assert [report.verdict for report in result.camera_reports] == [2, 2, 2]
    assert [report.camera for report in result.camera_reports] == list(table.NAMES)


def test_check_rig_names_what_is_missing_and_checks_the_rest(world):
    """One camera without depth; one that nobody publishes; none unknown to TF."""
    world.scene_node(cameras=["front", "left", "right", "top"])
    replay = world.replay()
    client = world.client()
    client.wait_until_ready()
    wait_for(lambda: len(client.check_rig().cameras) == 3)
    del replay._streams["left", "depth_topic"]
    started = time.monotonic()
    wait_for(lambda: "left" not in [c.verdict.name for c in client.check_rig().cameras])
    assert time.monotonic() - started > 1.0
    report = client.check_rig()
    assert report.verdict == "ok"
    assert [c.verdict.name for c in report.cameras] == ["front", "right"]
    said = " | ".join(report.problems)
    assert "camera 'top'" in said
    assert "nobody publishes" in said
    assert "camera 'left'" in said
    silent = [s for s in report.streams if s.camera == "top"]
    assert all(np.isnan(s.rate) and s.problems for s in silent)
    (image,) = [s for s in report.streams if (s.camera, s.part) == ("front", "image")]
    assert image.problems == ()
    client.node.create_publisher(Image, image.topic, 1)
    wait_for(lambda: any("2 publishers on" in text for text in client.check_rig().problems))


def test_build_reports_by_camera_and_in_diagnostics(world, tmp_path):
    """One camera stands 30 mm from where its transform says."""
    moved = make_transform(np.eye(3), np.array([0.03, 0.0, 0.0]))

    def knock(view):
        if view.name != "left":
            return view
        return dataclasses.replace(view, world_from_cam_prior=moved @ view.world_from_cam_prior)

    write_folder(tmp_path / "rig", recording(knock))
    world.scene_node(PIPELINE)
    world.replay(recording(knock))
    client = world.client()
    diagnostics = Listener(client)
    built = client.build()
    reports = {report.verdict.name: report for report in built.cameras}
    assert set(reports) == set(table.NAMES)
    assert reports["left"].verdict.translation == pytest.approx(0.03, abs=0.02)
    for name, report in reports.items():
        assert report.optical_frame == optical_frame(name)
        assert report.verdict.agreement > 0.5
    wait_for(lambda: diagnostics.level("pose of camera left"))
    values = diagnostics.values("pose of camera left")
    assert float(values["moved by [m]"]) == pytest.approx(
        reports["left"].verdict.translation, abs=1e-3
    )


def test_save_poses_optical_and_link_frames(live, tmp_path):
    world, _, client = live
    client.build()
    path = tmp_path / "new" / "poses.yaml"
    text = client.save_poses(str(path))
    assert path.read_text() == text
    entries = yaml.safe_load(text)
    assert [entry["child"] for entry in entries] == [optical_frame(n) for n in table.NAMES]
    assert {entry["parent"] for entry in entries} == {"world"}
    for entry, view in zip(entries, VIEWS, strict=True):
        np.testing.assert_allclose(as_pose(entry), view.world_from_cam_prior, atol=2e-6)
    # Its link frame, as in a driver's own tree of frames.
    optical_from_link = make_transform(
        np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float), np.array([0.0, 0.02, 0.01])
    )
    links = [f"{name}_link" for name in table.NAMES]
    for name, link in zip(table.NAMES, links, strict=True):
        world._nodes[0]._transforms.buffer.add(
            transform_from_matrix(optical_from_link, optical_frame(name), link), static=True
        )
    entries = yaml.safe_load(client.save_poses(str(path), links))
    assert [entry["child"] for entry in entries] == links
    for entry, view in zip(entries, VIEWS, strict=True):
        expected = view.world_from_cam_prior @ optical_from_link
        np.testing.assert_allclose(as_pose(entry), expected, atol=2e-6)
    with pytest.raises(WildSeg3DError, match="one frame for each of the cameras") as error:
        client.save_poses(str(path), links[:2])
    assert error.value.code == ErrorCode.BAD_REQUEST


def test_check_live_without_a_node(world, tmp_path, capsys):
    """By the parameter file alone: a right rig, and one with a camera that nobody publishes."""
    world.replay()
    path = tmp_path / "rig.yaml"
    settings = {"cameras": list(table.NAMES), "image_timeout": PATIENCE}
    path.write_text(yaml.safe_dump({"wildseg3d": {"ros__parameters": settings}}))
    assert cli.main(["check", "--live", "--config", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "ok"
    assert found["problems"] == []
    assert [camera["name"] for camera in found["cameras"]] == list(table.NAMES)
    assert min(stream["rate"] for stream in found["streams"]) > 1.0

    settings["cameras"].append("top")
    settings |= {"image_timeout": 1.0, "camera_slop": 0.01}  # the replay's take turns
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": settings}}))
    assert cli.main(["check", "--live", "--config", str(path)]) == 3
    out = capsys.readouterr().out
    assert "rig      ok, poses in 'world'" in out
    assert "nobody publishes '/top/color/image_raw'" in out
    assert "camera_slop is 0.01 s" in out.replace("\n         ", " ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file or directory"),
        ("wildseg3d: [1, 2", "cannot read parameter file"),
        ("wildseg3d: [1, 2]", "is no parameter file"),
        ("/**: {ros__parameters: {cameras: []}}", "'cameras' must list the names"),
    ],
)
def test_check_live_bad_file(tmp_path, capsys, text, says):
    path = tmp_path / "rig.yaml"
    if text is not None:
        path.write_text(text)
    assert cli.main(["check", "--live", "--config", str(path)]) == 2
    assert says in capsys.readouterr().err
