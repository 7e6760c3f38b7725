"""Depth Anything 3's place taken by the truth: with it, every error is the back end's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from wildseg3d_ros.core.geometry.transforms import (
    make_transform,
    quaternion_from_rotation,
    rotation_from_vector,
)
from wildseg3d_ros.pointmaps.da3.network import Architecture, Maps
from wildseg3d_testing.da3_weights import TINY
from wildseg3d_testing.scenes import ConstructedScene


@dataclass
class OracleNetwork:
    """A network that knows a constructed scene, in a unit and a world of its own.

    Attributes:
        scene: the truth; all of its views are asked for, in their order.
        unit: metres of the network's unit.
        noise: relative deviation of the depth, smooth over an eighth of the image.
        distortion: by view, what its depth is wrong by, a factor.
        given: cameras that it was given at its last call.
    """

    scene: ConstructedScene
    unit: float = 0.37
    noise: float = 0.0
    distortion: Sequence[float] = ()
    given: Tensor | None = None
    architecture: Architecture = TINY

    def steps(self, views: int) -> int:
        """One for each view."""
        return views

    def __call__(
        self, images: Sequence[Tensor], cameras: Tensor | None, *, step: Callable[[], None]
    ) -> list[Maps]:
        """The truth."""
        self.given = cameras
        world = make_transform(rotation_from_vector([0.3, -1.1, 0.4]), [5.0, -2.0, 1.0])
        rng = np.random.default_rng(0)
        made = []
        for k, image in enumerate(images):
            step()
            height, width = image.shape[-2:]
            depth = self.scene.depths[k]
            size = depth.shape[0] / height
            if depth.shape != (height, width):
                depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            # What has no surface is far away, and unsure.
            depth = np.where(depth > 0, depth, 30.0) / self.unit
            coarse = rng.standard_normal((9, 9)).astype(np.float32)
            wave = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
            depth = depth * np.exp(self.noise * wave)
            if self.distortion:
                depth = depth * self.distortion[k]
            confidence = np.where(depth < 10.0 / self.unit, 5.0, 1.01)
            pose = world @ self.scene.world_from_cam[k]
            K = self.scene.views[k].K
            K = self._intrinsics(k) if K is None else K
            focal = K[[1, 0], [1, 0]] / size
            camera = np.concatenate(
                [
                    pose[:3, 3] / self.unit,
                    quaternion_from_rotation(pose[:3, :3]),
                    2.0 * np.arctan([height, width] / (2.0 * focal)),
                ]
            )
            made.append(
                Maps(*(torch.from_numpy(np.float32(x)) for x in (depth, confidence, camera)))
            )
        return made

    def _intrinsics(self, view: int) -> np.ndarray:
        width = self.scene.depths[view].shape[1]
        return np.diag([0.95 * width, 0.95 * width, 1.0])
