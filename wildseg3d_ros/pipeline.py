"""WildSeg3D on one page: views in, scene out; prompt in, object cloud out.

Masks and alignment inform each other and alignment is cheap, so it runs twice: on confidences
alone, to give the mask back end one cloud to look at, and again with the masks (DGA).
"""

from __future__ import annotations

from collections.abc import Sequence

from wildseg3d_ros.alignment import align, fuse
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.masks import MaskBackend, load_masks
from wildseg3d_ros.pairing import choose_pairs
from wildseg3d_ros.pointmaps import NeedsPoses, PointmapBackend, load_pointmaps
from wildseg3d_ros.progress import Progress
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.types import ObjectCloud, Prompt, View, check_views


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

    _warn_of_missing_poses(views, progress)
    with progress.stage("pairs"):
        if isinstance(pointmaps, NeedsPoses):
            views = pointmaps.with_deviations(views)
            pairs = pointmaps.choose_pairs(views, config.pairing)
        else:
            pairs = choose_pairs(views, config.pairing)
    with progress.stage("pointmaps"):
        predictions = pointmaps.predict(views, pairs, progress)
    with progress.stage("alignment"):
        alignment = align(predictions, views, config.alignment)
        world = fuse(predictions, views, alignment, config.alignment)
    with progress.stage("masks"):
        cache = masks.segment(views, alignment, world, progress)
    with progress.stage("alignment"):
        alignment = align(predictions, views, config.alignment, masks=cache, start=alignment)
        world = fuse(predictions, views, alignment, config.alignment)
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


def _warn_of_missing_poses(views: Sequence[View], progress: Progress) -> None:
    missing = [view.name for view in views if view.world_from_cam_prior is None]
    if len(missing) == len(views):
        progress.warn("no camera pose is given; the scene is in the first camera's frame")
    elif missing:
        progress.warn(
            f"no pose is given for camera {', '.join(missing)}; placed by what the cameras see"
        )


def segment(scene: Scene, prompt: Prompt) -> ObjectCloud:
    """Answers a prompt from the scene: a look-up and a copy, no inference.

    Raises:
        PromptError: the prompt names what the scene does not have; the text says what it has.
    """
    return answer(scene, prompt)
