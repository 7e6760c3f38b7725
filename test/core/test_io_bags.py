"""Bags as recordings, without ROS: storages, topics, time, key frames, and what can be wrong."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags")

from rosbags.rosbag2.storage_mcap import zstd

from wildseg3d_ros.cli import main
from wildseg3d_ros.cli.commands import read_config
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ConfigError, FileError, InputError
from wildseg3d_ros.core.geometry.transforms import invert, make_transform
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.bags import storage as bag_storage
from wildseg3d_ros.io.bags.loading import load_bag
from wildseg3d_ros.io.loading import load_recording
from wildseg3d_ros.streams.key_frames import _seen
from wildseg3d_ros.streams.rig_file import read_rig
from wildseg3d_testing import bags
from wildseg3d_testing.bags import START_NS, fixed_cameras, write_bag
from wildseg3d_testing.scenes import construct_scene

TENTH = 100_000_000


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, width=64, height=48)


@pytest.fixture(scope="module")
def small(truth, tmp_path_factory):
    """A good bag of three cameras."""
    return write_bag(tmp_path_factory.mktemp("bags") / "small", fixed_cameras(truth.views))


def same_views(found, expected, stamp_ns):
    for view, true in zip(found, expected, strict=True):
        assert view.name == true.name
        assert view.stamp_ns == stamp_ns
        assert view.frame_id == f"{true.name}_color_optical_frame"
        np.testing.assert_array_equal(view.image, true.image)
        np.testing.assert_array_equal(view.K, true.K)
        np.testing.assert_array_equal(view.depth, true.depth)
        np.testing.assert_allclose(
            view.world_from_cam_prior, true.world_from_cam_prior, atol=1e-12
        )


# ---- storages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        ("mcap", "none"),
        ("mcap", "storage"),
        ("mcap", "message"),
        ("mcap", "file"),
        ("sqlite3", "none"),
        ("sqlite3", "message"),
        ("sqlite3", "file"),
    ],
)
def test_load_recording_reads_every_storage(storage, compression, truth, tmp_path):
    bag = write_bag(tmp_path / "bag", fixed_cameras(truth.views), storage, compression)
    recording = load_recording(bag)
    same_views(recording.views, truth.views, START_NS + TENTH)
    assert recording.warnings == ()
    assert recording.world_frame == "world"
    assert recording.format == "a bag of 3 cameras (0.1 s)"
    (file,) = (path for path in bag.iterdir() if path.name != "metadata.yaml")
    if compression in ("none", "storage", "file"):  # only the folder knows of messages
        same_views(load_recording(file).views, truth.views, START_NS + TENTH)
    if compression == "none":
        (bag / "metadata.yaml").unlink()
        same_views(load_recording(bag).views, truth.views, START_NS + TENTH)


def test_load_bag_needs_no_ros(small):
    code = (
        "import sys; sys.modules['rclpy'] = None\n"
        "from wildseg3d_ros.io.loading import load_recording\n"
        f"assert len(load_recording({str(small)!r}).views) == 3"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_load_bag_without_rosbags_names_the_extra(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "rosbags.typesys", None)
    with pytest.raises(FileError, match="extra 'bags'.*wildseg3d\\[bags\\]"):
        load_bag(small)


# ---- topics ----------------------------------------------------------------------------------


def renamed(messages, *names):
    """Messages with parts of their topics' names replaced."""
    for topic, stamp_ns, message in messages:
        for old, new in names:
            topic = topic.replace(old, new)
        yield topic, stamp_ns, message


@pytest.mark.parametrize(
    "names",
    [
        [("/cam_", "/robot/cam_")],
        [("/color/", "/rgb/"), ("/aligned_depth_to_color/image_raw", "/depth_to_rgb/image_raw")],
        [("/color/", "/"), ("/aligned_depth_to_color/image_raw", "/depth/image_raw")],
        [("/color/", "/rgb/"), ("/aligned_depth_to_color/", "/depth_registered/")],
    ],
)
def test_load_bag_finds_cameras_whatever_their_names(names, truth, tmp_path):
    bag = write_bag(tmp_path / "bag", renamed(fixed_cameras(truth.views), *names))
    same_views(load_bag(bag).views, truth.views, START_NS + TENTH)


