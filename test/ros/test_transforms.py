"""TF: the same tests over tf2_ros (where it is installed) and over the own tree."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
import types

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from scipy.spatial.transform import Rotation, Slerp
from tf2_msgs.msg import TFMessage

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.ros.messages.conversions import transform_from_matrix
from wildseg3d_ros.ros.tf import limit
from wildseg3d_ros.ros.tf.listener import TransformListener, make_buffer
from wildseg3d_ros.streams.tf.buffer import TransformBuffer, poses_at
from wildseg3d_ros.streams.tf.errors import TooEarly
from wildseg3d_ros.streams.tf.tree import TransformTree

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


HAVE_TF2 = importlib.util.find_spec("tf2_ros") is not None


@pytest.fixture(params=["own", "tf2_ros"] if HAVE_TF2 else ["own"])
def buffer(request) -> TransformBuffer:
    if request.param == "own":
        return TransformTree()
    from wildseg3d_ros.ros.tf.tf2 import Tf2Buffer

    return Tf2Buffer()


@pytest.mark.skipif(
    not HAVE_TF2, reason="tf2_ros ABSENT: only the own tree is tested; source an apt ROS"
)
def test_make_buffer_prefers_tf2():
    """tf2_ros is taken where it is installed."""
    assert type(make_buffer()).__name__ == "Tf2Buffer"


def random_pose(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return make_transform(Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3))


def message(parent: str, child: str, pose: np.ndarray, stamp_ns: int = START) -> TransformStamped:
    return transform_from_matrix(pose, parent, child, stamp_ns)


class Recorder:
    """A node that keeps its callbacks by topic, and a logger that keeps its texts."""

    def __init__(self) -> None:
        self.callbacks, self.texts = {}, []

    def get_logger(self):
        return self

    def create_subscription(self, kind, topic, callback, qos, callback_group):
        self.callbacks[topic] = callback

    def warning(self, text, **_):
        self.texts.append(text)

    error = warning


def test_transform_listener_bad_transforms(buffer):
    """Listening takes the good and reports the bad."""
    node = Recorder()
    TransformListener(node, buffer, None).subscribe()
    bad = message("world", "bent", np.eye(4))
    bad.transform.rotation.w = 0.0
    good = message("world", "base", random_pose(1))
    node.callbacks["/tf_static"](TFMessage(transforms=[bad, good]), {})
    for _ in range(2):
        moving = [bad, message("base", "tool", random_pose(2))]
        node.callbacks["/tf"](TFMessage(transforms=moving), {})
    assert buffer.frames() == ["base", "tool", "world"]
    (text,) = node.texts
    assert text.startswith("the transform 'world' -> 'bent' on /tf_static is ignored: quaternion")


def test_transform_listener_defect(monkeypatch):
    """A defect while listening does not end the node."""
    node, tree = Recorder(), TransformTree()

    def defect(*_):
        raise RuntimeError("a defect made on purpose")

    TransformListener(node, tree, None).subscribe()
    with monkeypatch.context() as broken:
        broken.setattr(tree, "add", defect)
        for callback in node.callbacks.values():
            callback(TFMessage(transforms=[message("world", "base", np.eye(4))]), {})
    assert len(node.texts) == 2
    assert all("on purpose" in text for text in node.texts)


def test_lookup_chains(buffer):
    """world -> base -> tool -> camera and world -> table, static and dynamic mixed."""
    base, tool, camera, table = (random_pose(i) for i in range(4))
    buffer.add(message("world", "base", base), static=True)
    buffer.add(message("base", "tool", tool, START))
    buffer.add(message("base", "tool", tool, START + SECOND))
    buffer.add(message("tool", "camera", camera), static=True)
    buffer.add(message("world", "table", table), static=True)
    assert buffer.frames() == ["base", "camera", "table", "tool", "world"]
    at = START + SECOND // 2
    expected = base @ tool @ camera
    np.testing.assert_allclose(buffer.lookup("world", "camera", at), expected, atol=1e-9)
    np.testing.assert_allclose(
        buffer.lookup("camera", "table", at), np.linalg.inv(expected) @ table, atol=1e-9
    )
    np.testing.assert_allclose(buffer.lookup("tool", "tool", at), np.eye(4), atol=1e-12)
    # Leading slashes are from ROS 1.
    np.testing.assert_allclose(buffer.lookup("/world", "/camera", at), expected, atol=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.875, 1.0])
def test_lookup_interpolates(buffer, share):
    """Between two times it interpolates."""
    first, second = random_pose(5), random_pose(6)
    buffer.add(message("world", "tool", first, START))
    buffer.add(message("world", "tool", second, START + SECOND))
    between = Slerp([0, 1], Rotation.from_matrix([first[:3, :3], second[:3, :3]]))
    expected = make_transform(
        between(share).as_matrix(), (1 - share) * first[:3, 3] + share * second[:3, 3]
    )
    found = buffer.lookup("world", "tool", START + int(share * SECOND))
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_lookup_late_messages(buffer):
    """Late messages are sorted in."""
    poses = {k: random_pose(10 + k) for k in range(4)}
    for k in (0, 3, 1, 2):
        buffer.add(message("world", "tool", poses[k], START + k * SECOND))
    for k, pose in poses.items():
        np.testing.assert_allclose(
            buffer.lookup("world", "tool", START + k * SECOND), pose, atol=1e-9
        )


def test_lookup_time_0(buffer):
    """Time 0 is the newest that all have."""
    tool, camera = random_pose(1), random_pose(2)
    for k in range(3):
        buffer.add(message("world", "tool", tool, START + k * SECOND))
    buffer.add(message("tool", "camera", random_pose(3), START))
    buffer.add(message("tool", "camera", camera, START + SECOND))
    np.testing.assert_allclose(buffer.lookup("world", "camera", 0), tool @ camera, atol=1e-9)


def test_lookup_static_replaced(buffer):
    """A static transform is replaced."""
    buffer.add(message("world", "base", random_pose(1)), static=True)
    buffer.add(message("world", "base", random_pose(2), START - SECOND), static=True)
    np.testing.assert_allclose(
        buffer.lookup("world", "base", START + 999 * SECOND), random_pose(2), atol=1e-9
    )


def test_lookup_unknown_frame(buffer):
    """An unknown frame names the known ones."""
    with pytest.raises(WildSeg3DError, match="does not know the frame 'world'") as unknown:
        buffer.lookup("world", "eye", START)
    assert unknown.value.code == ErrorCode.UNKNOWN_FRAME
    buffer.add(message("world", "base", np.eye(4)), static=True)
    with pytest.raises(WildSeg3DError, match=r"'eye'.*base, world"):
        buffer.lookup("world", "eye", START)


def test_lookup_not_connected(buffer):
    """Trees that nothing joins."""
    buffer.add(message("world", "base", np.eye(4)), static=True)
    buffer.add(message("bench", "camera", np.eye(4)), static=True)
    with pytest.raises(
        WildSeg3DError, match=r"does not connect 'camera' with 'world'.*bench"
    ) as missing:
        buffer.lookup("world", "camera", START)
    assert missing.value.code == ErrorCode.MISSING_TF


@pytest.mark.parametrize("offset", [-SECOND, 3 * SECOND])
def test_lookup_no_extrapolation(buffer, offset):
    buffer.add(message("world", "tool", random_pose(1), START))
    buffer.add(message("world", "tool", random_pose(2), START + SECOND))
    with pytest.raises(WildSeg3DError, match="clocks") as missing:
        buffer.lookup("world", "tool", START + offset)
    assert missing.value.code == ErrorCode.MISSING_TF
    assert isinstance(missing.value, TooEarly) == (offset < 0)


def test_lookup_forgotten_past(buffer):
    """The past is forgotten after a while."""
    for k in range(30):
        buffer.add(message("world", "tool", random_pose(k), START + k * SECOND))
    buffer.lookup("world", "tool", START + 25 * SECOND)
    with pytest.raises(WildSeg3DError):
        buffer.lookup("world", "tool", START + 5 * SECOND)


def test_add_no_pose(buffer):
    """Numbers that make no pose leave the buffer alone."""
    buffer.add(message("world", "base", random_pose(1)), static=True)
    broken = message("world", "base", np.eye(4))
    broken.transform.rotation.w = 0.0
    with pytest.raises(ValueError, match="quaternion"):
        buffer.add(broken, static=True)
    np.testing.assert_allclose(buffer.lookup("world", "base", 0), random_pose(1), atol=1e-9)


def test_poses_at_outlive_buffer(buffer):
    """What a scene keeps: every frame that is connected then, and no other."""
    buffer.add(message("world", "base", random_pose(1)), static=True)
    buffer.add(message("world", "tool", random_pose(2), START))
    buffer.add(message("elsewhere", "lost", random_pose(3)), static=True)
    buffer.add(message("world", "late", random_pose(4), START + SECOND))
    poses = poses_at(buffer, "world", START)
    assert sorted(poses) == ["base", "tool", "world"]
    np.testing.assert_allclose(poses["tool"], random_pose(2), atol=1e-9)


@pytest.mark.parametrize("shape", ["chain", "star"])
def test_poses_at_many_frames(shape):
    """Poses of all frames take time in proportion to their number."""
    tree, count = TransformTree(), 3000
    step = make_transform(np.eye(3), [0.001, 0, 0])
    for k in range(count):
        parent = f"f{k - 1}" if k and shape == "chain" else "world"
        tree.add(message(parent, f"f{k}", step), static=True)
    start = time.process_time()
    poses = poses_at(tree, "world", START)
    assert time.process_time() - start < 5
    assert len(poses) == count + 1
    expected = 0.001 * count if shape == "chain" else 0.001
    assert poses[f"f{count - 1}"][0, 3] == pytest.approx(expected)
    above = poses_at(tree, f"f{count - 1}", START)
    assert above["world"][0, 3] == pytest.approx(-expected)
    assert time.process_time() - start < 10


def test_transform_listener_endless_frames(buffer, monkeypatch):
    """Names that never end are remembered to a bound; moving ones that went silent make room."""
    node, now = Recorder(), [100.0]
    monkeypatch.setattr(limit.time, "monotonic", lambda: now[0])
    listener = TransformListener(node, buffer, None)
    listener.subscribe()
    still = [message("world", f"still_{k}", np.eye(4)) for k in range(10)]
    node.callbacks["/tf_static"](TFMessage(transforms=still), {})
    many = [message("world", f"a_{k}", np.eye(4)) for k in range(60_000)]
    node.callbacks["/tf"](TFMessage(transforms=many), {})
    assert len(listener.frames()) == limit.MOST_FRAMES + 1
    assert any("at most 5000 frames are remembered" in text for text in node.texts)
    node.callbacks["/tf"](TFMessage(transforms=[message("world", "n" * 300, np.eye(4))]), {})
    assert "n" * 300 not in listener.frames()
    now[0] += 11.0
    node.callbacks["/tf"](TFMessage(transforms=[message("world", "new", np.eye(4))]), {})
    if isinstance(buffer, TransformTree):
        assert listener.frames() == sorted(["new", "world", *(f"still_{k}" for k in range(10))])


class StubTf2(types.ModuleType):
    """tf2_ros with a buffer that knows what it has, and finds nothing."""

    class TransformException(Exception):
        pass

    class Buffer:
        def __init__(self, cache_time):
            self._transforms = {}

        def set_transform(self, message, authority):
            self._transforms[message.child_frame_id] = message, True

        def set_transform_static(self, message, authority):
            self._transforms[message.child_frame_id] = message, False

        def lookup_transform(self, target, source, time):
            raise StubTf2.TransformException("in tf2's words")

        def all_frames_as_yaml(self):
            """As tf2's BufferCore::allFramesAsYAML writes it."""
            text = ""
            for child, (message, moves) in self._transforms.items():
                stamp = message.header.stamp
                seconds = stamp.sec + stamp.nanosec / 1e9 if moves else 0.0
                text += f"{child}: \n  parent: '{message.header.frame_id}'\n"
                text += "  broadcaster: 'wildseg3d'\n  rate: 10000.000\n"
                text += f"  most_recent_transform: {seconds:.6f}\n"
                text += f"  oldest_transform: {seconds:.6f}\n  buffer_length: 0.000\n"
            return text or "[]"


