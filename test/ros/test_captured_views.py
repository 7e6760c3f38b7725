"""One camera on an arm: captured views, scenes of them, and clicks in what it sees later."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
import table
from listening import images_of, wait_for

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording
from wildseg3d_ros.ros.building.process import PIPELINE
from wildseg3d_ros.ros.replay_node import WORLD_FRAME, MovingReplayNode, optical_frame
from wildseg3d_ros.streams.key_frames import require_sharp

VIEWS = table.make_views()


class Arm(MovingReplayNode):
    """The camera wrist, which a test moves on."""

    step = 0.0
    """Metres that it goes to the right between two images."""
    _moved = True

    def __init__(self, world, node, recording) -> None:
        super().__init__(recording, "wrist", 0.0, 20.0, context=world.context)
        self._node = node
        world.add(self, 1)

    def move(self) -> None:
        """Returns when the node has an image from the next place."""
        self._moved = False
        wait_for(lambda: self._moved)
        images_of(self._node, "wrist")

    def _publish(self) -> None:
        if not self._moved:
            super().move()
            self._moved = True
        if self.step and not self._waiting:
            self._transforms[0].transform.translation.x += self.step
        super()._publish()


@pytest.fixture
def arm(world):
    """A client of a node of one camera, and that camera."""
    camera = Arm(world, world.scene_node(cameras=["wrist"]), table.make_recording())
    return world.client(), camera


def try_capture(client, cameras=()):
    """Captures as soon as the arm stands."""

    def attempt():
        try:
            return client.capture_views(cameras)
        except WildSeg3DError as error:
            if error.code not in (ErrorCode.CAMERA_MOVES, ErrorCode.MISSING_TF):
                raise
            return None

    return wait_for(attempt)


def capture_all(client, camera):
    names = []
    for _ in VIEWS:
        names += try_capture(client)
        camera.move()
    return names


def test_scene_of_captured_views(arm):
    client, camera = arm
    assert capture_all(client, camera) == ["wrist@1", "wrist@2", "wrist@3"]
    views = client.list_views()
    assert [view.camera for view in views] == ["wrist"] * 3
    for view, true in zip(views, VIEWS, strict=True):
        place = [view.pose.position.x, view.pose.position.y, view.pose.position.z]
        np.testing.assert_allclose(place, true.world_from_cam_prior[:3, 3], atol=1e-6)
        assert view.header.frame_id == optical_frame("wrist")
        assert view.bytes == true.image.nbytes + true.depth.nbytes
    built = client.build()
    assert built.objects == 2
    assert built.frame_id == "world"
    for number, true in enumerate(VIEWS, 1):
        click = (f"wrist@{number}", *table.pixel_on(true, table.GREEN))
        found = client.describe([click], include_masks=True)
        assert found.object_ids == (table.GREEN,)
        assert found.warnings == ()
        assert set(found.masks) == {"wrist@1", "wrist@2", "wrist@3"}
        labels = table.trace(true.world_from_cam_prior)[2]
        np.testing.assert_array_equal(found.masks[f"wrist@{number}"], labels == table.GREEN)


def test_click_in_the_live_image_of_the_arm(arm):
    """By its ray into the scene; the camera now stands where the second view was taken."""
    client, camera = arm
    capture_all(client, camera)
    client.build()
    wait_for(lambda: camera.place == 0)
    camera.move()
    live = ("wrist", *table.pixel_on(VIEWS[1], table.RED))
    stamp = camera._node.cameras["wrist"].matcher.newest().stamp_ns
    for options in ({}, {"stamps": {"wrist": stamp}}):
        assert client.segment([live], **options).object_ids == (table.RED,)
    with pytest.raises(WildSeg3DError, match=r"outside the image of camera 'wrist'") as error:
        client.segment([("wrist", 999, 5)])
    assert error.value.code == ErrorCode.PIXEL_OUTSIDE_IMAGE
    with pytest.raises(WildSeg3DError, match="name the camera 'wrist' for its later images"):
        client.segment([("wrist@1", 5, 5)], stamps={"wrist@1": time.time_ns()})
    with pytest.raises(WildSeg3DError, match="has no static transform"):
        client.save_poses("/tmp/never.yaml")


def place_of(camera) -> float:
    """x of the wrist, as the node has it."""
    return camera._node._transforms.lookup(WORLD_FRAME, optical_frame("wrist"), 0)[0, 3]


def test_capture_while_the_arm_moves_is_refused(arm):
    client, camera = arm
    try_capture(client)
    start = place_of(camera)
    camera.step = 0.01
    wait_for(lambda: place_of(camera) > start + 0.05)
    with pytest.raises(WildSeg3DError, match="wait until it stands") as error:
        client.capture_views()
    assert error.value.code == ErrorCode.CAMERA_MOVES
    assert len(client.list_views()) == 1


def test_captured_views_are_bounded_and_dropped_by_name(world):
    node = world.scene_node(cameras=["wrist"], max_captured_views=2)
    Arm(world, node, table.make_recording())
    client = world.client()
    try_capture(client)
    try_capture(client)
    with pytest.raises(WildSeg3DError, match="max_captured_views is 2; forget some"):
        client.capture_views()
    with pytest.raises(WildSeg3DError, match="no captured view 'wrist@9'; there are wrist@1"):
        client.drop_views(["wrist@9"])
    assert client.drop_views(["wrist@1"]) == 1
    assert try_capture(client) == ["wrist@3"], "a name is not given twice"
    assert client.drop_views(["wrist"]) == 0
    assert client.list_views() == []
    with pytest.raises(WildSeg3DError) as error:
        client.build()
    assert error.value.code == ErrorCode.TOO_FEW_VIEWS
    assert node._captured.all == ()


def test_captured_views_and_a_fixed_camera_together(world):
    """The fixed camera is seen as it is now."""
    node = world.scene_node(cameras=["front", "wrist"])
    world.replay(table.make_recording(("front",)))
    arm = Arm(world, node, table.make_recording(("left", "right")))
    client = world.client()
    wait_for(lambda: len(client.check_rig().cameras) == 2)
    for _ in range(2):
        try_capture(client, ["wrist"])
        arm.move()
    client.build()
    found = client.describe([("front", *table.pixel_on(VIEWS[0], table.RED))], include_masks=True)
    assert found.object_ids == (table.RED,)
    assert set(found.masks) == {"front", "wrist@1", "wrist@2"}
    # Without its views, the arm's camera counts as it stands.
    client.drop_views()
    client.build()
    assert set(client.describe([("wrist", *table.pixel_on(VIEWS[1], table.RED))],
                              include_masks=True).masks) == {"front", "wrist"}  # fmt: skip


def test_a_view_that_is_captured_later_joins_the_scene(world):
    """Ids, views and their points stay; a view that was dropped makes a scene of its own."""
    node = world.scene_node(PIPELINE, cameras=["wrist"], join_captured_views=True)
    camera = Arm(world, node, table.make_recording())
    client = world.client()
    for number in (1, 2):
        assert try_capture(client) == [f"wrist@{number}"]
        camera.move()
    client.build()
    before = node._current.scene
    # Views of a scene have an unlike number of objects, of which some are the table.
    ids = {
        name: client.segment([("wrist@1", *table.pixel_on(VIEWS[0], name))]).object_ids
        for name in (table.RED, table.GREEN)
    }
    try_capture(client)
    client.build()
    after = node._current.scene
    assert after.view_names == ("wrist@1", "wrist@2", "wrist@3")
    assert after.scene_id != before.scene_id
    for v in (0, 1):
        np.testing.assert_array_equal(after.world.points[v], before.world.points[v])
        np.testing.assert_array_equal(after.masks.labels[v], before.masks.labels[v])
    truth = table.trace(VIEWS[2].world_from_cam_prior)[2]
    for name, found in ids.items():
        click = ("wrist@3", *table.pixel_on(VIEWS[2], name))
        answer = client.describe([click], include_masks=True)
        assert answer.object_ids == found
        mask, true = answer.masks["wrist@3"], truth == name
        assert (mask & true).sum() / (mask | true).sum() > 0.6
    client.drop_views(["wrist@1"])
    client.build()
    assert node._current.scene.view_names == ("wrist@2", "wrist@3")


def test_views_of_a_camera_that_moves_are_captured_without_being_asked(world):
    """Once at each place where it stands; of three, two are kept: the first and the last."""
    node = world.scene_node(cameras=["wrist"], auto_capture="standing", max_captured_views=2)
    camera = Arm(world, node, table.make_recording())
    client = world.client()
    node.wait_until_started(lambda: False)
    wait_for(lambda: node.cameras["wrist"].matcher.newest() is not None)
    time.sleep(1.0)
    assert client.list_views() == [], "a camera that has not moved"
    camera.move()
    wait_for(lambda: len(client.list_views()) == 2)
    camera.move()
    wait_for(lambda: [view.name for view in client.list_views()] == ["wrist@1", "wrist@3"])
    time.sleep(1.0)
    assert len(client.list_views()) == 2, "a place is captured once"
    for view, true in zip(client.list_views(), (VIEWS[0], VIEWS[2]), strict=True):
        place = [view.pose.position.x, view.pose.position.y, view.pose.position.z]
        np.testing.assert_allclose(place, true.world_from_cam_prior[:3, 3], atol=1e-6)
    assert client.build().objects == 2


def test_a_blurred_image_is_not_captured(world):
    """By the camera's next images: what is smooth everywhere is no fault of the image."""
    views = table.make_views(["front"])
    soft = [cv2.GaussianBlur(view.image, (0, 0), 3.0) for view in views]
    with pytest.raises(WildSeg3DError, match="of camera 'wrist' is blurred") as error:
        require_sharp("wrist", soft[0], [views[0].image, soft[0]])
    assert error.value.code == ErrorCode.BAD_IMAGE
    require_sharp("wrist", views[0].image, [soft[0], views[0].image])
    require_sharp("wrist", views[0].image, [])
    require_sharp("wrist", np.zeros((4, 4, 3), np.uint8), [np.zeros((4, 4, 3), np.uint8)])


