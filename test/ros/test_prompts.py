"""Every kind of prompt over real DDS, and prompts from topics."""

from __future__ import annotations

import dataclasses
import doctest
import threading
import time
from functools import partial

import cv2
import numpy as np
import pytest
import rclpy
import table
from geometry_msgs.msg import Point, PointStamped
from listening import PATIENCE, wait_for
from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

from wildseg3d_msgs.action import EditObject
from wildseg3d_msgs.msg import CameraMask, Prompt
from wildseg3d_msgs.srv import Segment
from wildseg3d_ros.core.errors import Cancelled, ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import MaskOrigin
from wildseg3d_ros.ros.building.process import PIPELINE
from wildseg3d_ros.ros.client import SceneClient
from wildseg3d_ros.ros.messages.clouds import points_from_cloud
from wildseg3d_ros.ros.messages.conversions import header, image_from_array
from wildseg3d_ros.ros.messages.replies import Edited
from wildseg3d_ros.ros.messages.requests import prompt_message
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.replay_node import optical_frame
from wildseg3d_ros.scene.file.snapshot import save_scene
from wildseg3d_ros.streams.images import array_from_image

VIEWS = table.make_views()
TRUTH = [table.trace(view.world_from_cam_prior)[2] for view in VIEWS]


def on(label: int, view: int = 0) -> tuple[str, int, int]:
    return (VIEWS[view].name, *table.pixel_on(VIEWS[view], label))


def top_of(label: int) -> np.ndarray:
    """A point of a ball that all cameras see: towards the middle one and up."""
    centre, radius = table.BALLS[label]
    way = VIEWS[1].world_from_cam_prior[:3, 3] - np.array(centre)
    return np.array(centre) + radius * way / np.linalg.norm(way)


def box_about(label: int, view: int = 0) -> tuple[str, float, float, float, float]:
    rows, columns = np.nonzero(TRUTH[view] == label)
    return (VIEWS[view].name, columns.min(), rows.min(), columns.max(), rows.max())


def refused(client, code, text, clicks=(), ask=None, **options):
    with pytest.raises(WildSeg3DError, match=text) as error:
        (ask or client.segment)(clicks, **options)
    assert error.value.code == ErrorCode[code], error.value
    assert client.segment([on(table.RED)]).object_ids == (1,)


def test_segment_all_kinds_of_prompts(live):
    """Boxes masks points ids and unions."""
    _, _, client = live
    for label in (table.RED, table.GREEN):
        for view in range(3):
            name = VIEWS[view].name
            assert client.segment(boxes=[box_about(label, view)]).object_ids == (label,)
            mask = TRUTH[view] == label
            assert client.segment(masks={name: mask}).object_ids == (label,)
            assert client.segment(masks={name: mask.astype(np.uint8)}).object_ids == (label,)
        assert client.segment(points=[("", *top_of(label))]).object_ids == (label,)
        assert client.segment(object_ids=[label]).object_ids == (label,)
        assert client.segment([on(label)], level="sub_part").object_ids == (label,)
    both = client.segment(
        [on(table.RED, 2)], masks={"left": TRUTH[1] == table.GREEN}, object_ids=[table.RED]
    )
    assert both.object_ids == (1, 2)


def test_docstrings_of_the_client_are_true(world, tmp_path):
    """Each public method has an example, which runs on a new scene."""
    world.scene_node(scene_folder=str(tmp_path))
    world.replay()
    client = world.client()
    found = doctest.DocTestFinder().find(SceneClient, "SceneClient", extraglobs={"client": client})
    public = [each for each in found if "._" not in each.name]
    assert [each.name for each in public if not each.examples] == []
    assert len(public) > 15
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for each in public:
        client.build()
        runner.run(each)
        client.drop_views()
    assert runner.failures == 0


def test_segment_points_in_any_frame(live):
    """Points come in any frame."""
    _, _, client = live
    frame = optical_frame("right")
    in_camera = apply(invert(VIEWS[2].world_from_cam_prior), top_of(table.GREEN))
    assert client.segment(points=[(frame, *in_camera)]).object_ids == (table.GREEN,)
    assert client.segment(points=[(f"/{frame}", *in_camera)]).object_ids == (table.GREEN,)
    refused(client, "UNKNOWN_FRAME", "'shelf' cannot be found", points=[("shelf", 0, 0, 0)])


