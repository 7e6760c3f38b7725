"""Cameras as the network reads and gives them: nine numbers each.

They are the camera's centre in the reference's frame, a quaternion (x, y, z, w) to it, and the
fields of view down and across [rad]. Attribute names are those of the published checkpoint's keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from wildseg3d_ros.core.geometry.transforms import (
    invert,
    make_transform,
    quaternion_from_rotation,
    rotation_from_quaternion,
)
from wildseg3d_ros.pointmaps.da3.attention import Block
from wildseg3d_ros.pointmaps.layers import MLP

_HEADS = 16


class CameraEncoder(nn.Module):
    """Camera tokens of given cameras."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.pose_branch = MLP(9, channels // 2, channels)
        self.token_norm, self.trunk_norm = (nn.LayerNorm(channels) for _ in range(2))
        self.trunk = nn.ModuleList(
            Block(channels, _HEADS, 4 * channels, 1e-5) for _ in range(depth)
        )

    def forward(self, cameras: Tensor) -> Tensor:
        """(N, 9) to (N, channels)."""
        tokens = self.token_norm(self.pose_branch(cameras))[None]
        for block in self.trunk:
            tokens = block(tokens)
        return self.trunk_norm(tokens)[0]


class CameraDecoder(nn.Module):
    """Cameras from camera tokens that have seen all views."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The checkpoint numbers the activations (1, 3) as well.
        self.backbone = nn.ModuleDict({n: nn.Linear(channels, channels) for n in ("0", "2")})
        self.fc_t, self.fc_qvec = nn.Linear(channels, 3), nn.Linear(channels, 4)
        self.fc_fov = nn.ModuleDict({"0": nn.Linear(channels, 2)})

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, channels) to (N, 9)."""
        for name in ("0", "2"):
            tokens = functional.relu(self.backbone[name](tokens))
        fields = functional.relu(self.fc_fov["0"](tokens))
        return torch.cat([self.fc_t(tokens), self.fc_qvec(tokens), fields], dim=-1)


def encode_cameras(
    world_from_cam: NDArray, K: Sequence[NDArray], sizes: Sequence[tuple[int, int]]
) -> NDArray[np.float32]:
    """(N, 9) of given cameras, as the network was trained with them.

    The frame is the first camera's. The unit of length is the median distance of all cameras from
    it, the lower one of two, as in the published code; where that is 0, as of two cameras always,
    it is the largest one.

    Args:
        world_from_cam: (N, 4, 4). K: N of (3, 3), in the pixels of ``sizes``, (height, width).
    """
    poses = invert(world_from_cam[0]) @ world_from_cam
    distance = np.sort(np.linalg.norm(poses[:, :3, 3], axis=1))
    unit = distance[(len(distance) - 1) // 2] or distance[-1] or 1.0
    out = np.empty((len(poses), 9), np.float32)
    for row, pose, k, (height, width) in zip(out, poses, K, sizes, strict=True):
        row[:3] = pose[:3, 3] / unit
        row[3:7] = quaternion_from_rotation(pose[:3, :3])
        row[7:] = 2 * np.arctan2([height, width], [2 * k[1, 1], 2 * k[0, 0]])
    return out


def decode_cameras(
    cameras: NDArray, sizes: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Poses (N, 4, 4) in the network's world and unit, and intrinsics (N, 3, 3) for ``sizes``.

    Raises:
        ValueError: a quaternion without length, or a number that is none.
    """
    poses, intrinsics = [], []
    for row, (height, width) in zip(cameras.astype(np.float64), sizes, strict=True):
        poses.append(make_transform(rotation_from_quaternion(row[3:7]), row[:3]))
        fy, fx = np.array([height, width]) / 2.0 / np.maximum(np.tan(row[7:] / 2.0), 1e-6)
        K = [[fx, 0.0, (width - 1) / 2], [0.0, fy, (height - 1) / 2], [0.0, 0.0, 1.0]]
        intrinsics.append(K)
    return np.array(poses), np.array(intrinsics)
