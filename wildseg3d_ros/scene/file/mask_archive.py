"""The mask cache in a scene's file: label maps, scores, records, embeddings."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import MaskCache, MaskOrigin, MaskRecord, MaskTree, ObjectRecord
from wildseg3d_ros.core.types.masks import HIGHEST_ID
from wildseg3d_ros.scene.file.archive import read_array, write_array
from wildseg3d_ros.scene.file.checks import check_integer, expect


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
        "tree": masks.tree is not None,
        "objects": [
            {
                "id": each.object_id,
                "level": each.level,
                "parent": each.parent,
                "unmasked": each.unmasked,
                "nodes": each.nodes,
                "score": each.score,
                "ambiguity": each.ambiguity,
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
    if masks.tree is not None:
        for view, leaves in enumerate(masks.tree.leaves):
            write_array(archive, f"tree/leaves/{view}", leaves, deflate=True)
        for name in _TREE:
            write_array(archive, f"tree/{name}", getattr(masks.tree, name))


_HEADER = {
    "views": int,
    "levels": int,
    "object_ids": list,
    "next_id": int,
    "encoder": str,
    "origin": dict | None,
    "embeddings": list,
    "tree": bool,
    "objects": list,
}
_OBJECT = {
    "id": int,
    "level": str,
    "parent": int,
    "unmasked": list,
    "nodes": list,
    "score": float,
    "ambiguity": float,
    "masks": list,
}
_TREE = {"start": np.int32, "stop": np.int32, "parent": np.int32, "score": np.float32}
_ORIGIN = {"backend": str, "weights": str}


def read_masks(archive: zipfile.ZipFile, header: Any) -> MaskCache:
    """Reads what :func:`describe_masks` and :func:`write_masks` stored.

    Raises:
        InvalidScene: an array or a value that is missing or not what it must be. ValueError: what
            should be an array is none.
    """
    _expect_fields(header, _HEADER, "masks in the header")
    # More than there are members is missed at the first that is missing.
    views = range(check_integer(header["views"], "views of masks", 1, len(archive.infolist())))
    maps = [
        tuple(read_array(archive, f"labels/{level}/{view}", np.int32, 2) for view in views)
        for level in range(header["levels"])
    ]
    expect(len(maps) > 0, "levels of label maps", "at least one", 0)
    soft = io.BytesIO(read_array(archive, "soft", np.uint8, 1).data)
    objects = tuple(_read_object(stored, soft) for stored in header["objects"])
    taken, stored = soft.tell(), len(soft.getbuffer())
    expect(taken == stored, "soft.npy", f"{taken} pixels for the boxes of the masks", stored)
    if header["origin"] is not None:
        _expect_fields(header["origin"], _ORIGIN, "origin of the masks")
    return MaskCache(
        labels=maps[0],
        scores=tuple(read_array(archive, f"scores/{view}", np.float32, 2) for view in views),
        object_ids=tuple(
            check_integer(i, "id of a whole object", 1, HIGHEST_ID) for i in header["object_ids"]
        ),
        finer=tuple(maps[1:]),
        objects=objects,
        embeddings=tuple(
            _read_embedding(archive, view, stored)
            for view, stored in enumerate(header["embeddings"])
        ),
        next_id=check_integer(header["next_id"], "next_id", 1, HIGHEST_ID + 1),
        encoder=header["encoder"],
        origin=None if header["origin"] is None else MaskOrigin(**header["origin"]),
        tree=_read_tree(archive, len(views)) if header["tree"] else None,
    )


def _read_tree(archive: zipfile.ZipFile, views: int) -> MaskTree:
    leaves = tuple(read_array(archive, f"tree/leaves/{v}", np.int32, 2) for v in range(views))
    columns = {name: read_array(archive, f"tree/{name}", kind, 1) for name, kind in _TREE.items()}
    return MaskTree(leaves, **columns)


def _expect_fields(stored: Any, fields: dict[str, Any], what: str) -> None:
    names = ", ".join(fields)
    expect(isinstance(stored, dict), what, f"values of {names}", stored)
    expect(stored.keys() == fields.keys(), what, f"values of {names}", list(stored))
    for name, kind in fields.items():
        expected = f"a value of type {getattr(kind, '__name__', kind)}"
        expect(isinstance(stored[name], kind), f"{name} of the {what}", expected, stored[name])


def _read_object(stored: Any, soft: io.BytesIO) -> ObjectRecord:
    _expect_fields(stored, _OBJECT, "record of an object")
    return ObjectRecord(
        check_integer(stored["id"], "id of an object", 1, HIGHEST_ID),
        stored["level"],
        stored["parent"],
        tuple(_read_mask(mask, stored["id"], soft) for mask in stored["masks"]),
        tuple(stored["unmasked"]),
        tuple(stored["nodes"]),
        stored["score"],
        stored["ambiguity"],
    )


def _read_mask(stored: Any, object_id: int, soft: io.BytesIO) -> MaskRecord:
    """The record; its soft scores are the next pixels of ``soft``."""
    who = f"mask of object {object_id}"
    fits = isinstance(stored, list) and len(stored) == 8
    expect(fits, who, "view, area, four corners of its box, score, and whether it has soft scores",
           stored)  # fmt: skip
    view, area, *box, score, has_soft = stored
    record = MaskRecord(view, area, (box[0], box[1], box[2], box[3]), score)
    if not has_soft:
        return record
    u0, v0, u1, v1 = (check_integer(value, f"box of the {who}", 0, 2**31 - 1) for value in box)
    expect(u0 <= u1 and v0 <= v1, f"box of the {who}", "its last pixel not before its first", box)
    height, width = v1 - v0 + 1, u1 - u0 + 1
    end, pixels = soft.tell() + height * width, len(soft.getbuffer())
    enough = f"{end} or more pixels for the boxes of the masks"
    expect(end <= pixels, "soft.npy", enough, pixels)
    crop = np.frombuffer(soft.read(height * width), np.uint8)
    return dataclasses.replace(record, soft=crop.reshape(height, width))


def _read_embedding(archive: zipfile.ZipFile, view: int, stored: Any) -> tuple[NDArray, ...]:
    what = f"embedding of view {view} in the header"
    expect(isinstance(stored, list), what, "the dimensions of its arrays", stored)
    return tuple(
        read_array(archive, f"embedding/{view}/{k}", np.float16, check_integer(n, what, 0, 32))
        for k, n in enumerate(stored)
    )
