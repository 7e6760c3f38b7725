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
"""

from wildseg3d_ros.alignment.aligner import Aligner, Aligns, ViewAligner, align
from wildseg3d_ros.alignment.fusion.fuse import fuse, fuse_view
from wildseg3d_ros.alignment.register_view import align_view

__all__ = ["Aligner", "Aligns", "ViewAligner", "align", "align_view", "fuse", "fuse_view"]