def test_hand_eye_error_of_captured_views_is_said(world):
    """The camera sits 12 mm and 1 degree from where TF says; its six places are a ring."""
    wrong = make_transform(rotation_from_vector(np.array([0, 0.0175, 0])), np.array([0.012, 0, 0]))
    views, masks = [], []
    for k in range(6):
        pose = table.world_from_cam(1.0 * k, distance=0.5 + 0.05 * (k % 3), height=0.4)
        image, depth, labels = table.trace(pose)
        views.append(View(f"place_{k}", image, table.K, depth, pose @ np.linalg.inv(wrong)))
        masks.append(labels.astype(np.uint8))
    # Of what the rig's check says of such poses, others tell; here it takes most of the time.
    node = world.scene_node(PIPELINE, cameras=["wrist"], alignment__check_rig=False)
    camera = Arm(world, node, Recording(tuple(views), tuple(masks)))
    client = world.client()
    for _ in views:
        try_capture(client)
        camera.move()
    (said,) = [text for text in client.build().warnings if "hand-eye" in text]
    assert "the 6 views of camera 'wrist' agree" in said
    numbers = said.split("it is at ")[1].split(",")[0].split()
    found = np.array([float(number) for number in numbers])
    np.testing.assert_allclose(found, wrong[:3, 3], atol=0.004)


def test_page_captures_views_and_keeps_their_pictures(arm):
    from wildseg3d_ros.ros.scene_feed import SceneFeed
    from wildseg3d_ros.viewer.ros_captures import RosCaptures

    client, _ = arm
    feed = SceneFeed(client.node)
    captures = RosCaptures(client, feed)
    assert wait_for(lambda: captures.cameras) == ("wrist",)
    wait_for(lambda: feed.image("wrist") is not None)
    try_capture(client)  # by somebody else
    captures.capture("wrist")
    assert captures.captured == ("wrist@1", "wrist@2")
    assert captures.picture("wrist@1") is None
    np.testing.assert_array_equal(captures.picture("wrist@2"), VIEWS[0].image)
    captures.drop(["wrist@2"])
    assert captures.captured == ("wrist@1",)
    assert captures.picture("wrist@2") is None
    client.drop_views()
    captures.look()
    assert captures.captured == ("wrist@1",), "asked again only after a while"
    captures._next = 0.0
    captures.look()
    assert captures.captured == ()
