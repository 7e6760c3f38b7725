"""The values that flow through the pipeline, one validated type per stage.

Frames are named target first: ``world_from_cam`` takes camera points to the world. Camera axes are
OpenCV's (x right, y down, z forward). Pixels are ``uv`` (column, row); arrays are ``[row, col]``.
Integer pixel coordinates are pixel centres. Times are integer nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.errors import ErrorCode, InputError, PromptError

BACKGROUND = 0
"""Label of pixels that belong to no object."""


def _check_pose(pose: NDArray, what: str) -> NDArray[np.float64]:
    pose = np.asarray(pose, dtype=np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise InputError(
            f"{what}: expected a finite 4x4 matrix, got shape {pose.shape}: {pose.tolist()}",
            ErrorCode.BAD_CALIBRATION,
        )
    rotation = pose[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
        raise InputError(
            f"{what}: the upper left 3x3 block is not a rotation (R R^T - I is up to "
            f"{np.abs(rotation @ rotation.T - np.eye(3)).max():.2g}, det "
            f"{np.linalg.det(rotation):.3g}); expected a rigid camera-to-world transform",
            ErrorCode.BAD_CALIBRATION,
        )
    return pose


@dataclass(frozen=True, eq=False)
class View:
    """One image with what is known of its camera.

    Attributes:
        name: camera name, unique in a scene.
        image: (H, W, 3) uint8, RGB, without lens distortion.
        K: (3, 3) float64 intrinsics in pixels; None when unknown.
        depth: (H, W) float32 metres along the optical axis, registered to the image, 0 = none;
            None for an RGB camera. NaN, infinite and negative values are taken as none.
        world_from_cam_prior: (4, 4) float64 pose from TF or kinematics, metres; None when unknown.
        stamp_ns: time of the image.
        frame_id: name of the camera's optical frame in TF; empty when there is none.
        prior_translation_sigma, prior_rotation_sigma: standard deviations of that pose, metres and
            rad; 0 when unknown (then ``alignment.prior_translation_sigma`` and ``_rotation_``).
    """

    name: str
    image: NDArray[np.uint8]
    K: NDArray[np.float64] | None = None
    depth: NDArray[np.float32] | None = None
    world_from_cam_prior: NDArray[np.float64] | None = None
    stamp_ns: int = 0
    frame_id: str = ""
    prior_translation_sigma: float = 0.0
    prior_rotation_sigma: float = 0.0

    def __post_init__(self) -> None:
        who = f"camera '{self.name}'"
        if not self.name:
            raise InputError("a view needs a name that is unique in its scene; got ''")
        image = np.asarray(self.image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise InputError(
                f"{who}: expected an (H, W, 3) uint8 RGB image, got shape {image.shape}, "
                f"dtype {image.dtype}"
            )
        object.__setattr__(self, "image", image)
        if self.K is not None:
            K = np.asarray(self.K, dtype=np.float64)
            if K.shape != (3, 3) or not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
                raise InputError(
                    f"{who}: intrinsics K must be a finite 3x3 matrix with positive focal "
                    f"lengths, got {K.tolist()}; is the camera calibrated and its camera_info "
                    "published?",
                    ErrorCode.BAD_CALIBRATION,
                )
            object.__setattr__(self, "K", K)
        if self.depth is not None:
            depth = np.asarray(self.depth)
            if depth.shape != image.shape[:2]:
                raise InputError(
                    f"{who}: depth is {_size(depth)} but the image is {_size(image)}; "
                    "use the depth stream that is registered to the colour camera",
                    ErrorCode.BAD_DEPTH,
                )
            depth = depth.astype(np.float32)
            depth[~(np.isfinite(depth) & (depth > 0))] = 0.0
            object.__setattr__(self, "depth", depth)
        if self.world_from_cam_prior is not None:
            pose = _check_pose(self.world_from_cam_prior, f"{who}: world_from_cam_prior")
            object.__setattr__(self, "world_from_cam_prior", pose)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[0], self.image.shape[1]


def _size(array: NDArray) -> str:
    if array.ndim < 2:
        return f"of shape {array.shape}"
    return f"{array.shape[1]}x{array.shape[0]}"


def check_views(views: Sequence[View], at_least: int = 2) -> None:
    """Raises InputError unless there are enough views and their names are unique."""
    check_names([view.name for view in views], at_least)


def check_names(names: Sequence[str], at_least: int = 2) -> None:
    """Raises InputError unless there are enough names of views and none comes twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"two cameras are named {', '.join(map(repr, twice))}; each view needs its own name"
        )
    if len(names) < at_least:
        raise InputError(
            f"a scene needs at least {at_least} view(s), got {len(names)}: {list(names)}",
            ErrorCode.TOO_FEW_VIEWS,
        )


