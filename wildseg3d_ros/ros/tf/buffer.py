"""TF: poses of frames at a time, from tf2_ros where it is installed, else from an own listener.

tf2_py is a C++ extension that cannot be had as a wheel. Both implementations answer the same
interface, pass the same tests and word their errors alike.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from functools import partial
from typing import Protocol

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from tf2_msgs.msg import TFMessage

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import (
    invert,
    make_transform,
    quaternion_from_rotation,
    rotation_from_quaternion,
)
from wildseg3d_ros.ros.guard import never_raises
from wildseg3d_ros.ros.messages.conversions import matrix_from_transform, nanoseconds

BUFFER_SECONDS = 10.0
"""How much of the past a buffer keeps, as tf2 does."""

_QUEUE = 100
_RESTART_NS = 1_000_000_000
"""Stamps of a frame that go back by more are those of a source that started again."""


class TransformBuffer(Protocol):
    """Poses of frames over time."""

    def add(self, message: TransformStamped, static: bool = False) -> None:
        """Takes one transform, as if it had come from /tf or /tf_static."""
        ...

    def clear(self) -> None:
        """Forgets what moves; static transforms stay, as nobody sends them again."""
        ...

    def frames(self) -> list[str]:
        """Names of all known frames, sorted."""
        ...

    def lookup(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """(4, 4) ``target_from_source`` at a time; 0 means the newest time that both have.

        Raises:
            WildSeg3DError: UNKNOWN_FRAME when no transform names the target or the source;
                MISSING_TF when they are not connected, or not known at that time.
        """
        ...


class TooEarly(WildSeg3DError):
    """A transform is known from a later time on only: waiting for it is in vain."""

    code = ErrorCode.MISSING_TF


def make_buffer() -> TransformBuffer:
    """tf2's buffer where tf2_ros is installed, else our own."""
    try:
        import tf2_ros  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        return TransformTree()
    from wildseg3d_ros.ros.tf.tf2 import Tf2Buffer

    return Tf2Buffer()