def test_segment_bad_prompts(live):
    """Bad prompts of every kind."""
    _, _, client = live
    u, v = on(table.RED)[1:]
    half = TRUTH[0][::2, ::2] == table.RED
    refused(client, "BAD_REQUEST", "u0 < u1", boxes=[("front", 9, 9, 9, 20)])
    refused(client, "BAD_REQUEST", "u0 < u1", boxes=[("front", 9, 9, float("nan"), 20)])
    refused(client, "UNKNOWN_CAMERA", "no camera 'back'", boxes=[("back", 1, 1, 9, 20)])
    refused(client, "PIXEL_OUTSIDE_IMAGE", "outside", boxes=[("front", 900, 1, 990, 20)])
    refused(client, "NO_OBJECT_AT_PIXEL", "no cached object fills", boxes=[("front", 1, 1, 9, 9)])
    refused(client, "BAD_REQUEST", "two boxes", boxes=[box_about(1), box_about(2)])
    refused(client, "BAD_REQUEST", "80x60, but its images are 160x120", masks={"front": half})
    refused(client, "BAD_REQUEST", "is empty", masks={"front": np.zeros(table.SIZE, bool)})
    refused(client, "UNKNOWN_CAMERA", "no camera 'back'", masks={"back": half})
    everything = np.ones(table.SIZE, bool)
    refused(client, "NO_OBJECT_AT_PIXEL", "no cached object has", masks={"front": everything})
    refused(client, "POINT_OUTSIDE_SCENE", "m away", points=[("", 0, 0, 9)])
    refused(client, "BAD_REQUEST", "finite", points=[("", 0, float("inf"), 9)])
    refused(client, "UNKNOWN_OBJECT", "objects are 1, 2", object_ids=[7])
    refused(client, "UNKNOWN_OBJECT", "objects are 1, 2", object_ids=[-(2**31)])
    contradiction = [("front", u, v, 0)]
    refused(client, "CONTRADICTING_CLICKS", "excludes", contradiction, object_ids=[1])
    refused(client, "CONTRADICTING_CLICKS", "excludes", contradiction, boxes=[box_about(1, 1)])
    for name in ("voxel_size", "normal_radius", "context_size", "surroundings_voxel_size"):
        with pytest.raises(WildSeg3DError, match=f"{name} must be 0 or more"):
            client.describe([("front", u, v)], **{name: -1.0})
    with pytest.raises(WildSeg3DError, match="no camera 'back'"):
        client.describe([("front", u, v)], organized_cameras=["back"])
    with pytest.raises(TypeError, match="no option include_colour; there are"):
        client.segment([("front", u, v)], include_colour=True)


def test_segment_by_name(live):
    """What a text names answers all that clicks do; where nothing reads, the error says why."""
    _, _, client = live
    assert client.segment(text="green ball").object_ids == (table.GREEN,)
    assert client.segment([on(table.RED)], text="green ball").object_ids == (1, 2)
    described = client.describe(text="green ball", include_masks=True)
    assert np.array_equal(described.masks["left"], TRUTH[1] == table.GREEN)
    assert client.add_object(text="green ball").object_ids == (table.GREEN,)
    way_out = "SAM 3 .* do not exist; .*hf download.*text.weights.*Clicks, boxes and ids need no"
    with pytest.raises(WildSeg3DError, match=way_out) as nobody_reads:
        client.segment(text="red mug")
    assert nobody_reads.value.code == ErrorCode.BAD_FILE
    with pytest.raises(WildSeg3DError, match="no box and no mask"):
        client.refine_object(1, text="green ball")


def test_segment_while_a_name_is_looked_for(world, monkeypatch, tmp_path):
    """Clicks are answered meanwhile, and the name when it is found."""
    go = tmp_path / "go"
    monkeypatch.setenv("PATIENT_UNTIL", str(go))
    world.scene_node()
    world.replay()
    client, other = world.client(), world.client()
    client.build()
    found = []
    slow = threading.Thread(
        target=lambda: found.append(client.segment(text="slow green ball").object_ids)
    )
    slow.start()
    time.sleep(0.5)
    assert other.segment([on(table.RED)]).object_ids == (1,)
    assert slow.is_alive() and not found
    go.touch()
    slow.join(20)
    assert found == [(table.GREEN,)]