@dataclass(frozen=True, eq=False)
class PairPrediction:
    """Pointmaps of two views in one frame: that of view ``a``'s camera, up to scale.

    A network predicts both maps in camera a's frame. A back end that measures each view once
    (depth) gives view b's map in b's own frame, shared by all its pairs, and the transform beside
    it: the pointmap of b in a is ``a_from_map_b`` applied to ``pointmap_b``. A transform other
    than the identity says that ``pointmap_b`` is in camera b's own frame.

    Attributes:
        a, b: indices of the views.
        pointmap_a: (Ha, Wa, 3) float32 in camera a's frame.
        pointmap_b: (Hb, Wb, 3) float32 in the frame that ``a_from_map_b`` leaves.
        confidence_a, confidence_b: (H, W) float32 >= 0, larger is surer, 0 = no point.
        a_from_map_b: (4, 4) float64; identity when ``pointmap_b`` is in camera a's frame already,
            else the pose of camera b in camera a.
        metric: whether the points are in metres (else the pair has a scale of its own).
        matched_a, matched_b: (H, W) bool, pixels with a reciprocal match in the other view; None
            when the back end has no descriptors.
    """

    a: int
    b: int
    pointmap_a: NDArray[np.float32]
    pointmap_b: NDArray[np.float32]
    confidence_a: NDArray[np.float32]
    confidence_b: NDArray[np.float32]
    a_from_map_b: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    metric: bool = False
    matched_a: NDArray[np.bool_] | None = None
    matched_b: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        for side in "ab":
            points = getattr(self, f"pointmap_{side}")
            if points.ndim != 3 or points.shape[2] != 3:
                raise ValueError(f"pointmap_{side} must be (H, W, 3), got {points.shape}")
            for name in (f"confidence_{side}", f"matched_{side}"):
                value = getattr(self, name)
                if value is not None and value.shape != points.shape[:2]:
                    raise ValueError(
                        f"{name} must be {points.shape[:2]} as its pointmap, got {value.shape}"
                    )

    @property
    def pointmap_b_in_a(self) -> NDArray[np.float32]:
        """(Hb, Wb, 3) float32: view b's pointmap in camera a's frame (computed, not stored)."""
        rotation, translation = self.a_from_map_b[:3, :3], self.a_from_map_b[:3, 3]
        moved = self.pointmap_b @ rotation.T.astype(np.float32)
        return moved + translation.astype(np.float32)


@dataclass(frozen=True, eq=False)
class RelativePose:
    """A known pose between two cameras: a stereo bar, two cameras on one wrist.

    Attributes:
        a, b: indices of the views.
        a_from_b: (4, 4) float64, camera b in camera a's frame, metres.
        translation_sigma, rotation_sigma: its standard deviations, metres and rad.
    """

    a: int
    b: int
    a_from_b: NDArray[np.float64]
    translation_sigma: float
    rotation_sigma: float

    def __post_init__(self) -> None:
        what = f"relative pose of the views ({self.a}, {self.b})"
        object.__setattr__(self, "a_from_b", _check_pose(self.a_from_b, what))
        if not (self.translation_sigma > 0 and self.rotation_sigma > 0):
            raise InputError(
                f"{what}: its deviations must be above 0, got {self.translation_sigma} m and "
                f"{self.rotation_sigma} rad; a small one makes it hard",
                ErrorCode.BAD_CALIBRATION,
            )


