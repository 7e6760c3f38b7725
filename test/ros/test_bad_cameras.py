"""Cameras that are missing or publish what cannot be used: each has its text."""

from __future__ import annotations

import array
import copy
import dataclasses
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import rclpy
import table
from listening import PATIENCE, Listener, images_of, wait_for
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from wildseg3d_msgs.action import BuildScene
from wildseg3d_msgs.msg import Status
from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording
from wildseg3d_ros.ros.building.process import PIPELINE
from wildseg3d_ros.ros.messages.conversions import image_from_array, time_message
from wildseg3d_ros.ros.messages.replies import BuildReport
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.streams.messages import nanoseconds

VIEWS = table.make_views()
ON_RED = ("front", *table.pixel_on(VIEWS[0], table.RED))
IMAGE, INFO, DEPTH = "image_topic", "camera_info_topic", "depth_topic"


class Rig:
    """The replay with a camera, left, that can be spoilt and repaired."""

    def __init__(self, world, node=None, silent=(), **options) -> None:
        """``silent`` streams have publishers that publish nothing."""
        self._node, self._silent = node, silent
        world.replay(prepare=self._take_over, **options)

    def _take_over(self, replay) -> None:
        self._streams = replay._streams
        self.whole = dict(self._streams)
        for field in self._silent:
            del self._streams["left", field]

    def spoil(self, field: str, **changes) -> None:
        """Publishes the message with changes, and waits until the node has one."""
        publisher, message = self.whole["left", field]
        message = copy.deepcopy(message)
        for name, value in changes.items():
            setattr(message, name, value)
        self._streams["left", field] = (publisher, message)
        self._wait_for(field, message, changes)

    def stop(self) -> None:
        for field in (IMAGE, INFO, DEPTH):
            del self._streams["left", field]

    def repair(self) -> None:
        """Publishes the right messages again, and waits until the node has them."""
        spoilt = {key: value[1] for key, value in self._streams.items()}
        self._streams.update(self.whole)
        for (camera, field), (_, message) in self.whole.items():
            if spoilt.get((camera, field)) is not message:
                names = [name for name in message.get_fields_and_field_types() if name != "header"]
                self._wait_for(field, message, names)

    def _wait_for(self, field: str, message, names) -> None:
        if self._node is None:
            return
        part = {IMAGE: "image", INFO: "info", DEPTH: "depth"}[field]

        def has_it() -> bool:
            frames = self._node.cameras["left"].matcher.newest()
            return frames is not None and all(
                np.array_equal(getattr(getattr(frames, part), n), getattr(message, n))
                for n in names
            )

        wait_for(has_it)


@contextmanager
def in_a_hurry(node, *heard: str):
    """Builds wait for images for a moment alone; these cameras' are there."""
    images_of(node, *heard)
    node.set_parameters([Parameter("image_timeout", value=0.1)])
    yield
    node.set_parameters([Parameter("image_timeout", value=PATIENCE)])


def fails(client, code: str, *words: str, **goal) -> None:
    with pytest.raises(WildSeg3DError) as refused:
        client.build(**goal)
    assert refused.value.code == ErrorCode[code], refused.value
    for word in words:
        assert word in str(refused.value)


def pixels(message: Image, encoding: str, dtype) -> dict:
    """Changes that make the message one of another encoding, of the same size."""
    other = image_from_array(np.zeros((message.height, message.width), dtype), encoding)
    return {"encoding": encoding, "step": other.step, "data": other.data}


