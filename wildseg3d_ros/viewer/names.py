"""Names that people give objects, shared by all browsers of a page."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np

from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.grasping.objects import SceneObject
from wildseg3d_ros.viewer.source import ShownScene

LONGEST = 60
"""Characters of a name."""
_SAME = 0.5
"""IoU of the masks, over all images together, from which an object is another scene's, too."""
_KINDS = dict(zip(LEVELS, ("Object", "Part", "Sub-part"), strict=True))


class Names:
    """Names by object. They follow an object into the next scene where that shows it in the same
    pixels; a page that is started anew knows none.

    Attributes:
        version: grows with every change.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._shown: ShownScene | None = None
        self._lock = threading.Lock()
        self.version = 0

    def given(self, object_id: int) -> str:
        """The name that somebody gave an object; empty where nobody did."""
        return self._names.get(object_id, "")

    def of(self, *object_ids: int) -> str:
        """What objects are called, by name or id."""
        if not object_ids:
            return "A part that is no object"
        said = [self.given(i) or f"Object {i}" for i in object_ids]
        return ", ".join(said)

    def title(self, each: SceneObject) -> str:
        """What an object of the list is called."""
        return self.given(each.object_id) or f"{_KINDS[each.level]} {each.object_id}"

    def rename(self, object_id: int, text: str) -> None:
        """Gives a name; an empty one takes it away."""
        text = " ".join(text.split())[:LONGEST]
        with self._lock:
            names = dict(self._names)
            names.pop(object_id, None)
            if text:
                names[object_id] = text
            self._names = names
            self.version += 1

    def follow(self, shown: ShownScene) -> None:
        """Another scene answers: names go along with what they were given to."""
        with self._lock:
            before, self._shown = self._shown, shown
            if before is None or not self._names:
                return
            same = _same_objects(before, shown)
            level = {each.object_id: each.level for each in before.objects}
            now = {each.object_id: each.level for each in shown.objects}
            kept = {}
            for object_id, name in self._names.items():
                found = same.get(object_id)
                # Parts are in no label image; within a scene that is edited they keep their ids.
                if found is None and level.get(object_id) != LEVELS[0]:
                    found = object_id if now.get(object_id) == level.get(object_id) else None
                if found is not None:
                    kept[found] = name
            self._names = kept
            self.version += 1


def _same_objects(before: ShownScene, after: ShownScene) -> dict[int, int]:
    """For each object of one scene's images the one of another's that it is, if there is one."""
    both: Counter[tuple[int, int]] = Counter()
    old: Counter[int] = Counter()
    new: Counter[int] = Counter()
    known = {camera.name: camera.labels for camera in after.cameras}
    for camera in before.cameras:
        labels, other = camera.labels, known.get(camera.name)
        if other is None or other.shape != labels.shape:
            continue
        pairs, counts = np.unique(
            np.stack([labels.ravel(), other.ravel()]), axis=1, return_counts=True
        )
        for (a, b), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
            both[a, b] += count
            old[a] += count
            new[b] += count
    return {
        a: b
        for (a, b), count in both.items()
        if a and b and count > _SAME * (old[a] + new[b] - count)
    }