@dataclass(frozen=True, eq=False)
class Alignment:
    """All pairs in one world, and how well they agree.

    Attributes:
        edges: (E, 2) int, the views (a, b) of each pair.
        world_from_pair: (E, 4, 4) float64, P_e: camera a's frame of pair e to the world, applied
            after the scale: ``world = R (scale * x) + t``.
        pair_scale: (E,) float64, sigma_e > 0.
        world_from_cam: (N, 4, 4) float64 camera poses.
        K: (N, 3, 3) float64 intrinsics.
        pair_residual: (E,) median distance of a pair's points to the world points, scene units.
        view_residual: (N,) the same by view.
        pair_used: (E,) bool, False for rejected pairs.
        converged: whether the solve reached its tolerance.
        iterations: Gauss-Newton passes.
        metric: whether the world is in metres.
        in_prior_frame: whether the world is the frame of the given poses (else: camera 0's).
        prior_residual: (N,) metres between solved and given camera positions; NaN without a prior.
        warnings: what a user should know, one sentence each.
        stop_reason: why the solve ended, one sentence; empty when nothing was solved.
        pair_residual_px: (E,) median reprojection error of a pair's points in the cameras of their
            views, pixels; NaN where a pair has none; empty when it was not measured.
        view_residual_px: (N,) the same by view, over the used pairs.
        view_correction: (N, 4, 4) rigid motion of a view's points, after the mean of its pairs,
            onto the surfaces that other views see; ``world_from_cam`` has it. Empty: none.
        condition: stiffest over softest direction of the last Gauss-Newton matrix, its gauge
            pinned, in radians, log scales and scene sizes. Beyond about 1e6 the pairs do not fix
            all poses. 0 when nothing was solved.
        scale_factor: world units per unit of the pairs of unknown scale (their geometric mean);
            1 when every pair is in metres.
        scale_sources: what says how long a metre is: "metric pairs", "camera poses",
            "relative poses", "depth"; empty when nothing does and lengths are the network's own.
        registration_residual: metres at the scene by which given poses, relative poses and depth
            differ from the world: the median over cameras, of the kind that differs most. NaN when
            nothing was given that it could differ from.
    """

    edges: NDArray[np.int64]
    world_from_pair: NDArray[np.float64]
    pair_scale: NDArray[np.float64]
    world_from_cam: NDArray[np.float64]
    K: NDArray[np.float64]
    pair_residual: NDArray[np.float64]
    view_residual: NDArray[np.float64]
    pair_used: NDArray[np.bool_]
    converged: bool
    iterations: int
    metric: bool
    in_prior_frame: bool
    prior_residual: NDArray[np.float64]
    warnings: tuple[str, ...] = ()
    stop_reason: str = ""
    pair_residual_px: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    view_residual_px: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    condition: float = 0.0
    scale_factor: float = 1.0
    scale_sources: tuple[str, ...] = ()
    registration_residual: float = float("nan")
    view_correction: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4, 4)))

    def correction(self, view: int) -> NDArray[np.float64]:
        """(4, 4) of ``view_correction``; the identity where there is none."""
        return self.view_correction[view] if len(self.view_correction) else np.eye(4)

    @property
    def scale_text(self) -> str:
        """What the lengths are in, for people."""
        if not self.metric:
            return "the network's own, not metres: nothing given fixes it"
        by = f"metres by {' and '.join(self.scale_sources) or 'construction'}"
        grown = "" if self.scale_factor == 1.0 else f", {self.scale_factor:.4g} x the network's"
        residual = self.registration_residual
        return by + grown + (f"; residual {residual * 1e3:.3g} mm" if residual >= 0 else "")


