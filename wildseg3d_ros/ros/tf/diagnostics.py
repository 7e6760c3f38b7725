"""What is wrong with the transforms that are published: the causes of look-ups that fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from wildseg3d_ros.streams.messages import matrix_from_transform
from wildseg3d_ros.streams.tf.buffer import BUFFER_SECONDS, differ

TF, TF_STATIC = "/tf", "/tf_static"
_CLAIMS = 20
"""Parents and poses of a frame that are remembered."""
_UNHEARD = (
    (TF, "reliability", ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE),
    (TF_STATIC, "reliability", ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE),
    (TF_STATIC, "durability", DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL),
)
"""What a publisher may offer that no listener to the topic hears, and what it has to offer."""


@dataclass
class _Claim:
    """Where a frame is, as it was published.

    Attributes:
        parent: name of the frame that its transform refers to.
        publisher: id of its endpoint; empty where rclpy does not tell.
        pose: (4, 4) ``parent_from_frame`` on /tf_static, which lasts as long as its publisher;
            None on /tf.
        first, last: monotonic seconds when it came first and last.
    """

    parent: str
    publisher: bytes
    pose: NDArray[np.float64] | None
    first: float
    last: float

    def span(self, publishers: Container[bytes]) -> tuple[float, float]:
        """Monotonic seconds in which it holds, by the publishers that are there now."""
        lasts = self.pose is not None and self.publisher in publishers
        return self.first, time.monotonic() if lasts else self.last

    def contradicts(self, other: _Claim) -> bool:
        """Whether they cannot both hold at one time."""
        if self.parent != other.parent:
            return True
        return self.pose is not None and other.pose is not None and differ(self.pose, other.pose)


class TransformDiagnostics:
    """Remembers, by child frame, who publishes which parent and pose, and what was rejected.

    Safe to use from several threads.

    Args:
        node: knows the publishers of TF.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._lock = node, threading.Lock()
        self._claims: dict[str, dict[tuple[str, bytes], _Claim]] = {}
        self._disputed: set[str] = set()
        self._rejected: dict[str, tuple[str, bytes]] = {}

    def accept(self, transform: TransformStamped, static: bool, publisher: bytes) -> None:
        """Takes note of a transform that can be used."""
        parent, child = _names(transform)
        pose = matrix_from_transform(transform) if static else None
        now = time.monotonic()
        with self._lock:
            self._rejected.pop(child, None)
            claims = self._claims.setdefault(child, {})
            key = parent, publisher if static else b""
            # On /tf_static, what a publisher says of a frame replaces what it said before.
            for other in [k for k, v in claims.items() if v.pose is not None] if static else ():
                if other != key and other[1] == publisher:
                    del claims[other]
            known = claims.get(key)
            # A frame may return to a parent that it left: only quick changes are a contradiction.
            if known is None:
                known = claims[key] = _Claim(parent, publisher, pose, now, now)
            elif now - known.last > BUFFER_SECONDS:
                known.first = now
            known.publisher, known.pose, known.last = publisher, pose, now
            if len(claims) > _CLAIMS:
                del claims[min(claims, key=lambda each: claims[each].last)]
            (self._disputed.add if len(claims) > 1 else self._disputed.discard)(child)

    def reject(self, transform: TransformStamped, why: str, static: bool, publisher: bytes) -> str:
        """Takes note of a transform that makes no pose; returns what is to be said of it."""
        parent, child = _names(transform)
        topic = TF_STATIC if static else TF
        text = f"the transform '{parent}' -> '{child}' on {topic} is ignored: {why}"
        with self._lock:
            self._rejected[child] = text, publisher
        return text

    def forget(self) -> None:
        """Forgets what moves: time went back."""
        with self._lock:
            for child, claims in self._claims.items():
                self._claims[child] = {k: v for k, v in claims.items() if v.pose is not None}
            self._disputed = {child for child, claims in self._claims.items() if len(claims) > 1}

    def drop(self, frames: Collection[str]) -> None:
        """Forgets child frames that nobody publishes any more."""
        with self._lock:
            for frame in frames:
                self._claims.pop(frame, None)
                self._rejected.pop(frame, None)
                self._disputed.discard(frame)

    @property
    def disputed(self) -> bool:
        """Whether any frame may be in several places at once, so that it is worth looking."""
        with self._lock:
            return bool(self._disputed)

    def contradictions(self, frames: Sequence[str]) -> list[str]:
        """Sentences about frames that have several parents, or several places in one, at once.

        A frame that leaves a parent for another one, as what a gripper takes, has one at a time.
        """
        publishers = self._publishers() if self.disputed else {}
        since = time.monotonic() - BUFFER_SECONDS
        with self._lock:
            several = {frame: self._claims[frame] for frame in self._disputed}
            for claims in several.values():  # also to forget publishers that are gone
                for key in [k for k, v in claims.items() if v.span(publishers)[1] < since]:
                    del claims[key]
            self._disputed = {frame for frame, claims in several.items() if len(claims) > 1}
            disputed = {k: _at_once(list(v.values()), publishers) for k, v in several.items()}
        texts = []
        for frame in frames:
            if not (claims := disputed.get(frame)):
                continue
            names = [f"{each.parent}{_by(publishers.get(each.publisher))}" for each in claims]
            count = len({each.parent for each in claims})
            what = (
                f"{_count(count)} parents" if count > 1 else f"{_count(len(names))} static poses"
            )
            texts.append(
                f"frame '{frame}' has {what}: {', '.join(names)}; TF takes what came last: let "
                "one publisher alone give its transform"
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


def _at_once(claims: Sequence[_Claim], publishers: Container[bytes]) -> list[_Claim]:
    """Those that another one contradicts while it holds, the first one first."""
    spans = sorted(((*claim.span(publishers), claim) for claim in claims), key=lambda s: s[:2])
    return [
        claim
        for first, last, claim in spans
        if any(
            first <= other_last and other_first <= last and claim.contradicts(other)
            for other_first, other_last, other in spans
        )
    ]


def _names(transform: TransformStamped) -> tuple[str, str]:
    return transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/")


def _node_name(info: TopicEndpointInfo) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def _by(publisher: str | None) -> str:
    return f" (published by {publisher})" if publisher else ""


def _count(number: int) -> str:
    return "two" if number == 2 else str(number)