def test_camera_convert_unusable_messages(world):
    """One camera goes wrong in many ways; after each it is repaired and the node builds again."""
    node = world.scene_node()
    rig, client = Rig(world, node), world.client()
    client.build()
    depth = rig.whole["left", DEPTH][1]
    half = image_from_array(np.ones((50, 80), np.float32), "32FC1")
    smaller = {name: getattr(half, name) for name in ("height", "width", "step", "data")}
    cases = [
        (
            INFO,
            {"k": np.zeros(9)},
            "BAD_CALIBRATION",
            ["K is zero but P holds", "'rectified'", "camera_info"],
        ),
        (INFO, {"width": 640, "height": 480}, "BAD_CALIBRATION", ["640x480", "160x120"]),
        (INFO, {"distortion_model": "odd", "d": [0.1]}, "BAD_CALIBRATION", ["'odd'"]),
        (DEPTH, smaller, "BAD_DEPTH", ["80x50", "160x120", "registered"]),
        (DEPTH, pixels(depth, "mono8", np.uint8), "BAD_DEPTH", ["mono8", "16UC1", "32FC1"]),
        (IMAGE, {"encoding": "nv24"}, "BAD_IMAGE", ["'nv24'", "rgb8", "bayer_rggb8"]),
        (IMAGE, pixels(depth, "16UC1", np.uint16), "BAD_IMAGE", ["16UC1", "not a colour image"]),
        (IMAGE, {"data": array.array("B", bytes(100))}, "BAD_IMAGE", ["57600", "holds 100"]),
        (IMAGE, {"height": 0, "width": 0}, "BAD_IMAGE", ["empty"]),
    ]
    for field, changes, code, words in cases:
        rig.spoil(field, **changes)
        fails(client, code, "camera 'left'", *words)
        # The old scene answers, and a repaired camera is all it takes.
        assert client.segment([ON_RED]).object_ids == (1,)
        rig.repair()
        assert client.build().objects == 2


def test_camera_convert_depth_of_another_size(world):
    """Of the colour camera's frame it is taken; of another one's it is not registered."""
    node = world.scene_node()
    rig, client = Rig(world, node), world.client()
    depth = table.make_views()[1].depth
    half = image_from_array(depth[::2, ::2], "32FC1", rig.whole["left", DEPTH][1].header.frame_id)
    smaller = {name: getattr(half, name) for name in ("height", "width", "step", "data")}
    rig.spoil(DEPTH, **smaller)
    frames = node.cameras["left"].matcher.newest()
    found = node.cameras["left"].decoder.convert(frames)[2]
    np.testing.assert_array_equal(found, depth[::2, ::2].repeat(2, axis=0).repeat(2, axis=1))
    other = dataclasses.replace(frames, depth=copy.deepcopy(frames.depth))
    other.depth.header.frame_id = "left_depth_optical_frame"
    assert node.cameras["left"].decoder.convert(other)[2].shape == (60, 80)
    client.build()


def test_camera_convert_depth_not_finite(world):
    """What is not finite or not positive is not measured; the rest is used."""
    node = world.scene_node()
    rig, client = Rig(world, node, depth_encoding="32FC1"), world.client()
    depth = VIEWS[1].depth.copy()
    truth = table.trace(VIEWS[1].world_from_cam_prior)[2]
    rows, cols = np.nonzero(truth == table.RED)
    for k, bad in enumerate([np.nan, np.inf, -np.inf, -1.0, 0.0]):
        depth[rows[k::10], cols[k::10]] = bad
    whole = client.build()
    assert whole.objects == 2
    before = len(client.segment([ON_RED]).points)
    rig.spoil(DEPTH, data=image_from_array(depth, "32FC1").data)
    client.build()
    after = client.segment([ON_RED]).points
    assert before - len(after) >= len(rows) // 2 - 5
    assert np.isfinite(after).all()
    distances = np.linalg.norm(after - np.array(table.BALLS[1][0]), axis=1)
    assert np.abs(distances - table.BALLS[1][1]).max() < 1e-3


def test_segment_object_without_depth(world):
    """An object that no camera measured."""
    world.scene_node()
    views = []
    for view in VIEWS:
        depth = view.depth.copy()
        depth[table.trace(view.world_from_cam_prior)[2] == table.GREEN] = 0
        views.append(View(view.name, view.image, view.K, depth, view.world_from_cam_prior))
    world.replay(Recording(tuple(views)))
    client = world.client()
    client.build()
    with pytest.raises(WildSeg3DError, match="depth") as refused:
        client.segment([("front", *table.pixel_on(VIEWS[0], table.GREEN))])
    assert refused.value.code == ErrorCode.NO_DEPTH_AT_PIXEL
    assert client.segment([ON_RED]).object_ids == (1,)


def test_why_no_set_no_publisher(world):
    """A camera that nobody publishes."""
    node = world.scene_node()
    world.replay(table.make_recording(("front", "right")))
    client = world.client()
    with in_a_hurry(node, "front", "right"):
        fails(client, "NO_IMAGES", "camera 'left'", "nobody publishes '/left/color/image_raw'")
    assert client.build(cameras=["front", "right"]).objects == 2
    world.replay(table.make_recording(("left",)))
    assert client.build().objects == 2


