"""WildSeg3D on one page: views in, scene out; prompt in, object cloud out.

Masks and alignment inform each other and alignment is cheap, so it runs twice: on confidences
alone, to give the mask back end one cloud to look at, and again with the masks (DGA).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wildseg3d_ros.alignment import align, align_view, fuse, fuse_view
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.errors import ConfigError, ErrorCode, FileError, InputError, PromptError
from wildseg3d_ros.geometry.visibility import Visibility
from wildseg3d_ros.masks import (
    MaskBackend,
    PromptedMaskBackend,
    UpdatedMasks,
    as_built,
    load_masks,
)
from wildseg3d_ros.masks.prompted import extend_cache
from wildseg3d_ros.masks.refining import LocatedClick, refine_masks
from wildseg3d_ros.masks.sources import MaskSource
from wildseg3d_ros.pairing import choose_pairs
from wildseg3d_ros.pointmaps import ComparesViews, NeedsPoses, PointmapBackend, load_pointmaps
from wildseg3d_ros.progress import Progress
from wildseg3d_ros.scene.prompting import (
    answer,
    clicks_of,
    hints_by_view,
    known_object,
    locate,
    objects_cloud,
)
from wildseg3d_ros.scene.replaced_view import check_same_views, has_moved, pairs_of_view
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.types import (
    POSITIVE,
    Alignment,
    MaskCache,
    ObjectCloud,
    Prompt,
    View,
    WorldPointmaps,
    check_views,
)

Placed = tuple[Alignment, WorldPointmaps]


def build_scene(
    views: Sequence[View],
    config: SceneConfig = SceneConfig(),
    progress: Progress | None = None,
    pointmaps: PointmapBackend | None = None,
    masks: MaskBackend | None = None,
    world_frame: str = "world",
) -> Scene:
    """Builds the snapshot that answers prompts.

    Args:
        views: two or more views of one static scene.
        config: see :mod:`wildseg3d_ros.config`.
        progress: told of stages and fractions, asked for cancellation.
        pointmaps, masks: loaded back ends to use instead of loading the configured ones.
        world_frame: name of the frame that the views' given poses refer to.

    Raises:
        InputError: views that cannot be used. AlignmentError: views that do not fit together.
        Cancelled: the caller asked to stop; nothing is left behind.
    """
    progress = progress or Progress()
    check_views(views)
    pointmaps = pointmaps or load_pointmaps(config.pointmaps)
    masks = masks or load_masks(config.masks)
    pointmaps.check(views)
    masks.check(views)

    _warn_of_missing_poses(views, progress)
    with progress.stage("pairs"):
        if isinstance(pointmaps, NeedsPoses):
            views = pointmaps.with_deviations(views)
        pairs = _choose_pairs(views, config, pointmaps, progress)
    with progress.stage("pointmaps"):
        predictions = pointmaps.predict(views, pairs, progress)

    def place(cache: MaskCache | None, before: Alignment | None) -> Placed:
        found = align(predictions, views, config.alignment, masks=cache, start=before)
        return found, fuse(predictions, views, found, config.alignment)

    return _finish(views, place, config, progress, masks, world_frame)


def update_scene(
    scene: Scene,
    views: Sequence[View],
    changed: str,
    config: SceneConfig = SceneConfig(),
    progress: Progress | None = None,
    pointmaps: PointmapBackend | None = None,
    masks: MaskBackend | None = None,
    world_frame: str = "world",
) -> Scene:
    """A scene after the image of one camera was replaced; the objects of the others keep ids.

    Only pairs that hold the camera are compared, only its image is segmented, and it is placed
    onto the other views' points, which stay where they are. Where its given pose says that the
    camera stands elsewhere now, all pairs are compared.

    Args:
        scene: of the views before.
        views: all of them, with the new image.
        changed: name of its camera.

    Raises:
        PromptError: the scene has no such camera. InputError: other views than the scene's.
        Others: as of :func:`build_scene`.
    """
    index = scene.view_index(changed)
    check_same_views(scene, views)
    progress = progress or Progress()
    pointmaps = pointmaps or load_pointmaps(config.pointmaps)
    masks = UpdatedMasks(masks or load_masks_for(scene, config), scene.masks, index)
    pairs = pairs_of_view(scene, index)
    if not pairs or has_moved(scene, views[index], index):
        return build_scene(views, config, progress, pointmaps, masks, world_frame)
    check_views(views)
    pointmaps.check(views)
    masks.check(views)
    _warn_of_missing_poses(views, progress)
    with progress.stage("pointmaps"):
        if isinstance(pointmaps, NeedsPoses):
            views = pointmaps.with_deviations(views)
        try:
            fresh = pointmaps.predict(views, pairs, progress)
        except InputError as error:
            if error.code != ErrorCode.DISCONNECTED_VIEWS:
                raise
            fresh = []
    if not fresh:  # pairs that were of no use before may be so now
        return build_scene(views, config, progress, pointmaps, masks, world_frame)

    def place(cache: MaskCache | None, _: Alignment | None) -> Placed:
        before, standing, options = scene.alignment, scene.world, config.alignment
        found = align_view(fresh, views, index, before, standing, options, masks=cache)
        return found, fuse_view(fresh, views, index, found, standing, options)

    return _finish(views, place, config, progress, masks, world_frame)


def _finish(
    views: Sequence[View],
    place: Callable[[MaskCache | None, Alignment | None], Placed],
    config: SceneConfig,
    progress: Progress,
    masks: MaskBackend,
    world_frame: str,
) -> Scene:
    """From pairs to the snapshot.

    Args:
        place: aligns and fuses, with what is known so far of masks and of the alignment.
    """
    with progress.stage("alignment"):
        alignment, world = place(None, None)
    with progress.stage("masks"):
        cache = masks.segment(views, alignment, world, progress)
    with progress.stage("alignment"):
        alignment, world = place(cache, alignment)
    _say_found_intrinsics(views, alignment, progress)
    with progress.stage("index"):
        return Scene.create(
            views,
            alignment,
            world,
            cache,
            config=config.index,
            world_frame=world_frame,
            seconds=progress.seconds,
            warnings=progress.warnings,
        )


def _choose_pairs(
    views: Sequence[View], config: SceneConfig, pointmaps: PointmapBackend, progress: Progress
) -> list[tuple[int, int]]:
    if isinstance(pointmaps, NeedsPoses):
        return pointmaps.choose_pairs(views, config.pairing)
    if not isinstance(pointmaps, ComparesViews):
        return choose_pairs(views, config.pairing)
    return choose_pairs(views, config.pairing, lambda views: pointmaps.similarity(views, progress))


def _warn_of_missing_poses(views: Sequence[View], progress: Progress) -> None:
    missing = [view.name for view in views if view.world_from_cam_prior is None]
    if len(missing) == len(views):
        progress.warn("no camera pose is given; the scene is in the first camera's frame")
    elif missing:
        progress.warn(
            f"no pose is given for camera {', '.join(missing)}; placed by what the cameras see"
        )


def _say_found_intrinsics(views: Sequence[View], alignment: Alignment, progress: Progress) -> None:
    found = [
        f"'{view.name}' ({K[0, 0]:.0f} px)"
        for view, K in zip(views, alignment.K, strict=True)
        if view.K is None
    ]
    if found:
        progress.warn(
            f"no intrinsics are given for camera {', '.join(found)}; the focal lengths in "
            "brackets were found from the pointmaps, with the principal point in the middle"
        )


def load_masks_for(scene: Scene, config: SceneConfig) -> MaskBackend:
    """The configured mask back end, ready to change a scene's masks.

    Raises:
        FileError, ConfigError: it cannot be loaded; says so if it is the scene's own.
    """
    try:
        return load_masks(config.masks)
    except (FileError, ConfigError) as error:
        origin = scene.masks.origin
        if origin is None or config.masks != as_built(config.masks, scene.masks):
            raise
        raise type(error)(
            f"the scene's masks were made by {origin}, which cannot be loaded here: {error} "
            "(masks.backend=geometric)",
            error.code,
        ) from error


def segment(scene: Scene, prompt: Prompt) -> ObjectCloud:
    """Answers a prompt from the scene: a look-up and a copy, no inference.

    Raises:
        PromptError: the prompt names what the scene does not have; the text says what it has.
    """
    return answer(scene, prompt)


def add_object(
    scene: Scene,
    prompt: Prompt,
    config: SceneConfig = SceneConfig(),
    masks: MaskBackend | None = None,
) -> tuple[Scene, ObjectCloud]:
    """Answers a prompt that no cached mask satisfies, by making it an object of the scene.

    The prompted views are segmented at the clicks and boxes; what is found is lifted into the
    other views by the pointmaps and checked there. This runs a decoder, not the look-up of
    :func:`segment`: the scene that is given stays as it is and goes on answering.

    Args:
        config: of the index.
        masks: a loaded back end; one that cannot be prompted, or None, leaves it to region growing
            over the pointmap, and the new scene's warnings say so.

    Returns:
        A scene that has the object, with an id of its own, and the object's cloud.

    Raises:
        PromptError: nothing is found that satisfies the prompt.
    """
    hints = hints_by_view(scene, prompt)
    source = _mask_source(scene, masks)
    visibility = Visibility.create(scene.K, scene.world_from_cam, scene.world)
    cache, object_id = extend_cache(
        scene.masks, source, hints, scene.world, visibility, scene.view_names
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

    See :func:`wildseg3d_ros.masks.refining.refine_masks`; arguments as of :func:`add_object`.

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
    source = _mask_source(scene, masks)
    visibility = Visibility.create(scene.K, scene.world_from_cam, scene.world)
    located = [LocatedClick(*locate(scene, c), on=c.label == POSITIVE) for c in clicks]
    cache, asked = refine_masks(
        scene.masks, object_id, located, source, scene.world, visibility, scene.view_names
    )
    note = [f"what object {object_id} gained or lost was {source.note}"]
    refined = scene.with_masks(cache, config.index, note if asked and source.note else [])
    return refined, objects_cloud(refined, (object_id,))


def _mask_source(scene: Scene, masks: MaskBackend | None) -> MaskSource:
    if isinstance(masks, PromptedMaskBackend):
        return masks.prompts(scene.images, scene.masks)
    # It loads scikit-image, which no look-up needs.
    from wildseg3d_ros.masks.region_growing import RegionGrowing

    return RegionGrowing(
        scene.images, scene.world, scene.K, scene.world_from_cam, scene.alignment.metric
    )