@dataclass(frozen=True, eq=False)
class WorldPointmaps:
    """Every pixel of every view as a point in the world.

    Attributes:
        points: per view (H, W, 3) float32, world frame; NaN where there is no point.
        confidence: per view (H, W) float32 >= 0; 0 where there is no point.
    """

    points: tuple[NDArray[np.float32], ...]
    confidence: tuple[NDArray[np.float32], ...]

    def valid(self, view: int) -> NDArray[np.bool_]:
        """(H, W) bool: pixels of the view that have a point."""
        return self.confidence[view] > 0


Level = Literal["whole", "part", "sub_part"]
"""How much of a thing a mask covers: a mug, its handle, the print on it."""
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True, eq=False)
class MaskRecord:
    """One object in one view.

    Attributes:
        view: index of the view.
        area: pixels of the mask.
        box: (u, v, u, v) of the mask's first and last column and row.
        score: quality of the mask in [0, 1], as its back end estimates it.
        soft: (h, w) uint8 soft score of the pixels in the box, 255 = surely on the object; None
            where the back end has one score map for all objects of a view.
    """

    view: int
    area: int
    box: tuple[int, int, int, int]
    score: float
    soft: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class ObjectRecord:
    """What is known of an object.

    Attributes:
        object_id: unique over all levels of a scene.
        level: whole, part or sub_part.
        parent: id of the object of the level above that this one is part of, 0 = none.
        masks: one for each view that shows the object, in the order of the views.
        unmasked: views that see the object's surface but have no mask of it. In the views that
            are neither here nor in ``masks`` the object is not visible.
    """

    object_id: int
    level: Level
    parent: int
    masks: tuple[MaskRecord, ...]
    unmasked: tuple[int, ...] = ()

    @property
    def views(self) -> tuple[int, ...]:
        """Views with a mask of the object."""
        return tuple(mask.view for mask in self.masks)


@dataclass(frozen=True, eq=False)
class MaskCache:
    """Object masks of all views with one id per object.

    Attributes:
        labels: per view (H, W) int32, 0 = no object, else an id in ``object_ids``.
        scores: per view (H, W) float32 in [0, 1], soft score of a pixel being on an object (S in
            WildSeg3D); near 1 inside objects, near 0 on the background, 0.5 at doubtful borders.
        object_ids: sorted ids of the whole objects, 1 .. 2**31 - 1.
        finer: label maps of the levels below, parts first: per level, per view (H, W) int32. Their
            ids differ from those of all other levels. Empty for a back end that finds whole
            objects only.
        objects: records of the objects of all levels, by id; a back end may give none.
        embeddings: per view the image embedding that prompts outside the masks are answered from,
            as the back end stores it; empty when none are kept.
    """

    labels: tuple[NDArray[np.int32], ...]
    scores: tuple[NDArray[np.float32], ...]
    object_ids: tuple[int, ...]
    finer: tuple[tuple[NDArray[np.int32], ...], ...] = ()
    objects: tuple[ObjectRecord, ...] = ()
    embeddings: tuple[tuple[NDArray[np.float16], ...], ...] = ()

    @property
    def maps(self) -> tuple[tuple[NDArray[np.int32], ...], ...]:
        """Label maps by level, by view; whole objects first."""
        return (self.labels, *self.finer)

    def record(self, object_id: int) -> ObjectRecord:
        """The record of an object of any level.

        Raises:
            KeyError: there is none.
        """
        for each in self.objects:
            if each.object_id == object_id:
                return each
        raise KeyError(f"no record of object {object_id}")


POSITIVE, NEGATIVE = 1, 0
"""Labels of clicks, as in SAM."""


