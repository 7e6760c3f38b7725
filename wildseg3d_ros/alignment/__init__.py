"""Dynamic Global Alignment: pairwise pointmaps into one world.

The method is that of WildSeg3D (ICCV 2025, arXiv 2503.08407), solved on the reduced graph of one
similarity per pair: world points are eliminated, so that a Gauss-Newton pass needs only weighted
second moments of a few hundred pixels per view. The parts, in the order of their work:

- :mod:`~wildseg3d_ros.alignment.graph`: pairs as a graph of sampled points, and first poses;
- :mod:`~wildseg3d_ros.alignment.solve`: the robust solve over the similarities of all pairs;
- :mod:`~wildseg3d_ros.alignment.priors`: what is known of cameras and scale beforehand;
- :mod:`~wildseg3d_ros.alignment.cameras`: poses and focal lengths of the cameras;
- :mod:`~wildseg3d_ros.alignment.surfaces`: joint refinement of what several views see;
- :mod:`~wildseg3d_ros.alignment.fusion`: world pointmaps at full resolution.

:mod:`~wildseg3d_ros.alignment.aligner` is the page of these steps; a single view that was added or
replaced is brought into a world that stands by :mod:`~wildseg3d_ros.alignment.register_view`.

Shares of the scene's size or of the viewing distance hold in any unit. Thresholds that name no
source have none on record; docs/explanation/alignment.md has what all of them give, on
constructed scenes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildseg3d_ros.alignment.aligner import Aligner, Aligns, ViewAligner, align
    from wildseg3d_ros.alignment.fusion.fuse import fuse, fuse_view
    from wildseg3d_ros.alignment.register_view import align_view

__all__ = ["Aligner", "Aligns", "ViewAligner", "align", "align_view", "fuse", "fuse_view"]

_HOMES = {"align_view": "register_view", "fuse": "fusion.fuse", "fuse_view": "fusion.fuse"}
"""Modules of what is not in ``aligner``."""


def __getattr__(name: str) -> Any:
    # The command line reads the settings of this part for its options, without the solver.
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'aligner')}"), name)