class TransformListener:
    """Feeds a buffer from /tf and /tf_static while it is subscribed.

    A transform with numbers that make no pose is skipped and reported once per child frame. Stamps
    that go back are a recording that starts again: what moved before it is forgotten.
    tf2_ros's own listener would subscribe for good, and in the node's default callback group.

    Args:
        node: to subscribe with.
        buffer: to feed.
        callback_group: of the subscriptions.
    """

    def __init__(self, node: Node, buffer: TransformBuffer, callback_group: CallbackGroup) -> None:
        self._node, self._buffer, self._group = node, buffer, callback_group
        self._subscriptions: list[Subscription] = []
        self._complained: set[str] = set()
        self._newest: dict[str, int] = {}

    def subscribe(self) -> None:
        """Begins to listen."""
        moving = QoSProfile(depth=_QUEUE, reliability=ReliabilityPolicy.RELIABLE)
        latched = QoSProfile(
            depth=_QUEUE,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        logger = self._node.get_logger()
        for topic, static, qos in (("/tf", False, moving), ("/tf_static", True, latched)):
            callback = never_raises(partial(self._take, static=static), logger)
            self._subscriptions.append(
                self._node.create_subscription(
                    TFMessage, topic, callback, qos, callback_group=self._group
                )
            )

    def unsubscribe(self) -> None:
        """Stops listening; the buffer keeps what it has."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def forget(self) -> None:
        """Empties the buffer of all that moves: time went back."""
        self._newest.clear()
        self._buffer.clear()

    def _take(self, message: TFMessage, static: bool) -> None:
        for transform in message.transforms:
            if not static:
                self._watch_time(transform)
            try:
                self._buffer.add(transform, static)
            except ValueError as error:
                if transform.child_frame_id not in self._complained:
                    self._complained.add(transform.child_frame_id)
                    self._node.get_logger().warning(
                        f"ignoring the transform {transform.header.frame_id} -> "
                        f"{transform.child_frame_id}: {error}"
                    )

    def _watch_time(self, transform: TransformStamped) -> None:
        child, stamp_ns = transform.child_frame_id, nanoseconds(transform.header.stamp)
        back = self._newest.get(child, stamp_ns) - stamp_ns
        if back > _RESTART_NS:
            self._node.get_logger().warning(
                f"the time of the transform of '{child}' went back by {back / 1e9:.3f} s (a "
                "recording that starts again, or a clock that was set); moving transforms of "
                "before are forgotten"
            )
            self.forget()
        self._newest[child] = max(stamp_ns, self._newest.get(child, stamp_ns))


class TransformTree:
    """The own implementation: a tree of frames, each with its recent poses in its parent.

    Between two poses the translation is interpolated linearly and the rotation along the shortest
    arc; there is no extrapolation. Safe to use from several threads.
    """

    def __init__(self, keep_seconds: float = BUFFER_SECONDS) -> None:
        self._keep_ns = int(keep_seconds * 1e9)
        self._tracks: dict[str, _Track] = {}
        self._lock = threading.Lock()

    def add(self, message: TransformStamped, static: bool = False) -> None:
        """Takes one transform.

        Raises:
            ValueError: empty or equal frame names, or numbers that make no pose.
        """
        parent, child = _plain(message.header.frame_id), _plain(message.child_frame_id)
        if not parent or not child or parent == child:
            raise ValueError(f"a transform needs two different frames, got '{parent}', '{child}'")
        pose = matrix_from_transform(message)
        with self._lock:
            track = self._tracks.get(child)
            if track is None or track.static != static or track.parent != parent:
                track = self._tracks[child] = _Track(parent, static, self._keep_ns)
            track.add(nanoseconds(message.header.stamp), pose)

    def clear(self) -> None:
        """See :class:`TransformBuffer`."""
        with self._lock:
            self._tracks = {child: track for child, track in self._tracks.items() if track.static}

    def frames(self) -> list[str]:
        """Names of all known frames, sorted."""
        with self._lock:
            return self._frames()

    def lookup(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """See :class:`TransformBuffer`."""
        target, source = _plain(target), _plain(source)
        with self._lock:
            known = self._frames()
            for frame in (target, source):
                if frame not in known:
                    raise unknown_frame(frame, known)
            target_chain, source_chain = self._chain(target), self._chain(source)
            common = next((f for f in source_chain if f in target_chain), None)
            if common is None:
                raise not_connected(target, source, known)
            up = source_chain[: source_chain.index(common)]
            down = target_chain[: target_chain.index(common)]
            if stamp_ns == 0:
                newest = [
                    t.newest for f in up + down if not (t := self._tracks[f]).static and t.stamps
                ]
                stamp_ns = min(newest, default=0)
            return invert(self._product(down, stamp_ns)) @ self._product(up, stamp_ns)

    def _frames(self) -> list[str]:
        return sorted({*self._tracks, *(track.parent for track in self._tracks.values())})

    def _chain(self, frame: str) -> list[str]:
        """The frame and its ancestors; a loop in the tree ends the chain."""
        chain = [frame]
        while (track := self._tracks.get(chain[-1])) is not None and track.parent not in chain:
            chain.append(track.parent)
        return chain

    def _product(self, chain: list[str], stamp_ns: int) -> NDArray[np.float64]:
        """Pose of the first frame in the parent of the last one."""
        pose = np.eye(4)
        for frame in chain:
            pose = self._tracks[frame].at(frame, stamp_ns) @ pose
        return pose


class _Track:
    """Poses of one frame in its parent, ordered by time."""

    def __init__(self, parent: str, static: bool, keep_ns: int) -> None:
        self.parent, self.static = parent, static
        self.stamps: deque[int] = deque()
        self._poses: deque[NDArray[np.float64]] = deque()
        self._keep_ns = keep_ns

    @property
    def newest(self) -> int:
        return self.stamps[-1]

    def add(self, stamp_ns: int, pose: NDArray[np.float64]) -> None:
        if self.static or (self.stamps and stamp_ns < self.newest - self._keep_ns):
            # A jump far into the past is a clock that was set back or a bag that starts again.
            self.stamps.clear()
            self._poses.clear()
        at = bisect_left(self.stamps, stamp_ns)
        if at < len(self.stamps) and self.stamps[at] == stamp_ns:
            self._poses[at] = pose
            return
        self.stamps.insert(at, stamp_ns)
        self._poses.insert(at, pose)
        while self.stamps[0] < self.newest - self._keep_ns:
            self.stamps.popleft()
            self._poses.popleft()

    def at(self, frame: str, stamp_ns: int) -> NDArray[np.float64]:
        if self.static:
            return self._poses[-1]
        after = bisect_left(self.stamps, stamp_ns)
        if after < len(self.stamps) and self.stamps[after] == stamp_ns:
            return self._poses[after]
        if after in (0, len(self.stamps)):
            raise not_at_that_time(self.parent, frame, stamp_ns, self.stamps[0], self.newest)
        before = after - 1
        share = (stamp_ns - self.stamps[before]) / (self.stamps[after] - self.stamps[before])
        return interpolate(self._poses[before], self._poses[after], share)


def interpolate(
    first: NDArray[np.float64], second: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Rigid (4, 4) between two: translation linear, rotation along the shortest arc (slerp).

    Args:
        first, second: the transforms at ``share`` 0 and 1.
        share: in [0, 1].
    """
    a, b = quaternion_from_rotation(first[:3, :3]), quaternion_from_rotation(second[:3, :3])
    dot = float(a @ b)
    if dot < 0:
        b, dot = -b, -dot
    angle = np.arccos(min(dot, 1.0))
    if angle < 1e-6:
        quat = a + share * (b - a)
    else:
        quat = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    translation = (1 - share) * first[:3, 3] + share * second[:3, 3]
    return make_transform(rotation_from_quaternion(quat), translation)


def poses_at(buffer: TransformBuffer, root: str, stamp_ns: int) -> dict[str, NDArray[np.float64]]:
    """``root_from_frame`` of every frame that is connected with the root at a time.

    A scene keeps these, so that a cloud can be asked for in a frame of a moving robot at the time
    of the images long after the buffer has forgotten it.
    """
    poses = {}
    for frame in buffer.frames():
        try:
            poses[frame] = buffer.lookup(root, frame, stamp_ns)
        except WildSeg3DError:
            continue
    return poses


# ---- errors, worded alike by both implementations ----------------------------------------------


def unknown_frame(frame: str, known: list[str]) -> WildSeg3DError:
    """No transform names the frame."""
    there = f"known frames are {', '.join(known)}" if known else "/tf and /tf_static are silent"
    return WildSeg3DError(
        f"TF does not know the frame '{frame}'; {there}", ErrorCode.UNKNOWN_FRAME
    )


def not_connected(target: str, source: str, known: list[str]) -> WildSeg3DError:
    """Both frames are known, but no chain of transforms joins them."""
    return WildSeg3DError(
        f"TF does not connect '{source}' with '{target}'; publish the transform that joins their "
        f"trees; known frames are {', '.join(known)}",
        ErrorCode.MISSING_TF,
    )


def not_at_that_time(
    parent: str, child: str, stamp_ns: int, oldest_ns: int, newest_ns: int
) -> WildSeg3DError:
    """A transform on the way is not known at the asked time."""
    is_early = stamp_ns < oldest_ns
    off = oldest_ns - stamp_ns if is_early else stamp_ns - newest_ns
    text = (
        f"TF has '{parent}' -> '{child}' from {oldest_ns / 1e9:.3f} to {newest_ns / 1e9:.3f} s, "
        f"but it is needed at {stamp_ns / 1e9:.3f} s, {off / 1e9:.3f} s "
        f"{'before the oldest' if is_early else 'after the newest'}; are the publishers' clocks "
        "in step?"
    )
    return TooEarly(text) if is_early else WildSeg3DError(text, ErrorCode.MISSING_TF)


def _plain(frame: str) -> str:
    """tf2 knows no leading slash; older drivers still write one."""
    return frame.lstrip("/")
