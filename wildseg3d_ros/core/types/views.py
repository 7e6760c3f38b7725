"""Images with what is known of their cameras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError

_LONGEST_NAME = 1000
"""Characters of the name of a view or of its frame, which warnings and replies repeat."""


def _numbers(given: object, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{what}: expected a matrix of numbers, got {repr(given)[:80]}",
            ErrorCode.BAD_CALIBRATION,
        ) from None


FARTHEST = 1e9
"""Metres from its origin that no frame of a camera is: of the Earth's, the farthest are at 1e7."""


def check_pose(pose: NDArray, what: str) -> NDArray[np.float64]:
    """The pose (4, 4) as float64; raises InputError, naming ``what``, unless it is rigid."""
    pose = _numbers(pose, what)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise InputError(
            f"{what}: expected a finite 4x4 matrix, got shape {pose.shape}: {pose.tolist()}",
            ErrorCode.BAD_CALIBRATION,
        )
    if np.abs(pose[:3, 3]).max() > FARTHEST:
        raise InputError(
            f"{what}: translation {pose[:3, 3].tolist()} is beyond {FARTHEST:g} m; give metres",
            ErrorCode.BAD_CALIBRATION,
        )
    rotation = pose[:3, :3]
    with np.errstate(all="ignore"):  # numbers whose products are none
        off, det = np.abs(rotation @ rotation.T - np.eye(3)).max(), np.linalg.det(rotation)
    if off > 1e-3 or det < 0:
        raise InputError(
            f"{what}: the upper left 3x3 block is not a rotation (R R^T - I is up to {off:.2g}, "
            f"det {det:.3g}); expected a rigid camera-to-world transform",
            ErrorCode.BAD_CALIBRATION,
        )
    if np.abs(pose[3] - [0.0, 0.0, 0.0, 1.0]).max() > 1e-6:
        raise InputError(
            f"{what}: the bottom row is {pose[3].tolist()}; expected [0, 0, 0, 1]: a rigid "
            "transform of column vectors, its translation in the last column",
            ErrorCode.BAD_CALIBRATION,
        )
    return pose


@dataclass(frozen=True, eq=False)
class View:
    """One image with what is known of its camera.

    >>> image = np.zeros((480, 640, 3), np.uint8)
    >>> K = np.array([[600, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
    >>> depth = np.full((480, 640), 0.8, np.float32)
    >>> view = View("front", image, K=K, depth=depth, world_from_cam_prior=np.eye(4))
    >>> view
    <view 'front': 640x480, K, depth, pose>

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
        ignored: (H, W) bool, pixels that are no part of the scene, such as those of the robot:
            they give no points, and no object has them; None when there are none.
        camera_size: (height, width) of the camera's own image, where this is a smaller copy of it.
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
    ignored: NDArray[np.bool_] | None = None
    camera_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        who = f"camera '{self.name}'"
        if not isinstance(self.name, str) or not self.name:
            got = repr(self.name)[:80]
            raise InputError(f"a view needs a name that is unique in its scene; got {got}")
        for what, text in (("name", self.name), ("frame_id", self.frame_id)):
            if len(text) > _LONGEST_NAME:
                raise InputError(
                    f"{who[:80]}...: its {what} has {len(text)} characters; at most "
                    f"{_LONGEST_NAME} are read"
                )
        image = np.asarray(self.image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise InputError(
                f"{who}: expected an (H, W, 3) uint8 RGB image, got shape {image.shape}, "
                f"dtype {image.dtype}"
            )
        object.__setattr__(self, "image", image)
        if self.K is not None:
            K = _numbers(self.K, f"{who}: intrinsics K")
            if K.shape != (3, 3) or not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
                raise InputError(
                    f"{who}: intrinsics K must be a finite 3x3 matrix with positive focal "
                    f"lengths, got {K.tolist()}; is the camera calibrated and its camera_info "
                    "published?",
                    ErrorCode.BAD_CALIBRATION,
                )
            if np.abs(K[2] - [0.0, 0.0, 1.0]).max() > 1e-6:
                raise InputError(
                    f"{who}: the bottom row of the intrinsics K is {K[2].tolist()}; expected "
                    "[0, 0, 1]",
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
        if self.ignored is not None and np.shape(self.ignored) != image.shape[:2]:
            raise InputError(
                f"{who}: ignored pixels are {_size(np.asarray(self.ignored))} but the image is "
                f"{_size(image)}"
            )
        if self.world_from_cam_prior is not None:
            pose = check_pose(self.world_from_cam_prior, f"{who}: world_from_cam_prior")
            object.__setattr__(self, "world_from_cam_prior", pose)
        for name in ("prior_translation_sigma", "prior_rotation_sigma"):
            sigma = getattr(self, name)
            if not (np.isfinite(sigma) and sigma >= 0):
                raise InputError(
                    f"{who}: {name} must be a finite number >= 0, got {sigma}; 0 = unknown"
                )

    def __repr__(self) -> str:
        known = {"K": self.K, "depth": self.depth, "pose": self.world_from_cam_prior}
        words = [name for name, value in known.items() if value is not None]
        return f"<view '{self.name}': {', '.join([_size(self.image), *words])}>"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels.

        >>> View("front", np.zeros((480, 640, 3), np.uint8)).size
        (480, 640)
        """
        return self.image.shape[0], self.image.shape[1]

    @property
    def full_size(self) -> tuple[int, int]:
        """(height, width) of the camera's own image.

        >>> View("front", np.zeros((480, 640, 3), np.uint8), camera_size=(960, 1280)).full_size
        (960, 1280)
        """
        return self.camera_size or self.size

    def intrinsics_for(self, backend: str) -> NDArray[np.float64]:
        """``K``; raises InputError where it is unknown, for a back end that needs it.

        >>> View("front", np.zeros((480, 640, 3), np.uint8), np.eye(3)).intrinsics_for("stereo")[2]
        array([0., 0., 1.])
        """
        if self.K is None:
            raise InputError(
                f"camera '{self.name}' has no intrinsics; the '{backend}' back end needs K for "
                "every view: publish its camera_info, or give fl_x, fl_y, cx, cy in "
                "transforms.json",
                ErrorCode.BAD_CALIBRATION,
            )
        return self.K


def _size(array: NDArray) -> str:
    if array.ndim < 2:
        return f"of shape {array.shape}"
    return f"{array.shape[1]}x{array.shape[0]}"


def check_views(views: Sequence[View], at_least: int = 2) -> None:
    """Raises InputError unless there are enough views and their names are unique."""
    check_names([view.name for view in views], at_least)


def check_names(names: Sequence[str], at_least: int = 2) -> None:
    """Raises InputError unless there are enough names of views and none comes twice."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(
            f"two cameras are named {', '.join(map(repr, twice))}; each view needs its own name"
        )
    if len(names) < at_least:
        raise InputError(
            f"a scene needs at least {at_least} view(s), got {len(names)}: {list(names)}",
            ErrorCode.TOO_FEW_VIEWS,
        )
