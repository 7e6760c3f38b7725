"""Records of the objects in label maps: where they are seen, how large, part of what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import LEVELS, MaskRecord, ObjectRecord


def describe_objects(
    maps: Sequence[Sequence[NDArray[np.int32]]],
    scores: Sequence[NDArray[np.float32]],
    quality: Mapping[tuple[int, int], float] | None = None,
    soft: Mapping[tuple[int, int], NDArray[np.uint8]] | None = None,
    unmasked: Mapping[int, tuple[int, ...]] | None = None,
) -> tuple[ObjectRecord, ...]:
    """Records of all objects, by id.

    An object's parent is the object of the level above that has most of its pixels, if that is
    more than half of those in the views which have a mask of that object.

    Args:
        maps: label maps by level, by view.
        scores: per view (H, W) soft scores; their mean is the quality of a mask that has none.
        quality: of the mask of (view, id).
        soft: (h, w) uint8 soft scores in the box of the mask of (view, id). Where the mask was
            joined or divided since and its box is another one, they are taken from ``scores``.
        unmasked: by id, views that should show the object; those that have a mask of it since are
            left out.
    """
    quality, soft, unmasked = quality or {}, soft or {}, unmasked or {}
    records = []
    for level, of_view in enumerate(maps):
        masks: dict[int, list[MaskRecord]] = {}
        votes: dict[int, dict[int, int]] = {}
        shown: dict[int, set[int]] = {}
        for view, labels in enumerate(of_view):
            row, column = np.nonzero(labels)
            ids, index = np.unique(labels[row, column], return_inverse=True)
            area = np.bincount(index, minlength=len(ids))
            mean = np.bincount(index, scores[view][row, column], len(ids)) / np.maximum(area, 1)
            boxes = np.repeat([[1 << 30], [1 << 30], [-1], [-1]], len(ids), axis=1)
            for axis, values in enumerate((column, row)):
                np.minimum.at(boxes[axis], index, values)
                np.maximum.at(boxes[axis + 2], index, values)
            for k, name in enumerate(ids.tolist()):
                score, crop = quality.get((view, name), float(mean[k])), soft.get((view, name))
                u0, v0, u1, v1 = boxes[:, k].tolist()
                if crop is not None and crop.shape != (v1 - v0 + 1, u1 - u0 + 1):
                    box = np.s_[v0 : v1 + 1, u0 : u1 + 1]
                    own = scores[view][box] * (labels[box] == name)
                    crop = np.rint(255 * own).astype(np.uint8)
                record = MaskRecord(view, int(area[k]), (u0, v0, u1, v1), score, crop)
                masks.setdefault(name, []).append(record)
            if level:
                pairs = np.stack([ids[index], maps[level - 1][view][row, column]])
                found, count = np.unique(pairs, axis=1, return_counts=True)
                for above in np.unique(maps[level - 1][view]).tolist():
                    shown.setdefault(above, set()).add(view)
                for (name, above), pixels in zip(found.T.tolist(), count.tolist(), strict=True):
                    if above:
                        of_name = votes.setdefault(name, {})
                        of_name[above] = of_name.get(above, 0) + pixels
        for name in sorted(masks):
            parent, pixels = max(votes.get(name, {0: 0}).items(), key=lambda vote: vote[1])
            common = sum(m.area for m in masks[name] if m.view in shown.get(parent, ()))
            if 2 * pixels <= common or not parent:
                parent = 0
            shows = {mask.view for mask in masks[name]}
            without = tuple(view for view in unmasked.get(name, ()) if view not in shows)
            records.append(ObjectRecord(name, LEVELS[level], parent, tuple(masks[name]), without))
    return tuple(sorted(records, key=lambda record: record.object_id))
