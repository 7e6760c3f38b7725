"""What is unlikely about one view by itself: before it is compared with any other."""

from __future__ import annotations

import numpy as np

from wildseg3d_ros.core.types import View

_FIELD = 10.0, 150.0
"""Horizontal fields of view [degrees] of pinhole images that cameras for close range have."""
_RATIO = 1.1
"""Pixels of sensors are square, to within a resolution that was changed along one axis."""
_OFF_CENTRE = 0.2
"""Share of the image's width or height by which a principal point may be off its middle."""
_DEPTH = 0.05, 30.0
"""Median distances [m] that depth cameras measure."""
_FEW = 0.05
"""Share of the pixels with depth below which there is hardly a surface."""
_DARK, _BRIGHTEST = 10.0, 99.0
"""Grey level that the brightest percent of an image exceeds, unless it shows nothing."""


def of_image(view: View) -> list[str]:
    """Why an image shows nothing, one sentence; mostly none."""
    if np.percentile(view.image, _BRIGHTEST) < _DARK:
        return [f"its image is black (mean grey level {view.image.mean():.0f} of 255)"]
    if view.image.min() == view.image.max():
        return ["all pixels of its image have one value"]
    return []


def of_geometry(view: View) -> list[str]:
    """Why intrinsics and depth are not what a camera of a rig gives, one sentence each."""
    return [*_of_intrinsics(view), *_of_depth(view)]


def _of_intrinsics(view: View) -> list[str]:
    if view.K is None:
        return ["it has no intrinsics: poses and depth of it cannot be checked"]
    out, (height, width) = [], view.size
    fx, fy = float(view.K[0, 0]), float(view.K[1, 1])
    field = float(2 * np.degrees(np.arctan(0.5 * width / fx)))
    if not _FIELD[0] <= field <= _FIELD[1]:
        out.append(
            f"by its intrinsics (fx {fx:.0f} pixels, {width}x{height}) it sees {field:.0f} "
            "degrees across; are they of another resolution?"
        )
    if max(fx, fy) > _RATIO * min(fx, fy):
        out.append(f"its focal lengths differ, fx {fx:.0f} and fy {fy:.0f} pixels")
    off = np.abs(view.K[:2, 2] / [width - 1, height - 1] - 0.5)
    if off.max() > _OFF_CENTRE:
        out.append(
            f"its principal point ({view.K[0, 2]:.0f}, {view.K[1, 2]:.0f}) is far from the middle "
            f"of an image of {width}x{height}; is its calibration of another resolution or crop?"
        )
    return out


def _of_depth(view: View) -> list[str]:
    if view.depth is None:
        return []
    measured = view.depth[view.depth > 0]
    share = len(measured) / view.depth.size
    if share < _FEW:
        return [f"only {share:.1%} of its pixels have depth; is something in front of it?"]
    median = float(np.median(measured))
    if not _DEPTH[0] <= median <= _DEPTH[1]:
        return [f"the median of its depth is {median:.3g} m; is it in another unit?"]
    return []
