"""Several objects as one: the first, corrected by a click on each of the others."""

from __future__ import annotations

from collections.abc import Sequence

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import Click, Prompt
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.viewer.source import SceneSource


def merging(source: SceneSource, object_ids: Sequence[int]) -> Prompt:
    """The correction that makes objects one, which keeps the id of the first.

    Raises:
        PromptError: one of them is in no image. Others: as of the source.
    """
    first, *others = object_ids
    clicks = []
    for object_id in others:
        masks = source.ask(Prompt(object_ids=(object_id,))).cloud.masks
        name, mask = max(masks.items(), key=lambda item: int(item[1].sum()))
        if not mask.any():
            raise PromptError(
                f"object {object_id} is in no image, so it cannot be merged",
                ErrorCode.NO_OBJECT_AT_PIXEL,
            )
        u, v = most_interior_pixel(mask)
        clicks.append(Click(name, float(u), float(v)))
    return Prompt(tuple(clicks), object_ids=(first,))
