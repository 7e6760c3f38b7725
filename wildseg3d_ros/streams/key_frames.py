"""Key frames of a moving camera: few frames that together show the scene, each of them sharp.

A frame becomes one when the camera has moved far enough from the last one for another view of the
scene, and while both still see most of the same: of the frames in between, the sharpest. Only
those are decoded, and only the key frames are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.transforms import apply, invert, rotation_angle
from wildseg3d_ros.streams.decoding import CameraDecoder
from wildseg3d_ros.streams.frames import FrameSet

_NEAR, _FAR = 0.12, 0.2
"""Motion between key frames, radians at the scene's distance: 7 to 11 degrees, as back ends like
views to be apart."""
_OVERLAP = 0.6
"""Share of what the last key frame sees that the next one must see, too."""
_DISTANCE = 1.0
"""Metres to the scene of a camera without depth."""
_GRID = 24
_BLURRED = 0.5
"""Of the sharpness of other frames of the same place, below which a frame is blurred."""


@dataclass(frozen=True)
class KeyFrame:
    """A frame that is kept.

    Attributes:
        frames: its messages.
        pose: (4, 4) ``world_from_cam``.
        motion: from the key frame before, radians at the scene's distance.
    """

    frames: FrameSet
    pose: NDArray[np.float64]
    motion: float


def require_sharp(name: str, image: NDArray[np.uint8], others: Sequence[NDArray]) -> None:
    """Checks that a camera's image is about as sharp as others of the same place.

    Raises:
        InputError: it is blurred.
    """
    own, best = sharpness(image), max(map(sharpness, others), default=0.0)
    if own < _BLURRED * best:
        raise InputError(
            f"the image of camera '{name}' is blurred: it has {own / best:.0%} of the sharpness "
            "of the camera's next images; wait until the arm and the lens have settled"
        )


class KeyFrames:
    """The key frames of one camera, as its frames come in the order of their time.

    Args:
        decoder: of the camera.
        most: key frames that are kept; beyond that, the one nearest to the one before it goes.
    """

    def __init__(self, decoder: CameraDecoder, most: int) -> None:
        self._decoder, self._most = decoder, max(most, 2)
        self.kept: list[KeyFrame] = []
        self._best: tuple[float, KeyFrame] | None = None
        self._points = np.zeros((0, 3))
        self._K, self._size, self._distance = np.eye(3), (1, 1), _DISTANCE

    def offer(self, frames: FrameSet, pose: NDArray[np.float64]) -> None:
        """Takes a frame and where the camera was at its time.

        Raises:
            InputError: messages that cannot be used.
        """
        if not self.kept:
            self._keep(KeyFrame(frames, pose, 0.0))
            return
        motion = self._motion(pose)
        if motion < _NEAR:
            return
        leaves = motion > _FAR or self._overlap(pose) < _OVERLAP
        if leaves and self._best is not None:
            self.finish()
            self.offer(frames, pose)
            return
        found = KeyFrame(frames, pose, motion)
        if leaves:  # a camera so quick that no frame lies in between
            self._keep(found)
            return
        score = sharpness(self._decoder.convert(frames)[1])
        if self._best is None or score > self._best[0]:
            self._best = score, found

    def finish(self) -> None:
        """Keeps the best frame that still waits; there are no more before the next."""
        if self._best is not None:
            self._keep(self._best[1])

    def _keep(self, frame: KeyFrame) -> None:
        lens, image, depth = self._decoder.convert(frame.frames)
        self._best = None
        self._size = image.shape[:2]
        self._K = np.eye(3) if lens.K is None else lens.K
        self._points, self._distance = _seen(depth, self._K, self._size)
        self.kept.append(frame)
        if len(self.kept) > self._most:
            # The first has none before it, and the last is what the next is compared with.
            nearest = min(range(1, len(self.kept) - 1), key=lambda i: self.kept[i].motion)
            del self.kept[nearest]

    def _motion(self, pose: NDArray[np.float64]) -> float:
        motion = invert(self.kept[-1].pose) @ pose
        moved = float(np.linalg.norm(motion[:3, 3])) / self._distance
        return max(moved, rotation_angle(motion[:3, :3]))

    def _overlap(self, pose: NDArray[np.float64]) -> float:
        """Share of the last key frame's points that lie in the image of a camera at a pose."""
        points = apply(invert(pose) @ self.kept[-1].pose, self._points)
        ahead = points[points[:, 2] > 0]
        uv = ahead @ self._K.T
        uv = uv[:, :2] / uv[:, 2:]
        height, width = self._size
        inside = (uv > -0.5).all(axis=1) & (uv[:, 0] < width - 0.5) & (uv[:, 1] < height - 0.5)
        return float(inside.sum()) / max(len(self._points), 1)


def _seen(
    depth: NDArray[np.float32] | None, K: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.float64], float]:
    """Points (N, 3) of a grid of pixels, in the camera, and the median of their depths [m]."""
    v, u = (np.linspace(0, n - 1, _GRID).round().astype(int) for n in size)
    uv = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    z = np.full(len(uv), _DISTANCE)
    if depth is not None:  # which may have fewer pixels
        rows, columns = ((uv[:, ::-1] + 0.5) / size * depth.shape).astype(int).T
        z = depth[rows, columns].astype(float)
    if not (z > 0).any():
        z = np.full(len(uv), _DISTANCE)
    uv, z = uv[z > 0], z[z > 0]
    if not np.isfinite(K).all() or abs(np.linalg.det(K)) < 1e-12:
        raise InputError(
            f"intrinsics that are no camera's: {K.tolist()}", ErrorCode.BAD_CALIBRATION
        )
    rays = np.column_stack([uv, np.ones(len(uv))]) @ np.linalg.inv(K).T
    return rays * z[:, None], float(np.median(z))


def sharpness(image: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) of an image (H, W, 3)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())
