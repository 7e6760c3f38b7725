"""Look-ups that fail begin with the cause: what nodes publish on TF, heard over DDS."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import TransformStamped
from listening import wait_for
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.ros.messages.conversions import transform_from_matrix
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.tf import diagnostics
from wildseg3d_ros.ros.tf.diagnostics import TransformDiagnostics
from wildseg3d_ros.ros.tf.listener import TransformListener
from wildseg3d_ros.streams.tf.buffer import BUFFER_SECONDS
from wildseg3d_ros.streams.tf.errors import TransformFault
from wildseg3d_ros.streams.tf.tree import TransformTree

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
HAVE_TF2 = importlib.util.find_spec("tf2_ros") is not None


def message(parent: str, child: str, x: float = 0.0, stamp_ns: int = START) -> TransformStamped:
    pose = make_transform(np.eye(3), np.array([x, 0.0, 0.0]))
    return transform_from_matrix(pose, parent, child, stamp_ns)


class Tf:
    """A listener, and nodes that publish what it hears."""

    def __init__(self, world, buffer) -> None:
        self._world, self._publishers = world, {}
        node = rclpy.create_node("hearer", context=world.context)
        self.listener = TransformListener(node, buffer, MutuallyExclusiveCallbackGroup())
        self.listener.subscribe()
        world.add(node, threads=1)

    def say(self, name: str, topic: str, *transforms: TransformStamped, qos=None) -> None:
        """Publishes once, as the node of that name."""
        if name not in self._publishers:
            node = rclpy.create_node(name, context=self._world.context)
            fits = latched() if topic == "/tf_static" else QoSProfile(depth=10)
            publisher = node.create_publisher(TFMessage, topic, qos or fits)
            self._publishers[name] = node, publisher
            if qos is None:
                wait_for(lambda: publisher.get_subscription_count() == 1)
            else:
                wait_for(lambda: self._world_knows(topic, name))
        self._publishers[name][1].publish(TFMessage(transforms=list(transforms)))

    def _world_knows(self, topic: str, name: str) -> bool:
        found = self.listener._node.get_publishers_info_by_topic(topic)
        return name in [info.node_name for info in found]

    def end(self, name: str) -> None:
        self._publishers.pop(name)[0].destroy_node()

    def place(self, source: str, target: str = "world", stamp_ns: int = START) -> float:
        """x of the frame."""
        return self.listener.lookup(target, source, stamp_ns)[0, 3]

    def hears(self, source: str, x: float) -> None:
        """Waits until the frame is there."""

        def there() -> bool:
            try:
                return bool(np.isclose(self.place(source), x))
            except WildSeg3DError:
                return False

        wait_for(there)

    def fault(self, source: str, begin: str = "", stamp_ns: int = START) -> str:
        """Text of the error of a look-up, once it begins so."""
        texts = [""]

        def fails() -> bool:
            try:
                self.place(source, stamp_ns=stamp_ns)
            except WildSeg3DError as error:
                texts.append(str(error))
                is_fault = isinstance(error, TransformFault) and error.code == ErrorCode.MISSING_TF
                return is_fault and texts[-1].startswith(begin)
            return False

        try:
            wait_for(fails)
        except AssertionError:
            pytest.fail(f"said: {texts[-1]}")
        return texts[-1]


@pytest.fixture(params=["own", "tf2_ros"] if HAVE_TF2 else ["own"])
def tf(world, request):
    buffer = TransformTree()
    if request.param == "tf2_ros":
        from wildseg3d_ros.ros.tf.tf2 import Tf2Buffer

        buffer = Tf2Buffer()
    made = Tf(world, buffer)
    yield made
    for name in list(made._publishers):
        made.end(name)


def test_lookup_tf_static_volatile(tf):
    """Nobody hears it, as tf2 listens for latched transforms."""
    tf.say("driver", "/tf_static", message("world", "eye"), qos=QoSProfile(depth=1))
    text = tf.fault("eye", "/tf_static is published VOLATILE by /driver")
    assert "publish it TRANSIENT_LOCAL; TF does not know the frame 'world'" in text
    assert "BEST_EFFORT" not in text
    tf.end("driver")
    tf.say("right", "/tf_static", message("world", "eye", 1.0))
    tf.hears("eye", 1.0)


def test_lookup_tf_best_effort(tf):
    """The same of moving transforms; a good publisher beside it is not blamed."""
    sensor_data = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    tf.say("arm", "/tf", message("base", "tool"), qos=sensor_data)
    tf.say("driver", "/tf_static", message("world", "base"))
    tf.hears("base", 0.0)
    text = tf.fault("tool", "/tf is published BEST_EFFORT by /arm, which")
    assert "VOLATILE" not in text
    assert "/driver" not in text


def test_lookup_two_static_parents(tf):
    """Two nodes say where a camera is; when one ends, the other one's word holds."""
    tf.say("driver", "/tf_static", message("world", "mount"), message("mount", "eye", 1.0))
    tf.hears("eye", 1.0)
    tf.say("calibration", "/tf_static", message("world", "eye", 2.0), message("world", "desk", 3))
    tf.fault(
        "eye",
        "frame 'eye' has two parents: mount (published by /driver), world (published by "
        "/calibration); ",
    )
    # What does not lead over the frame is as good as before.
    assert tf.place("mount") == 0.0
    tf.hears("desk", 3.0)
    tf.end("driver")
    tf.hears("eye", 2.0)


