"""Objects that are made or corrected by prompts after a scene was built."""

from __future__ import annotations

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import POSITIVE, ObjectCloud, Prompt
from wildseg3d_ros.masks import MaskBackend
from wildseg3d_ros.masks.interactive.adding import extend_cache
from wildseg3d_ros.masks.interactive.refining import LocatedClick, refine_masks
from wildseg3d_ros.masks.interactive.updating import source_of_masks
from wildseg3d_ros.scene.prompting import (
    clicks_of,
    known_object,
    locate,
    objects_cloud,
    prompts_by_view,
)
from wildseg3d_ros.scene.scene import Scene


def add_object(
    scene: Scene,
    prompt: Prompt,
    config: SceneConfig = SceneConfig(),
    masks: MaskBackend | None = None,
) -> tuple[Scene, ObjectCloud]:
    """Answers a prompt that no cached mask satisfies, by making it an object of the scene.

    The prompted views are segmented at the clicks and boxes; what is found is lifted into the
    other views by the pointmaps and checked there. This runs a decoder, not a look-up: the
    scene that is given stays as it is and goes on answering.

    Args:
        config: of the index.
        masks: a loaded back end; one that cannot be prompted, or None, leaves it to region growing
            over the pointmap, and the new scene's warnings say so.

    Returns:
        A scene that has the object, with an id of its own, and the object's cloud.

    Raises:
        PromptError: nothing is found that satisfies the prompt.
    """
    prompts = prompts_by_view(scene, prompt)
    source = source_of_masks(masks, scene.images, scene.masks, scene.world, scene.alignment)
    visibility = Visibility.create(scene.K, scene.world_from_cam, scene.world)
    cache, object_id = extend_cache(
        scene.masks, source, prompts, scene.world, visibility, scene.view_names
    )
    note = [f"object {object_id} was {source.note}"] if source.note else []
    extended = scene.with_masks(cache, config.index, note)
    return extended, objects_cloud(extended, (object_id,))


def refine_object(
    scene: Scene,
    prompt: Prompt,
    config: SceneConfig = SceneConfig(),
    masks: MaskBackend | None = None,
) -> tuple[Scene, ObjectCloud]:
    """Corrects the one object that a prompt names by its clicks and points.

    See :func:`wildseg3d_ros.masks.interactive.refining.refine_masks`; arguments as of
    :func:`add_object`.

    Returns:
        A scene in which the object, with the id that it had, is another one, and its cloud.

    Raises:
        PromptError: not one object, no click, or clicks that cannot be satisfied.
    """
    clicks = clicks_of(scene, prompt)
    if len(prompt.object_ids) != 1 or not clicks or prompt.boxes or prompt.masks:
        raise PromptError(
            "refining takes one object id and clicks or points, no box and no mask; got "
            f"{len(prompt.object_ids)} id(s), {len(clicks)} click(s) and point(s), "
            f"{len(prompt.boxes)} box(es) and {len(prompt.masks)} mask(s)"
        )
    object_id = known_object(scene, prompt.object_ids[0])
    source = source_of_masks(masks, scene.images, scene.masks, scene.world, scene.alignment)
    visibility = Visibility.create(scene.K, scene.world_from_cam, scene.world)
    located = [LocatedClick(*locate(scene, c), on=c.label == POSITIVE) for c in clicks]
    cache, asked = refine_masks(
        scene.masks, object_id, located, source, scene.world, visibility, scene.view_names
    )
    note = [f"what object {object_id} gained or lost was {source.note}"]
    refined = scene.with_masks(cache, config.index, note if asked and source.note else [])
    return refined, objects_cloud(refined, (object_id,))
