"""Whether a camera that stands still sees something else than before: fast, on thumbnails.

The local structure of the logarithm of colour is compared. A dimmed light, a changed exposure or a
gradient of light adds a constant there, or something that changes slowly over the image; both are
removed. Where there is depth it is compared too: light does not change it, and a white bowl is as
high above a white table as any other bowl. A pixel has changed when it differs from the old one
and from its neighbours, so that noise, vibration and the grain of an edge do not count. A change
has to stay the same for a while: an arm that passes covers much of an image, but not the same part
with the same appearance.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH = 160
"""Columns of a thumbnail: one of its pixels is 4 x 4 pixels of a 640x480 image.
What covers less than 3 x 3 of them is no change."""

_SQUARE = np.ones((3, 3), np.uint8)


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, 160, 3) miniature of an (H, W, 3) RGB image; each pixel averages its area."""
    way = cv2.INTER_AREA if image.shape[1] > WIDTH else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, _size_uv(image), interpolation=way), np.uint8)


def depth_thumbnail(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, 160) miniature of (H, W) depth [m], 0 or NaN where there is none; 0 there.

    Each pixel is one of its area, because a mean over an edge lies where nothing is; holes of one
    pixel are closed before.
    """
    size_uv = _size_uv(depth)
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
    closed = np.where(depth > 0, depth, cv2.dilate(depth, _SQUARE))
    return np.asarray(cv2.resize(closed, size_uv, interpolation=cv2.INTER_NEAREST), np.float32)


def _size_uv(image: NDArray) -> tuple[int, int]:
    height, width = image.shape[:2]
    return WIDTH, max(round(WIDTH * height / width), 8)


class ChangeDetector:
    """Compares what one camera sees with the thumbnails of its image and depth in the scene."""

    def __init__(
        self, reference: NDArray[np.uint8], depth: NDArray[np.float32] | None = None
    ) -> None:
        self._reference = _Appearance(reference, depth)
        self._last: _Appearance | None = None
        self._seconds = np.zeros(reference.shape[:2], np.float32)

    def update(
        self,
        image: NDArray[np.uint8],
        seconds: float,
        depth: NDArray[np.float32] | None = None,
    ) -> None:
        """Takes what the camera sees.

        Args:
            image: thumbnail; one of another shape is of another camera or resolution, and all of
                it has changed.
            seconds: since the last one.
            depth: thumbnail; None compares the image alone.
        """
        if image.shape[:2] != self._seconds.shape:
            self._seconds += seconds
            return
        now = _Appearance(image, depth)
        if self._last is not None:
            stays = now.differs(self._reference) & ~now.differs(self._last)
            self._seconds = np.where(stays, self._seconds + seconds, 0).astype(np.float32)
        self._last = now

    def changed(self, seconds: float) -> float:
        """Share of the image [0..1] that has looked different, and the same, for so long."""
        return float((self._seconds >= max(seconds, 1e-9)).mean())

    def restart(self) -> None:
        """Begins to count anew: the camera was elsewhere meanwhile."""
        self._last = None
        self._seconds[:] = 0


class _Appearance:
    """What is seen: structure and depth at each pixel, and in its neighbourhood."""

    def __init__(self, image: NDArray[np.uint8], depth: NDArray[np.float32] | None) -> None:
        # By channel: objects of another colour may be as bright, and white balance is a constant.
        # Differences of dark pixels, below about 12 of 255, are noise.
        brightness = np.log(image.astype(np.float32) + 12.0)
        # What is smooth over 10 thumbnail pixels is light, the rest is structure.
        structure = brightness - cv2.GaussianBlur(brightness, (0, 0), 10.0)
        # What the sensor has clipped may be as dark or as bright as one likes.
        low = np.where(image < 7, -np.inf, structure).astype(np.float32)
        high = np.where(image > 248, np.inf, structure).astype(np.float32)
        self._structure = _Interval(low, high)
        self._depth = None
        if depth is not None:
            # Stereo depth errs with the range squared: two of them together by 2 cm at 1 m, 5 cm
            # at 2 m.
            error = (0.005 + 0.005 * depth**2).astype(np.float32)
            self._depth = _Interval(depth - error, depth + error, depth > 0)

    def differs(self, other: _Appearance) -> NDArray[np.bool_]:
        """(h, w) pixels that the other appearance, moved by up to one pixel, does not explain."""
        # A third of the light: on pictures of a table, 0.3 of the logarithm holds through gains of
        # 0.3 to 2 and gammas of 0.7 to 1.4; 0.25 does not.
        outside = self._structure.outside(other._structure).max(axis=-1) > 0.3
        if self._depth is not None and other._depth is not None:
            outside |= self._depth.outside(other._depth) > 0
        # Edges that moved by a little are thin, things are not.
        return cv2.morphologyEx(outside.astype(np.uint8), cv2.MORPH_OPEN, _SQUARE) > 0


class _Interval:
    """Bounds of a value at each pixel, where known, and anywhere in the pixel's neighbourhood."""

    def __init__(
        self,
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        known: NDArray[np.bool_] | None = None,
    ) -> None:
        if known is None:
            self._low, self._high = low, high
            self._near_low, self._near_high = cv2.erode(low, _SQUARE), cv2.dilate(high, _SQUARE)
            return
        # Any value, where nothing is known; nearby, where little is.
        self._low, self._high = np.where(known, low, -np.inf), np.where(known, high, np.inf)
        few = cv2.blur(known.astype(np.float32), (3, 3)) < 0.5
        near_low = cv2.erode(np.where(known, low, np.inf), _SQUARE)
        near_high = cv2.dilate(np.where(known, high, -np.inf), _SQUARE)
        self._near_low = np.where(few, -np.inf, near_low)
        self._near_high = np.where(few, np.inf, near_high)

    def outside(self, other: _Interval) -> NDArray[np.float32]:
        """By how much values lie above or below all that the other has nearby."""
        return np.maximum(self._low - other._near_high, other._near_low - self._high)
