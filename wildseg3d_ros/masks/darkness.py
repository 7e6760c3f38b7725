"""Images that show nothing."""

from __future__ import annotations

from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View


def warn_if_black(view: View, consequence: str, progress: Progress) -> None:
    """Says so of a view whose image is black, and what follows for its masks.

    Hardly a pixel in a hundred is then brighter than a dark sensor's noise, values up to 12.
    """
    if (view.image.max(axis=2) > 12).mean() < 0.01:
        progress.warn(
            f"camera '{view.name}': its image is black, so that {consequence}; look at its lens "
            "cap, light and exposure"
        )
