"""WildSeg3D on one page: views in, scene out; prompt in, object cloud out.

Masks and alignment inform each other and alignment is cheap, so it runs twice: on confidences
alone, to give the mask back end one cloud to look at, and again with the masks (DGA).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from wildseg3d_ros.alignment import Aligner, Aligns, ViewAligner
from wildseg3d_ros.alignment.fusion.fuse import device_array as check_device
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import AlignmentError, DisconnectedViews, ErrorCode, InputError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import (
    Alignment,
    CameraVerdict,
    LeftOutView,
    ObjectCloud,
    PairPrediction,
    Prompt,
    View,
    check_views,
)
from wildseg3d_ros.core.types.working import at_working_size
from wildseg3d_ros.masks import MaskBackend, load_masks, load_masks_for, why_nothing_found
from wildseg3d_ros.masks.ignored import without_ignored
from wildseg3d_ros.masks.interactive.joining import JoinedMasks
from wildseg3d_ros.masks.interactive.updating import UpdatedMasks
from wildseg3d_ros.pairing import choose_pairs, keep_largest
from wildseg3d_ros.pointmaps import ComparesViews, NeedsPoses, PointmapBackend, load_for
from wildseg3d_ros.pointmaps.ignored import without_points
from wildseg3d_ros.rig.judge import judge
from wildseg3d_ros.rig.report import RigReport
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_ros.scene.replaced_view import (
    at_sizes_of,
    check_same_views,
    has_moved,
    pairs_of_view,
    require_fit,
)
from wildseg3d_ros.scene.scene import Scene

_JOINING_PAIRS = 4
"""Of a view that joins a scene: so many place it as well as all, and it takes half the time."""


def build_scene(
    views: Sequence[View],
    config: SceneConfig = SceneConfig(),
    progress: Progress | None = None,
    pointmaps: PointmapBackend | None = None,
    masks: MaskBackend | None = None,
    world_frame: str = "world",
) -> Scene:
    """Builds the snapshot that answers prompts.

    >>> from wildseg3d_ros.io.folder import load_folder
    >>> build_scene(load_folder("recording", max_views=2).views)
    <scene ...: ... objects in 2 views, frame 'world'>

    Args:
        views: two or more views of one static scene. Where some cannot be related to the others,
            the largest group that can is built, and the rest left out with a warning.
        config: see :mod:`wildseg3d_ros.config`.
        progress: told of stages and fractions, asked for cancellation.
        pointmaps, masks: loaded back ends to use instead of loading the configured ones.
        world_frame: name of the frame that the views' given poses refer to.

    Raises:
        InputError: views that cannot be used. AlignmentError: views that do not fit together.
        DisconnectedViews: no two views can be related or, with ``pairing.require_all_views``, not
            all of them.
        RigError: what is given of the cameras is wrong in a way that is known, and
            ``alignment.check_rig`` is set.
        Cancelled: the caller asked to stop; nothing is left behind.
    """
    progress = progress or Progress()
    check_views(views)
    views = [at_working_size(view, config.max_megapixels) for view in views]
    check_device(config.alignment.device)
    report = _check_rig(views, config, progress)
    pointmaps = pointmaps or load_for(views, config.pointmaps, progress)
    masks = masks or load_masks(config.masks)
    pointmaps.check(views)
    masks.check(views)

    if isinstance(pointmaps, NeedsPoses):
        views = pointmaps.with_deviations(views)
    left_out: tuple[LeftOutView, ...] = ()
    predictions: Sequence[PairPrediction] = ()
    while True:
        try:
            predictions = predictions or _predict(views, config, progress, pointmaps)
            make_aligner = partial(Aligner, predictions, views, config.alignment)
            scene = _finish(views, make_aligner, config, progress, masks, world_frame, report)
            return replace(scene, left_out=_judged(left_out, report))
        except DisconnectedViews as error:
            if config.pairing.require_all_views:
                raise
            error.predictions = error.predictions or tuple(predictions)
            kept = keep_largest(views, error)
        progress.warn(kept.warning)
        views, predictions = [views[v] for v in kept.index], kept.predictions
        left_out += kept.left_out


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
    """A scene after one view was replaced or has joined it; the objects of the others keep ids.

    Only pairs that hold the view are compared, only its image is segmented, and it is placed
    onto the other views' points, which stay where they are. Where the given pose of a replaced
    view says that the camera stands elsewhere now, or that of a view that joins contradicts what
    it sees, all pairs are compared and aligned.

    Args:
        scene: of the views before.
        views: all of them, with the new image; a view that joins is the last.
        changed: name of the new image's view.

    Raises:
        PromptError: the scene has no such camera. InputError: other views than the scene's.
        Others: as of :func:`build_scene`.
    """
    views = [view for view in views if view.name not in {v.name for v in scene.left_out}]
    joins = changed not in scene.view_names and bool(views) and views[-1].name == changed
    index = len(scene.view_names) if joins else scene.view_index(changed)
    check_same_views(scene, views[:-1] if joins else views)
    views = at_sizes_of(scene, views, config.max_megapixels)
    progress = progress or Progress()
    check_device(config.alignment.device)
    pointmaps = pointmaps or load_for(views, config.pointmaps, progress)
    backend = masks or load_masks_for(scene.masks, config.masks)
    if joins:
        masks = JoinedMasks(backend, scene.masks)
        few = min(config.pairing.max_pairs_per_view, _JOINING_PAIRS)
        bounded = replace(config, pairing=replace(config.pairing, max_pairs_per_view=few))
        pairs = [p for p in _choose_pairs(views, bounded, pointmaps, progress) if index in p]
    else:
        masks = UpdatedMasks(backend, scene.masks, index)
        pairs = pairs_of_view(scene, index)
    # The masks of the others are kept, so that no view may be left out.
    whole = replace(config.of_all_views(), max_megapixels=0.0)
    build_anew = partial(build_scene, views, whole, progress, pointmaps, masks, world_frame)
    if not pairs or (not joins and has_moved(scene, views[index], index)):
        return replace(build_anew(), left_out=scene.left_out)
    check_views(views)
    report = _check_rig(views, config, progress)
    pointmaps.check(views)
    masks.check(views)
    with progress.stage("pointmaps"):
        if isinstance(pointmaps, NeedsPoses):
            views = pointmaps.with_deviations(views)
        try:
            fresh = without_points(pointmaps.predict(views, pairs, progress), views)
        except InputError as error:
            if error.code != ErrorCode.DISCONNECTED_VIEWS:
                raise
            fresh = []
    if not fresh:  # pairs that were of no use before may be so now
        return replace(build_anew(), left_out=scene.left_out)
    before = scene.alignment, scene.world
    make_aligner = partial(ViewAligner, fresh, views, index, *before, config.alignment)
    try:
        updated = _finish(views, make_aligner, config, progress, masks, world_frame, report)
        if joins:
            require_fit(updated, index)
    except AlignmentError as error:
        if not joins:
            raise
        progress.warn(f"view '{changed}' does not fit the scene, which was aligned anew: {error}")
        updated = build_anew()
    return replace(updated, left_out=scene.left_out)


def _predict(
    views: Sequence[View], config: SceneConfig, progress: Progress, pointmaps: PointmapBackend
) -> list[PairPrediction]:
    """Pointmaps of the pairs that the views make."""
    with progress.stage("pairs"):
        pairs = _choose_pairs(views, config, pointmaps, progress)
    with progress.stage("pointmaps"):
        return without_points(pointmaps.predict(views, pairs, progress), views)


def _finish(
    views: Sequence[View],
    make_aligner: Callable[[], Aligns],
    config: SceneConfig,
    progress: Progress,
    masks: MaskBackend,
    world_frame: str,
    report: RigReport | None,
) -> Scene:
    """From pairs to the snapshot."""
    _warn_of_missing_poses(views, progress)
    with progress.stage("alignment"):
        aligner = make_aligner()
        alignment, world = aligner.solve(), aligner.fuse()
    with progress.stage("masks"):
        cache = without_ignored(masks.segment(views, alignment, world, progress), views)
    with progress.stage("alignment"):
        alignment, world = aligner.solve(cache), aligner.fuse()
    _say_found_intrinsics(views, alignment, progress)
    if report is not None:
        names = {view.name for view in views}
        joined = report.joined(alignment.cameras)
        alignment = _believed(alignment, tuple(c for c in joined if c.name in names))
        _warn_of_rig(report, progress, {c.name for c in joined if c.verdict != "unchecked"})
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
            nothing_found=why_nothing_found(cache),
        )


def _believed(alignment: Alignment, cameras: tuple[CameraVerdict, ...]) -> Alignment:
    """The alignment with the verdicts on its cameras, which most of them may refute."""
    posed = [camera.verdict for camera in cameras if camera.posed]
    if 2 * posed.count("suspect") <= len(posed):
        return replace(alignment, cameras=cameras)
    reason = "most cameras contradict each other, and no usual mistake explains it"
    return replace(alignment, cameras=cameras, converged=False, stop_reason=reason)


def _judged(left_out: Sequence[LeftOutView], report: RigReport | None) -> tuple[LeftOutView, ...]:
    """The views with what is told of the rig before anything is aligned."""
    if report is None:
        return tuple(left_out)
    joined = report.joined([view.verdict for view in left_out]) if left_out else ()
    return tuple(replace(view, verdict=v) for view, v in zip(left_out, joined, strict=True))


def _check_rig(views: Sequence[View], config: SceneConfig, progress: Progress) -> RigReport | None:
    """Refuses a rig that is wrong in a known way, and warns of what else contradicts itself."""
    if not config.alignment.check_rig:
        return None
    with progress.stage("rig"):
        report = judge(views)
        report.refuse()
        _warn_of_rig(report, progress)
    return report


def _warn_of_rig(report: RigReport, progress: Progress, checked: Collection[str] = ()) -> None:
    """Warns of what may be wrong, less what has been checked of some cameras by something else."""
    for text in report.warnings:
        progress.withdraw(text)
    for text in report.warned(checked):
        progress.warn(text)


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


def segment(scene: Scene, prompt: Prompt) -> ObjectCloud:
    """Answers a prompt from the scene: a look-up and a copy, no inference.

    >>> from wildseg3d_ros.scene.file.snapshot import load_scene
    >>> segment(load_scene("scene.ws3d"), Prompt(object_ids=(1,)))
    <cloud of object 1: ... points in 'base'...>

    Raises:
        PromptError: the prompt names what the scene does not have; the text says what it has.
    """
    return answer(scene, prompt)
