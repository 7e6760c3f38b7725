"""What there is to say of each object of a scene: size, views, score, ambiguity."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from wildseg3d_ros.core.types import Level
from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.grasping.graspable import GraspableScene


@dataclass(frozen=True, eq=False)
class SceneObject:
    """An object of a scene.

    Attributes:
        object_id: unique over all levels.
        level: whole, part or sub_part.
        parent: id of the object that it is part of; 0 = none.
        points: number of its points.
        score, ambiguity: as of :class:`wildseg3d_ros.core.types.ObjectRecord`; NaN = not known.
        cameras: that have a mask of it.
        box: about its points, in the scene's frame and unit; None where it has none.
    """

    object_id: int
    level: Level
    parent: int
    points: int
    score: float
    ambiguity: float
    cameras: tuple[str, ...]
    box: OrientedBox | None

    def __repr__(self) -> str:
        size = "no box" if self.box is None else " x ".join(f"{e:.3g}" for e in self.box.size)
        score = "" if math.isnan(self.score) else f", score {self.score:.2f}"
        return (
            f"<object {self.object_id}: {size}, {self.points} points, "
            f"{len(self.cameras)} views{score}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; what is not known is None. Lengths are in the scene's unit."""
        box = self.box
        return {
            "id": self.object_id,
            "level": self.level,
            "part_of": self.parent or None,
            "points": self.points,
            "score": known(self.score),
            "ambiguity": known(self.ambiguity),
            "views": list(self.cameras),
            "box": None
            if box is None
            else {
                "frame_from_box": box.frame_from_box.tolist(),
                "size": box.size.tolist(),
                "coverage": known(box.coverage),
            },
        }


def scene_objects(
    graspable: GraspableScene, ids: Collection[int] | None = None
) -> Iterator[SceneObject]:
    """The objects of all levels of a scene by id, or those of some ids."""
    scene = graspable.scene
    records = {record.object_id: record for record in scene.masks.objects}
    for object_id in scene.index.ids.tolist():
        if ids is not None and object_id not in ids:
            continue
        count = scene.index.count(object_id)
        box = graspable.box((object_id,)) if count else None
        record = records.get(object_id)
        if record is None:
            names = tuple(
                n
                for n, mask in scene.view_masks((object_id,), of_images=True).items()
                if mask.any()
            )
            yield SceneObject(object_id, "whole", 0, count, math.nan, math.nan, names, box)
            continue
        yield SceneObject(
            object_id,
            record.level,
            record.parent,
            count,
            record.score,
            record.ambiguity,
            tuple(scene.view_names[view] for view in record.views),
            box,
        )


def known(value: float) -> float | None:
    """A figure for JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)
