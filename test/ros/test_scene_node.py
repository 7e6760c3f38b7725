"""The node over real DDS: builds, answers, cancellation, and life after every bad request."""

from __future__ import annotations

import threading
from functools import partial

import cv2
import numpy as np
import pytest
import table
from action_msgs.msg import GoalStatus
from listening import PATIENCE, wait_for
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from wildseg3d_msgs.action import BuildScene
from wildseg3d_msgs.msg import Click, Prompt, Status
from wildseg3d_msgs.srv import Segment
from wildseg3d_ros.core.errors import Cancelled, ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import apply, invert, make_transform
from wildseg3d_ros.ros.messages.clouds import points_from_cloud
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.replay_node import optical_frame
from wildseg3d_ros.streams.camera_info import lens_from_info
from wildseg3d_ros.streams.compressed import rgb_from_compressed
from wildseg3d_ros.streams.images import array_from_image

VIEWS = table.make_views()
JPEG = "rgb8; jpeg compressed bgr8"


def on(label: int, view: int = 0) -> tuple[str, int, int]:
    return (VIEWS[view].name, *table.pixel_on(VIEWS[view], label))


def off_ball(points: np.ndarray, label: int) -> np.ndarray:
    """Distances [m] of points from a ball's surface."""
    centre, radius = table.BALLS[label]
    return np.abs(np.linalg.norm(points - np.array(centre), axis=1) - radius)


def test_scene_node_build_and_click(world):
    node = world.scene_node()
    world.replay()
    client, heard = world.client(), []
    node.wait_until_started(lambda: False)
    with pytest.raises(WildSeg3DError, match=r"no scene yet.*build_scene") as early:
        client.segment([on(table.RED)])
    assert early.value.code == ErrorCode.NO_SCENE

    before_ns = node.get_clock().now().nanoseconds
    report = client.build(progress=lambda stage, fraction: heard.append((stage, fraction)))
    assert report.objects == 2
    assert report.scene_id
    assert report.frame_id == "world"
    assert report.scale_sources == ("metric pairs",)
    assert report.scale_factor == 1.0
    assert report.registration_residual == pytest.approx(0.002)
    assert report.warnings == ()
    assert "index" in report.stage_seconds
    assert {stage for stage, _ in heard} >= {"images", "color"}

    for label in (table.RED, table.GREEN):
        for view in range(3):
            found = client.describe([on(label, view)], include_masks=True)
            assert found.object_ids == (label,)
            assert found.frame_id == "world"
            assert found.scene_id == report.scene_id
            assert len(found.points) > 500
            assert off_ball(found.points, label).max() < 1e-4
            assert found.colors[:, label - 1].min() > 60
            assert found.colors[:, 2].max() == 0
            assert list(found.masks) == list(table.NAMES)
            for k, name in enumerate(table.NAMES):
                truth = table.trace(VIEWS[k].world_from_cam_prior)[2] == label
                np.testing.assert_array_equal(found.masks[name], truth)
    # The time is that of the images, not of the reply.
    again = client.segment([on(table.RED)])
    assert again.stamp_ns == found.stamp_ns
    assert again.stamp_ns < before_ns + 10 * 10**9


def test_segment_several_clicks_and_voxels(live):
    """Several clicks and voxels."""
    _, _, client = live
    both = client.segment([on(table.RED, 0), on(table.GREEN, 2)])
    assert both.object_ids == (1, 2)
    one = client.segment([on(table.RED, 0), (*on(table.GREEN, 1), Click.NEGATIVE)])
    assert one.object_ids == (1,)
    thin = client.segment([on(table.RED)], voxel_size=0.02)
    assert 10 < len(thin.points) < len(one.points) / 4
    cells = np.floor(thin.points.astype(float) / 0.02)
    assert len(np.unique(cells, axis=0)) > 0.8 * len(cells)


