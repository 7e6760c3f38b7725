"""Settings of the object index."""

from __future__ import annotations

from dataclasses import dataclass

from wildseg3d_ros.core.settings import setting


@dataclass(frozen=True)
class IndexConfig:
    """The object index that answers prompts."""

    click_radius: int = setting(
        6, "half edge of the window around a click that decides the object [px]", 0, 64
    )
    min_confidence: float = setting(
        0.05, "minimum confidence of a point, relative to the median of its object", 0.0, 1.0
    )
    max_free_space_views: int = setting(
        2, "views that look through a point before it is left out; 0 = never", 0, 255
    )
    max_slant: float = setting(
        85.0,
        "steepest surface to the line of sight [degrees]; what is steeper on both sides of a "
        "pixel is a flying pixel and left out; 90 = never",
        45.0,
        90.0,
    )
    min_neighbours: int = setting(
        4, "minimum number of an object's points about each, itself included; 0 = any", 0, 1000
    )
    min_density: float = setting(
        0.05, "minimum number of such points, relative to the median of the object", 0.0, 1.0
    )
    min_cluster: float = setting(
        0.01, "minimum size of a separate fragment, relative to the object's largest one", 0.0, 1.0
    )
