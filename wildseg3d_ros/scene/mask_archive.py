"""The mask cache in a scene's file: label maps, scores, records, embeddings."""

from __future__ import annotations

import dataclasses
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.scene.archive import read_array, write_array
from wildseg3d_ros.types import MaskCache, MaskOrigin, MaskRecord, ObjectRecord
from wildseg3d_ros.types.checks import check_integer, expect
from wildseg3d_ros.types.masks import HIGHEST_ID


def describe_masks(masks: MaskCache) -> dict[str, Any]:
    """What goes into the file's header: everything but the arrays."""
    return {
        "views": len(masks.labels),
        "levels": len(masks.maps),
        "object_ids": masks.object_ids,
        "next_id": masks.next_id,
        "encoder": masks.encoder,
        "origin": None if masks.origin is None else dataclasses.asdict(masks.origin),
        "embeddings": [[part.ndim for part in parts] for parts in masks.embeddings],
        "objects": [
            {
                "id": each.object_id,
                "level": each.level,
                "parent": each.parent,
                "unmasked": each.unmasked,
                "masks": [
                    [m.view, m.area, *m.box, m.score, m.soft is not None] for m in each.masks
                ],
            }
            for each in masks.objects
        ],
    }


def write_masks(archive: zipfile.ZipFile, masks: MaskCache) -> None:
    """Writes the arrays."""
    for level, maps in enumerate(masks.maps):
        for view, labels in enumerate(maps):
            write_array(archive, f"labels/{level}/{view}", labels, deflate=True)
    for view, scores in enumerate(masks.scores):
        write_array(archive, f"scores/{view}", scores, deflate=True)
    soft = [m.soft.ravel() for each in masks.objects for m in each.masks if m.soft is not None]
    # One member: hundreds of small ones would cost more than they hold.
    write_array(archive, "soft", np.concatenate([np.zeros(0, np.uint8), *soft]), deflate=True)
    for view, parts in enumerate(masks.embeddings):
        for k, part in enumerate(parts):
            write_array(archive, f"embedding/{view}/{k}", part)


def read_masks(archive: zipfile.ZipFile, header: dict[str, Any]) -> MaskCache:
    """Reads what :func:`describe_masks` and :func:`write_masks` stored.

    Raises:
        InvalidScene: an array that is missing or not what it must be. KeyError, TypeError,
            ValueError: a header without what is needed.
    """
    views = range(header["views"])
    maps = [
        tuple(read_array(archive, f"labels/{level}/{view}", np.int32, 2) for view in views)
        for level in range(header["levels"])
    ]
    expect(len(maps) > 0, "levels of label maps", "at least one", 0)
    crops = _Crops(read_array(archive, "soft", np.uint8, 1))
    objects = tuple(
        ObjectRecord(
            check_integer(each["id"], "id of an object", 1, HIGHEST_ID),
            each["level"],
            each["parent"],
            tuple(_read_record(mask, crops) for mask in each["masks"]),
            tuple(each["unmasked"]),
        )
        for each in header["objects"]
    )
    crops.check_all_taken()
    return MaskCache(
        labels=maps[0],
        scores=tuple(read_array(archive, f"scores/{view}", np.float32, 2) for view in views),
        object_ids=tuple(
            check_integer(i, "id of a whole object", 1, HIGHEST_ID) for i in header["object_ids"]
        ),
        finer=tuple(maps[1:]),
        objects=objects,
        embeddings=tuple(
            tuple(
                read_array(archive, f"embedding/{view}/{k}", np.float16, dimensions)
                for k, dimensions in enumerate(parts)
            )
            for view, parts in enumerate(header["embeddings"])
        ),
        next_id=check_integer(header["next_id"], "next_id", 1, HIGHEST_ID + 1),
        encoder=header["encoder"],
        origin=None if header["origin"] is None else MaskOrigin(**header["origin"]),
    )


def _read_record(stored: Any, crops: _Crops) -> MaskRecord:
    view, area, *box, score, has_soft = stored
    record = MaskRecord(view, area, tuple(box), score)
    if not has_soft:
        return record
    what = f"box of a mask in view {view}"
    u0, v0, u1, v1 = (check_integer(value, what, 0, 2**31 - 1) for value in box)
    expect(u0 <= u1 and v0 <= v1, what, "a last pixel that is not before the first", box)
    return dataclasses.replace(record, soft=crops.take(v1 - v0 + 1, u1 - u0 + 1))


class _Crops:
    """The soft scores of all masks, one after the other."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels, self._taken = pixels, 0

    def take(self, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width) of the next mask."""
        end = self._taken + height * width
        expect(end <= len(self._pixels), "soft.npy", f"{end} or more pixels for the boxes of "
               "the masks", len(self._pixels))  # fmt: skip
        crop = self._pixels[self._taken : end].reshape(height, width)
        self._taken = end
        return crop

    def check_all_taken(self) -> None:
        """Raises InvalidScene when pixels are left over."""
        taken, stored = self._taken, len(self._pixels)
        expect(taken == stored, "soft.npy", f"{taken} pixels for the boxes of the masks", stored)
