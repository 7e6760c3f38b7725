"""The mask cache in a scene's file: label maps, scores, records, embeddings."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np

from wildseg3d_ros.scene.archive import read_array, write_array
from wildseg3d_ros.types import MaskCache, MaskRecord, ObjectRecord


def describe_masks(masks: MaskCache) -> dict[str, Any]:
    """What goes into the file's header: everything but the arrays."""
    return {
        "views": len(masks.labels),
        "levels": len(masks.maps),
        "object_ids": masks.object_ids,
        "embeddings": [len(parts) for parts in masks.embeddings],
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
    """Reads what :func:`describe_masks` and :func:`write_masks` stored."""
    views = range(header["views"])
    maps = [
        tuple(read_array(archive, f"labels/{level}/{view}") for view in views)
        for level in range(header["levels"])
    ]
    soft, start = read_array(archive, "soft"), 0
    objects = []
    for each in header["objects"]:
        records = []
        for view, area, *box, score, has_soft in each["masks"]:
            crop = None
            if has_soft:
                shape = (box[3] - box[1] + 1, box[2] - box[0] + 1)
                crop = soft[start : start + shape[0] * shape[1]].reshape(shape)
                start += crop.size
            records.append(MaskRecord(view, area, (box[0], box[1], box[2], box[3]), score, crop))
        objects.append(
            ObjectRecord(
                each["id"],
                each["level"],
                each["parent"],
                tuple(records),
                tuple(each["unmasked"]),
            )
        )
    if start != len(soft):
        raise ValueError(f"soft scores: {len(soft)} pixels stored, {start} described")
    return MaskCache(
        labels=maps[0],
        scores=tuple(read_array(archive, f"scores/{view}") for view in views),
        object_ids=tuple(header["object_ids"]),
        finer=tuple(maps[1:]),
        objects=tuple(objects),
        embeddings=tuple(
            tuple(read_array(archive, f"embedding/{view}/{k}") for k in range(count))
            for view, count in enumerate(header["embeddings"])
        ),
    )
