"""What is usually wrong with a rig, and the cameras without it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import invert, make_transform
from wildseg3d_ros.core.types import View
from wildseg3d_ros.rig.cameras import Cameras

KINDS = (
    "inverse",
    "opengl axes",
    "link frame",
    "axes",
    "translation scale",
    "depth unit",
    "focal length",
    "one place",
    "turned view",
    "mirrored view",
    "swapped views",
)

SCALES = np.exp(np.arange(-7.7, 7.71, 0.07))
"""Factors that are tried: of translations, from 1/2200 to 2200. A tenth off moves surfaces by more
than the tolerance, and a step by less."""

FOCALS = np.exp(np.arange(-1.62, 1.621, 0.06))
"""Factors of focal lengths, from 1/5 to 5."""

_NEAR = 0.22
"""Logarithm of the factors next to 1 that are not tried: what is off by less is measured by the
alignment, and a mistake of units or resolutions is more."""

_UNITS = (1000.0, 100.0, 10.0, 5.0, 4.0, 0.25, 0.2, 0.1, 0.01, 0.001)
"""By what depth is off when its unit is mistaken: metres and millimetres, and the steps of 0.2,
0.25 and 0.1 mm in which some cameras and recordings count."""

_UNIT_OFF = 0.2
"""Logarithm by which a factor that is found may differ from that of a unit: over a short baseline
honest poses leave the scale open."""

_OFF_CENTRE, _CENTRED = 0.08, 12.0
"""Standard deviation of a principal point, of the size of the image, and the most that its place
may count: half of what names a mistake."""

_RANGE = 0.08, 15.0
"""Depth [m] that indoor cameras measure."""

_COMMON, _RARE = 0.0, 4.0
"""Natural logarithms by which a mistake is less likely than the commonest, beforehand."""


@dataclass(frozen=True, eq=False)
class Mistake:
    """One mistake that may have been made.

    Attributes:
        kind: of :data:`KINDS`.
        views: whose cameras it is about, by index; empty: all.
        mend: the given cameras without it.
        reading: how they are then read, after "as given ..., ".
        text: what it looks like, one clause.
        remedy: what to do, one clause.
        rarity: how unlikely it is beforehand, natural logarithm.
        factor: by which something was multiplied; 1 where nothing was.
        vary: the same mistake with what mends it multiplied further; None where nothing is.
    """

    kind: str
    views: tuple[int, ...]
    mend: Callable[[Cameras], Cameras]
    reading: str
    text: str
    remedy: str
    rarity: float = _COMMON
    factor: float = 1.0
    vary: Callable[[float], Mistake] | None = None


def _axes() -> list[NDArray[np.float64]]:
    """(4, 4) of the 48 ways to name the axes of a right-angled frame, the identity first."""
    return [
        make_transform(np.eye(3)[list(order)] * np.array(signs)[:, None], np.zeros(3))
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]


_AXES = _axes()
_PROPER = [axes for axes in _AXES if np.linalg.det(axes) > 0]
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_LINK_FROM_OPTICAL = make_transform([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.zeros(3))
_FLAT = [axes for axes in _AXES[1:] if axes[2, 2] == 1.0]
"""Turned by 90, 180, 270 degrees about the optical axis, and mirrored."""


# ---- all cameras alike -----------------------------------------------------------------------


def of_all(views: Sequence[View], median_depth: float) -> Iterator[Mistake]:
    """Mistakes that all cameras share.

    Args:
        views: all with intrinsics.
        median_depth: metres, of all views as given; NaN where there is none.
    """
    for inverted, axes in itertools.product((False, True), _PROPER):
        if inverted or axes is not _PROPER[0]:
            yield _frames(inverted, axes)
    for factor in SCALES if np.isfinite(median_depth) else ():
        if abs(np.log(factor)) > _NEAR:
            yield of_scale(factor, median_depth)
    for factor, whole in itertools.product(FOCALS, (True, False)):
        if abs(np.log(factor)) > _NEAR:
            yield of_focal_length(factor, whole, centring(views, factor) if whole else 0.0)


def of_one_place() -> Mistake:
    """All images are of one camera."""
    return Mistake(
        "one place",
        (),
        lambda cameras: replace(
            cameras, world_from_cam=np.tile(np.eye(4), (len(cameras.K), 1, 1))
        ),
        "as images of one camera that stands still",
        "all images look as if they came from one place",
        "give each camera its own image topic or file, and its own pose",
        _RARE,
    )


def _frames(inverted: bool, axes: NDArray) -> Mistake:
    """Matrices in the other direction, or of frames with other axes."""

    def mend(cameras: Cameras) -> Cameras:
        poses = invert(cameras.world_from_cam) if inverted else cameras.world_from_cam
        return replace(cameras, world_from_cam=poses @ axes)

    kind, rarity = ("inverse", _COMMON) if inverted else ("axes", _RARE)
    reading = "as camera-from-world matrices"
    text = "the poses look inverted"
    remedy = "give world_from_cam (camera-to-world) matrices"
    if not inverted:
        reading = f"with the cameras' axes taken for {_named(axes)}"
        text = "the cameras' frames look turned"
        remedy = "give poses of optical frames (x right, y down, z forward)"
        if np.array_equal(axes, _OPENGL):
            kind, rarity, reading = "opengl axes", _COMMON, "with y and z of the cameras reversed"
            text = "the poses look like OpenGL's (y up, z backward) where OpenCV's axes are meant"
            text += ", or the other way round"
            remedy += "; transforms.json holds OpenGL's axes"
        elif np.array_equal(axes, _LINK_FROM_OPTICAL):
            kind, rarity = "link frame", _COMMON
            reading = "as poses of link frames (x forward, y left, z up)"
            text = "the poses look like those of the cameras' link frames"
            remedy += ": the images' frame_id has to be the optical frame"
    elif np.array_equal(axes, _OPENGL):
        reading += " of OpenGL's axes"
    elif axes is not _PROPER[0]:
        rarity = _RARE
        reading += f" with the cameras' axes taken for {_named(axes)}"
        text += " and turned"
    return Mistake(kind, (), mend, reading, text, remedy, rarity)


def _named(axes: NDArray) -> str:
    """Which given axes the camera's right, down and forward are."""
    names = []
    for column in range(3):
        row = int(np.argmax(np.abs(axes[:3, column])))
        names.append(f"{'-' if axes[row, column] < 0 else ''}{'xyz'[row]}")
    return ", ".join(names)