def test_load_bag_leaves_out_infrared_and_overlays_and_takes_registered_depth(truth, tmp_path):
    messages = fixed_cameras(truth.views)
    info, color, depth = messages[1:4]
    extra = [
        ("/cam_0/infra1/camera_info", *info[1:]),
        ("/cam_0/infra1/image_rect_raw", *color[1:]),
        ("/cam_0/depth/camera_info", *info[1:]),
        ("/cam_0/depth/image_rect_raw", depth[1], bags.image(
            np.full((48, 64), 9, np.float32), "32FC1", "other", START_NS)),
        # What a scene node publishes of the camera.
        ("/cam_0/camera_info", *info[1:]),
        ("/cam_0/overlay", *color[1:]),
    ]  # fmt: skip
    bag = write_bag(tmp_path / "bag", [*messages[:1], *extra, *messages[1:]])
    same_views(load_bag(bag).views, truth.views, START_NS + TENTH)


def test_load_bag_reads_compressed_images_and_depth(truth, tmp_path):
    messages = []
    for topic, stamp_ns, message in fixed_cameras(truth.views):
        if topic.endswith("/color/image_raw"):
            pixels = message.data.reshape(48, 64, 3)[..., ::-1]
            data = cv2.imencode(".png", pixels)[1].tobytes()
            topic, kind = f"{topic}/compressed", "rgb8; png compressed bgr8"
        elif "depth" in topic:
            steps = np.rint(message.data.view(np.float32).reshape(48, 64) * 1000)
            data = bytes(12) + cv2.imencode(".png", steps.astype(np.uint16))[1].tobytes()
            topic, kind = f"{topic}/compressedDepth", "16UC1; compressedDepth png"
        else:
            messages.append((topic, stamp_ns, message))
            continue
        frame = message.header.frame_id
        messages.append((topic, stamp_ns, bags.compressed(data, kind, frame, stamp_ns)))
    found = load_bag(write_bag(tmp_path / "bag", messages)).views
    for view, true in zip(found, truth.views, strict=True):
        np.testing.assert_array_equal(view.image, true.image)
        np.testing.assert_allclose(view.depth, true.depth, atol=0.51e-3)


RIG = """
/**:
  ros__parameters:
    use_sim_time: true
    cameras: [left]
    world_frame: cam_2_color_optical_frame
    left: {image_topic: /cam_1/color/image_raw, camera_info_topic: cam_1/color/camera_info,
           depth_topic: ''}
    pointmaps.depth.max_depth: 3.0
"""


def test_load_bag_by_a_rigs_file(truth, small, tmp_path):
    path = tmp_path / "rig.yaml"
    path.write_text(RIG)
    rig = read_rig(path)
    assert rig.scene == {"pointmaps": {"depth": {"max_depth": 3.0}}}
    (view,) = load_bag(small, rig).views
    assert (view.name, view.depth) == ("left", None)
    expected = invert(truth.views[2].world_from_cam_prior) @ truth.views[1].world_from_cam_prior
    np.testing.assert_allclose(view.world_from_cam_prior, expected, atol=1e-12)
    path.write_text(RIG.replace("/cam_1/color/image_raw", "/cam_1/color/imag"))
    text = (
        r"no topic '/cam_1/color/imag' \(images of camera 'left'\); it has: .*/image_raw \(sensor_"
    )
    with pytest.raises(InputError, match=text):
        load_bag(small, read_rig(path))
    path.write_text(RIG.replace("image_topic:", "imag_topic:"))
    with pytest.raises(ConfigError, match="left.imag_topic.*image_topic"):
        read_rig(path)
    path.write_text("pointmaps: {}")
    with pytest.raises(ConfigError, match="no parameter file"):
        read_rig(path)


# ---- time and TF -----------------------------------------------------------------------------


def test_load_bag_takes_the_newest_images_of_one_time(truth, tmp_path):
    messages = fixed_cameras(truth.views, moments=3)
    # The last image of cam_2 was lost: the others' of its time are taken.
    late = START_NS + 2 * TENTH
    lost = [m for m in messages if not (m[1] == late and m[0].startswith("/cam_2/"))]
    found = load_bag(write_bag(tmp_path / "bag", lost))
    same_views(found.views, truth.views, START_NS + TENTH)
    # Since then nothing: the newest of each, and a warning.
    lost = [m for m in messages if not (m[1] > START_NS and m[0].startswith("/cam_2/"))]
    found = load_bag(write_bag(tmp_path / "other", lost))
    assert [view.stamp_ns for view in found.views] == [START_NS] * 3
    old = [m for m in lost if not (m[1] == START_NS and not m[0].startswith(("/cam_2", "/tf")))]
    found = load_bag(write_bag(tmp_path / "third", old))
    assert "not of one time" in found.warnings[0]
    assert [view.stamp_ns for view in found.views] == [late, late, START_NS]


