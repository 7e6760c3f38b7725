"""Objects that lost their mask in a replaced view, though the view still sees them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import LEVELS, MaskCache, ObjectRecord
from wildseg3d_ros.masks.interactive.adding import replace_object_masks
from wildseg3d_ros.masks.sources import MIN_HITS

FindMask = Callable[[MaskCache, ObjectRecord], NDArray[np.bool_] | None]
"""Gives the mask (H, W) of an object in the replaced view by its masks in the others, or None."""


def recover_lost(
    cache: MaskCache, before: MaskCache, changed: int, find: Callable[[], FindMask]
) -> MaskCache:
    """The cache with masks of such objects in the replaced view.

    What segments the new image does not know which objects prompts made. An object that had a mask
    in the view, and whose surface is still seen there, is looked for.

    Args:
        cache: with the new image's masks.
        before: the cache that had the old image's.
        changed: index of the view.
        find: makes what looks for them; called if one is lost.
    """
    had = {each.object_id for each in before.objects if changed in each.views}
    lost = [each for each in cache.objects if each.object_id in had and changed in each.unmasked]
    finding = find() if lost else None
    for each in lost:
        level = LEVELS.index(each.level)
        mask = finding(cache, each) if finding else None
        if mask is None or np.count_nonzero(mask) < MIN_HITS:
            continue
        masks = [labels == each.object_id for labels in cache.maps[level]]
        masks[changed] = mask & (cache.maps[level][changed] == 0)
        # Most of what is found must be no other object's of its level.
        if np.count_nonzero(masks[changed]) > 0.5 * np.count_nonzero(mask):
            cache = replace_object_masks(cache, level, each.object_id, masks)
    return cache
