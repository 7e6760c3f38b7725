"""Images that show nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View


def is_black(image: NDArray[np.uint8]) -> bool:
    """Whether hardly a pixel in a hundred of (H, W, 3) is brighter than a dark sensor's noise,
    values up to 12."""
    return float((image.max(axis=2) > 12).mean()) < 0.01


def warn_if_black(view: View, consequence: str, progress: Progress) -> None:
    """Says so of a view whose image is black, and what follows for its masks."""
    if is_black(view.image):
        progress.warn(
            f"camera '{view.name}': its image is black, so that {consequence}; look at its lens "
            "cap, light and exposure"
        )
