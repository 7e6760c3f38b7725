"""Objects that are made or corrected by prompts after a scene was built."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.geometry.cameras import window
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import LEVELS, POSITIVE, MaskCache, ObjectCloud, ObjectTree, Prompt
from wildseg3d_ros.masks import MaskBackend, PromptedMaskBackend, as_built, load_masks_for
from wildseg3d_ros.masks.interactive.adding import extend_cache
from wildseg3d_ros.masks.interactive.cutting import Pictures, cut_between
from wildseg3d_ros.masks.interactive.leaves import (
    add_leaves,
    refined_leaves,
    set_leaves,
    tree_of,
    with_tree,
    without_tree,
)
from wildseg3d_ros.masks.interactive.refining import check_satisfied, refine_masks
from wildseg3d_ros.masks.sources import LocatedClick, check_clicks_agree
from wildseg3d_ros.scene.choosing import choose, nothing_there
from wildseg3d_ros.scene.clicks import clicks_of, locate, prompts_by_view
from wildseg3d_ros.scene.prompting import NOT_CACHED, objects_cloud
from wildseg3d_ros.scene.scene import Edit, Scene
from wildseg3d_ros.scene.segments import object_segment

OTHER_BACKEND = "or build the scene with a mask back end that takes prompts (masks.backend=sam2)"
"""The way out where the tree has no part that a prompt could mean."""


def config_as_built(scene: Scene) -> SceneConfig:
    """The defaults, with the mask back end and the weights that built the scene."""
    config = SceneConfig()
    return dataclasses.replace(config, masks=as_built(config.masks, scene.masks))


def load_editing_masks(
    scene: Scene, config: SceneConfig, prompted: bool = True
) -> MaskBackend | None:
    """The configured mask back end, if edits of the scene need one: a tree of masks needs none.

    Errors and arguments as of :func:`wildseg3d_ros.masks.load_masks_for`.
    """
    derived = scene.object_tree.derived
    return load_masks_for(scene.masks, config.masks, prompted) if derived else None


def add_object(
    scene: Scene,
    prompt: Prompt,
    config: SceneConfig = SceneConfig(),
    masks: MaskBackend | PromptedMaskBackend | None = None,
) -> tuple[Scene, ObjectCloud]:
    """Makes what a prompt means an object of the scene.

    It is what the tree of masks has there. Where positive and negative clicks are on one leaf of
    it, the leaf is cut in two between them. A scene that knows label maps alone asks the back end
    instead, if that can be prompted: the prompted views are segmented at the clicks and boxes, and
    what is found is lifted into the other views by the pointmaps and checked there. The scene that
    is given stays as it is and goes on answering.

    Args:
        config: of the index.
        masks: a loaded back end.

    Returns:
        A scene that has the object, with an id of its own, and the object's cloud; the scene
        itself, where it has that object.

    Raises:
        PromptError: nothing is found that satisfies the prompt.
    """
    if scene.object_tree.derived and isinstance(masks, PromptedMaskBackend):
        return _added_by_backend(scene, prompt, config, masks)
    draft = _with_leaves_cut(scene, _located(scene, prompt))
    try:
        chosen = choose(draft, prompt, floor=0.0).segments
    except PromptError as error:
        if error.code not in NOT_CACHED:
            raise
        raise PromptError(f"{error}; {OTHER_BACKEND}", error.code) from error
    if len(chosen) == 1 and chosen[0].object_id:
        return scene, objects_cloud(scene, (chosen[0].object_id,))
    held = tree_of(draft.masks).leaves_of(node for each in chosen for node in each.nodes)
    cache, object_id = add_leaves(draft.masks, held)
    extended = _edited(scene, draft, cache, config)
    return _noted(scene, extended, prompt, object_id, refines=False)


def refine_object(
    scene: Scene,
    prompt: Prompt,
    config: SceneConfig = SceneConfig(),
    masks: MaskBackend | PromptedMaskBackend | None = None,
) -> tuple[Scene, ObjectCloud]:
    """Corrects the one object that a prompt names by its clicks and points.

    See :func:`wildseg3d_ros.masks.interactive.leaves.refined_leaves` and, for a back end that is
    prompted, :func:`wildseg3d_ros.masks.interactive.refining.refine_masks`; which of the two, and
    arguments, as of :func:`add_object`.

    Returns:
        A scene in which the object, with the id that it had, is another one, and its cloud.

    Raises:
        PromptError: not one object, no click, or clicks that cannot be satisfied.
    """
    given = clicks_of(scene, prompt)
    if len(prompt.object_ids) != 1 or not given or prompt.boxes or prompt.masks:
        raise PromptError(
            "refining takes one object id and clicks or points, no box and no mask; got "
            f"{len(prompt.object_ids)} id(s), {len(given)} click(s) and point(s), "
            f"{len(prompt.boxes)} box(es) and {len(prompt.masks)} mask(s)"
        )
    object_id = object_segment(scene, prompt.object_ids[0]).object_id
    clicks = _located(scene, prompt)
    if scene.object_tree.derived and isinstance(masks, PromptedMaskBackend):
        source = masks.prompts(scene.images, scene.masks)
        visibility, names = _visibility(scene), scene.view_names
        cache = refine_masks(
            scene.masks, object_id, clicks, source, scene.world, visibility, names
        )
        refined = scene.with_masks(cache, config.index)
        return _noted(scene, refined, prompt, object_id, refines=True)
    clicks = [_on_surface(scene, click) if click.on else click for click in clicks]
    draft = _with_leaves_cut(scene, clicks)
    tree = tree_of(draft.masks)
    on, off = (
        {click.at(tree.leaves) for click in clicks if click.on == wanted} - {-1}
        for wanted in (True, False)
    )
    held = refined_leaves(draft.masks, object_id, on, off)
    level = LEVELS.index(draft.masks.record(object_id).level)
    cache = set_leaves(draft.masks, level, object_id, held)
    shown = [labels == object_id for labels in cache.maps[level]]
    check_satisfied(shown, object_id, clicks, scene.view_names)
    refined = _edited(scene, draft, cache, config)
    return _noted(scene, refined, prompt, object_id, refines=True)


def undo(
    scene: Scene, config: SceneConfig = SceneConfig(), masks: MaskBackend | None = None
) -> tuple[Scene, Edit]:
    """Takes the newest edit back: all but it are made again, on the scene before the first.

    Ids that were given meanwhile stay used. Arguments as of :func:`add_object`.

    Returns:
        The scene without the edit, and the edit.

    Raises:
        PromptError: there is none.
    """
    if scene.original is None:
        raise PromptError(
            "nothing to undo: no object was added or corrected since the scene was built or loaded"
        )
    before = scene.original
    for edit in scene.edits[:-1]:
        before, _ = (refine_object if edit.refines else add_object)(
            before, edit.prompt, config, masks
        )
    kept = dataclasses.replace(before.masks, next_id=scene.masks.next_id)
    return dataclasses.replace(before, masks=kept), scene.edits[-1]


def _noted(
    before: Scene, after: Scene, prompt: Prompt, object_id: int, refines: bool
) -> tuple[Scene, ObjectCloud]:
    """The changed scene, which knows what changed it, and the cloud of the changed object."""
    edits = (*before.edits, Edit(prompt, object_id, refines))
    original = before if before.original is None else before.original
    after = dataclasses.replace(after, edits=edits, original=original)
    return after, objects_cloud(after, (object_id,))


def _added_by_backend(
    scene: Scene, prompt: Prompt, config: SceneConfig, masks: PromptedMaskBackend
) -> tuple[Scene, ObjectCloud]:
    """The scene with what the back end finds for a prompt, and its cloud."""
    prompts = prompts_by_view(scene, prompt)
    source = masks.prompts(scene.images, scene.masks)
    visibility, names = _visibility(scene), scene.view_names
    cache, object_id = extend_cache(scene.masks, source, prompts, scene.world, visibility, names)
    extended = scene.with_masks(cache, config.index)
    return _noted(scene, extended, prompt, object_id, refines=False)


def _visibility(scene: Scene) -> Visibility:
    return Visibility.create(scene.K, scene.world_from_cam, scene.world)


def _located(scene: Scene, prompt: Prompt) -> list[LocatedClick]:
    """The prompt's clicks and points, which do not contradict each other at one pixel."""
    clicks = [
        LocatedClick(*locate(scene, click), on=click.label == POSITIVE)
        for click in clicks_of(scene, prompt)
    ]
    check_clicks_agree(clicks, scene.view_names)
    return clicks


