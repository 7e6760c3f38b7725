"""The relative pose of two views by way of others."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import invert


def chained(
    a_from_b: Mapping[tuple[int, int], NDArray[np.float64]], start: int, end: int
) -> NDArray[np.float64] | None:
    """(4, 4) ``start_from_end`` by the fewest of the known relative poses; None where they do not
    connect the two views."""
    links: dict[int, dict[int, NDArray[np.float64]]] = {}
    for (a, b), pose in a_from_b.items():
        links.setdefault(a, {})[b] = pose
        links.setdefault(b, {})[a] = invert(pose)
    reached, waiting = {start: np.eye(4)}, deque([start])
    while waiting and end not in reached:
        at = waiting.popleft()
        for v, pose in links.get(at, {}).items():
            if v not in reached:
                reached[v] = reached[at] @ pose
                waiting.append(v)
    return reached.get(end)
