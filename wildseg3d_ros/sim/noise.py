"""What a real RGB-D camera does to perfect images: depth noise, holes, colour noise, pose error.

The depth model follows how stereo and structured-light cameras fail (Handa et al., "A Benchmark
for RGB-D Visual Odometry, 3D Reconstruction and SLAM", ICRA 2014; Nguyen et al., "Modeling Kinect
Sensor Noise", 3DIMPVT 2012): errors are made in disparity, so depth noise grows with the range
squared; matching windows correlate neighbouring pixels and drag edges; what only one of the two
eyes sees has no depth; grazing surfaces lose it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wildseg3d_ros.core.geometry.cameras import back_project, rays
from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector


@dataclass(frozen=True)
class DepthNoise:
    """Parameters of the depth camera.

    Attributes:
        baseline: distance between the two eyes [m]; the second eye is to the right.
        disparity_sigma: standard deviation of the disparity of a surface seen head on [px of a
            640 pixel wide image].
        correlation: standard deviation of the Gaussian that correlates the noise [px].
        disparity_step: disparities are multiples of this [px of a 640 pixel wide image].
        edge_drag: standard deviation of the shift by which pixels read a neighbour's depth [px].
        flying: share of the pixels on depth edges that get a depth between the two surfaces.
        grazing: angle of incidence at which half of the pixels are lost [rad].
        max_range: no depth beyond it [m].
    """

    baseline: float = 0.055
    disparity_sigma: float = 0.09
    correlation: float = 1.5
    disparity_step: float = 1.0 / 16.0
    edge_drag: float = 0.7
    flying: float = 0.25
    grazing: float = 1.38
    max_range: float = 6.0


def incidence(depth: NDArray[np.float32], K: NDArray) -> NDArray[np.float32]:
    """(H, W) angle [rad] between each pixel's ray and the surface normal; pi/2 without depth.

    The normal comes from central differences, so it is wrong on depth edges.
    """
    points = np.moveaxis(back_project(depth, K).astype(np.float64), -1, 0)
    ray = np.moveaxis(rays(K, *depth.shape), -1, 0)
    # By components: np.cross of arrays of short vectors takes several times as long.
    ax, ay, az = (np.gradient(part, axis=1) for part in points)
    bx, by, bz = (np.gradient(part, axis=0) for part in points)
    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    square = (nx * nx + ny * ny + nz * nz) * (ray * ray).sum(axis=0)
    along = nx * ray[0] + ny * ray[1] + nz * ray[2]
    cosine = np.abs(along) / np.maximum(np.sqrt(square), 1e-20)
    cosine[depth <= 0] = 0.0
    return np.arccos(np.clip(cosine, 0.0, 1.0)).astype(np.float32)


def hidden_from_right_eye(disparity: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(H, W) pixels that the right eye of a rectified pair cannot see.

    A pixel u appears at u - disparity in the right eye. It is hidden when a pixel further right
    appears at or left of it there, since that pixel must then lie on a nearer surface.
    """
    position = np.arange(disparity.shape[1], dtype=np.float32) - disparity
    leftmost = np.minimum.accumulate(position[:, ::-1], axis=1)[:, ::-1]
    hidden = np.zeros(disparity.shape, dtype=bool)
    hidden[:, :-1] = leftmost[:, 1:] <= position[:, :-1]
    return hidden