def test_segment_target_frame(live):
    """A camera's frame, and a frame that only became known after the build."""
    _, node, client = live
    in_world = client.segment([on(table.RED)]).points
    frame = optical_frame("left")
    found = client.segment([on(table.RED)], target_frame=frame)
    assert found.frame_id == frame
    expected = apply(invert(VIEWS[1].world_from_cam_prior), in_world)
    np.testing.assert_allclose(found.points, expected, atol=1e-5)
    slashed = client.segment([on(table.RED)], target_frame="/world")
    assert slashed.frame_id == "world"
    np.testing.assert_array_equal(slashed.points, in_world)
    assert client.segment([on(table.RED)], target_frame=f"/{frame}").frame_id == frame

    with pytest.raises(WildSeg3DError, match=r"'shelf'.*world") as unknown:
        client.segment([on(table.RED)], target_frame="shelf")
    assert unknown.value.code == ErrorCode.UNKNOWN_FRAME
    world_from_shelf = make_transform(np.eye(3)[[1, 2, 0]], [1, 2, 3])
    from wildseg3d_ros.ros.messages.conversions import transform_from_matrix

    node._transforms.buffer.add(
        transform_from_matrix(world_from_shelf, "world", "shelf"), static=True
    )
    found = client.segment([on(table.RED)], target_frame="shelf")
    np.testing.assert_allclose(found.points, apply(invert(world_from_shelf), in_world), atol=1e-5)


