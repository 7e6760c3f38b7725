"""Settings of the choice of pairs."""

from __future__ import annotations

from dataclasses import dataclass

from wildseg3d_ros.core.settings import setting


@dataclass(frozen=True)
class PairingConfig:
    """Which views are compared with each other."""

    max_pairs_per_view: int = setting(
        6, "upper bound of pairs that each view takes part in; the graph stays connected", 1, 64
    )
    min_overlap: float = setting(
        0.15, "share of a view's points that must be visible in the other view [0..1]", 0.0, 1.0
    )
    require_all_views: bool = setting(
        False,
        "refuse to build when views cannot be related to the others; else the largest group of "
        "views that can is built, with a warning that names those left out",
    )