def test_segment_images_that_are_no_masks(live):
    """Images that are no masks."""
    _, _, client = live

    def ask(image: Image):
        request = Segment.Request(prompt=Prompt(masks=[CameraMask(camera="front", mask=image)]))
        return client._call(client._segment, request).status

    good = image_from_array((TRUTH[0] == 1).astype(np.uint16), "mono16")
    assert ask(good).code == ErrorCode.OK
    good.data = good.data[:50]
    assert "data holds 50" in ask(good).message
    assert ask(Image()).code == ErrorCode.BAD_IMAGE
    color = image_from_array(VIEWS[0].image, "rgb8")
    assert "encoding 'rgb8' is not that of a mask" in ask(color).message
    request = Segment.Request(prompt=Prompt(object_ids=[1], level=9))
    raw = client._call(client._segment, request).status
    assert "0 (whole), 1 (part), 2 (sub_part); got 9" in raw.message


def test_segment_add_and_refine(world):
    """On a scene in which one ball was not found."""
    world.scene_node("forgetful_builder")
    world.replay()
    client, other = world.client(), world.client()
    first = client.build()
    assert first.objects == 1
    green, heard = on(table.GREEN), []
    refused(client, "NO_OBJECT_AT_PIXEL", "background", [("front", 2, 2)])
    assert client.segment([green]).object_ids == ()
    found = client.add_object([green], progress=lambda *told: heard.append(told))
    assert found.scene_id != first.scene_id
    assert [stage for stage, _ in heard if stage in ("masks", "boxes")]
    more = client.describe(object_ids=found.object_ids, include_masks=True)
    mask, true = more.masks["front"], TRUTH[0] == table.GREEN
    assert (mask & true).sum() / (mask | true).sum() > 0.9
    # It is an object like others now, and asking again adds no other.
    again = other.add_object([green])
    assert (again.object_ids, again.scene_id) == (found.object_ids, found.scene_id)
    assert [o.object_id for o in other.list_objects()] == [1, *found.object_ids]

    assert client.refine_object(1, [green]).object_ids == (1,)
    merged = client.describe(object_ids=[1], include_masks=True)
    assert merged.masks["front"][green[2], green[1]]
    # Boxes are those of the scene that answers now.
    assert client.list_objects()[0].box.size.max() > 0.3
    assert [o.object_id for o in other.list_objects()] == [1]
    back = client.undo()
    assert (back.object_id, back.object_remains, back.remaining) == (1, True, 1)
    assert [o.object_id for o in other.list_objects()] == [1, *found.object_ids]
    back = other.undo()
    assert (back.object_id, back.object_remains, back.remaining) == (*found.object_ids, False, 0)
    assert client.segment([green]).object_ids == ()
    with pytest.raises(WildSeg3DError, match="nothing to undo"):
        client.undo()

    refused(client, "UNKNOWN_OBJECT", "99", [green], partial(client.refine_object, 99))
    for edit, text in (
        (EditObject.Goal.REFINE, "needs the id"),
        (7, r"must be 0 \(ADD\) or 1 \(REFINE\), got 7"),
    ):
        with pytest.raises(WildSeg3DError, match=text):
            goal = EditObject.Goal(edit=edit, prompt=prompt_message([green], {}))
            Edited.of(client._reach(client._edit, goal, None, None))


