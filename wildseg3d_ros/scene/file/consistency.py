"""Whether the parts of a scene are what they must be and fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.arrays import read_pixels
from wildseg3d_ros.core.errors import InputError, InvalidScene
from wildseg3d_ros.core.types import (
    Alignment,
    CameraVerdict,
    LeftOutView,
    MaskCache,
    Verdict,
    check_names,
)
from wildseg3d_ros.core.types.views import check_pose
from wildseg3d_ros.scene.file.checks import (
    check_array,
    check_finite,
    check_integer,
    check_range,
    check_text,
    check_tuple,
    expect,
)
from wildseg3d_ros.scene.file.mask_checks import check_masks
from wildseg3d_ros.scene.index import ObjectIndex
from wildseg3d_ros.scene.scene import Scene

Kinds = Mapping[str, tuple[type[np.generic], tuple[str, *tuple[int, ...]]]]
"""Number type and shape of arrays by name; the first size is known by what it counts."""
INDEX_ARRAYS: Kinds = {
    "points": (np.float32, ("points", 3)),
    "colors": (np.uint8, ("points", 3)),
    "confidence": (np.float32, ("points",)),
    "view_count": (np.uint8, ("points",)),
    "view": (np.uint16, ("points",)),
    "pixel": (np.uint32, ("points",)),
    "leaf_offsets": (np.int64, ("offsets",)),
}
ALIGNMENT_ARRAYS: Kinds = {
    "edges": (np.int64, ("pairs", 2)),
    "world_from_pair": (np.float64, ("pairs", 4, 4)),
    "pair_scale": (np.float64, ("pairs",)),
    "world_from_cam": (np.float64, ("views", 4, 4)),
    "K": (np.float64, ("views", 3, 3)),
    "pair_residual": (np.float64, ("pairs",)),
    "view_residual": (np.float64, ("views",)),
    "pair_used": (np.bool_, ("pairs",)),
    "prior_residual": (np.float64, ("views",)),
    "pair_residual_px": (np.float64, ("pairs",)),
    "view_residual_px": (np.float64, ("views",)),
    "view_correction": (np.float64, ("views", 4, 4)),
}
_MAY_BE_EMPTY = ("pair_residual_px", "view_residual_px", "view_correction")
_LONGEST = 2**15
"""Edge of a camera's image [px]."""
_LATEST_NS = 2**63 - 1
_LARGEST = float(np.finfo(np.float32).max)


def check_masks_of(images: Sequence[NDArray[np.uint8]], masks: MaskCache) -> None:
    """Checks that masks are what they must be, and that they are those of the images.

    Raises:
        InvalidScene: names the part, what was expected and what it is.
    """
    labels = check_tuple(masks.labels, "label maps by view", len(images))
    for view, (image, of_view) in enumerate(zip(images, labels, strict=True)):
        check_array(of_view, f"label map of view {view}", np.int32, image.shape[:2])
    check_masks(masks)


def check_scene(scene: Scene, masks_checked: bool = False) -> None:
    """Checks that the parts are what they must be and fit each other.

    Args:
        masks_checked: whether the masks have passed :func:`check_masks_of`.

    Raises:
        InvalidScene: names the part, what was expected and what it is.
    """
    views = _check_views(scene)
    check_cameras(scene.K, scene.world_from_cam, views)
    if not masks_checked:
        check_masks_of(scene.images, scene.masks)
    _check_world(scene)
    _check_index(scene.index, scene)
    _check_alignment(scene.alignment, views)
    _check_left_out(scene)
    for name in ("K", "world_from_cam"):
        same = np.array_equal(getattr(scene, name), getattr(scene.alignment, name))
        expect(same, f"{name} of the alignment", f"the scene's {name}", "other values")