@pytest.mark.skipif(HAVE_TF2, reason="the tests above are of the real one")
def test_tf2_buffer_errors(monkeypatch):
    """Both buffers have the same words for what is not known."""
    monkeypatch.setitem(sys.modules, "tf2_ros", StubTf2("tf2_ros"))
    name = "wildseg3d_ros.ros.tf.tf2"
    stub, tree = importlib.import_module(name).Tf2Buffer(), TransformTree()
    del sys.modules[name]

    def said(buffer: TransformBuffer, source: str, stamp_ns: int) -> tuple[type, ErrorCode, str]:
        with pytest.raises(WildSeg3DError) as missing:
            buffer.lookup("world", source, stamp_ns)
        return missing.type, missing.value.code, str(missing.value)

    asked = [("nose", START), ("eye", START), ("tool", START - SECOND), ("tool", START + SECOND)]
    assert stub.frames() == tree.frames() == []
    assert said(stub, "eye", START) == said(tree, "eye", START)
    for buffer in (stub, tree):
        buffer.add(message("world", "base", random_pose(1)), static=True)
        buffer.add(message("link", "eye", random_pose(2)), static=True)
        buffer.add(message("base", "tool", random_pose(3), START))
    assert stub.frames() == tree.frames()
    for source, stamp_ns in asked:
        assert said(stub, source, stamp_ns) == said(tree, source, stamp_ns)
    assert "in tf2's words" in said(stub, "tool", START)[2], "what is known is tf2's to say"