def test_edit_object_cancel(world):
    """A goal that is cancelled ends soon, and leaves the scene as it was."""
    node = world.scene_node("SlowEditor")
    world.replay()
    client, other = world.client(), world.client()
    first, process = client.build(), node._worker.pid
    running = threading.Event()
    with pytest.raises(Cancelled, match="cancelled by the caller"):
        client.refine_object(
            1,
            [on(table.GREEN)],
            progress=lambda stage, _: running.set() if stage == "masks" else None,
            cancelled=running.is_set,
        )
    assert node._worker.pid == process, "it ended by itself"
    assert other.segment([on(table.RED)]).scene_id == first.scene_id
    # Deactivated, the node ends it by itself.
    running.clear()
    ended: list[Exception] = []

    def edit():
        try:
            client.refine_object(1, [on(table.GREEN)], progress=lambda *_: running.set())
        except WildSeg3DError as error:
            ended.append(error)

    editor = threading.Thread(target=edit)
    editor.start()
    assert running.wait(PATIENCE)
    node.trigger_deactivate()
    editor.join(PATIENCE)
    assert [error.code for error in ended] == [ErrorCode.CANCELLED]


def test_segment_change_other_back_end(world, tmp_path):
    """A loaded scene of a back end that is not here: label maps alone, and a tree."""
    origin = MaskOrigin("nobodys", str(tmp_path / "gone"))
    for name, balls in (("labels", (table.RED, table.GREEN)), ("tree", (table.RED,))):
        scene = table.scene_by_color(VIEWS, Progress(), "world", found=balls)
        scene = dataclasses.replace(scene, masks=dataclasses.replace(scene.masks, origin=origin))
        save_scene(scene, tmp_path / f"{name}.ws3d")
    world.scene_node(PIPELINE)
    client = world.client()
    client.load_scene(str(tmp_path / "labels.ws3d"))
    with pytest.raises(WildSeg3DError, match="cannot be loaded here.*'geometric' instead"):
        client.add_object([("front", 2, 2)])
    found = client.refine_object(table.RED, [on(table.GREEN)])
    said = [warning for warning in found.warnings if "cannot be loaded here" in warning]
    assert len(said) == 1
    assert f"made by 'nobodys' with the weights '{tmp_path}/gone'" in said[0]
    assert "changes are made by 'geometric' instead" in said[0]
    again = client.refine_object(table.RED, [on(table.RED), (*on(table.GREEN), 0)])
    assert [warning for warning in again.warnings if "cannot be loaded here" in warning] == said
    # A tree is asked without any back end.
    client.load_scene(str(tmp_path / "tree.ws3d"))
    found = client.add_object([on(table.GREEN)])
    assert not [warning for warning in found.warnings if "cannot be loaded here" in warning]


def test_segment_add_during_build(world, monkeypatch, tmp_path):
    """Nothing is added while a scene is built."""
    go = tmp_path / "go"
    monkeypatch.setenv("PATIENT_UNTIL", str(go))
    go.touch()
    world.scene_node("patient_builder")
    world.replay()
    client, other = world.client(), world.client()
    client.build()
    go.unlink()
    waiting = threading.Event()
    builder = threading.Thread(
        target=lambda: client.build(
            progress=lambda stage, _: waiting.set() if stage == "waiting" else None
        )
    )
    builder.start()
    assert waiting.wait(PATIENCE)
    with pytest.raises(WildSeg3DError, match="being built") as busy:
        other.add_object([("front", 5, 115)])
    assert busy.value.code == ErrorCode.BUSY
    with pytest.raises(WildSeg3DError, match="'mug' names is building .* click") as busy:
        other.segment(text="mug")
    assert busy.value.code == ErrorCode.BUSY
    assert other.add_object([on(table.RED)]).object_ids == (1,)  # is cached
    go.touch()
    builder.join(PATIENCE)


