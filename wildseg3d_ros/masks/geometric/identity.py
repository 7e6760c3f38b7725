"""What the fused surface says of which masks are of one object, as the association takes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.association import Tracks


def tracks_of_surface(labels: Sequence[NDArray[np.int32]]) -> list[Tracks]:
    """Every view's masks, followed over the fused surface into all others.

    Unlike a video model's tracks they lose nothing on the way, so that each view is a run of its
    own: what one view contradicts says nothing of the next one.

    Args:
        labels: per view (H, W) object of the pixel on the fused surface, 0 = none.
    """
    views = range(len(labels))
    return [
        Tracks(
            anchor,
            tuple(None if view == anchor else labels[view] for view in views),
            tuple((view,) for view in views if view != anchor),
        )
        for anchor in views
    ]
