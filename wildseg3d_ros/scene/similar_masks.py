"""Segments that fill a given box or cover a given mask in one view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import Box, ObjectTree, ViewMask
from wildseg3d_ros.scene.camera_pixels import mask_in_scene, to_scene
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.scene.segments import Segment, nodes_segment, object_segment

MIN_BOX_IOU, MIN_MASK_IOU = 0.7, 0.5
"""IoU of a segment with a box, and with a mask, from which it is what they mean."""
MAX_NODES = 8
"""Nodes at most that a mask means together, and objects that a box does."""
IN_BOX = 0.8
"""Share of what the view shows of an object that a box around several has of each."""


def boxed_segments(scene: Scene, box: Box) -> list[Segment]:
    """The segment whose box in the view is the most similar, weighed by its score; where none is
    similar enough, the objects in the box, if they fill it together.

    Raises:
        PromptError: unknown camera, a box outside its image, or no segment that is similar enough.
    """
    view, (left, top, right, bottom) = clipped_box(scene, box)
    u0, v0, u1, v1 = _boxes(scene.object_tree, view)
    across = np.minimum(u1, right) - np.maximum(u0, left)
    down = np.minimum(v1, bottom) - np.maximum(v0, top)
    both = np.maximum(across, 0.0) * np.maximum(down, 0.0)
    area = np.maximum(u1 - u0, 0.0) * np.maximum(v1 - v0, 0.0) + (right - left) * (bottom - top)
    overlaps = both / np.maximum(area - both, 1e-9)
    found, _ = _most_similar(scene, overlaps, MIN_BOX_IOU)
    if found is not None:
        return [found]
    if several := _objects_in(scene, view, (left, top, right, bottom)):
        return several
    raise PromptError(
        f"camera '{box.view}': no cached object fills the box from ({box.u0:g}, {box.v0:g}) to "
        f"({box.u1:g}, {box.v1:g}); {_how_similar(scene, overlaps)}, {MIN_BOX_IOU:g} are needed: "
        "draw it closer",
        ErrorCode.NO_OBJECT_AT_PIXEL,
    )


def _objects_in(scene: Scene, view: int, box: tuple[float, float, float, float]) -> list[Segment]:
    """The whole objects in a box (u0, v0, u1, v1), if few fill it; else none."""
    labels = scene.labels[view]
    rows, columns = np.nonzero(labels)
    name = labels[rows, columns]
    left, top, right, bottom = box
    inside = (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)
    held = np.bincount(name, inside) >= IN_BOX * np.maximum(np.bincount(name), 1)
    found = np.flatnonzero(held)
    if not 1 < len(found) <= MAX_NODES:
        return []
    rows, columns = rows[held[name]], columns[held[name]]
    u0, v0, u1, v1 = columns.min(), rows.min(), columns.max(), rows.max()
    across, down = min(u1, right) - max(u0, left), min(v1, bottom) - max(v0, top)
    area = (u1 - u0) * (v1 - v0) + (right - left) * (bottom - top)
    if across * down < MIN_BOX_IOU * (area - across * down):
        return []
    return [object_segment(scene, int(i)) for i in found]


def clipped_box(scene: Scene, box: Box) -> tuple[int, tuple[float, float, float, float]]:
    """Index of a box's view, and (u0, v0, u1, v1) of what is in its image: pixels of the scene's
    arrays.

    Raises:
        PromptError: unknown camera, or a box outside its image.
    """
    view = scene.view_index(box.view)
    height, width = scene.camera_size(view)
    u0, v0 = max(box.u0, 0.0), max(box.v0, 0.0)
    u1, v1 = min(box.u1, width - 1.0), min(box.v1, height - 1.0)
    if u1 <= u0 or v1 <= v0:
        raise PromptError(
            f"the box from ({box.u0:g}, {box.v0:g}) to ({box.u1:g}, {box.v1:g}) is outside the "
            f"image of camera '{box.view}', which is {width}x{height}: give corners with u from 0 "
            f"to {width - 1} and v from 0 to {height - 1}",
            ErrorCode.PIXEL_OUTSIDE_IMAGE,
        )
    return view, (*to_scene(scene, view, u0, v0), *to_scene(scene, view, u1, v1))


def masked_segments(scene: Scene, given: ViewMask) -> list[Segment]:
    """The segment whose mask in the view overlaps the given one most, weighed by its score, or the
    few nodes most of whose pixels in the view the mask has, if these are better by that measure.

    Raises:
        PromptError: unknown camera, a mask of another size than its image, or nothing that is
            similar enough.
    """
    view, mask = checked_mask(scene, given)
    tree, size = scene.object_tree.tree, int(mask.sum())
    leaves = tree.leaves[view]
    area = np.bincount(leaves.ravel() + 1, minlength=tree.leaf_count + 1)[1:]
    inside = np.bincount(leaves[mask] + 1, minlength=tree.leaf_count + 1)[1:]
    of_leaf = np.stack([inside, area])
    both, every = (_of_segments(scene.object_tree, tree.sums(each)) for each in of_leaf)
    overlaps = both / np.maximum(size + every - both, 1)
    found, best = _most_similar(scene, overlaps, MIN_MASK_IOU)
    few = _best_nodes(scene, *of_leaf)
    both, every = of_leaf[:, tree.leaves_of(few)].sum(axis=1)
    overlap = both / max(size + every - both, 1)
    if 1 < len(few) <= MAX_NODES and overlap >= MIN_MASK_IOU:
        nodes = [nodes_segment(scene, [node]) for node in few]
        score = sum(each.score for each in nodes) / len(nodes)
        if found is None or overlap * (0.5 + score) > best:
            return nodes
    if found is not None:
        return [found]
    raise PromptError(
        f"camera '{given.view}': no cached object has a mask like the given one of "
        f"{given.mask.sum()} pixels; "
        f"{_how_similar(scene, overlaps)}, {MIN_MASK_IOU:g} are needed: give a mask of the whole "
        "object",
        ErrorCode.NO_OBJECT_AT_PIXEL,
    )


def _best_nodes(scene: Scene, inside: NDArray[np.int64], area: NDArray[np.int64]) -> list[int]:
    """The disjoint nodes that maximise the sum of pixels times score, of those whose leaves in the
    view are mostly inside the mask.

    Args:
        inside, area: (L,) pixels of the leaves in the view, in the mask and in all.
    """
    tree = scene.object_tree.tree
    outside = tree.sums((2 * inside <= area) & (area > 0))
    weight = np.where(outside == 0, tree.sums(inside), 0)
    return tree.best_parts(np.flatnonzero(tree.parent < 0).tolist(), weight)


def checked_mask(scene: Scene, given: ViewMask) -> tuple[int, NDArray[np.bool_]]:
    """Index of a mask's view, and the mask at the size of the scene's arrays.

    Raises:
        PromptError: unknown camera, or a mask of another size than its image.
    """
    view = scene.view_index(given.view)
    (height, width), size = given.mask.shape, scene.camera_size(view)
    if (height, width) != size:
        raise PromptError(
            f"the mask of camera '{given.view}' is {width}x{height}, but its images are "
            f"{size[1]}x{size[0]}; give a mask of the image as it is published"
        )
    return view, mask_in_scene(scene, view, given.mask)


def _of_segments(objects: ObjectTree, of_node: NDArray) -> NDArray:
    """(T + S,) sums of all nodes, and then of the objects that are several nodes each."""
    several = [of_node[list(objects.nodes[i])].sum() for i in objects.several]
    return np.append(of_node, np.array(several, of_node.dtype))


def _boxes(objects: ObjectTree, view: int) -> NDArray[np.float64]:
    """(4, T + S) u0, v0, u1, v1 of the segments in a view, in the order of :func:`_of_segments`;
    inside out where the view does not show them."""
    tree = objects.tree
    rows, columns = np.nonzero(tree.leaves[view] >= 0)
    leaf = tree.leaves[view][rows, columns]
    # The largest of (-u, -v, u, v); the last column ends the last run.
    sides = np.full((4, tree.leaf_count + 1), -np.inf)
    for side, values in zip(sides, (-columns, -rows, columns, rows), strict=True):
        np.maximum.at(side, leaf, values)
    runs = np.stack([tree.start, tree.stop], axis=1).ravel()
    of_node = np.maximum.reduceat(sides, runs, axis=1)[:, ::2]
    several = [of_node[:, list(objects.nodes[i])].max(axis=1) for i in objects.several]
    boxes = np.concatenate([of_node, np.array(several).reshape(-1, 4).T], axis=1)
    return boxes * np.array([-1.0, -1.0, 1.0, 1.0])[:, None]


def _segment(scene: Scene, number: int) -> Segment:
    """The segment of a place in the order of :func:`_of_segments`."""
    objects = scene.object_tree
    if number < len(objects.tree):
        return nodes_segment(scene, [number])
    return object_segment(scene, objects.several[number - len(objects.tree)])


def _most_similar(
    scene: Scene, overlaps: NDArray[np.floating], needed: float
) -> tuple[Segment | None, float]:
    """The segment of the highest IoU (T + S,), weighed by its score, among those whose IoU is as
    large as needed, and that product."""
    objects = scene.object_tree
    fits = overlaps >= needed
    if not fits.any():
        return None, 0.0
    score = [object_segment(scene, i).score for i in objects.several]
    weighed = overlaps * (0.5 + np.append(objects.tree.score, score)) * fits
    best = int(weighed.argmax())
    return _segment(scene, best), float(weighed[best])


def _how_similar(scene: Scene, overlaps: NDArray[np.floating]) -> str:
    """The segment of the highest IoU (T + S,), in words."""
    if overlaps.max(initial=0.0) <= 0.0:
        return "none overlaps it"
    segment = _segment(scene, int(overlaps.argmax()))
    which = str(segment.object_id) if segment.object_id else "a part of the surface"
    return f"the best one ({which}) overlaps it by {overlaps.max():.2f}"