@pytest.mark.parametrize(
    ("silent", "code", "topic"),
    [
        ((IMAGE, INFO, DEPTH), "NO_IMAGES", "/left/color/image_raw"),
        ((DEPTH, INFO), "BAD_DEPTH", "/left/aligned_depth_to_color/image_raw"),
        ((INFO,), "BAD_CALIBRATION", "/left/color/camera_info"),
    ],
)
def test_why_no_set_silent_stream(world, silent, code, topic):
    """Parts of a camera that never come."""
    node = world.scene_node()
    rig, client = Rig(world, node, silent=silent), world.client()
    parts = {IMAGE: "image", INFO: "camera_info", DEPTH: "depth"}
    for field in set(parts) - set(silent):
        wait_for(lambda part=parts[field]: node.cameras["left"].matcher.heard(part))
    with in_a_hurry(node, "front", "right"):
        fails(client, code, "camera 'left'", f"nothing arrived on '{topic}'")
    rig.repair()
    assert client.build().objects == 2


def test_why_no_set_camera_stopped(world):
    """A camera that stops."""
    node = world.scene_node(max_image_age=1.0)
    rig, client = Rig(world, node), world.client()
    client.build()
    rig.stop()
    wait_for(lambda: node.cameras["left"].matcher.newest(max_age=1.0) is None)
    with in_a_hurry(node, "front", "right"):
        fails(client, "NO_IMAGES", "camera 'left' has stopped", "max_image_age is 1.0 s")
    rig.repair()
    client.build()


class LatePublisher:
    """Publishes for a camera whose clock is behind: by an hour, unless told otherwise."""

    def __init__(self, publisher, seconds: float = 3600) -> None:
        self._publisher, self._late_ns = publisher, round(seconds * 1e9)

    def publish(self, message) -> None:
        late = copy.deepcopy(message)
        late.header.stamp = time_message(nanoseconds(message.header.stamp) - self._late_ns)
        self._publisher.publish(late)


def test_why_no_set_image_and_depth_apart(world):
    """Images and depth of different times."""

    def delay(replay) -> None:
        publisher, message = replay._streams["left", DEPTH]
        replay._streams["left", DEPTH] = (LatePublisher(publisher), message)

    node = world.scene_node()
    world.replay(prepare=delay)
    for part in ("image", "depth", "camera_info"):
        wait_for(lambda part=part: node.cameras["left"].matcher.heard(part))
    with in_a_hurry(node, "front", "right"):
        fails(world.client(), "BAD_DEPTH", "camera 'left'", "sync_slop 0.02 s", " s apart")


def test_cameras_take_different_times(world):
    """Cameras of different times."""

    def delay(replay) -> None:
        for field in (IMAGE, DEPTH):
            publisher, message = replay._streams["left", field]
            replay._streams["left", field] = (LatePublisher(publisher), message)

    node = world.scene_node(camera_slop=0.2)
    world.replay(prepare=delay)
    wait_for(lambda: node.cameras["left"].matcher.newest() is not None)
    with in_a_hurry(node, "front", "right"):
        fails(world.client(), "NO_IMAGES", "camera 'left' is stamped", "camera_slop is 0.2 s")


def test_cameras_take_one_time(world):
    """The replay's cameras take turns, a thirtieth of a second apart."""
    world.scene_node(camera_slop=0.2)
    world.replay()
    client = world.client()
    assert client.build().warnings == ()
    assert client.segment([ON_RED]).object_ids == (1,)


def test_publisher_problem_incompatible_qos(world):
    """A quality of service that does not fit."""
    node = world.scene_node(reliability="reliable")
    world.replay(table.make_recording(("front", "right")))
    driver = rclpy.create_node("driver", context=world.context)
    world.add(driver, threads=1)
    sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    driver.create_publisher(Image, "/left/color/image_raw", sensor_data)
    with in_a_hurry(node, "front", "right"):
        fails(world.client(), "NO_IMAGES", "driver", "best_effort", "quality of service")


