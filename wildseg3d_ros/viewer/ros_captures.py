"""Captured views of a scene node, with the pictures that a page kept of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.ros.client import SceneClient
from wildseg3d_ros.ros.scene_feed import SceneFeed

_PERIOD = 3.0
"""Seconds between two looks at what the node keeps: others may capture, too."""


class RosCaptures:
    """See :class:`wildseg3d_ros.viewer.source.CapturesViews`.

    Args:
        client: asks the node.
        feed: has the cameras' images.

    Attributes:
        captured: names of the views that the node keeps.
    """

    def __init__(self, client: SceneClient, feed: SceneFeed) -> None:
        self._client, self._feed = client, feed
        self.captured: tuple[str, ...] = ()
        self._pictures: dict[str, NDArray[np.uint8]] = {}
        self._next = 0.0

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that can be captured."""
        return tuple(self._feed.state.topics) if self._feed.state else ()

    def capture(self, camera: str) -> None:
        """Keeps what a camera sees now, in the node, and a picture of it here."""
        names = self._client.capture_views([camera])
        newest = self._feed.image(camera)
        if newest is not None:
            self._pictures |= dict.fromkeys(names, newest[1])
        self._ask()

    def drop(self, names: Sequence[str]) -> None:
        """Forgets views; without names, all."""
        self._client.drop_views(names)
        self._ask()

    def picture(self, name: str) -> NDArray[np.uint8] | None:
        """(H, W, 3) what a view shows; None where it was not captured from here."""
        return self._pictures.get(name)

    def look(self) -> None:
        """Asks the node from time to time."""
        if time.monotonic() > self._next:
            try:
                self._ask()
            except (WildSeg3DError, TimeoutError):
                self.captured = ()  # the page says elsewhere that the node is gone

    def _ask(self) -> None:
        self._next = time.monotonic() + _PERIOD
        self.captured = tuple(view.name for view in self._client.list_views())
        self._pictures = {n: p for n, p in self._pictures.items() if n in self.captured}