def test_scene_topics_late_joiners(live):
    """The scene is published for late joiners."""
    world, _, _ = live
    import rclpy

    late = rclpy.create_node("late", context=world.context)
    heard: dict[str, object] = {}
    all_heard = threading.Event()

    def hear(topic, message):
        heard[topic] = message
        if len(heard) == 6:
            all_heard.set()

    late.create_subscription(PointCloud2, "scene_cloud", lambda m: hear("cloud", m), latched())
    late.create_subscription(Image, "left/labels", lambda m: hear("labels", m), latched())
    for kind, topic in (
        (CameraInfo, "left/camera_info"),
        (Image, "left/overlay"),
        (CompressedImage, "left/labels/compressed"),
        (CompressedImage, "left/overlay/compressed"),
    ):
        late.create_subscription(kind, topic, partial(hear, topic), latched())
    world.add(late, threads=1)
    assert all_heard.wait(PATIENCE)
    points, colors = points_from_cloud(heard["cloud"])
    assert heard["cloud"].header.frame_id == "world"
    on_table = np.abs(points[:, 2]) < 0.01
    assert on_table.sum() > 1000
    assert (colors[on_table].std(axis=1) < 1).mean() > 0.99
    labels = array_from_image(heard["labels"], "labels")
    assert heard["labels"].encoding == "mono16"
    assert heard["labels"].header.frame_id == optical_frame("left")
    np.testing.assert_array_equal(labels, table.trace(VIEWS[1].world_from_cam_prior)[2])
    # What image_transport and image_geometry find beside them.
    packed, overlay = (heard[f"left/{name}/compressed"] for name in ("labels", "overlay"))
    assert (packed.format, overlay.format) == ("mono16; png compressed ", JPEG)
    unpacked = cv2.imdecode(np.frombuffer(packed.data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(unpacked, labels)
    pictured = rgb_from_compressed(overlay, "overlay").astype(int)
    assert np.abs(pictured - array_from_image(heard["left/overlay"], "overlay")).mean() < 3
    info = heard["left/camera_info"]
    assert info.header == packed.header == overlay.header == heard["labels"].header
    lens = lens_from_info(info, table.SIZE, "camera 'left'", "left/camera_info")
    np.testing.assert_array_equal(lens.K, VIEWS[1].K)


@pytest.mark.parametrize("depth_encoding", ["16UC1", "32FC1"])
@pytest.mark.parametrize("tf", ["static", "dynamic"])
def test_scene_node_depth_units_and_tf(world, depth_encoding, tf):
    """Depth units and kinds of tf."""
    world.scene_node()
    world.replay(tf=tf, depth_encoding=depth_encoding)
    client = world.client()
    assert client.build().warnings == ()
    found = client.segment([on(table.GREEN)])
    # 16-bit millimetres round by up to half a millimetre.
    assert off_ball(found.points, table.GREEN).max() < (
        0.002 if depth_encoding == "16UC1" else 1e-4
    )


def test_build_some_cameras(fresh):
    """Some of the cameras."""
    _, _, client = fresh
    client.build(cameras=["right", "left"])
    found = client.describe([on(table.RED, 2)], include_masks=True)
    assert sorted(found.masks) == ["left", "right"]
    # What another camera of the node sees is found by the ray of its pixel.
    assert client.segment([on(table.RED, 0)]).object_ids == (table.RED,)
    with pytest.raises(WildSeg3DError, match=r"'top'.*right, left") as not_there:
        client.segment([("top", 80, 60)])
    assert not_there.value.code == ErrorCode.UNKNOWN_CAMERA
    with pytest.raises(WildSeg3DError, match=r"'front'.*right, left") as not_there:
        client.segment(boxes=[("front", 10, 10, 60, 60)])
    assert not_there.value.code == ErrorCode.UNKNOWN_CAMERA


# ---- one build at a time -----------------------------------------------------------------------


def test_build_one_at_a_time(world, monkeypatch, tmp_path):
    """The old scene answers, a second goal is told why not, cancelling works, then all is well."""
    go = tmp_path / "go"
    monkeypatch.setenv("PATIENT_UNTIL", str(go))
    go.touch()
    world.scene_node("patient_builder")
    world.replay()
    client, other = world.client(), world.client()
    first = client.build()
    go.unlink()

    waiting, cancel, outcome = threading.Event(), threading.Event(), []

    def rebuild():
        try:
            outcome.append(
                client.build(
                    progress=lambda stage, _: waiting.set() if stage == "waiting" else None,
                    cancelled=cancel.is_set,
                )
            )
        except WildSeg3DError as error:
            outcome.append(error)

    builder = threading.Thread(target=rebuild)
    builder.start()
    assert waiting.wait(PATIENCE)
    assert other.segment([on(table.RED)]).scene_id == first.scene_id
    with pytest.raises(WildSeg3DError, match=r"built already \(waiting, ") as busy:
        other.build()
    assert busy.value.code == ErrorCode.BUSY
    assert other.segment([on(table.RED)]).scene_id == first.scene_id
    cancel.set()
    builder.join(PATIENCE)
    assert isinstance(outcome[0], Cancelled)
    assert other.segment([on(table.RED)]).scene_id == first.scene_id
    go.touch()
    assert other.build().scene_id != first.scene_id


def test_build_process_killed(world, monkeypatch, tmp_path):
    """A build process that is killed."""
    monkeypatch.setenv("PATIENT_UNTIL", str(tmp_path / "died"))
    world.scene_node("dying_builder")
    world.replay()
    client = world.client()
    with pytest.raises(WildSeg3DError, match="SIGKILL") as died:
        client.build()
    assert died.value.code == ErrorCode.INTERNAL
    assert client.build().objects == 2
    assert client.segment([on(table.RED)]).object_ids == (1,)


def test_client_build_node_gone(world, monkeypatch, tmp_path):
    """A client whose node goes away does not wait for ever."""
    monkeypatch.setenv("PATIENT_UNTIL", str(tmp_path / "never"))
    world.scene_node("patient_builder")
    world.replay()
    client = world.client()
    client.wait_until_ready()
    monkeypatch.setattr("wildseg3d_ros.ros.client._GONE_SECONDS", 0.3)

    def vanish(stage: str, fraction: float) -> None:
        monkeypatch.setattr(client._build, "server_is_ready", lambda: False)

    with pytest.raises(TimeoutError, match="went away"):
        client.build(progress=vanish)


# ---- bad requests ------------------------------------------------------------------------------


def test_segment_bad_clicks(live):
    """Every bad click has its text and the next good one works."""
    _, _, client = live
    u, v = on(table.RED)[1:]
    cases = [
        ([("back", u, v)], "UNKNOWN_CAMERA", "no camera 'back'.*front, left, right"),
        ([("font", u, v)], "UNKNOWN_CAMERA", "did you mean 'front'"),
        ([("front", 160, v)], "PIXEL_OUTSIDE_IMAGE", "160.*'front'|'front'.*160"),
        ([("front", -3, v)], "PIXEL_OUTSIDE_IMAGE", "-3"),
        ([("front", 5, 115)], "NO_OBJECT_AT_PIXEL", "front"),
        ([("front", float("nan"), v)], "BAD_REQUEST", "finite"),
        ([("front", u, v, 7)], "BAD_REQUEST", "label"),
        ([], "BAD_REQUEST", "at least one click"),
        ([("front", u, v, 0)], "BAD_REQUEST", "none of them positive"),
        ([("front", u, v), ("left", *on(1, 1)[1:], 0)], "CONTRADICTING_CLICKS", "front|left"),
    ]
    for clicks, code, text in cases:
        with pytest.raises(WildSeg3DError, match=text) as refused:
            client.segment(clicks)
        assert refused.value.code == ErrorCode[code], text
        assert client.segment([on(table.RED)]).object_ids == (1,)
    for voxel_size in (-0.01, float("nan"), float("inf")):
        with pytest.raises(WildSeg3DError, match="voxel_size") as refused:
            client.segment([on(table.RED)], voxel_size=voxel_size)
        assert refused.value.code == ErrorCode.BAD_REQUEST
    with pytest.raises(WildSeg3DError, match="too small"):
        client.segment([on(table.RED)], voxel_size=1e-12)
    assert client.segment([on(table.RED)]).object_ids == (1,)


def test_build_bad_goals(live):
    _, _, client = live
    for cameras, code, text in [
        (["front", "back"], "UNKNOWN_CAMERA", "'back'.*front, left, right"),
        (["front", "front"], "BAD_REQUEST", "'front' is named twice"),
        ([""], "UNKNOWN_CAMERA", "''"),
        (["front"], "TOO_FEW_VIEWS", "at least 2.*'front'"),
    ]:
        with pytest.raises(WildSeg3DError, match=text) as refused:
            client.build(cameras=cameras)
        assert refused.value.code == ErrorCode[code]
    assert client.build().objects == 2


def test_always_replies_defect(live, monkeypatch, capfd):
    """A defect is a reply and no dead node."""
    _, node, client = live
    with monkeypatch.context() as broken:
        broken.setattr(node, "_current", 3)
        with pytest.raises(WildSeg3DError, match="defect in the node: AttributeError") as defect:
            client.segment([on(table.RED)])
        assert defect.value.code == ErrorCode.INTERNAL
    assert client.segment([on(table.RED)]).object_ids == (1,)
    assert "Traceback" in "".join(capfd.readouterr())


def test_always_replies_error_is_empty(live):
    """An error reply holds nothing but its status."""
    _, _, client = live
    request = Segment.Request(prompt=Prompt(clicks=[Click(camera="back", u=1.0, v=1.0)]))
    reply = client._call(client._segment, request)
    assert reply.status.code == Status.UNKNOWN_CAMERA
    assert (len(reply.cloud.data), len(reply.alternatives), len(reply.object_ids)) == (0, 0, 0)


def test_build_action_aborted(live):
    """Aborted goals end as aborted."""
    _, _, client = live
    client.wait_until_ready()
    handle = client._wait(client._build.send_goal_async(BuildScene.Goal(cameras=["back"])))
    result = client._wait(handle.get_result_async())
    assert result.status == GoalStatus.STATUS_ABORTED
    assert result.result.status.code == Status.UNKNOWN_CAMERA


@pytest.mark.usefixtures("world")
def test_destroy_node_leaves_graph():
    """Otherwise clients wait for an action server that nobody runs."""
    import rclpy
    from conftest import World

    context = rclpy.Context()
    rclpy.init(context=context)
    watcher = rclpy.create_node("watcher", context=context)
    made, ours = World(), {"wildseg3d", "replay"}
    try:
        made.scene_node()
        made.replay()
        wait_for(lambda: ours <= set(watcher.get_node_names()))
        made.end()
        wait_for(lambda: not ours & set(watcher.get_node_names()))
    finally:
        made.end()
        watcher.destroy_node()
        rclpy.try_shutdown(context=context)