def _check_views(scene: Scene) -> int:
    views = len(check_tuple(scene.view_names, "view_names"))
    for name in scene.view_names:
        check_text(name, "a name in view_names")
    try:
        check_names(scene.view_names, at_least=1)
    except InputError as error:
        raise InvalidScene(f"view_names: {error}") from error
    for view, image in enumerate(check_tuple(scene.images, "images", views)):
        check_array(image, f"image of view {view}", np.uint8, (None, None, 3))
        expect(image.size > 0, f"image of view {view}", "at least one pixel", image.shape)
    sizes = check_tuple(scene.camera_sizes, "camera_sizes", views if scene.camera_sizes else 0)
    for image, size in zip(scene.images, sizes, strict=False):
        for least, edge in zip(
            image.shape, check_tuple(size, "a size in camera_sizes", 2), strict=False
        ):
            check_integer(edge, "an edge in camera_sizes", least, _LONGEST)
    for stamp in check_tuple(scene.stamps_ns, "stamps_ns", views):
        check_integer(stamp, "a time in stamps_ns", -_LATEST_NS, _LATEST_NS)
    check_integer(scene.stamp_ns, "stamp_ns", -_LATEST_NS, _LATEST_NS)
    for frame in check_tuple(scene.camera_frames, "camera_frames", views):
        check_text(frame, "a frame in camera_frames")
    for name in ("scene_id", "frame_id"):
        check_text(getattr(scene, name), name)
    for text in check_tuple(scene.warnings, "warnings"):
        check_text(text, "a warning")
    expect(isinstance(scene.seconds, Mapping), "seconds", "stages with times", scene.seconds)
    for stage, seconds in scene.seconds.items():
        _number(seconds, f"seconds of stage {check_text(stage, 'a stage')}", 0.0)
    check_integer(scene.click_radius, "click_radius", 0, 2**15)
    return views


def check_cameras(K: Any, world_from_cam: Any, views: int) -> None:
    """Checks intrinsics and poses of all views; raises InvalidScene."""
    check_array(K, "K", np.float64, (views, 3, 3))
    check_finite(K, "K")
    for view, each in enumerate(K):
        what = f"K of view {view}"
        expect(bool(each[0, 0] > 0 and each[1, 1] > 0), what, "positive focal lengths", each)
        expect(np.abs(each[2] - [0, 0, 1]).max() < 1e-6, what, "a last row of 0 0 1", each[2])
    check_array(world_from_cam, "world_from_cam", np.float64, (views, 4, 4))
    _check_poses(world_from_cam, "world_from_cam")


def _check_poses(poses: np.ndarray, what: str) -> None:
    for i, pose in enumerate(poses):
        try:
            check_pose(pose, f"{what}[{i}]")
        except InputError as error:
            raise InvalidScene(str(error)) from error


def _check_world(scene: Scene) -> None:
    world = scene.world
    for name in ("points", "confidence"):
        check_tuple(getattr(world, name), f"{name} of the pointmaps", len(scene.images))
    for view, image in enumerate(scene.images):
        points, confidence = world.points[view], world.confidence[view]
        size = image.shape[:2]
        check_array(points, f"points of view {view}", np.float32, (*size, 3))
        check_array(confidence, f"confidence of view {view}", np.float32, size)
        check_range(confidence, f"confidence of view {view}", 0.0, _LARGEST)
        check_finite(points[confidence > 0], f"points of view {view} that have a confidence")


def _check_index(index: ObjectIndex, scene: Scene) -> None:
    rows = len(index.points)
    leaves = scene.object_tree.tree.leaf_count
    sizes = {"points": rows, "offsets": leaves + 1}
    for name, (dtype, (count, *rest)) in INDEX_ARRAYS.items():
        check_array(getattr(index, name), f"{name} of the index", dtype, (sizes[count], *rest))
    check_finite(index.points, "points of the index")
    check_range(index.confidence, "confidence of the index", 0.0, _LARGEST)
    sizes = np.array([image.shape[0] * image.shape[1] for image in scene.images])
    check_range(index.view, "view of the index", 0, len(sizes) - 1)
    check_range(index.view_count, "view_count of the index", 1, 255)
    inside = index.pixel < sizes[index.view]
    expect(bool(inside.all()), "pixel of the index", "pixels of the views", "some outside")
    offsets = index.leaf_offsets
    rising = offsets[0] == 0 and offsets[-1] == rows and bool((np.diff(offsets) >= 0).all())
    expect(bool(rising), "leaf_offsets of the index", f"rising from 0 to {rows}", offsets)
    expect(index.in_order(), "the index", "points by leaf, view and pixel", "another order")
    for view, points in enumerate(scene.world.points):
        mine = index.view == view
        same = np.array_equal(
            index.points[mine], read_pixels(points, index.pixel[mine].astype(np.int64))
        )
        expect(same, f"points of view {view} in the index", "those of its pointmap", "others")


