"""What the cameras of a stage deliver, and scenes built of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.evaluation.stages import Stage
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_from_vector,
)
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View, WorldPointmaps
from wildseg3d_ros.masks import load_masks
from wildseg3d_ros.robot.config import RobotConfig
from wildseg3d_ros.robot.self_filter import robot_pixels, without_robot
from wildseg3d_ros.robot.urdf import read_links
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.sim.arm import Arm
from wildseg3d_ros.sim.noise import DepthNoise, color_gain, sense_color, sense_depth
from wildseg3d_testing.exact import alignment_of_cameras


@dataclasses.dataclass(frozen=True)
class Sensing:
    """How well the cameras see, and how well their poses are known.

    Attributes:
        noise: factor of the noise of depth and colours; 1 as of a usual depth camera.
        millimetres, degrees: by which every given pose is off, in a random direction.
        draw: of the noise.
        pose_draw: of the poses' errors.
        depth: whether there is any.
    """

    noise: float = 1.0
    millimetres: float = 2.0
    degrees: float = 0.2
    draw: int = 0
    pose_draw: int = 0
    depth: bool = True


def sense(stage: Stage, sensing: Sensing, cameras: Sequence[int] | None = None) -> list[View]:
    """The views of the cameras (all, unless their numbers are given)."""
    chosen = range(len(stage.cameras)) if cameras is None else cameras
    return [_view(stage, sensing, index) for index in chosen]


def _view(stage: Stage, sensing: Sensing, index: int) -> View:
    camera, frame, K = stage.cameras[index], stage.frames[index], stage.intrinsics(index)
    rng = np.random.default_rng([sensing.draw, 5100, index])
    gain = color_gain(np.random.default_rng([5200, index]))
    image = sense_color(frame.color, rng, sensing.noise, gain)
    depth = None
    if sensing.depth:
        depth = sense_depth(frame.depth, K, rng, depth_noise(sensing.noise))
    pose = camera.world_from_cam @ pose_error(sensing, index)
    return View(camera.name, image, K, depth, pose, 1, f"{camera.name}_optical_frame")


def without_arm(stage: Stage, views: Sequence[View]) -> list[View]:
    """The views without the arm, as the self-filter leaves it out by its URDF and TF."""
    config = RobotConfig()
    text = Arm(np.eye(4)).urdf()
    solids = [solid.padded(config.padding) for solid in read_links(text, print)]
    found = []
    for view in views:
        cam_from_world = invert(_known(view.world_from_cam_prior))
        links = {name: cam_from_world @ pose for name, pose in stage.links.items()}
        found.append(without_robot(view, robot_pixels(view, solids, links)))
    return found


def depth_noise(factor: float) -> DepthNoise:
    """The usual depth camera, its errors of disparity and on edges grown by a factor."""
    usual = DepthNoise()
    return dataclasses.replace(
        usual,
        disparity_sigma=factor * usual.disparity_sigma,
        edge_drag=factor * usual.edge_drag,
        flying=min(factor * usual.flying, 1.0),
    )


def pose_error(sensing: Sensing, index: int) -> NDArray[np.float64]:
    """(4, 4) motion of a camera in its own frame, of exactly the given size."""
    rng = np.random.default_rng([sensing.pose_draw, 5300, index])
    step, axis = (each / np.linalg.norm(each) for each in rng.normal(size=(2, 3)))
    rotation = rotation_from_vector(np.radians(sensing.degrees) * axis)
    return make_transform(rotation, 1e-3 * sensing.millimetres * step)


def as_given(views: Sequence[View], config: SceneConfig = SceneConfig()) -> Scene:
    """The scene without an alignment: each depth image stays where its given pose puts it.

    Masks and index are those of every build. All views have depth and a pose.
    """
    poses = np.stack([_known(view.world_from_cam_prior) for view in views])
    K = np.stack([_known(view.K) for view in views])
    alignment = alignment_of_cameras(K, poses)
    points, confidence = [], []
    for view, pose, matrix in zip(views, poses, K, strict=True):
        depth = _known(view.depth)
        placed = apply(pose, back_project(depth, matrix).reshape(-1, 3))
        placed[depth.ravel() <= 0] = np.nan
        points.append(placed.reshape(*depth.shape, 3).astype(np.float32))
        confidence.append((depth > 0).astype(np.float32))
    world = WorldPointmaps(tuple(points), tuple(confidence))
    cache = load_masks(config.masks).segment(views, alignment, world, Progress())
    return Scene.create(views, alignment, world, cache, config=config.index)


def _known(value: NDArray | None) -> NDArray:
    assert value is not None
    return value