def test_publisher_problem_other_type(world):
    """A topic of another type."""
    node = world.scene_node()
    world.replay(table.make_recording(("front", "right")))
    # One participant cannot have two types on a topic: the driver is another one.
    context = rclpy.Context()
    rclpy.init(context=context)
    driver = rclpy.create_node("driver", context=context)
    topic = "/left/color/image_raw"
    driver.create_publisher(CompressedImage, topic, 5)
    wait_for(lambda: node.get_publishers_info_by_topic(topic))
    said = "carries sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image"
    with in_a_hurry(node, "front", "right"):
        fails(world.client(), "NO_IMAGES", said)
    driver.destroy_node()
    rclpy.shutdown(context=context)


def test_camera_compressed_transports(world):
    depths = {f"{name}__depth_transport": "compressedDepth" for name in table.NAMES}
    world.scene_node(image_transport="compressed", **depths)
    replay = world.replay()
    for view in VIEWS:
        topic = f"/{view.name}/color/image_raw/compressed"
        publisher = replay.create_publisher(CompressedImage, topic, 5)
        png = cv2.imencode(".png", view.image[..., ::-1])[1].tobytes()
        message = CompressedImage(format="rgb8; png compressed bgr8", data=array.array("B", png))
        message.header.frame_id = replay._streams[view.name, IMAGE][1].header.frame_id
        replay._streams[view.name, "compressed"] = (publisher, message)
        topic = f"/{view.name}/aligned_depth_to_color/image_raw/compressedDepth"
        publisher = replay.create_publisher(CompressedImage, topic, 5)
        millimetres = cv2.imencode(".png", np.rint(1000 * view.depth).astype(np.uint16))[1]
        data = array.array("B", bytes(12) + millimetres.tobytes())
        depth = CompressedImage(format="16UC1; compressedDepth png", data=data)
        depth.header.frame_id = message.header.frame_id
        replay._streams[view.name, "compressed depth"] = (publisher, depth)
    client = world.client()
    assert client.build().warnings == ()
    assert client.segment([ON_RED]).object_ids == (1,)


def test_camera_latched_info(world):
    """A driver that publishes its calibration once, before anyone listens, and latched; and whose
    images do not say the order of their channels, which the build's reply says."""

    def latch(replay) -> None:
        replay._streams["left", IMAGE][1].encoding = "8UC3"
        for name in table.NAMES:
            publisher, info = replay._streams.pop((name, INFO))
            topic = publisher.topic_name
            replay.destroy_publisher(publisher)
            replay.create_publisher(CameraInfo, topic, latched()).publish(info)

    world.replay(prepare=latch)
    world.scene_node(left__reliability="best_effort")
    (warning,) = world.client().build().warnings
    assert "camera 'left': encoding '8UC3' does not say the order of its channels" in warning


# ---- TF ----------------------------------------------------------------------------------------


def without_pose(*names: str) -> Recording:
    return Recording(
        tuple(
            View(
                v.name, v.image, v.K, v.depth, None if v.name in names else v.world_from_cam_prior
            )
            for v in VIEWS
        )
    )


def test_cameras_take_pose_missing(world):
    """TF is missing for one camera."""
    world.scene_node(tf_timeout=0.1)
    world.replay(without_pose("left"))
    client = world.client()
    report = client.build()
    (warning,) = report.warnings
    assert "camera 'left' has no pose in 'world'" in warning
    assert "left_color_optical_frame" in warning
    assert client.segment([ON_RED]).warnings == report.warnings


def test_build_all_poses_missing(world):
    """Refused; where it is allowed, the scene has a frame of its own, and says so first."""
    node = world.scene_node(tf_timeout=0.1)
    world.replay(without_pose(*table.NAMES))
    client = world.client()
    fails(client, "MISSING_TF", "/tf and /tf_static are silent; cameras 'front', 'left', 'right'")
    fails(client, "MISSING_TF", "set 'allow_missing_poses'", "frame of camera 'front'")
    node.set_parameters([Parameter("allow_missing_poses", value=True)])
    first, why = client.build().warnings
    assert "frame 'front_color_optical_frame' of camera 'front', not in 'world'" in first
    assert "/tf and /tf_static are silent" in why
    found = client.segment([ON_RED])
    assert found.frame_id == "front_color_optical_frame"
    assert found.warnings == (first, why)
    with pytest.raises(WildSeg3DError) as refused:
        client.segment([ON_RED], target_frame="world")
    assert refused.value.code == ErrorCode.UNKNOWN_FRAME