def moving(view_of, count, tf_late_ns=0):
    """Messages of a camera on an arm: TF ten times as often, the arm's base under the world."""
    frame = "wrist_color_optical_frame"
    base = make_transform(np.eye(3), [0.3, 0.0, 0.1])
    messages = [("/tf_static", START_NS, bags.transforms(START_NS, ("world", "base", base)))]
    for i in range(10 * count):
        stamp_ns = START_NS + i * TENTH // 10
        if i % 10 == 0:
            view = view_of(i / 10)
            messages += bags.camera_messages("wrist", view, stamp_ns, frame)
        pose = invert(base) @ view_of(i / 10, pose_only=True)
        link = bags.transforms(stamp_ns, ("base", frame, pose))
        messages.append(("/tf", stamp_ns + tf_late_ns, link))
    return sorted(messages, key=lambda message: message[1])


@pytest.fixture(scope="module")
def swing():
    """Views of a camera that swings about a point 1 m away, a degree a frame, each third sharp."""
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    dull = cv2.GaussianBlur(sharp, (0, 0), 2)
    K = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])

    def view_of(i, pose_only=False):
        angle = np.radians(i)
        c, s = np.cos(angle), np.sin(angle)
        pose = make_transform([[c, 0, s], [0, 1, 0], [-s, 0, c]], [-s, 0.0, 1 - c])
        if pose_only:
            return pose
        picture = sharp if round(i) % 3 == 0 else dull
        return View("wrist", picture, K, np.ones((48, 64), np.float32), pose)

    return view_of