def of_scale(factor: float, median_depth: float) -> Mistake:
    """Translations that have to be multiplied with a factor, or depth divided by it: no image can
    tell which, but only one may be a unit that somebody mistook."""

    def mend(cameras: Cameras) -> Cameras:
        poses = cameras.world_from_cam.copy()
        poses[:, :3, 3] *= factor
        return replace(cameras, world_from_cam=poses)

    def vary(by: float) -> Mistake:
        return of_scale(factor * by, median_depth)

    off = 1.0 / factor
    unit = min(_UNITS, key=lambda u: abs(np.log(off / u)))
    low, high = _RANGE
    is_unit = abs(np.log(off / unit)) < _UNIT_OFF and low <= median_depth * off <= high * 1.5
    if is_unit and (max(unit, 1 / unit) < 50 or not low <= median_depth <= high):
        return Mistake(
            "depth unit",
            (),
            mend,
            f"with depth times {off:.3g}",
            f"depth looks {_times(factor)} for the poses (median {median_depth:.3g} m)",
            "give the depth images' unit (depth_unit_scale_factor; 16UC1 is in mm, 32FC1 in m)"
            f", unless it is the poses' translations that are {_times(off)}",
            factor=factor,
            vary=vary,
        )
    return Mistake(
        "translation scale",
        (),
        mend,
        f"with translations times {factor:.3g}",
        f"the poses' translations look {_times(off)} for the depth (median {median_depth:.3g} m)",
        "give them in metres (COLMAP's have no unit), unless it is depth that is "
        f"{_times(factor)}",
        factor=off,
        vary=vary,
    )


def _times(factor: float) -> str:
    if factor > 1:
        return f"{factor:.3g} times too large"
    return f"{1 / factor:.3g} times too small"


def of_focal_length(factor: float, whole: bool, centring: float = 0.0) -> Mistake:
    """Focal lengths that have to be multiplied with a factor, the principal point with them where
    ``whole``.

    Args:
        centring: how much likelier the principal points are then, natural logarithm.
    """

    def mend(cameras: Cameras) -> Cameras:
        K = cameras.K.copy()
        K[:, :2, :2] *= factor
        if whole:
            K[:, :2, 2] *= factor
        return replace(cameras, K=K)

    what = "intrinsics" if whole else "focal lengths"
    return Mistake(
        "focal length",
        (),
        mend,
        f"with {what} times {factor:.3g}",
        f"the {what} look {_times(1 / factor)}",
        "give those of the images' own resolution",
        rarity=-centring,
        factor=1 / factor,
        vary=lambda by: of_focal_length(factor * by, whole, centring),
    )


def centring(views: Sequence[View], factor: float) -> float:
    """How much likelier principal points are after they were multiplied with a factor: they lie
    about the middle of their image, unless it was cropped. Natural logarithm, bounded: of cameras
    with one lens and crop, one tells as much as all."""
    size = np.array([view.size[::-1] for view in views], dtype=np.float64)
    point = np.array([np.asarray(view.K)[:2, 2] for view in views])
    off = [((f * point + 0.5) / size - 0.5) / _OFF_CENTRE for f in (1.0, factor)]
    given, mended = (0.5 * float(np.median((each**2).sum(axis=1))) for each in off)
    return float(np.clip(given - mended, -_CENTRED, _CENTRED))


