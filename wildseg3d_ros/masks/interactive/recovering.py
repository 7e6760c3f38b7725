"""Objects that lost their mask in a replaced view, though the view still sees them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import LEVELS, MaskCache, WorldPointmaps
from wildseg3d_ros.masks.interactive.adding import replace_object_masks
from wildseg3d_ros.masks.interactive.finding import find_in_view
from wildseg3d_ros.masks.sources import MaskSource


def recover_lost(
    cache: MaskCache,
    before: MaskCache,
    changed: int,
    source: Callable[[], MaskSource],
    world: WorldPointmaps,
    visibility: Visibility,
) -> MaskCache:
    """The cache with masks of such objects in the replaced view.

    What segments the new image does not know which objects prompts made. An object that had a mask
    in the view, and whose surface is still seen there, is looked for by its masks in the others.

    Args:
        cache: with the new image's masks.
        before: the cache that had the old image's.
        changed: index of the view.
        source: makes what proposes masks in the views with the new image; called if one is lost.
        world, visibility: with the new image.
    """
    had = {each.object_id for each in before.objects if changed in each.views}
    lost = [each for each in cache.objects if each.object_id in had and changed in each.unmasked]
    if not lost:
        return cache
    proposing = source()
    for each in lost:
        level = LEVELS.index(each.level)
        masks = [labels == each.object_id for labels in cache.maps[level]]
        known = {view: masks[view] for view in each.views}
        found = find_in_view(proposing, changed, known, world, visibility)
        if found is None:
            continue
        mask = found[0] > 0.5
        masks[changed] = mask & (cache.maps[level][changed] == 0)
        # Most of what is found must be no other object's of its level.
        if np.count_nonzero(masks[changed]) > 0.5 * np.count_nonzero(mask):
            cache = replace_object_masks(cache, level, each.object_id, masks)
    return cache