def test_segment_eight_clients(live):
    """Eight clients at once."""
    world, _, _ = live
    clients = [world.client() for _ in range(8)]
    for client in clients:
        client.wait_until_ready()
    wrong: list[object] = []

    def ask(client, label):
        try:
            for count in range(25):
                ask = client.segment if count % 5 else client.describe
                found = ask([on(label)])
                if found.object_ids != (label,):
                    wrong.append(found.object_ids)
        except Exception as error:  # noqa: BLE001
            wrong.append(error)

    threads = [
        threading.Thread(target=ask, args=(client, 1 + k % 2)) for k, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- topics ------------------------------------------------------------------------------------


class Ears:
    """Hears latched topics of the node."""

    def __init__(self, world) -> None:
        self.node = rclpy.create_node("ears", context=world.context)
        self.heard: dict[str, list] = {}
        for kind, topic in (
            (PointCloud2, "selected_object"),
            (MarkerArray, "selected_box"),
            (Image, "left/overlay"),
        ):
            self.heard[topic] = []
            self.node.create_subscription(kind, topic, self.heard[topic].append, latched())
        world.add(self.node, threads=1)

    def until(self, met):
        wait_for(lambda: met(self.heard))


def is_near(message: PointCloud2, label: int) -> bool:
    points, _ = points_from_cloud(message)
    centre, radius = table.BALLS[label]
    return bool((np.abs(np.linalg.norm(points - centre, axis=1) - radius) < 1e-3).all())


def test_prompt_topics_select(live):
    """Clicks from rviz and rqt select."""
    world, _, client = live
    ears = Ears(world)
    rviz = rclpy.create_node("rviz", context=world.context)
    world.add(rviz, threads=1)
    pointing = rviz.create_publisher(PointStamped, "clicked_point", 1)
    mouse = rviz.create_publisher(Point, "front/mouse_left", 1)
    overlay_mouse = rviz.create_publisher(Point, "right/overlay_mouse_left", 1)
    for publisher in (pointing, mouse, overlay_mouse):
        wait_for(publisher.get_subscription_count)

    client.segment([on(table.RED)], publish=True)
    client.segment([on(table.GREEN)])  # is not shown
    ears.until(lambda h: h["selected_object"] and is_near(h["selected_object"][-1], table.RED))
    x, y, z = top_of(table.GREEN)
    pointing.publish(PointStamped(header=header("world", 0), point=Point(x=x, y=y, z=z)))
    ears.until(lambda h: is_near(h["selected_object"][-1], table.GREEN))
    u, v = on(table.RED)[1:]
    mouse.publish(Point(x=float(u), y=float(v)))
    ears.until(lambda h: is_near(h["selected_object"][-1], table.RED))
    u, v = on(table.GREEN, 2)[1:]
    overlay_mouse.publish(Point(x=float(u), y=float(v)))
    ears.until(lambda h: is_near(h["selected_object"][-1], table.GREEN))
    # What cannot be answered is a line in the log, and the next click works.
    for nonsense in (float("nan"), -50.0, 1e300):
        mouse.publish(Point(x=nonsense, y=1.0))
        pointing.publish(PointStamped(header=header("nowhere", 0), point=Point(x=nonsense)))
    mouse.publish(Point(x=float(on(table.RED)[1]), y=float(on(table.RED)[2])))
    ears.until(lambda h: is_near(h["selected_object"][-1], table.RED))
    assert client.segment([on(table.RED)]).object_ids == (1,)


def test_selection_topics_late_joiners(live):
    """What is selected is shown to late joiners."""
    world, node, client = live
    client.segment([on(table.RED)], publish=True)
    shown = node._topics.selection
    wait_for(lambda: shown._shown == shown._wanted)
    ears = Ears(world)
    ears.until(lambda h: all(h.values()))
    markers = ears.heard["selected_box"][-1].markers
    assert [marker.type for marker in markers] == [
        Marker.CUBE, Marker.LINE_LIST, Marker.TEXT_VIEW_FACING,
    ]  # fmt: skip
    assert markers[0].header.frame_id == "world"
    size = markers[0].scale
    assert max(size.x, size.y) == pytest.approx(2 * table.BALLS[1][1], abs=0.01)
    assert len(markers[1].points) == 24
    assert "object 1" in markers[2].text

    overlay = ears.heard["left/overlay"][-1]
    assert overlay.header.frame_id == optical_frame("left")
    ears.until(lambda h: is_bright(h["left/overlay"][-1], table.RED))
    client.segment([on(table.GREEN)], publish=True)
    ears.until(lambda h: is_bright(h["left/overlay"][-1], table.GREEN))


def is_bright(message: Image, label: int) -> bool:
    """The selected ball has the colours of the image, everything else a tint."""
    picture = array_from_image(message, "overlay")
    inner = cv2.erode((TRUTH[1] == label).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    other = cv2.erode((TRUTH[1] == 3 - label).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    same = (picture == VIEWS[1].image).all(axis=-1)
    return bool(same[inner].all() and not same[other].all())
