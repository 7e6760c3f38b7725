"""The package's own transform buffer, for where tf2_ros is not installed."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import interpolate, invert
from wildseg3d_ros.streams.messages import TransformMessage, matrix_from_transform, nanoseconds
from wildseg3d_ros.streams.tf.buffer import BUFFER_SECONDS
from wildseg3d_ros.streams.tf.links import Link, frame_names, path, time_of


class TransformTree:
    """The own implementation: a tree of frames, each with its recent poses in its parent.

    Between two poses the translation is interpolated linearly and the rotation along the shortest
    arc; there is no extrapolation. Safe to use from several threads.
    """

    def __init__(self, keep_seconds: float = BUFFER_SECONDS) -> None:
        self._keep_ns = int(keep_seconds * 1e9)
        self._tracks: dict[str, _Track] = {}
        self._lock = threading.RLock()

    def add(self, message: TransformMessage, static: bool = False) -> None:
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
            self.drop([child for child, track in self._tracks.items() if not track.static])

    def drop(self, frames: Collection[str]) -> None:
        """See :class:`TransformBuffer`."""
        with self._lock:
            for frame in frames:
                self._tracks.pop(frame, None)

    def links(self) -> Mapping[str, Link]:
        """See :class:`TransformBuffer`; made when they are asked for, as most are not."""
        return _Links(self._tracks, self._lock)

    def frames(self) -> list[str]:
        """Names of all known frames, sorted."""
        return frame_names(self.links())

    def lookup(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """See :class:`TransformBuffer`."""
        with self._lock:
            links = self.links()
            down, up = path(links, _plain(target), _plain(source))
            stamp_ns = time_of(links, [*down, *up], stamp_ns)
            return invert(self._product(down, stamp_ns)) @ self._product(up, stamp_ns)

    def _product(self, chain: list[str], stamp_ns: int) -> NDArray[np.float64]:
        """Pose of the first frame in the parent of the last one."""
        pose = np.eye(4)
        for frame in chain:
            pose = self._tracks[frame].at(stamp_ns) @ pose
        return pose


class _Links(Mapping[str, Link]):
    """The links of tracks as they are at the time."""

    def __init__(self, tracks: Mapping[str, _Track], lock: threading.RLock) -> None:
        self._tracks, self._lock = tracks, lock

    def __getitem__(self, child: str) -> Link:
        with self._lock:
            return self._tracks[child].link

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._tracks))

    def __len__(self) -> int:
        return len(self._tracks)


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

    @property
    def link(self) -> Link:
        return Link(self.parent, self.static, self.stamps[0], self.newest)

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

    def at(self, stamp_ns: int) -> NDArray[np.float64]:
        """The pose at a time of the link."""
        if self.static:
            return self._poses[-1]
        after = bisect_left(self.stamps, stamp_ns)
        if self.stamps[after] == stamp_ns:
            return self._poses[after]
        before = after - 1
        share = (stamp_ns - self.stamps[before]) / (self.stamps[after] - self.stamps[before])
        return interpolate(self._poses[before], self._poses[after], share)


def _plain(frame: str) -> str:
    """tf2 knows no leading slash; older drivers still write one."""
    return frame.lstrip("/")