def test_build_unknown_world_frame(world):
    """A world frame that does not exist."""
    world.scene_node(tf_timeout=0.1, world_frame="moon", allow_missing_poses=True)
    world.replay()
    client = world.client()
    first, why = client.build().warnings
    assert "not in 'moon'" in first
    assert "TF does not know the frame 'moon'" in why
    # The scene's frame is a camera's, which TF can still relate to the real world.
    in_world = client.segment([ON_RED], target_frame="world").points
    distances = np.linalg.norm(in_world - np.array(table.BALLS[1][0]), axis=1)
    assert np.abs(distances - table.BALLS[1][1]).max() < 0.002


def test_build_pose_lags(world):
    """TF that comes too late for its images is the cause, not views that share too little."""

    def lag(replay) -> None:
        for field in (IMAGE, DEPTH):
            publisher, message = replay._streams["left", field]
            replay._streams["left", field] = (LatePublisher(publisher, -0.5), message)

    world.scene_node(PIPELINE, tf_timeout=0.1)
    world.replay(tf="dynamic", prepare=lag)
    with pytest.raises(WildSeg3DError) as refused:
        world.client().build()
    text = str(refused.value)
    assert refused.value.code == ErrorCode.MISSING_TF
    assert text.startswith("extrapolation: the newest TF of 'world' -> 'left_color_optical_frame'")
    assert "camera 'left' has no pose in 'world'; set 'allow_missing_poses'" in text


def test_build_pose_missing_left_out(world):
    """A camera that TF does not know, and that what it sees does not place: noise."""
    scene_node = world.scene_node(PIPELINE, tf_timeout=0.1)
    recording = without_pose("left")
    noise = np.random.default_rng(0).integers(0, 255, recording.views[1].image.shape, np.uint8)
    left = dataclasses.replace(recording.views[1], image=noise)
    world.replay(Recording((recording.views[0], left, recording.views[2])))
    client = world.client()
    diagnostics = Listener(client)
    built = client.build()
    unknown = "TF does not know the frame 'left_color_optical_frame'; known"
    assert any(text.startswith(unknown) for text in built.warnings)
    assert any("camera 'left' took no part" in text for text in built.warnings)
    verdicts = {each.verdict.name: each.verdict for each in built.cameras}
    assert {name: v.verdict for name, v in verdicts.items() if name == "left"} == {
        "left": "left out"
    }
    assert set(verdicts) == set(table.NAMES)
    assert "too little in common" in verdicts["left"].why
    with pytest.raises(
        WildSeg3DError, match="'left' is not in the scene: .*too little"
    ) as refused:
        client.segment([("left", 50, 50)])
    assert refused.value.code == ErrorCode.UNKNOWN_CAMERA
    wait_for(lambda: diagnostics.level("pose of camera left"))
    assert diagnostics.values("scene")["views left out"] == "left"

    scene_node.set_parameters([Parameter("pairing.require_all_views", value=True)])
    with pytest.raises(WildSeg3DError) as refused:
        client.build()
    text = str(refused.value)
    assert refused.value.code == ErrorCode.MISSING_TF
    assert text.startswith(unknown)
    assert "; camera 'left' has no pose in 'world'; the views fall into 2 groups" in text
    assert text.count("left_color_optical_frame") == 1, "not again as a warning"


def test_build_report_of_failed_build():
    """The client shows warnings of a build that failed: they often say why."""
    result = BuildScene.Result(
        status=Status(code=int(ErrorCode.DISCONNECTED_VIEWS), message="two groups; left is dark"),
        warnings=["left is dark", "right is blurred"],
    )
    with pytest.raises(WildSeg3DError) as refused:
        BuildReport.of(result)
    assert refused.value.code == ErrorCode.DISCONNECTED_VIEWS
    assert str(refused.value) == "two groups; left is dark\nwarning: right is blurred"


def test_build_waiting_repeats_feedback(world):
    """What is said once may be lost on a client that has just come."""
    world.scene_node(image_timeout=3.0)
    said = []
    with pytest.raises(WildSeg3DError, match="nobody publishes"):
        world.client().build(progress=lambda *what: said.append(what))
    assert said.count(("images", 0.0)) >= 3