def refined(mistake: Mistake) -> Iterator[Mistake]:
    """The same mistake by factors between those of :data:`SCALES`; none where it has no factor."""
    if mistake.vary is not None:
        step = SCALES[1] / SCALES[0]
        yield from (mistake.vary(float(step**share)) for share in np.linspace(-1.0, 1.0, 9))


# ---- single cameras --------------------------------------------------------------------------


def of_view(views: Sequence[View], index: int) -> Iterator[Mistake]:
    """Mistakes of one camera among others."""
    name, which = f"'{views[index].name}'", (index,)

    def turned(axes: NDArray, inverted: bool = False, with_image: bool = False) -> Mistake:
        def mend(cameras: Cameras) -> Cameras:
            poses, K = cameras.world_from_cam.copy(), cameras.K
            own = invert(poses[index]) if inverted else poses[index]
            poses[index] = own @ axes
            if with_image:
                K = K.copy()
                K[index] = _turned_intrinsics(K[index], axes, views[index].size)
            return replace(cameras, world_from_cam=poses, K=K)

        if inverted:
            text = f"the pose of camera {name} looks inverted"
            remedy = "give its world_from_cam (camera-to-world) matrix"
            reading = f"with that of {name} as camera-from-world"
            return Mistake("inverse", which, mend, reading, text, remedy, 2 * _RARE)
        if np.linalg.det(axes) < 0:
            text = f"the image of camera {name} looks mirrored"
            remedy = "switch its flipping off"
            reading = f"with that of {name} mirrored"
            return Mistake("mirrored view", which, mend, reading, text, remedy, _RARE)
        if axes[2, 2] == 1.0:
            angle = 180 if axes[0, 0] == -1.0 else 90
            text = f"the image or the pose of camera {name} looks turned by {angle} degrees"
            remedy = "give the pose of the camera as it is mounted, or switch the turning off"
            reading = f"with that of {name} turned by {angle} degrees about its optical axis"
            return Mistake("turned view", which, mend, reading, text, remedy, _RARE)
        reading = f"with the axes of {name} taken for {_named(axes)}"
        text = f"the frame of camera {name} looks turned"
        remedy = "give the pose of its optical frame (x right, y down, z forward)"
        return Mistake("axes", which, mend, reading, text, remedy, 2 * _RARE)

    for axes in _PROPER[1:]:
        yield turned(axes)
    for axes in _FLAT:
        if np.linalg.det(axes) < 0:
            yield turned(axes)
        yield turned(axes, with_image=True)
    yield turned(_AXES[0], inverted=True)
    for unit in _UNITS if views[index].depth is not None else ():
        yield _unit_of_view(name, index, unit)


def _unit_of_view(name: str, index: int, unit: float) -> Mistake:
    def mend(cameras: Cameras) -> Cameras:
        scale = cameras.depth_scale.copy()
        scale[index] *= unit
        return replace(cameras, depth_scale=scale)

    return Mistake(
        "depth unit",
        (index,),
        mend,
        f"with the depth of {name} times {unit:g}",
        f"the depth of camera {name} looks {_times(1 / unit)}",
        "give its depth images' unit (16UC1 is in mm, 32FC1 in m)",
        _RARE,
        1 / unit,
    )


def _turned_intrinsics(K: NDArray, axes: NDArray, size: tuple[int, int]) -> NDArray[np.float64]:
    """K of an image that was turned or mirrored after K was measured.

    Args:
        axes: (4, 4) turn about the optical axis. size: (height, width) of the turned image.
    """
    turn = axes[:2, :2].T
    centre = (np.array(size[::-1]) - 1.0) / 2.0
    before = np.abs(turn).T @ centre
    out = K.copy()
    out[:2, :2] = np.diag(np.abs(turn) @ np.diag(K)[:2])
    out[:2, 2] = centre + turn @ (K[:2, 2] - before)
    return out


def of_two(views: Sequence[View], one: int, two: int) -> Mistake:
    """Two cameras that have each other's pose."""

    def mend(cameras: Cameras) -> Cameras:
        poses = cameras.world_from_cam.copy()
        poses[[one, two]] = poses[[two, one]]
        return replace(cameras, world_from_cam=poses)

    names = f"'{views[one].name}' and '{views[two].name}'"
    return Mistake(
        "swapped views",
        (one, two),
        mend,
        f"with the poses of {names} exchanged",
        f"the cameras {names} look as if each had the other's pose (or image)",
        "check names, topics and serial numbers",
        _RARE,
    )