def test_lookup_two_static_poses(tf):
    """A model of the robot and a calibration differ, and which one holds is chance."""
    tf.say("model", "/tf_static", message("world", "eye", 1.0))
    tf.hears("eye", 1.0)
    # What says the same, but for what is lost when it is written, is no contradiction.
    tf.say("copy", "/tf_static", message("world", "eye", 1.0005))
    tf.hears("eye", 1.0005)
    tf.say("hand_eye", "/tf_static", message("world", "eye", 1.01))
    text = tf.fault("eye", "frame 'eye' has 3 static poses: world (published by /model), ")
    assert "world (published by /copy), world (published by /hand_eye); TF takes" in text
    tf.end("hand_eye")
    tf.say("model", "/tf_static", message("world", "eye", 1.0))
    tf.hears("eye", 1.0)


def test_lookup_two_moving_parents_of_one_publisher(tf):
    """As a recording is played: all of /tf comes from one node, and parents take turns."""
    tf.say("driver", "/tf_static", message("world", "left"), message("world", "right"))
    tf.hears("right", 0.0)
    for k in range(3):
        for parent in ("left", "right"):
            tf.say("player", "/tf", message(parent, "eye", 1.0, START + k * SECOND))
    tf.fault("eye", "frame 'eye' has two parents: left (published by /player), right (publ")


def test_lookup_static_and_moving_parent(tf):
    tf.say("driver", "/tf_static", message("world", "mount"), message("mount", "eye", 1.0))
    tf.hears("eye", 1.0)
    tf.say("arm", "/tf", message("world", "eye", 2.0))
    tf.fault("eye", "frame 'eye' has two parents: mount (published by /driver), world (publ")


def test_lookup_frame_moves_to_another_parent(tf):
    """What a gripper takes has one parent after the other, which is right."""
    tf.say("driver", "/tf_static", message("world", "table"), message("table", "lamp", 1.0))
    tf.hears("lamp", 1.0)
    for k in range(3):
        tf.say("detector", "/tf", message("table", "mug", 1.0, START + k))
    tf.hears("mug", 1.0)
    for k in range(3):
        tf.say("gripper", "/tf", message("world", "mug", 2.0, START + k))
    tf.hears("mug", 2.0)
    # On /tf_static, a publisher replaces what it said.
    tf.say("driver", "/tf_static", message("world", "lamp", 3.0))
    tf.hears("lamp", 3.0)
    tf.say("driver", "/tf_static", message("table", "lamp", 4.0))
    tf.hears("lamp", 4.0)