# ---- what only the own tree promises -----------------------------------------------------------


def test_transform_tree_clock_set_back():
    """A clock that was set back starts the track again."""
    tree = TransformTree(keep_seconds=10)
    tree.add(message("world", "tool", random_pose(1), START))
    tree.add(message("world", "tool", random_pose(2), START - 60 * SECOND))
    np.testing.assert_allclose(tree.lookup("world", "tool", 0), random_pose(2), atol=1e-9)


def test_transform_tree_other_parent():
    """A frame that moves to another parent."""
    tree = TransformTree()
    tree.add(message("table", "mug", random_pose(1)), static=True)
    tree.add(message("gripper", "mug", random_pose(2), START))
    np.testing.assert_allclose(tree.lookup("gripper", "mug", START), random_pose(2), atol=1e-9)
    with pytest.raises(WildSeg3DError):
        tree.lookup("table", "mug", START)


def test_transform_tree_loop():
    """A loop is an error and no hang."""
    tree = TransformTree()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        tree.add(message(parent, child, np.eye(4)), static=True)
    tree.add(message("x", "y", np.eye(4)), static=True)
    with pytest.raises(WildSeg3DError, match="does not connect"):
        tree.lookup("x", "a", START)
    for bad in (message("a", "a", np.eye(4)), message("", "a", np.eye(4))):
        with pytest.raises(ValueError, match="two different frames"):
            tree.add(bad)