@dataclass(frozen=True)
class Click:
    """A pixel in one view: ``uv`` = (column, row), label POSITIVE or NEGATIVE."""

    view: str
    u: float
    v: float
    label: int = POSITIVE

    def __post_init__(self) -> None:
        if self.label not in (POSITIVE, NEGATIVE):
            raise PromptError(
                f"a click's label is {POSITIVE} (on the object) or {NEGATIVE} (not on it), "
                f"got {self.label!r}"
            )
        if not (np.isfinite(self.u) and np.isfinite(self.v)):
            raise PromptError(f"a click needs finite pixel coordinates, got ({self.u}, {self.v})")


@dataclass(frozen=True)
class Box:
    """A rectangle about an object in one view, from pixel (u0, v0) to pixel (u1, v1)."""

    view: str
    u0: float
    v0: float
    u1: float
    v1: float

    def __post_init__(self) -> None:
        corners = (self.u0, self.v0, self.u1, self.v1)
        if not np.isfinite(corners).all() or self.u1 <= self.u0 or self.v1 <= self.v0:
            raise PromptError(
                f"a box needs finite corners with u0 < u1 and v0 < v1, got {corners}"
            )


@dataclass(frozen=True)
class Prompt:
    """What the caller points at: clicks and boxes in one or several views.

    At least one click is positive, or there is a box.

    Attributes:
        clicks: pixels.
        level: whether a click means the whole thing at its pixel, or the part or sub-part there.
            Where nothing that fine is known, the next coarser level answers.
        boxes: rectangles about the object, one per view at most.
    """

    clicks: tuple[Click, ...]
    level: Level = "whole"
    boxes: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", tuple(self.boxes))
        if self.level not in LEVELS:
            raise PromptError(
                f"a prompt's level is one of {', '.join(LEVELS)}; got {self.level!r}"
            )
        object.__setattr__(self, "clicks", tuple(self.clicks))
        if not self.boxes and not any(click.label == POSITIVE for click in self.clicks):
            raise PromptError(
                f"a prompt needs at least one click with label {POSITIVE} (on the object) or a "
                f"box; got {len(self.clicks)} click(s), none of them positive"
            )


class ViewMasks(Mapping[str, NDArray[np.bool_]]):
    """Per-view masks of a selection, each computed when it is asked for.

    Masks of views nobody looks at cost nothing.

    Args:
        names: of the views.
        labels: label maps by view.
        object_ids: the selection.
        finer: label maps of further levels, by level and view, whose ids may be selected too.
    """

    def __init__(
        self,
        names: Sequence[str],
        labels: Sequence[NDArray[np.int32]],
        object_ids: Sequence[int],
        finer: Sequence[Sequence[NDArray[np.int32]]] = (),
    ) -> None:
        self._names, self._ids = list(names), tuple(object_ids)
        self._maps = (labels, *finer)

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        """(H, W) bool mask of the selection in the named view."""
        try:
            view = self._names.index(name)
        except ValueError:
            raise KeyError(f"no view '{name}'; views are {self._names}") from None
        mask = self._selected(self._maps[0][view])
        for level in self._maps[1:]:
            mask |= self._selected(level[view])
        return mask

    def _selected(self, labels: NDArray[np.int32]) -> NDArray[np.bool_]:
        if len(self._ids) == 1:
            return labels == self._ids[0]
        return np.isin(labels, self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, eq=False)
class ObjectCloud:
    """The answer to a prompt.

    Attributes:
        points: (M, 3) float32 metres (scene units if the scene is not metric), in ``frame_id``.
        colors: (M, 3) uint8 RGB.
        confidence: (M,) float32 >= 0.
        view_count: (M,) uint8, number of views that see the point.
        object_ids: ids of the cached objects that the prompt selected.
        masks: per-view masks by view name.
        frame_id: frame of the points.
        stamp_ns: time of the newest image that the scene was made from.
        scene_id: the scene that answered.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    view_count: NDArray[np.uint8]
    object_ids: tuple[int, ...]
    masks: ViewMasks
    frame_id: str
    stamp_ns: int
    scene_id: str

    def __len__(self) -> int:
        return len(self.points)
