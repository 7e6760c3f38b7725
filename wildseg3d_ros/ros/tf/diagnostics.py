"""What is wrong with the transforms that are published: the causes of look-ups that fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from wildseg3d_ros.ros.tf.buffer import BUFFER_SECONDS

TF, TF_STATIC = "/tf", "/tf_static"
_PARENTS = 20
"""Parents of a frame that are remembered."""
_UNHEARD = (
    (TF, "reliability", ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE),
    (TF_STATIC, "reliability", ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE),
    (TF_STATIC, "durability", DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL),
)
"""What a publisher may offer that no listener to the topic hears, and what it has to offer."""


@dataclass
class _Parent:
    """A parent of a frame, as it was published.

    Attributes:
        publisher: id of its endpoint; empty where rclpy does not tell.
        static: whether it was on /tf_static: then it lasts as long as its publisher.
        first, last: monotonic seconds when it came first and last.
    """

    publisher: bytes
    static: bool
    first: float
    last: float


class TransformDiagnostics:
    """Remembers, by child frame, who publishes which parent, and what had to be rejected.

    Safe to use from several threads.

    Args:
        node: knows the publishers of TF.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._lock = node, threading.Lock()
        self._parents: dict[str, dict[str, _Parent]] = {}
        self._disputed: set[str] = set()
        self._rejected: dict[str, tuple[str, bytes]] = {}

    def accept(self, transform: TransformStamped, static: bool, publisher: bytes) -> None:
        """Takes note of a transform that can be used."""
        parent, child = _names(transform)
        now = time.monotonic()
        with self._lock:
            self._rejected.pop(child, None)
            parents = self._parents.setdefault(child, {})
            # On /tf_static, what a publisher says of a frame replaces what it said before.
            for name, other in list(parents.items()) if static else ():
                if name != parent and other.static and other.publisher == publisher:
                    del parents[name]
            known = parents.get(parent)
            # A frame may return to a parent that it left: only quick changes are a contradiction.
            lasted = known is not None and now - known.last < BUFFER_SECONDS
            first = known.first if known is not None and lasted else now
            parents[parent] = _Parent(publisher, static, first, now)
            if len(parents) > _PARENTS:
                del parents[min(parents, key=lambda name: parents[name].last)]
            (self._disputed.add if len(parents) > 1 else self._disputed.discard)(child)

    def reject(self, transform: TransformStamped, why: str, static: bool, publisher: bytes) -> str:
        """Takes note of a transform that makes no pose; returns what is to be said of it, once."""
        parent, child = _names(transform)
        topic = TF_STATIC if static else TF
        text = f"the transform '{parent}' -> '{child}' on {topic} is ignored: {why}"
        with self._lock:
            is_known = self._rejected.get(child, ("",))[0] == text
            self._rejected[child] = text, publisher
        return "" if is_known else text

    def forget(self) -> None:
        """Forgets what moves: time went back."""
        with self._lock:
            for child, parents in self._parents.items():
                self._parents[child] = {k: v for k, v in parents.items() if v.static}
            self._disputed = {c for c, parents in self._parents.items() if len(parents) > 1}

    def drop(self, frames: Collection[str]) -> None:
        """Forgets child frames that nobody publishes any more."""
        with self._lock:
            for frame in frames:
                self._parents.pop(frame, None)
                self._rejected.pop(frame, None)
                self._disputed.discard(frame)

    @property
    def disputed(self) -> bool:
        """Whether any frame may have several parents at once."""
        with self._lock:
            return bool(self._disputed)

    def contradictions(self, frames: Sequence[str]) -> list[str]:
        """Sentences about frames that have several parents at once."""
        with self._lock:
            several = {
                frame: dict(parents)
                for frame in frames
                if len(parents := self._parents.get(frame, {})) > 1
            }
        if not several:
            return []
        publishers = self._publishers()
        texts = []
        for frame, parents in several.items():
            disputed = _at_once(parents, set(publishers))
            if disputed:
                names = (
                    f"{parent}{_by(publishers.get(parents[parent].publisher))}"
                    for parent in disputed
                )
                texts.append(
                    f"frame '{frame}' has {_count(len(disputed))} parents: {', '.join(names)}; "
                    "TF changes between them: let one publisher alone give its transform"
                )
        return texts

    def rejections(self, frames: Sequence[str]) -> list[str]:
        """Sentences about frames whose transform made no pose."""
        with self._lock:
            rejected = [self._rejected[frame] for frame in frames if frame in self._rejected]
        publishers = self._publishers() if rejected else {}
        return [f"{text}{_by(publishers.get(publisher))}" for text, publisher in rejected]

    def unheard(self) -> list[str]:
        """Sentences about publishers of TF whose quality of service nobody hears."""
        texts = []
        for topic, policy, offered, needed in _UNHEARD:
            names = [
                _node_name(info)
                for info in self._node.get_publishers_info_by_topic(topic)
                if getattr(info.qos_profile, policy) == offered
            ]
            if names:
                texts.append(
                    f"{topic} is published {offered.name} by {', '.join(sorted(names))}, which "
                    f"listeners to TF do not hear; publish it {needed.name}"
                )
        return texts

    def _publishers(self) -> dict[bytes, str]:
        """Names of the nodes that publish TF now, by the id of the publisher."""
        return {
            bytes(info.endpoint_gid): _node_name(info)
            for topic in (TF, TF_STATIC)
            for info in self._node.get_publishers_info_by_topic(topic)
        }


def _at_once(parents: Mapping[str, _Parent], publishers: set[bytes]) -> list[str]:
    """Those of a frame's parents whose time overlaps with another one's, the first one first.

    A frame that leaves a parent for another one, as what a gripper takes, has one at a time.
    """
    now = time.monotonic()
    spans = {}
    for name, parent in parents.items():
        lasts = parent.static and parent.publisher in publishers
        if lasts or now - parent.last < BUFFER_SECONDS:
            spans[name] = parent.first, now if lasts else parent.last
    return sorted(
        (
            name
            for name, (first, last) in spans.items()
            if any(
                first <= other_last and other_first <= last
                for other, (other_first, other_last) in spans.items()
                if other != name
            )
        ),
        key=lambda name: spans[name],
    )


def _names(transform: TransformStamped) -> tuple[str, str]:
    return transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/")


def _node_name(info: TopicEndpointInfo) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def _by(publisher: str | None) -> str:
    return f" (published by {publisher})" if publisher else ""


def _count(number: int) -> str:
    return "two" if number == 2 else str(number)
