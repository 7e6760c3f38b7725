"""The newest messages of a camera that belong together: image, camera_info and depth.

Callbacks only put a message into its place. Nothing is decoded until a build asks.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from wildseg3d_ros.streams.camera_info import published_size
from wildseg3d_ros.streams.messages import CameraInfoMessage, ImageMessage, Picture, nanoseconds

_PENDING = 10
"""Messages of a stream that wait for their partner: a third of a second at 30 Hz."""
_RESTART_NS = 500_000_000
"""Stamps that go back by more are those of a source that started again, not of a late message."""
_PAUSE_NS = 2_000_000_000
"""Stamps that go forward by more are those of a source that paused or whose clock was set."""
_GAPS = 15
"""Gaps of stamps whose median is the usual one, to count losses by: half a second at 30 Hz."""


@dataclass(frozen=True)
class FrameSet:
    """Messages of one camera that belong together.

    Attributes:
        image: the colour image.
        info: its calibration.
        depth: depth within the slop of the image; None for a camera without depth.
        arrived: monotonic seconds when the set was complete.
        era: of the matcher when it gave the set: see :attr:`FrameMatcher.era`.
    """

    image: Picture
    info: CameraInfoMessage
    depth: Picture | None
    arrived: float
    era: int = 0

    @property
    def stamp_ns(self) -> int:
        """Time of the image."""
        return nanoseconds(self.image.header.stamp)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the image as published; of a compressed one as camera_info has it."""
        if isinstance(self.image, ImageMessage):
            return self.image.height, self.image.width
        return published_size(self.info)


@dataclass
class Counts:
    """Messages of a camera since it was subscribed to.

    Attributes:
        received: by part: ``image``, ``depth`` and ``camera_info``.
        sets: images with their depth, complete.
        lost: images that should have come, by the gaps between the stamps of those that did; a
            pause of the source, or a jump of its clock, is no loss.
        unpaired: images that went by without depth within the slop.
        restarts: how often the stamps went back.
    """

    received: Counter[str] = field(default_factory=Counter)
    sets: int = 0
    lost: int = 0
    unpaired: int = 0
    restarts: int = 0


@dataclass(frozen=True)
class Heard:
    """What comes on one stream.

    Attributes:
        message: the newest.
        age: seconds since it arrived.
        rate: messages per second, over the last three seconds.
    """

    message: Any
    age: float
    rate: float

    @property
    def stamp_ns(self) -> int:
        """Time of the message."""
        return nanoseconds(self.message.header.stamp)


