"""Whether a camera that stands still sees something else than it did: cheap, on thumbnails.

Compared is the local structure of logarithmic colour: a light that is dimmed, an exposure that
is changed or a gradient of light adds a constant there, or what changes slowly over the image, and
both are taken away. Where there is depth it is compared too: light does not touch it, and a white
bowl on a white table is as far from the table as any other. A pixel has changed when it differs
from the old one and from its neighbours, so that noise, vibration and the grain of an edge do not
count. What changes has to stay the same for a while: an arm that passes covers much of an image,
but not the same part with the same look.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH = 160
"""Columns of a thumbnail; 4 x 4 pixels of a 640x480 image are one of it."""

_FLOOR = 12.0
"""Added to 8-bit brightness before the logarithm: less is noise."""
_SURROUNDINGS = 10.0
"""Standard deviation [thumbnail pixels] of what is the light rather than the structure."""
_CONTRAST = 0.3
"""Change of the logarithm, over that of the neighbours, that is a change: a third of the light.

On pictures of a table 0.3 holds through gains of 0.3 to 2 and gammas of 0.7 to 1.4; 0.25 does not.
"""
_DARK, _BRIGHT = 7, 248
"""What a sensor has clipped may be as dark or as bright as one likes."""
_DEPTH_BASE, _DEPTH_GROWTH = 0.005, 0.005
"""Metres, and metres per square metre of range, that either of two depths may be wrong by.

Stereo depth errs with the range squared: together 2 cm at 1 m, 5 cm at 2 m.
"""
_SQUARE = np.ones((3, 3), np.uint8)


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, 160, 3) miniature of an (H, W, 3) RGB image; each pixel averages its area."""
    height, width = image.shape[:2]
    size = (WIDTH, max(round(WIDTH * height / width), 8))
    way = cv2.INTER_AREA if width > WIDTH else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)


def depth_thumbnail(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, 160) miniature of (H, W) depth [m], 0 or NaN where there is none; 0 there.

    Each pixel is one of its area, as a mean over an edge lies where nothing is; holes of a pixel
    are closed before.
    """
    height, width = depth.shape
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
    closed = np.where(depth > 0, depth, cv2.dilate(depth, _SQUARE))
    size = (WIDTH, max(round(WIDTH * height / width), 8))
    return np.asarray(cv2.resize(closed, size, interpolation=cv2.INTER_NEAREST), np.float32)


class ChangeDetector:
    """Compares what one camera sees now with what it saw when its scene was built.

    Args:
        reference: thumbnail of the image of the scene.
        depth: thumbnail of its depth, if it has any.
    """

    def __init__(
        self, reference: NDArray[np.uint8], depth: NDArray[np.float32] | None = None
    ) -> None:
        self._reference = _Look(reference, depth)
        self._last: _Look | None = None
        self._shape = reference.shape
        self._seconds = np.zeros(reference.shape[:2], np.float32)

    def update(
        self,
        image: NDArray[np.uint8],
        seconds: float,
        depth: NDArray[np.float32] | None = None,
    ) -> None:
        """Takes what the camera sees.

        Args:
            image: thumbnail; of another shape, it is another camera's or resolution's, and all of
                it has changed.
            seconds: since the last one.
            depth: thumbnail; None compares the image alone.
        """
        if image.shape != self._shape:
            self._seconds += seconds
            return
        look = _Look(image, depth)
        if self._last is not None:
            stays = look.differs(self._reference) & ~look.differs(self._last)
            self._seconds = np.where(stays, self._seconds + seconds, 0).astype(np.float32)
        self._last = look

    def changed(self, seconds: float) -> float:
        """Share of the image [0..1] that has looked different, and the same, for so long."""
        return float((self._seconds >= max(seconds, 1e-9)).mean())

    def restart(self) -> None:
        """Begins to count anew: the camera was elsewhere meanwhile."""
        self._last = None
        self._seconds[:] = 0


class _Look:
    """What is seen: structure and depth at each pixel, and in its neighbourhood."""

    def __init__(self, image: NDArray[np.uint8], depth: NDArray[np.float32] | None) -> None:
        # By channel: objects of another colour may be as bright, and white balance is a constant.
        brightness = np.log(image.astype(np.float32) + _FLOOR)
        structure = brightness - cv2.GaussianBlur(brightness, (0, 0), _SURROUNDINGS)
        least = np.where(image < _DARK, -np.inf, structure).astype(np.float32)
        most = np.where(image > _BRIGHT, np.inf, structure).astype(np.float32)
        self._structure = _Range(least, most)
        self._depth = None if depth is None else _depth_range(depth)

    def differs(self, other: _Look) -> NDArray[np.bool_]:
        """(h, w) pixels that another look, moved by up to one pixel, does not explain."""
        outside = self._structure.outside(other._structure).max(axis=-1) > _CONTRAST
        if self._depth is not None and other._depth is not None:
            outside |= self._depth.outside(other._depth) > 0
        # Edges that moved by a little are thin, things are not.
        return cv2.morphologyEx(outside.astype(np.uint8), cv2.MORPH_OPEN, _SQUARE) > 0


class _Range:
    """What a value may be at each pixel, and anywhere in the pixel's neighbourhood.

    Args:
        least, most: (h, w, ...) at each pixel.
        known: (h, w) where there is a value at all; None for everywhere.
    """

    def __init__(
        self,
        least: NDArray[np.float32],
        most: NDArray[np.float32],
        known: NDArray[np.bool_] | None = None,
    ) -> None:
        if known is None:
            self._least, self._most = least, most
            self._low, self._high = cv2.erode(least, _SQUARE), cv2.dilate(most, _SQUARE)
            return
        # Anything, where nothing is known; nearby, where little is.
        self._least, self._most = np.where(known, least, -np.inf), np.where(known, most, np.inf)
        few = cv2.blur(known.astype(np.float32), (3, 3)) < 0.5
        low = cv2.erode(np.where(known, least, np.inf), _SQUARE)
        high = cv2.dilate(np.where(known, most, -np.inf), _SQUARE)
        self._low, self._high = np.where(few, -np.inf, low), np.where(few, np.inf, high)

    def outside(self, other: _Range) -> NDArray[np.float32]:
        """By how much values lie above or below all that the other has nearby."""
        return np.maximum(self._least - other._high, other._low - self._most)


def _depth_range(depth: NDArray[np.float32]) -> _Range:
    error = (_DEPTH_BASE + _DEPTH_GROWTH * depth**2).astype(np.float32)
    return _Range(depth - error, depth + error, depth > 0)
