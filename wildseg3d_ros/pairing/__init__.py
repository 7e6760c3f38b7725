"""Which views are compared with each other.

The cost of a scene grows with its pairs, and most pairs of many views share little. Pairs are
chosen by what the views have in common: computed from poses and depth where these are given,
guessed from the images' similarity and order where they are not. The graph is connected whenever
there are two views or more.
"""

from wildseg3d_ros.pairing.angles import pairs_from_angles, viewing_angles
from wildseg3d_ros.pairing.choice import choose_pairs
from wildseg3d_ros.pairing.graph import (
    named_groups,
    pairs_from_exhaustive,
    parted_groups,
    with_bridges,
)
from wildseg3d_ros.pairing.groups import Kept, keep_largest, largest_group

__all__ = [
    "Kept",
    "choose_pairs",
    "keep_largest",
    "largest_group",
    "named_groups",
    "pairs_from_angles",
    "pairs_from_exhaustive",
    "parted_groups",
    "viewing_angles",
    "with_bridges",
]
