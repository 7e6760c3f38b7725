"""Answers prompts from a scene: look-ups and copies, no inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import Alternative, ObjectCloud, Prompt, ViewMasks
from wildseg3d_ros.core.types.tree import MIN_SCORE, SAME, Nodes, Selected
from wildseg3d_ros.scene.choosing import Choice, choose
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.scene.segments import (
    Segment,
    nodes_segment,
    object_segment,
)

NOT_CACHED = (
    ErrorCode.NO_OBJECT_AT_PIXEL,
    ErrorCode.NO_DEPTH_AT_PIXEL,
    ErrorCode.CONTRADICTING_CLICKS,
)
"""Errors of a prompt that adding an object can still answer: shiny and transparent things have no
depth where they are clicked, but a network sees them."""

_HOW_TO_ADD = "to make what is there an object, add it (edit_object; on the command line: --add)"
_HOW_TO_MARK = (
    "to make something there an object, mark it by a box or a mask and add it (edit_object; on "
    "the command line: --add --box)"
)
"""The ways out where no cached mask answers: by the back end, and by the tree of masks, which has
nothing where a click alone meets background."""


def answer(scene: Scene, prompt: Prompt) -> ObjectCloud:
    """The cloud of what a prompt means, and what it may mean instead.

    Meaning and errors are those of :func:`wildseg3d_ros.scene.choosing.choose`.
    """
    try:
        choice = choose(scene, prompt)
    except PromptError as error:
        if error.code not in NOT_CACHED:
            raise
        way_out = _HOW_TO_ADD if scene.object_tree.derived else _HOW_TO_MARK
        raise PromptError(f"{error}; {way_out}", error.code) from error
    return cloud_of(scene, choice)


def selected_by(scene: Scene, cloud: ObjectCloud) -> Selected:
    """What an answer of the scene selects: its objects, or its nodes where these are others."""
    known = {node for i in cloud.object_ids for node in scene.object_tree.nodes[i]}
    return cloud.object_ids if known == set(cloud.nodes) else Nodes(cloud.nodes)


def objects_cloud(scene: Scene, selected: Selected) -> ObjectCloud:
    """A copy of the points of the given objects or nodes, with their masks.

    Raises:
        PromptError: there is no such object, or none of the objects has a point (code
            NO_DEPTH_AT_PIXEL).
    """
    if isinstance(selected, Nodes):
        segments = [nodes_segment(scene, [node]) for node in selected.nodes]
    else:
        segments = [object_segment(scene, object_id) for object_id in selected]
    return cloud_of(scene, Choice(tuple(segments), by_id=True))


def cloud_of(scene: Scene, choice: Choice) -> ObjectCloud:
    """A copy of the points that were chosen, with their masks and alternatives.

    Raises:
        PromptError: they have no point (code NO_DEPTH_AT_PIXEL).
    """
    tree, index = scene.object_tree.tree, scene.index
    nodes = tuple(sorted({node for each in choice.segments for node in each.nodes}))
    ids = tuple(sorted({each.object_id for each in choice.segments} - {0}))
    runs = tree.runs(nodes)
    rows = index.slices(runs)
    if not rows:
        what = f"object {', '.join(map(str, ids))}" if ids else "the part there"
        raise PromptError(
            f"{what} has masks but no reliable 3D point: no view measured its depth; click "
            "another object, or add a view that sees it closer",
            ErrorCode.NO_DEPTH_AT_PIXEL,
        )
    columns = {
        name: np.concatenate([getattr(index, name)[part] for part in rows])
        for name in ("points", "colors", "confidence", "view_count")
    }
    alternatives = _alternatives(scene, choice, runs, len(columns["points"]))
    score, ambiguity = _certainty(scene, choice.segments, alternatives)
    return ObjectCloud(
        **columns,
        object_ids=ids,
        masks=ViewMasks(scene.view_names, tree.leaves, runs, scene.camera_sizes),
        frame_id=scene.frame_id,
        stamp_ns=scene.stamp_ns,
        scene_id=scene.scene_id,
        nodes=nodes,
        score=score,
        ambiguity=ambiguity,
        alternatives=alternatives,
    )


def _certainty(
    scene: Scene, segments: Sequence[Segment], alternatives: Sequence[Alternative]
) -> tuple[float, float]:
    """Score and ambiguity; those of the object's record, where it has any."""
    known = not scene.object_tree.derived or bool(scene.masks.objects)
    score = min(each.score for each in segments) if known else math.nan
    if len(segments) != 1 or not known:
        return score, math.nan
    said = [r for r in scene.masks.objects if r.object_id == segments[0].object_id]
    if said and not math.isnan(said[0].ambiguity):
        return score, said[0].ambiguity
    best = max((each.score for each in alternatives), default=0.0)
    return score, min(1.0, best / score) if score > 0.0 else float(best > 0.0)


def _alternatives(
    scene: Scene, choice: Choice, runs: NDArray[np.int32], own: int
) -> tuple[Alternative, ...]:
    """The best node that is larger and the best that is smaller than the one segment chosen, which
    has so many points of its own."""
    if len(choice.segments) != 1 or choice.by_id:
        return ()
    tree, offsets = scene.object_tree.tree, scene.index.leaf_offsets
    nodes = tree.path(choice.leaf) if choice.leaf >= 0 else _nested(scene, runs)
    best: dict[bool, tuple[float, int, int]] = {}
    for node in nodes:
        score = tree.score.item(node)
        first, end = tree.start.item(node), tree.stop.item(node)
        count = offsets.item(end) - offsets.item(first)
        if score < MIN_SCORE or not count or any(first <= leaf < end for leaf in choice.off):
            continue
        larger = own < SAME * count
        if (larger or count < SAME * own) and score > best.get(larger, (0.0,))[0]:
            best[larger] = (score, node, count)
    found = []
    for larger, (_, node, count) in sorted(best.items(), reverse=True):
        segment = nodes_segment(scene, [node])
        cut = partial(cloud_of, scene, Choice((segment,), by_id=True))
        found.append(Alternative(segment.nodes, segment.score, larger, count, cut))
    return tuple(found)


def _nested(scene: Scene, runs: NDArray[np.int32]) -> list[int]:
    """Nodes that hold all of the runs, or are in one of them."""
    tree = scene.object_tree.tree
    nested = (tree.start <= runs[0, 0]) & (tree.stop >= runs[-1, 1])
    for first, end in runs:
        nested |= (tree.start >= first) & (tree.stop <= end)
    return np.flatnonzero(nested & (tree.score >= MIN_SCORE)).tolist()
