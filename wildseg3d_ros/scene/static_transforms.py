"""Camera poses as YAML of static transforms, to be put where a rig's own are published."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import quaternion_from_rotation
from wildseg3d_ros.scene.scene import Scene


def optical_frames(scene: Scene) -> dict[str, NDArray[np.float64]]:
    """``scene_from_optical`` (4, 4) by optical frame; a camera without one goes by its name."""
    names = (
        frame.lstrip("/") or name
        for frame, name in zip(scene.camera_frames, scene.view_names, strict=True)
    )
    return dict(zip(names, scene.world_from_cam, strict=True))


def static_transforms(
    parent: str, parent_from_frame: Mapping[str, NDArray[np.float64]], about: str
) -> str:
    """YAML text: a list of transforms, each with the command that publishes it as a comment.

    Args:
        parent: frame in which the poses are given.
        parent_from_frame: rigid (4, 4) by frame, metres.
        about: first line, as a comment.
    """
    lines = [f"# {about}"]
    for child, pose in parent_from_frame.items():
        place = dict(zip("xyz", pose[:3, 3], strict=True))
        turn = dict(zip("xyzw", quaternion_from_rotation(pose[:3, :3]), strict=True))
        options = [f"--{k} {v:.6f}" for k, v in place.items()]
        options += [f"--q{k} {v:.9f}" for k, v in turn.items()]
        command = f"ros2 run tf2_ros static_transform_publisher {' '.join(options)}"
        lines += [
            f"# {command} --frame-id {parent} --child-frame-id {child}",
            f"- parent: {_quoted(parent)}",
            f"  child: {_quoted(child)}",
            f"  translation: {{{', '.join(f'{k}: {v:.6f}' for k, v in place.items())}}}",
            f"  rotation: {{{', '.join(f'{k}: {v:.9f}' for k, v in turn.items())}}}",
        ]
    return "\n".join(lines) + "\n"


def about(scene: Scene) -> str:
    """The comment that says where the poses come from."""
    residual = scene.alignment.registration_residual
    known = "" if np.isnan(residual) else f"; given poses and depth differ by {residual:.4f} m"
    return f"poses that scene {scene.scene_id} was solved with, lengths in metres{known}"


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
