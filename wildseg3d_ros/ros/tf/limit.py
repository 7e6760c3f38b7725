"""How many frames of TF are remembered: names that never end would take all memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from wildseg3d_ros.streams.tf.buffer import BUFFER_SECONDS

MOST_FRAMES = 5000
LONGEST_NAME = 255
_LOOK_AGAIN = 1.0
"""Seconds after which frames that nobody publishes are looked for again."""


class FrameLimit:
    """Admits the transforms of so many child frames; those that move and went silent make room.

    Args:
        drop: told of the frames that made room.
    """

    def __init__(self, drop: Callable[[Collection[str]], None]) -> None:
        self._drop = drop
        self._heard: dict[str, tuple[bool, float]] = {}
        self._looked = -_LOOK_AGAIN

    def admits(self, child: str, static: bool) -> bool:
        """Whether a transform of that frame is to be taken."""
        now = time.monotonic()
        if child not in self._heard and (
            len(child) > LONGEST_NAME or (len(self._heard) >= MOST_FRAMES and not self._room(now))
        ):
            return False
        self._heard[child] = static, now
        return True

    def _room(self, now: float) -> bool:
        if now - self._looked < _LOOK_AGAIN:
            return False
        self._looked = now
        silent = [
            frame
            for frame, (static, last) in self._heard.items()
            if not static and now - last > BUFFER_SECONDS
        ]
        for frame in silent:
            del self._heard[frame]
        self._drop(silent)
        return bool(silent)
