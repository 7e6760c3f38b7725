"""The newest messages of a camera that belong together: image, camera_info and depth.

Callbacks only put a message into its place. Nothing is decoded until a build asks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from wildseg3d_ros.ros.conversions import nanoseconds

_PENDING = 10
"""Messages of a stream that wait for their partner: a third of a second at 30 Hz."""


@dataclass(frozen=True)
class FrameSet:
    """Messages of one camera that belong together.

    Attributes:
        image: the colour image.
        info: its calibration.
        depth: depth within the slop of the image; None for a camera without depth.
        arrived: monotonic seconds when the set was complete.
    """

    image: Image | CompressedImage
    info: CameraInfo
    depth: Image | None
    arrived: float

    @property
    def stamp_ns(self) -> int:
        """Time of the image."""
        return nanoseconds(self.image.header.stamp)


@dataclass
class Counts:
    """Messages taken in since the camera was set up."""

    images: int = 0
    infos: int = 0
    depths: int = 0
    sets: int = 0


class FrameMatcher:
    """Pairs images with depth by stamp; keeps the newest pair and the few that still wait.

    An image and a depth image belong together when their stamps differ by at most the slop, the
    closest first. The newest calibration goes with any image. Safe to use from several threads.
    """

    def __init__(self, slop_seconds: float, with_depth: bool) -> None:
        self._slop_ns = int(slop_seconds * 1e9)
        self._with_depth = with_depth
        self._lock = threading.Lock()
        self._images: deque[Image | CompressedImage] = deque(maxlen=_PENDING)
        self._depths: deque[Image] = deque(maxlen=_PENDING)
        self._info: CameraInfo | None = None
        self._newest: tuple[Image | CompressedImage, Image | None, float] | None = None
        self.counts = Counts()

    def add_image(self, message: Image | CompressedImage) -> None:
        """Takes an image."""
        with self._lock:
            self.counts.images += 1
            if not self._with_depth:
                self._newest = (message, None, time.monotonic())
                self.counts.sets += 1
                return
            self._append(self._images, message)
            self._match()

    def add_depth(self, message: Image) -> None:
        """Takes a depth image."""
        with self._lock:
            self.counts.depths += 1
            self._append(self._depths, message)
            self._match()

    def add_info(self, message: CameraInfo) -> None:
        """Takes a calibration."""
        with self._lock:
            self.counts.infos += 1
            self._info = message

    def newest(self, max_age: float = 0.0) -> FrameSet | None:
        """The newest complete set; None when there is none, or none young enough.

        Args:
            max_age: seconds since the set arrived; 0 for any age. The time of arrival counts,
                since the stamps of a recording that is played back lie in the past.
        """
        with self._lock:
            if self._newest is None or self._info is None:
                return None
            image, depth, arrived = self._newest
            if max_age and time.monotonic() - arrived > max_age:
                return None
            return FrameSet(image, self._info, depth, arrived)

    def age(self) -> float | None:
        """Seconds since the newest image with its depth arrived; None before the first one."""
        with self._lock:
            return None if self._newest is None else time.monotonic() - self._newest[2]

    def closest_stamps(self) -> float | None:
        """Seconds between the closest image and depth that wait for a partner."""
        with self._lock:
            gaps = [
                abs(_stamp(image) - _stamp(depth))
                for image in self._images
                for depth in self._depths
            ]
            return min(gaps) / 1e9 if gaps else None

    def _append(self, pending: deque, message: Image | CompressedImage) -> None:
        if pending and _stamp(message) < _stamp(pending[-1]):
            # A stream goes back in time only when its source starts again: old partners are void.
            self._images.clear()
            self._depths.clear()
        pending.append(message)

    def _match(self) -> None:
        best = None
        for image in self._images:
            for depth in self._depths:
                gap = abs(_stamp(image) - _stamp(depth))
                if gap <= self._slop_ns and (
                    best is None or (_stamp(image), -gap) > (_stamp(best[0]), -best[2])
                ):
                    best = (image, depth, gap)
        if best is None:
            return
        image, depth, _ = best
        self._newest = (image, depth, time.monotonic())
        self.counts.sets += 1
        # What is older than the pair can only make older pairs.
        _drop_until(self._images, _stamp(image))
        _drop_until(self._depths, _stamp(depth))


def _stamp(message: Image | CompressedImage) -> int:
    return nanoseconds(message.header.stamp)


def _drop_until(pending: deque, stamp_ns: int) -> None:
    while pending and _stamp(pending[0]) <= stamp_ns:
        pending.popleft()