def depth_edges(disparity: NDArray[np.float32], min_step: float) -> NDArray[np.bool_]:
    """(H, W) pixels on either side of a jump between two surfaces.

    On one surface, however slanted, disparity is nearly linear over a few pixels; a jump is a step
    of more than ``min_step`` pixels and more than three times the smaller of the steps beside it.
    """
    edge = np.zeros(disparity.shape, dtype=bool)
    for axis in (0, 1):
        step = np.moveaxis(np.abs(np.diff(disparity, axis=axis)), axis, 0)
        padded = np.concatenate([step[:1], step, step[-1:]])
        jump = step > min_step + 3.0 * np.minimum(padded[:-2], padded[2:])
        side = np.moveaxis(edge, axis, 0)
        side[:-1] |= jump
        side[1:] |= jump
    return edge


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], sigma: float
) -> NDArray[np.float32]:
    """(H, W) Gaussian noise of unit variance, correlated over ``sigma`` pixels."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    if sigma <= 0:
        return noise
    noise = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    return (noise / max(float(noise.std()), 1e-12)).astype(np.float32)


def sense_depth(
    depth: NDArray[np.float32],
    K: NDArray,
    rng: np.random.Generator,
    noise: DepthNoise = DepthNoise(),
) -> NDArray[np.float32]:
    """(H, W) float32 metres: what a depth camera measures of the exact ``depth``; 0 = nothing.

    Both are along the optical axis; ``K`` (3, 3) is in pixels.
    """
    seen = depth > 0
    scale = float(K[0, 0]) * noise.baseline
    disparity = np.where(seen, scale / np.where(seen, depth, 1.0), 0.0).astype(np.float32)
    angle = incidence(depth, K)
    edge = depth_edges(disparity, 0.15 * depth.shape[1] / 640.0)
    by_edge = np.asarray(ndimage.binary_dilation(edge, iterations=1), dtype=bool)
    measured = _measured_disparity(disparity, angle, edge, by_edge, rng, noise)

    lost = smooth_noise(rng, depth.shape, 1.5 * noise.correlation)
    grazing = angle + 0.1 * lost > noise.grazing
    # On edges the angle is that of the jump, not of a surface.
    hidden = hidden_from_right_eye(disparity) | (grazing & np.logical_not(by_edge)) | ~seen
    hidden |= edge & (lost > 0.6)
    # A column that the right eye's image does not contain cannot be matched either.
    hidden |= np.arange(depth.shape[1], dtype=np.float32) - disparity < 0
    valid = ~hidden & (measured > scale / noise.max_range)
    out = np.zeros(depth.shape, dtype=np.float32)
    out[valid] = scale / measured[valid]
    return out


def _measured_disparity(
    disparity: NDArray[np.float32],
    angle: NDArray[np.float32],
    edge: NDArray[np.bool_],
    by_edge: NDArray[np.bool_],
    rng: np.random.Generator,
    noise: DepthNoise,
) -> NDArray[np.floating]:
    """(H, W) disparity after matching: with dragged edges, flying pixels, noise and steps."""
    height, width = disparity.shape
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    shift_u = noise.edge_drag * smooth_noise(rng, disparity.shape, noise.correlation)
    shift_v = noise.edge_drag * smooth_noise(rng, disparity.shape, noise.correlation)
    # Only across edges: on a slope the shift would be an error that real cameras do not make.
    row = np.clip(np.rint(v + shift_v * by_edge), 0, height - 1).astype(np.intp)
    column = np.clip(np.rint(u + shift_u * by_edge), 0, width - 1).astype(np.intp)
    measured = disparity[row, column]

    near = ndimage.maximum_filter(disparity, size=3)
    far = ndimage.minimum_filter(disparity, size=3)
    mixed = edge & (rng.random(disparity.shape) < noise.flying)
    share = rng.random(disparity.shape, dtype=np.float32)
    measured = np.where(mixed, far + share * (near - far), measured)

    pixel = width / 640.0
    sigma = noise.disparity_sigma * pixel / np.maximum(np.cos(np.minimum(angle, 1.45)), 0.12)
    measured = measured + sigma * smooth_noise(rng, disparity.shape, noise.correlation)
    step = noise.disparity_step * pixel
    return np.rint(measured / step) * step


def color_gain(rng: np.random.Generator, strength: float = 1.0) -> NDArray[np.float32]:
    """(3,) exposure and white balance, which differ per camera by a few per cent."""
    gain = 1.0 + strength * (rng.normal(0.0, 0.05) + rng.normal(0.0, 0.01, 3))
    return np.asarray(gain, np.float32)


def sense_color(
    image: NDArray[np.float32],
    rng: np.random.Generator,
    strength: float = 1.0,
    gain: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: a camera's picture of a perfect image in [0, 1].

    Noise grows with the root of the signal (photons) above a floor (read-out). ``strength`` is 0
    for a perfect camera and 1 for an industrial camera in indoor light; ``gain`` is that of a
    camera which takes more than this picture, by default one that is drawn anew.
    """
    picture = image * (color_gain(rng, strength) if gain is None else gain)
    noise = ndimage.gaussian_filter(
        rng.standard_normal(image.shape, dtype=np.float32), (0.5, 0.5, 0.0)
    )
    sigma = strength * np.sqrt(0.006**2 + 0.012**2 * np.clip(picture, 0.0, 1.0))
    return np.rint(np.clip(picture + sigma * noise, 0.0, 1.0) * 255.0).astype(np.uint8)


def kinematic_pose(
    world_from_cam: NDArray,
    rng: np.random.Generator,
    translation_sigma: float = 0.003,
    rotation_sigma: float = 0.004,
) -> NDArray[np.float64]:
    """(4, 4) the pose that kinematics report for a camera that is at ``world_from_cam``.

    It is rotated about the camera and moved along the world's axes, by errors of these standard
    deviations per axis [m, rad].
    """
    rotation = rotation_from_vector(rng.normal(0.0, rotation_sigma, 3))
    return make_transform(
        world_from_cam[:3, :3] @ rotation,
        world_from_cam[:3, 3] + rng.normal(0.0, translation_sigma, 3),
    )
