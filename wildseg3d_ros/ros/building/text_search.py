"""What texts name in the scene, found by the build process and remembered."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from wildseg3d_ros.core.types import ViewMask
from wildseg3d_ros.ros.building.worker import BuildWorker
from wildseg3d_ros.scene.scene import Scene

_REMEMBERED = 16
"""Texts: who asks for a cloud mostly asks for its description, too."""


class TextSearch:
    """Finds what texts name.

    Args:
        worker: its process finds.
        stopping: whether the node stops all that runs.
    """

    def __init__(self, worker: BuildWorker, stopping: Callable[[], bool]) -> None:
        self._worker, self._stopping = worker, stopping
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], ViewMask] = OrderedDict()

    def find(self, scene: Scene, text: str) -> ViewMask:
        """The mask of what a text names, in the view where that is surest.

        Raises:
            WildSeg3DError: see :meth:`BuildWorker.find`.
        """
        asked = scene.scene_id, text
        with self._lock:
            if asked not in self._known:
                self._known[asked] = self._worker.find(scene, text, self._stopping)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
            return self._known[asked]