def _with_leaves_cut(scene: Scene, clicks: Sequence[LocatedClick]) -> Scene:
    """The scene with a tree, of which no leaf is clicked both on and off the object."""
    treed = with_tree(scene.masks)
    cache = cut_between(treed, clicks, Pictures(scene.images, scene.world))
    if scene.object_tree.derived:
        scene = dataclasses.replace(scene, masks=treed, object_tree=ObjectTree.of_cache(treed))
    return scene if cache is treed else scene.with_edited_masks(cache)


def _edited(scene: Scene, draft: Scene, cache: MaskCache, config: SceneConfig) -> Scene:
    """The draft with other masks; of a scene of label maps, with label maps alone again."""
    if not scene.object_tree.derived:
        return draft.with_edited_masks(cache)
    return scene.with_masks(without_tree(cache), config.index)


def _on_surface(scene: Scene, click: LocatedClick) -> LocatedClick:
    """The click at its pixel, or at the nearest one that has a leaf.

    Raises:
        PromptError: there is none within the scene's click radius.
    """
    about = window(click.row, click.column, scene.click_radius)
    rows, columns = np.nonzero(scene.object_tree.tree.leaves[click.view][about] >= 0)
    if not len(rows):
        error = nothing_there(scene, click.view, click.row, click.column)
        raise PromptError(f"{error}; {OTHER_BACKEND}", error.code)
    rows, columns = rows + about[0].start, columns + about[1].start
    at = int(np.hypot(rows - click.row, columns - click.column).argmin())
    return dataclasses.replace(click, row=int(rows[at]), column=int(columns[at]))
