"""The cameras' frames of one time as views, with the poses that TF has for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError, WildSeg3DError
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.types import View
from wildseg3d_ros.streams.decoding import CameraDecoder
from wildseg3d_ros.streams.frames import FrameSet
from wildseg3d_ros.streams.tf.buffer import Transforms
from wildseg3d_ros.streams.tf.errors import TransformFault

_FOR_WANT_OF_POSES = (ErrorCode.DISCONNECTED_VIEWS, ErrorCode.MISSING_TF)


@dataclass(frozen=True)
class Capture:
    """What the cameras see at one time, ready to be built into a scene.

    Attributes:
        views: one per camera, with poses where TF had them.
        calibrations: by camera name.
        tf_poses: ``world_from_cam`` by name of the cameras that TF knew.
        unposed: why TF had no pose of the other cameras, by their names.
        world_frame: that the poses refer to.
        notes: what else the caller should know, one sentence each.
    """

    views: tuple[View, ...]
    calibrations: Mapping[str, Lens]
    tf_poses: Mapping[str, NDArray[np.float64]]
    unposed: Mapping[str, WildSeg3DError]
    world_frame: str
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the caller should know, one sentence each: first the scene's frame, if it is not
        the world frame."""
        if self.tf_poses:
            return (*self._causes(), *self.notes)
        first = self.views[0]
        frame = first.frame_id or first.name
        where = f"the frame '{frame}' of camera '{first.name}', not in '{self.world_frame}'"
        return (f"the scene is in {where}", *self._causes(), *self.notes)

    def require_poses(self, way_out: str = "set 'allow_missing_poses'") -> None:
        """Refuses to build in another frame, and without poses that TF should have.

        What no transform joins with the world frame may be meant to be placed by what it sees.

        Args:
            way_out: how the caller's user allows it.

        Raises:
            InputError: no camera has a pose, or one is missing for a fault of TF (MISSING_TF).
        """
        if self.tf_poses and not any(map(_is_fault, self.unposed.values())):
            return
        way_out += " to build without"
        if not self.tf_poses:
            way_out += f", in the frame of camera '{self.views[0].name}'"
        raise InputError("; ".join([*self._causes(), way_out]), ErrorCode.MISSING_TF)

    def explain(self, error: WildSeg3DError) -> WildSeg3DError:
        """The error of a build; as MISSING_TF where poses would have helped."""
        if not self.unposed or error.code not in _FOR_WANT_OF_POSES:
            return error
        return InputError("; ".join([*self._causes(), str(error)]), ErrorCode.MISSING_TF)

    def _causes(self) -> tuple[str, ...]:
        """Why cameras have no pose: a sentence for each cause, which it begins with."""
        cameras: dict[str, list[str]] = {}
        for name, why in sorted(self.unposed.items(), key=lambda item: not _is_fault(item[1])):
            cameras.setdefault(str(why), []).append(f"'{name}'")
        return tuple(
            f"{why}; camera{'s' * (len(names) > 1)} {', '.join(names)} "
            f"{'have' if len(names) > 1 else 'has'} no pose in '{self.world_frame}'"
            for why, names in cameras.items()
        )


def _is_fault(problem: WildSeg3DError) -> bool:
    return isinstance(problem, TransformFault)


def capture(
    sets: Mapping[str, FrameSet],
    decoders: Mapping[str, CameraDecoder],
    poses: Mapping[str, NDArray[np.float64]],
    unposed: Mapping[str, WildSeg3DError],
    world_frame: str,
) -> Capture:
    """The views of frames, whose poses :func:`poses_of` gave.

    Raises:
        InputError: messages that cannot be used.
    """
    parts = {name: decoders[name].convert(frames) for name, frames in sets.items()}
    views = tuple(
        View(
            name,
            image,
            K=lens.K,
            depth=depth,
            world_from_cam_prior=poses.get(name),
            stamp_ns=sets[name].stamp_ns,
            frame_id=sets[name].image.header.frame_id,
        )
        for name, (lens, image, depth) in parts.items()
    )
    lenses = {name: part[0] for name, part in parts.items()}
    notes = tuple(
        said for name, frames in sets.items() if (said := decoders[name].assumed(frames))
    )
    return Capture(views, lenses, poses, unposed, world_frame, notes)


def poses_of(
    sets: Mapping[str, FrameSet], world_frame: str, transforms: Transforms
) -> tuple[dict[str, NDArray[np.float64]], dict[str, WildSeg3DError]]:
    """``world_from_cam`` of cameras at their images' time, and why others have none."""
    poses: dict[str, NDArray[np.float64]] = {}
    problems: dict[str, WildSeg3DError] = {}
    for name, frames in sets.items():
        frame = frames.image.header.frame_id
        try:
            if not frame:
                raise InputError("its images name no frame (header.frame_id is empty)")
            poses[name] = transforms.lookup(world_frame, frame, frames.stamp_ns)
        except WildSeg3DError as error:
            problems[name] = error
    return poses, problems
