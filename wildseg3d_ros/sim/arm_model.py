"""The arm in a MuJoCo model: links that are put where the joints say, and that nothing feels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import quaternion_from_rotation
from wildseg3d_ros.sim.arm import Arm, LinkShape


def add_arm(mujoco, spec, arm: Arm) -> None:
    """Adds a body without physics for each link that has a shape."""
    for link in arm.links:
        if not link.shapes:
            continue
        body = spec.worldbody.add_body(name=link.name, mocap=True, pos=[0.0, 0.0, -5.0])
        for shape in link.shapes:
            pose = shape.link_from_shape
            body.add_geom(
                type=getattr(mujoco.mjtGeom, f"mjGEOM_{shape.kind.upper()}"),
                size=_half_size(shape),
                pos=pose[:3, 3],
                quat=_quaternion(pose),
                rgba=[*shape.color, 1.0],
                contype=0,
                conaffinity=0,
                mass=0.0,
            )


def place_arm(mujoco, model: Any, data: Any, poses: Mapping[str, NDArray[np.float64]]) -> None:
    """Puts the links at (4, 4) ``world_from_link``."""
    for name, pose in poses.items():
        body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
        if body >= 0:
            mocap = model.body_mocapid[body]
            data.mocap_pos[mocap], data.mocap_quat[mocap] = pose[:3, 3], _quaternion(pose)
    mujoco.mj_forward(model, data)


def _half_size(shape: LinkShape) -> list[float]:
    if shape.kind == "box":
        return [0.5 * edge for edge in shape.size]
    if shape.kind == "cylinder":
        return [shape.size[0], 0.5 * shape.size[1], 0.0]
    return [shape.size[0], 0.0, 0.0]


def _quaternion(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4,) w, x, y, z."""
    return np.roll(quaternion_from_rotation(pose[:3, :3]), 1)
