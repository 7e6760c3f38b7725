"""Whether a camera that stands still sees something else than it did: cheap, on thumbnails.

Compared is the local structure of logarithmic colour: a light that is dimmed, an exposure that
is changed or a gradient of light adds a constant there, or what changes slowly over the image, and
both are taken away. A pixel has changed when it differs from the old one and from its neighbours,
so that noise, vibration and the grain of an edge do not count. What changes has to stay the same
for a while: an arm that passes covers much of an image, but not the same part with the same look.
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
_SQUARE = np.ones((3, 3), np.uint8)


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, 160, 3) miniature of an (H, W, 3) RGB image; each pixel averages its area."""
    height, width = image.shape[:2]
    size = (WIDTH, max(round(WIDTH * height / width), 8))
    way = cv2.INTER_AREA if width > WIDTH else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)


class ChangeDetector:
    """Compares what one camera sees now with what it saw when its scene was built.

    Args:
        reference: thumbnail of the image of the scene.
    """

    def __init__(self, reference: NDArray[np.uint8]) -> None:
        self._reference = _Look(reference)
        self._last: _Look | None = None
        self._shape = reference.shape
        self._seconds = np.zeros(reference.shape[:2], np.float32)

    def update(self, image: NDArray[np.uint8], seconds: float) -> None:
        """Takes what the camera sees.

        Args:
            image: thumbnail; of another shape, it is another camera's or resolution's, and all of
                it has changed.
            seconds: since the last one.
        """
        if image.shape != self._shape:
            self._seconds += seconds
            return
        look = _Look(image)
        if self._last is not None:
            stays = look.differs(self._reference) & ~look.differs(self._last)
            self._seconds = np.where(stays, self._seconds + seconds, 0).astype(np.float32)
        self._last = look

    def changed(self, seconds: float) -> float:
        """Share of the image [0..1] that has looked different, and the same, for so long."""
        return float((self._seconds >= max(seconds, 1e-9)).mean())

    def restart(self) -> None:
        """Begins to count anew: the camera was elsewhere meanwhile, or silent."""
        self._last = None
        self._seconds[:] = 0


class _Look:
    """The structure of a thumbnail: least and most at each pixel, and in its neighbourhood."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        # By channel: objects of another colour may be as bright, and white balance is a constant.
        brightness = np.log(image.astype(np.float32) + _FLOOR)
        structure = brightness - cv2.GaussianBlur(brightness, (0, 0), _SURROUNDINGS)
        self.least = np.where(image < _DARK, -np.inf, structure).astype(np.float32)
        self.most = np.where(image > _BRIGHT, np.inf, structure).astype(np.float32)
        self.low = cv2.erode(self.least, _SQUARE)
        self.high = cv2.dilate(self.most, _SQUARE)

    def differs(self, other: _Look) -> NDArray[np.bool_]:
        """(h, w) pixels that another look, moved by up to one pixel, does not explain."""
        brighter, darker = self.least - other.high, other.low - self.most
        outside = np.maximum(brighter, darker).max(axis=-1)
        changed = np.asarray(outside > _CONTRAST, np.uint8)
        # Edges that moved by a little are thin, things are not.
        return cv2.morphologyEx(changed, cv2.MORPH_OPEN, _SQUARE) > 0