@pytest.mark.parametrize("late_ns", [0, 60_000_000])
def test_load_bag_chooses_sharp_key_frames_of_a_moving_camera(swing, late_ns, tmp_path):
    bag = write_bag(tmp_path / "bag", moving(swing, 40, late_ns))
    recording = load_bag(bag)
    numbers = [(view.stamp_ns - START_NS) // TENTH for view in recording.views]
    assert [view.name for view in recording.views][:2] == ["wrist_1", "wrist_2"]
    assert numbers[0] == 0
    assert all(number % 3 == 0 for number in numbers), "a dull frame was taken"
    apart = np.diff(numbers)
    assert (apart >= np.degrees(0.12)).all()
    assert (apart <= np.degrees(0.2) + 1).all()
    for number, view in zip(numbers, recording.views, strict=True):
        np.testing.assert_allclose(
            view.world_from_cam_prior, swing(float(number), pose_only=True), atol=1e-9
        )
    assert len(load_bag(bag, max_views=3).views) == 3


@pytest.mark.parametrize("size", [(24, 32), (48, 1), (1, 1), (96, 128)])
def test_seen_takes_depth_of_another_size(size):
    K = np.array([[40.0, 0, 31.5], [0, 40.0, 23.5], [0, 0, 1]])
    points, median = _seen(np.full(size, 2.0, np.float32), K, (48, 64))
    expected, _ = _seen(np.full((48, 64), 2.0, np.float32), K, (48, 64))
    np.testing.assert_array_equal(points, expected)
    assert median == 2.0


def test_load_bag_memory_does_not_grow_with_the_bag(truth, tmp_path):
    def peak(moments):
        bag = write_bag(tmp_path / str(moments), fixed_cameras(truth.views, moments))
        load_bag(bag)  # what is imported
        tracemalloc.start()
        load_bag(bag)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = peak(100), peak(400)  # 10 and 40 chunks of the storage
    assert many < few + 1e6


def test_load_bag_world_is_the_root_of_tf_where_there_is_no_world(truth, tmp_path):
    bag = write_bag(tmp_path / "bag", fixed_cameras(truth.views, world="cell"))
    recording = load_bag(bag)
    assert recording.world_frame == "cell"
    same_views(recording.views, truth.views, START_NS + TENTH)


# ---- what can be wrong -----------------------------------------------------------------------


def without(part):
    return lambda messages: [m for m in messages if part not in m[0]]


def one_camera(messages):
    return [m for m in messages if m[0].startswith(("/cam_0", "/tf"))]


def corrupt(messages):
    for topic, stamp_ns, message in messages:
        if topic == "/cam_1/color/image_raw":
            message.data = message.data[:100]
        yield topic, stamp_ns, message


def unregistered(messages):
    for topic, stamp_ns, message in messages:
        if topic.startswith("/cam_1/aligned"):
            message.header.frame_id = "cam_1_depth_optical_frame"
        yield topic, stamp_ns, message


def early(messages):
    return [
        (t, s, bags.image(m.data.view(np.float32).reshape(48, 64), "32FC1", "", s - 10**9))
        if "cam_1/aligned" in t
        else (t, s, m)
        for t, s, m in messages
    ]


WRONG = {
    "no camera_info": (without("camera_info"), "no sensor_msgs/CameraInfo, .*it has: /cam_0/al"),
    "no images": (without("/color/image"), "no images beside a camera_info, .*it has: /cam_0/al"),
    "no TF": (
        without("/tf"),
        (
            "TF does not know .*; /tf and /tf_static are silent; cameras 'cam_0', 'cam_1', "
            "'cam_2' have no pose .*allow_missing_poses: true' in the rig's .*--config"
        ),
    ),
    "one view": (one_camera, "a scene needs at least 2 view"),
    "corrupt image": (corrupt, "camera 'cam_1': 64x48 pixels .* need 9216 bytes, but data holds"),
    "unregistered depth": (unregistered, "depth on '/cam_1/aligned.* not registered to them"),
    "depth of another time": (early, "camera 'cam_1': no image .* has depth .* of its time"),
    "nothing": (lambda messages: [], "no sensor_msgs/CameraInfo.*it has: nothing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_build_refuses_a_bag_in_one_line(case, truth, tmp_path, capsys):
    change, text = WRONG[case]
    bag = write_bag(tmp_path / "bag", change(fixed_cameras(truth.views)))
    assert main(["build", str(bag), "-o", str(tmp_path / "out.ws3d"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert re.search(text, said), said


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, "metadata", "garbage"])
def test_check_refuses_a_truncated_bag_in_one_line(storage, share, truth, tmp_path, capsys):
    bag = write_bag(tmp_path / "bag", fixed_cameras(truth.views), storage)
    (file,) = (path for path in bag.iterdir() if path.name != "metadata.yaml")
    data = bytearray(file.read_bytes())
    if share == "metadata":
        (bag / "metadata.yaml").write_bytes((bag / "metadata.yaml").read_bytes()[:200])
    elif share == "garbage":
        data[len(data) // 3 : len(data) // 2] = bytes(range(256)) * 1000
        file.write_bytes(data[: len(data)])
    else:
        file.write_bytes(data[: int(share * len(data))])
    assert main(["check", str(bag), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert "truncated, damaged or no bag" in said


def test_load_bag_without_tf_by_the_rigs_file_that_allows_it(truth, tmp_path):
    messages = (each for each in fixed_cameras(truth.views) if not each[0].startswith("/tf"))
    (path := tmp_path / "rig.yaml").write_text("/**: {ros__parameters: {allow_missing_poses: on}}")
    recording = load_bag(write_bag(tmp_path / "bag", messages), read_rig(path))
    assert [view.world_from_cam_prior for view in recording.views] == [None] * 3
    assert "is in the frame 'cam_0_color" in recording.warnings[0]


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
LARGE = "data BLOB GENERATED ALWAYS AS (zeroblob(900000000)) VIRTUAL"
PROGRAMS = {
    "view": ["DROP TABLE schema", f"CREATE VIEW schema(schema_version) AS {ENDLESS}"],
    "column": [
        "DROP TABLE messages",
        f"CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INT, timestamp INT, {LARGE})",
        "INSERT INTO messages(topic_id, timestamp) SELECT id, 1 FROM topics",
    ],
}


@pytest.mark.parametrize("kind", PROGRAMS)
@pytest.mark.parametrize("compression", ["none", "file"])
def test_load_bag_runs_no_program_of_a_database(kind, compression, truth, tmp_path):
    bag = write_bag(tmp_path / "bag", fixed_cameras(truth.views), "sqlite3")
    (file,) = bag.glob("*.db3")
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        for statement in PROGRAMS[kind]:
            database.execute(statement)
    if compression == "file":
        file.with_suffix(".db3.zstd").write_bytes(zstd.compress(file.read_bytes()))
        metadata = bag / "metadata.yaml"
        text = metadata.read_text().replace(file.name, f"{file.name}.zstd")
        text = text.replace("compression_mode: ''", "compression_mode: FILE")
        text = text.replace("compression_format: ''", "compression_format: zstd")
        metadata.write_text(text)
        assert "FILE" in text
    with pytest.raises(FileError, match="views or computed columns"):
        load_bag(bag)


def test_load_bag_of_what_unpacks_to_far_more(truth, tmp_path, monkeypatch):
    bag = write_bag(tmp_path / "bag", fixed_cameras(truth.views), "mcap", "file")
    (file,) = bag.glob("*.zstd")
    file.write_bytes(zstd.compress(bytes(100_000_000)))
    monkeypatch.setattr(bag_storage, "_FILE_ANYWAY", 50_000_000)
    with pytest.raises(FileError, match="larger than what is read: .*unpacks to more than"):
        load_bag(bag)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(FileError, match="it is there and no file"):
        load_bag(bag)


def test_load_recording_of_files_that_are_no_bags(tmp_path):
    (tmp_path / "x.mcap").write_bytes(b"hello")
    with pytest.raises(FileError, match="truncated, damaged or no bag"):
        load_recording(tmp_path / "x.mcap")
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "a.db3").touch()
    (tmp_path / "bag" / "b.db3").touch()
    with pytest.raises(FileError, match="no metadata.yaml and 2 files .*reindex"):
        load_recording(tmp_path / "bag")
    with pytest.raises(FileError, match="does not exist"):
        load_recording(tmp_path / "none.mcap")


def test_read_config_takes_the_stages_of_a_rigs_file(tmp_path):
    path = tmp_path / "rig.yaml"
    path.write_text(RIG)
    config = read_config(path, ["pointmaps.depth.min_depth=0.2"])
    assert (config.pointmaps.depth.min_depth, config.pointmaps.depth.max_depth) == (0.2, 3.0)
    path.write_text(RIG.replace("max_depth", "max_dept"))
    with pytest.raises(ConfigError, match=r"'pointmaps\.depth\.max_dept' \(did you mean"):
        read_config(path, [])


@pytest.mark.parametrize("name", ["demo", "four_rgb", "four_rgbd", "wrist_rgbd"])
def test_read_rig_reads_the_shipped_files(name):
    root = Path(__file__).resolve().parents[2]
    rig = read_rig(root / "config" / f"{name}.yaml")
    assert rig.cameras
    SceneConfig.from_mapping(rig.scene)


# ---- the robot ---------------------------------------------------------------------------------

ROBOT = """<robot name="r"><link name="hand"><visual><geometry><sphere radius="0.1"/></geometry>
</visual></link></robot>"""


def test_load_bag_leaves_the_robot_out(truth, tmp_path):
    """By the description in the bag, which the rig's file asks for."""
    centre = truth.points[0][24, 32].astype(float)
    hand = bags.transforms(START_NS, ("world", "hand", make_transform(np.eye(3), centre)))
    told = bags.make("std_msgs/msg/String", data=ROBOT)
    messages = [("/robot_description", START_NS, told), ("/tf_static", START_NS, hand)]
    path = write_bag(tmp_path / "robot", [*messages, *fixed_cameras(truth.views)])
    rig = tmp_path / "rig.yaml"
    text = "wildseg3d:\n  ros__parameters:\n    cameras: [cam_0, cam_1, cam_2]\n"
    text += "    robot.padding: 0.0\n"
    rig.write_text(text + "    robot.description_topic: robot_description\n")
    found = load_bag(path, read_rig(rig))
    for view, true, points in zip(found.views, truth.views, truth.points, strict=True):
        away = np.linalg.norm(points - centre, axis=2)
        inside, outside = away < 0.0999, away > 0.1001
        assert inside.sum() > 10
        assert not view.depth[inside].any()
        assert view.ignored[inside].all()
        np.testing.assert_array_equal(view.depth[outside], true.depth[outside])
    rig.write_text(text + "    robot.description_topic: elsewhere\n")
    with pytest.raises(ConfigError, match="no topic '/elsewhere'"):
        load_bag(path, read_rig(rig))
