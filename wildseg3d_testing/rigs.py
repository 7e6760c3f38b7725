"""Rigs with one of the usual mistakes, made of right ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import (
    invert,
    make_transform,
    rotation_from_vector,
)
from wildseg3d_ros.core.types import View

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_OPTICAL_FROM_LINK = invert(make_transform([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.zeros(3)))

Views = Sequence[View]


@dataclass(frozen=True)
class RigMistake:
    """One mistake.

    Attributes:
        kind: what :mod:`wildseg3d_ros.rig` calls it.
        make: the views with the mistake; the generator chooses cameras.
        needs_depth: whether views without depth cannot show it.
    """

    kind: str
    make: Callable[[Views, np.random.Generator], list[View]]
    needs_depth: bool = False


def with_poses(views: Views, world_from_cam: NDArray) -> list[View]:
    """The views with other given poses (N, 4, 4)."""
    return [
        replace(view, world_from_cam_prior=pose)
        for view, pose in zip(views, world_from_cam, strict=True)
    ]


def with_pose_error(
    views: Views, rng: np.random.Generator, translation: float, rotation: float
) -> list[View]:
    """The views with given poses that are off by that many metres and radians, each in a
    direction of its own."""
    poses = []
    for view in views:
        shift, turn = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
        pose = np.asarray(view.world_from_cam_prior)
        turned = pose[:3, :3] @ rotation_from_vector(rotation * turn)
        poses.append(make_transform(turned, pose[:3, 3] + translation * shift))
    return with_poses(views, np.stack(poses))


def _poses(change: Callable[[NDArray], NDArray]) -> Callable[..., list[View]]:
    def make(views: Views, rng: np.random.Generator) -> list[View]:
        given = np.stack([np.asarray(view.world_from_cam_prior) for view in views])
        return with_poses(views, change(given))

    return make


def _scaled(factor: float) -> Callable[[NDArray], NDArray]:
    def change(poses: NDArray) -> NDArray:
        out = poses.copy()
        out[:, :3, 3] *= factor
        return out

    return change


def _depth(factor: float, of_one: bool = False) -> Callable[..., list[View]]:
    def make(views: Views, rng: np.random.Generator) -> list[View]:
        chosen = rng.integers(len(views)) if of_one else -1
        return [
            replace(view, depth=view.depth * np.float32(factor))
            if view.depth is not None and (v == chosen or not of_one)
            else view
            for v, view in enumerate(views)
        ]

    return make


def _intrinsics(factor: float, whole: bool) -> Callable[..., list[View]]:
    def make(views: Views, rng: np.random.Generator) -> list[View]:
        out = []
        for view in views:
            K = np.asarray(view.K).copy()
            K[:2, :2] *= factor
            K[:2, 2] *= factor if whole else 1.0
            out.append(replace(view, K=K))
        return out

    return make


def _one(change: Callable[[View], View]) -> Callable[..., list[View]]:
    def make(views: Views, rng: np.random.Generator) -> list[View]:
        out = list(views)
        k = int(rng.integers(len(views)))
        out[k] = change(out[k])
        return out

    return make


def _pose_turned(degrees: float) -> Callable[[View], View]:
    turn = make_transform(rotation_from_vector([0, 0, np.radians(degrees)]), np.zeros(3))
    return lambda view: replace(view, world_from_cam_prior=view.world_from_cam_prior @ turn)


def _image_turned(view: View) -> View:
    """By a quarter, with the intrinsics that belong to it, as a driver does it."""
    K, width = np.asarray(view.K), view.size[1]
    turned = np.array([[K[1, 1], 0, K[1, 2]], [0, K[0, 0], width - 1 - K[0, 2]], [0, 0, 1.0]])
    depth = None if view.depth is None else np.rot90(view.depth).copy()
    return replace(view, image=np.rot90(view.image).copy(), depth=depth, K=turned)


def _upside_down(view: View) -> View:
    depth = None if view.depth is None else view.depth[::-1, ::-1].copy()
    return replace(view, image=view.image[::-1, ::-1].copy(), depth=depth)


def _mirrored(view: View) -> View:
    depth = None if view.depth is None else view.depth[:, ::-1].copy()
    return replace(view, image=view.image[:, ::-1].copy(), depth=depth)


def _swapped(views: Views, rng: np.random.Generator) -> list[View]:
    one, two = rng.choice(len(views), 2, replace=False)
    poses = np.stack([np.asarray(view.world_from_cam_prior) for view in views])
    poses[[one, two]] = poses[[two, one]]
    return with_poses(views, poses)


MISTAKES = {
    "inverse matrices": RigMistake("inverse", _poses(invert)),
    "OpenGL's axes": RigMistake("opengl axes", _poses(lambda poses: poses @ _OPENGL)),
    "link frames": RigMistake("link frame", _poses(lambda poses: poses @ _OPTICAL_FROM_LINK)),
    "translations in mm": RigMistake("translation scale", _poses(_scaled(1000.0)), True),
    "translations x 0.37": RigMistake("translation scale", _poses(_scaled(0.37)), True),
    "translations x 2.1": RigMistake("translation scale", _poses(_scaled(2.1)), True),
    "depth x 1000": RigMistake("depth unit", _depth(1000.0), True),
    "depth x 5": RigMistake("depth unit", _depth(5.0), True),
    "depth x 4": RigMistake("depth unit", _depth(4.0), True),
    "depth x 0.25": RigMistake("depth unit", _depth(0.25), True),
    "depth x 0.1": RigMistake("depth unit", _depth(0.1), True),
    "depth x 0.001": RigMistake("depth unit", _depth(0.001), True),
    "depth of one x 5": RigMistake("depth unit", _depth(5.0, of_one=True), True),
    "intrinsics x 2": RigMistake("focal length", _intrinsics(2.0, True)),
    "intrinsics x 0.5": RigMistake("focal length", _intrinsics(0.5, True)),
    "intrinsics x 1.5": RigMistake("focal length", _intrinsics(1.5, True)),
    "focal length x 2": RigMistake("focal length", _intrinsics(2.0, False)),
    "focal length x 0.5": RigMistake("focal length", _intrinsics(0.5, False)),
    "focal length x 1.5": RigMistake("focal length", _intrinsics(1.5, False)),
    "pose of one turned by 90": RigMistake("turned view", _one(_pose_turned(90.0))),
    "pose of one turned by 180": RigMistake("turned view", _one(_pose_turned(180.0))),
    "image of one turned by 90": RigMistake("turned view", _one(_image_turned)),
    "image of one turned by 180": RigMistake("turned view", _one(_upside_down)),
    "image of one mirrored": RigMistake("mirrored view", _one(_mirrored)),
    "two poses swapped": RigMistake("swapped views", _swapped),
}
"""By what people would say. Mistakes of one camera take one by chance."""
