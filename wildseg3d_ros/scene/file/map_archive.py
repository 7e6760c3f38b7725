"""The maps of a scene in its file: a value per pixel, of pixels that have one.

What follows from something else in the file is not stored: of the points of a view their depth
(a point lies on its pixel's ray), of the object index which pixels are in it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import rays_of
from wildseg3d_ros.core.types import ObjectTree, WorldPointmaps
from wildseg3d_ros.scene.file.archive import read_array, write_array
from wildseg3d_ros.scene.file.checks import check_array, expect
from wildseg3d_ros.scene.index import ObjectIndex

_DEPTH_BITS, _CONFIDENCE_BITS = 19, 10
"""Bits of the fractions of float32 numbers that are kept: depth to a millionth of its value, a
thousandth of what the best sensors measure; confidence to a thousandth."""
_ON_RAY = 3e-6
"""Distance of a point from what its depth gives at which it is stored as that, over its distance
from camera or origin: some rounding errors of float32."""


def write_points(
    archive: zipfile.ZipFile,
    name: str,
    points: NDArray[np.float32],
    K: NDArray[np.float64],
    world_from_cam: NDArray[np.float64],
) -> None:
    """The pointmap (H, W, 3) of a view: depths where all points lie on their pixels' rays, as
    those of depth cameras do, else coordinates."""
    filled = np.asarray(~np.isnan(points).all(axis=-1))
    _write_filled(archive, name, filled)
    given = points[filled]
    from_camera = given - world_from_cam[:3, 3]
    depth = _shortened((from_camera @ world_from_cam[:3, 2]).astype(np.float32), _DEPTH_BITS)
    again = _on_rays(filled, depth, K, world_from_cam)
    distance = np.maximum(np.linalg.norm(from_camera, axis=1), np.linalg.norm(given, axis=1))
    if (np.abs(again - given).max(axis=1) <= _ON_RAY * distance).all():
        _write_planes(archive, f"{name}/depth", depth)
    else:
        _write_planes(archive, f"{name}/values", given)


def read_points(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, int],
    K: NDArray[np.float64],
    world_from_cam: NDArray[np.float64],
) -> NDArray[np.float32]:
    """What :func:`write_points` stored: (H, W, 3), NaN where there is no point.

    Raises:
        InvalidScene: missing, or not what it must be.
    """
    filled = _read_filled(archive, name, shape)
    count = int(np.count_nonzero(filled))
    points = np.full((*shape, 3), np.nan, np.float32)
    if f"{name}/depth.npy" in archive.namelist():
        depth = _read_planes(archive, f"{name}/depth", (count,))
        points[filled] = _on_rays(filled, depth, K, world_from_cam)
    else:
        points[filled] = _read_planes(archive, f"{name}/values", (count, 3))
    return points


def write_confidence(archive: zipfile.ZipFile, name: str, confidence: NDArray[np.float32]) -> None:
    """The confidences (H, W) of a view, 0 = none."""
    filled = np.asarray(confidence != 0)
    _write_filled(archive, name, filled)
    _write_planes(archive, f"{name}/values", _shortened(confidence[filled], _CONFIDENCE_BITS))


def read_confidence(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """What :func:`write_confidence` stored; errors as of :func:`read_points`."""
    filled = _read_filled(archive, name, shape)
    confidence = np.zeros(shape, np.float32)
    confidence[filled] = _read_planes(archive, f"{name}/values", (int(np.count_nonzero(filled)),))
    return confidence


def write_index(
    archive: zipfile.ZipFile, index: ObjectIndex, shapes: Sequence[tuple[int, int]]
) -> None:
    """By view a map (H, W) of how many views see a pixel's point; 0 = not in the index."""
    for view, shape in enumerate(shapes):
        seen = np.zeros(shape, np.uint8)
        mine = index.view == view
        seen.ravel()[index.pixel[mine]] = index.view_count[mine]
        write_array(archive, f"index/{view}", seen, deflate=True)


def read_index(
    archive: zipfile.ZipFile,
    images: Sequence[NDArray[np.uint8]],
    world: WorldPointmaps,
    objects: ObjectTree,
) -> ObjectIndex:
    """What :func:`write_index` stored, of the scene with these images, points and objects.

    Raises:
        InvalidScene: missing, not what it must be, or of pixels without a point or leaf.
    """
    counts = []
    for view, image in enumerate(images):
        name = f"index/{view}"
        seen = read_array(archive, name, np.uint8, 2)
        check_array(seen, f"{name}.npy", np.uint8, image.shape[:2])
        there = world.valid(view) & (objects.tree.leaves[view] >= 0)
        stray = int(np.count_nonzero(seen[~there]))
        expect(not stray, f"{name}.npy", "pixels with a point and a leaf", f"{stray} without")
        counts.append(seen)
    return ObjectIndex.of_pixels(images, world, objects, counts)


def _on_rays(
    filled: NDArray[np.bool_],
    depth: NDArray[np.float32],
    K: NDArray[np.float64],
    world_from_cam: NDArray[np.float64],
) -> NDArray[np.float32]:
    """(n, 3) points of the filled pixels at depths (n,). Without matrix products, whose last bits
    are not the same on all machines."""
    rows, columns = (axis.astype(np.float64) for axis in np.nonzero(filled))
    R, t = world_from_cam[:3, :3], world_from_cam[:3, 3]
    with np.errstate(all="ignore"):  # what a damaged file gives is found when all is checked
        x, y, z = (rays_of(columns, rows, K) * depth.astype(np.float64)[:, None]).T
        axes = [R[i, 0] * x + R[i, 1] * y + R[i, 2] * z + t[i] for i in range(3)]
        return np.stack(axes, axis=1).astype(np.float32)


def _shortened(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """With so many bits of their fractions; none grows, so that doing it again changes nothing."""
    mask = np.uint32(0xFFFFFFFF << (23 - bits) & 0xFFFFFFFF)
    return (values.view(np.uint32) & mask).view(np.float32)


def _write_filled(archive: zipfile.ZipFile, name: str, filled: NDArray[np.bool_]) -> None:
    write_array(archive, f"{name}/filled", np.packbits(filled), deflate=True)


def _read_filled(archive: zipfile.ZipFile, name: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    packed = read_array(archive, f"{name}/filled", np.uint8, 1)
    pixels = shape[0] * shape[1]
    check_array(packed, f"{name}/filled.npy", np.uint8, (-(-pixels // 8),))
    return np.unpackbits(packed, count=pixels).astype(bool).reshape(shape)


def _write_planes(archive: zipfile.ZipFile, name: str, values: NDArray[np.float32]) -> None:
    """The first bytes of all numbers, then the second ones, and so on: signs and exponents, which
    are much alike, shrink when they lie together."""
    planes = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.itemsize).T
    write_array(archive, name, planes, deflate=True)


def _read_planes(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    planes = read_array(archive, name, np.uint8, 2)
    check_array(planes, f"{name}.npy", np.uint8, (4, int(np.prod(shape))))
    return np.ascontiguousarray(planes.T).view(np.float32).reshape(shape)