def test_lookup_rejected_transform(tf):
    """The cause is said wherever in the chain it is; a good transform ends it."""
    bad = message("world", "base")
    bad.transform.rotation.w = 0.0
    tf.say("driver", "/tf_static", message("base", "eye", 1.0))
    tf.say("hand_eye", "/tf_static", bad)
    text = tf.fault("eye", "the transform 'world' -> 'base' on /tf_static is ignored: quaternion")
    assert "quaternion of norm 0; TF takes those of norm 1 (published by /hand_eye)" in text
    tf.say("hand_eye", "/tf_static", message("world", "base", 1.0))
    tf.hears("eye", 2.0)


def test_lookup_extrapolation(tf):
    tf.say("arm", "/tf", message("world", "eye", 1.0))
    tf.hears("eye", 1.0)
    begin = "extrapolation: the newest TF of 'world' -> 'eye' is 0.400 s older than asked for"
    assert "published" not in tf.fault("eye", begin, START + 2 * SECOND // 5)
    begin = "extrapolation: the oldest TF of 'world' -> 'eye' is 0.250 s newer than asked for"
    tf.fault("eye", begin, START - SECOND // 4)


def test_lookup_without_fault(tf):
    """A frame that nobody publishes, or joins with the world, is no fault of TF."""
    tf.say("driver", "/tf_static", message("world", "base"), message("link", "eye", 1.0))
    tf.hears("base", 0.0)
    for frame, code in (("nose", ErrorCode.UNKNOWN_FRAME), ("eye", ErrorCode.MISSING_TF)):
        with pytest.raises(WildSeg3DError) as refused:
            tf.place(frame)
        assert not isinstance(refused.value, TransformFault)
        assert refused.value.code == code


# ---- time --------------------------------------------------------------------------------------


class Graph:
    """A node that knows no publishers, as where rclpy does not tell who published."""

    def get_publishers_info_by_topic(self, _):
        return []


@pytest.fixture
def clock(monkeypatch):
    """Monotonic seconds, to be set."""
    now = [1000.0]
    monkeypatch.setattr(diagnostics.time, "monotonic", lambda: now[0])
    return now


def flips(parents: TransformDiagnostics, clock, seconds: float, *names: str) -> list[str]:
    """Frame 'eye' gets these parents on /tf, one after the other."""
    for name in names:
        parents.accept(message(name, "eye"), False, b"")
        clock[0] += seconds
    return parents.contradictions(["eye"])


def test_contradictions_last_for_a_while(clock):
    """A contradiction is over when it was not repeated for as long as TF is kept."""
    parents = TransformDiagnostics(Graph())
    assert flips(parents, clock, 0.1, "a", "a", "b", "b") == []
    (text,) = flips(parents, clock, 0.1, "a", "b")
    assert text.startswith("frame 'eye' has two parents: a, b; ")
    assert flips(parents, clock, 1.0, *["b"] * 12) == []
    assert flips(parents, clock, 0.1, "c", "b", "a")[0].startswith("frame 'eye' has two parents")
    assert "has 3 parents: b, c, a;" in flips(parents, clock, 0.1, "c", "a")[0]


def test_contradictions_publishers_that_are_gone(clock):
    """A publisher that is started again and again leaves nothing behind."""
    parents = TransformDiagnostics(Graph())
    for k in range(5):
        parents.accept(message("world", "eye", float(k)), True, bytes([k]))
        clock[0] += 2 * BUFFER_SECONDS
    assert parents.disputed
    assert parents.contradictions(["eye"]) == []
    assert not parents.disputed


def test_contradictions_recording_loops(clock):
    """Parents one after the other, again and again, in a recording that is repeated."""
    parents = TransformDiagnostics(Graph())
    for _ in range(3):
        assert flips(parents, clock, 0.5, "table", "table", "gripper", "gripper") == []
        parents.forget()  # time went back
    for _ in range(3):
        assert flips(parents, clock, BUFFER_SECONDS, "table", "gripper") == []