def _check_alignment(aligned: Alignment, views: int) -> None:
    sizes = {"pairs": len(aligned.edges), "views": views}
    for name, (dtype, (count, *rest)) in ALIGNMENT_ARRAYS.items():
        values = getattr(aligned, name)
        empty = name in _MAY_BE_EMPTY and np.size(values) == 0
        check_array(values, name, dtype, (0 if empty else sizes[count], *rest))
        if "residual" in name:
            check_range(values[~np.isnan(values)], name, 0.0, np.inf)
    used = aligned.pair_used
    check_range(aligned.edges, "edges", 0, views - 1)
    check_cameras(aligned.K, aligned.world_from_cam, views)
    _check_poses(aligned.world_from_pair[used], "world_from_pair of the used pairs")
    check_range(aligned.pair_scale[used], "pair_scale of the used pairs", 1e-30, 1e30)
    _check_poses(aligned.view_correction, "view_correction")
    for name in ("converged", "metric", "in_prior_frame"):
        value = getattr(aligned, name)
        expect(isinstance(value, bool | np.bool_), name, "true or false", value)
    check_integer(aligned.iterations, "iterations", 0, 2**31)
    _number(aligned.condition, "condition", 0.0)
    _number(aligned.scale_factor, "scale_factor", 1e-30)
    _number(aligned.registration_residual, "registration_residual", 0.0)
    check_text(aligned.stop_reason, "stop_reason")
    check_tuple(aligned.cameras, "cameras of the alignment", views if aligned.cameras else 0)
    for camera in aligned.cameras:
        _check_verdict(camera)
    for name in ("warnings", "scale_sources"):
        for text in check_tuple(getattr(aligned, name), f"{name} of the alignment"):
            check_text(text, f"an entry in {name} of the alignment")


def _check_left_out(scene: Scene) -> None:
    for view in check_tuple(scene.left_out, "left_out"):
        expect(isinstance(view, LeftOutView), "a view in left_out", "a left out view", view)
        _check_verdict(view.verdict)
        check_text(view.frame_id, f"frame of '{view.name}' in left_out")
        if view.world_from_cam is not None:
            _check_poses(np.asarray(view.world_from_cam)[None], "a pose in left_out")
    names = [*scene.view_names, *(view.name for view in scene.left_out)]
    try:
        check_names(names, at_least=1)
    except InputError as error:
        raise InvalidScene(f"left_out: {error}") from error


def _check_verdict(camera: Any) -> None:
    what = "a camera of the alignment"
    expect(isinstance(camera, CameraVerdict), what, "a verdict", camera)
    for name in ("name", "why"):
        check_text(getattr(camera, name), f"{name} of {what}")
    expect(isinstance(camera.posed, bool | np.bool_), f"posed of {what}", "true or false", camera)
    for name in ("translation", "rotation", "translation_sigma", "rotation_sigma", "deviations"):
        _number(getattr(camera, name), f"{name} of {what}", 0.0)
    for name in ("weight", "agreement", "median_depth", "depth_share"):
        _number(getattr(camera, name), f"{name} of {what}", 0.0)
    expect(isinstance(camera.overlap, Mapping), f"overlap of {what}", "shares by name", camera)
    for other, share in camera.overlap.items():
        _number(share, f"overlap of {what} with {check_text(other, 'a name')}", 0.0)
    expect(camera.verdict in get_args(Verdict), f"verdict of {what}", "a known one", camera)


def _number(value: Any, what: str, minimum: float) -> None:
    """Not known is NaN."""
    fits = isinstance(value, Real) and not float(value) < minimum
    expect(fits, what, f"a number of at least {minimum:g}", value)