class FrameMatcher:
    """Pairs images with depth by stamp; keeps the newest pairs and the few that still wait.

    An image and a depth image belong together when their stamps differ by at most the slop, the
    closest first. The newest calibration goes with any image. Safe to use from several threads.

    Args:
        slop_seconds: between image and depth.
        with_depth: whether the camera has depth.
        history: how many sets are kept, for :func:`aligned` to choose from.
        on_restart: told by how many seconds the stamps went back, when they did.
    """

    def __init__(
        self,
        slop_seconds: float,
        with_depth: bool,
        history: int = 1,
        on_restart: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._slop_ns = int(slop_seconds * 1e9)
        self._with_depth, self._on_restart = with_depth, on_restart
        self._lock = threading.RLock()
        self._images: deque[Picture] = deque(maxlen=_PENDING)
        self._depths: deque[Picture] = deque(maxlen=_PENDING)
        self._info: CameraInfoMessage | None = None
        self._sets: deque[tuple[Picture, Picture | None, float]] = deque(maxlen=history)
        self._last_ns: dict[str, int] = {}
        self._gaps: deque[int] = deque(maxlen=_GAPS)
        self._arrivals: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=1000))
        self._newest: dict[str, Any] = {}
        self.counts = Counts()
        self.era = 0
        """How often all was forgotten since time went back; sets of an earlier era are void."""

    def add(self, part: str, message: Any) -> None:
        """Takes an ``image``, a ``depth`` image, or their calibration, ``camera_info``."""
        with self._lock:
            self.counts.received[part] += 1
            self._newest[part] = message
            self._arrivals[part].append(time.monotonic())
            if part == "camera_info":
                self._info = message
                return
            back = self._restarted(part, message)
            if back is None:
                return
            if self._with_depth:
                (self._images if part == "image" else self._depths).append(message)
                self._match()
            elif part == "image":
                self._complete(message, None)
        if back:
            self._on_restart(back)

    def newest(self, max_age: float = 0.0) -> FrameSet | None:
        """The newest of the :meth:`recent` sets; None when there is none."""
        sets = self.recent(max_age)
        return sets[0] if sets else None

    def recent(self, max_age: float = 0.0) -> list[FrameSet]:
        """The complete sets that are kept, the newest first.

        Args:
            max_age: seconds since a set arrived; 0 for any age. The time of arrival counts, since
                the stamps of a recording that is played back lie in the past.
        """
        with self._lock:
            if self._info is None:
                return []
            oldest = time.monotonic() - max_age if max_age else -float("inf")
            return [
                FrameSet(image, self._info, depth, arrived, self.era)
                for image, depth, arrived in reversed(self._sets)
                if arrived >= oldest
            ]

    def age(self) -> float | None:
        """Seconds since the newest image with its depth arrived; None before the first one."""
        with self._lock:
            return time.monotonic() - self._sets[-1][2] if self._sets else None

    def rate(self) -> float:
        """Complete sets per second, over the last three seconds."""
        with self._lock:
            return self._rate("set")

    def heard(self, part: str) -> Heard | None:
        """What comes on a stream, whether it belongs together or not; None where nothing came."""
        with self._lock:
            if part not in self._newest:
                return None
            age = time.monotonic() - self._arrivals[part][-1]
            return Heard(self._newest[part], age, self._rate(part))

    def _rate(self, part: str) -> float:
        since = time.monotonic() - 3.0
        return sum(arrived > since for arrived in self._arrivals[part]) / 3.0

    def closest_stamps(self) -> float | None:
        """Seconds between the closest image and depth that wait for a partner."""
        with self._lock:
            gaps = [gap for gap, _, _ in self._pairs()]
            return min(gaps) / 1e9 if gaps else None

    def clear(self) -> None:
        """Forgets images and depth; the calibration stays."""
        with self._lock:
            self.era += 1
            for kept in (self._images, self._depths, self._sets, self._gaps, self._last_ns):
                kept.clear()

    def _restarted(self, stream: str, message: Picture) -> float | None:
        """Seconds that a stream went back, usually 0; None for a message that came too late."""
        stamp_ns, last_ns = _stamp(message), self._last_ns.get(stream)
        back = 0.0
        if last_ns is not None and stamp_ns < last_ns:
            if last_ns - stamp_ns < _RESTART_NS:
                return None
            # Partners and sets of the time before are void, and newer than all that will come.
            self.clear()
            self.counts.restarts += 1
            back = (last_ns - stamp_ns) / 1e9
        elif last_ns is not None and stream == "image":
            self._count_lost(stamp_ns - last_ns)
        self._last_ns[stream] = stamp_ns
        return back

    def _count_lost(self, gap_ns: int) -> None:
        if gap_ns > _PAUSE_NS:
            return
        if len(self._gaps) == _GAPS and (usual := median(self._gaps)) > 0:
            self.counts.lost += max(round(gap_ns / usual) - 1, 0)
        self._gaps.append(gap_ns)

    def _pairs(self) -> Iterator[tuple[int, Picture, Picture]]:
        """All images and depths that wait, and the nanoseconds between them."""
        for image, depth in itertools.product(self._images, self._depths):
            yield abs(_stamp(image) - _stamp(depth)), image, depth

    def _match(self) -> None:
        pairs = [pair for pair in self._pairs() if pair[0] <= self._slop_ns]
        if not pairs:
            return
        _, image, depth = max(pairs, key=lambda pair: (_stamp(pair[1]), -pair[0]))
        self._complete(image, depth)
        # What is older than the pair can only make older pairs.
        self.counts.unpaired += _drop_until(self._images, _stamp(image)) - 1
        _drop_until(self._depths, _stamp(depth))

    def _complete(self, image: Picture, depth: Picture | None) -> None:
        now = time.monotonic()
        self._sets.append((image, depth, now))
        self._arrivals["set"].append(now)
        self.counts.sets += 1


def aligned(recent: Mapping[str, Sequence[FrameSet]], slop: float) -> dict[str, FrameSet] | None:
    """One set of every camera, as new as possible; None when no choice is within the slop.

    Args:
        recent: the sets of each camera, the newest first, at least one.
        slop: largest difference of the images' stamps [s]; 0 takes the newest of each camera.
    """
    if slop <= 0:
        return {name: sets[0] for name, sets in recent.items()}
    slop_ns = int(slop * 1e9)
    # Tried as the newest of a choice, from the newest on: the first one that works is the newest.
    for last in sorted({s.stamp_ns for sets in recent.values() for s in sets}, reverse=True):
        chosen = {}
        for name, sets in recent.items():
            newest = next((s for s in sets if s.stamp_ns <= last), None)
            if newest is None or newest.stamp_ns < last - slop_ns:
                break
            chosen[name] = newest
        else:
            return chosen
    return None


def _stamp(message: Picture) -> int:
    return nanoseconds(message.header.stamp)


def _drop_until(pending: deque, stamp_ns: int) -> int:
    dropped = 0
    while pending and _stamp(pending[0]) <= stamp_ns:
        pending.popleft()
        dropped += 1
    return dropped
