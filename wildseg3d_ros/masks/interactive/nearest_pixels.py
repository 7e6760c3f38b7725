"""Values of the nearest pixels of an image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def copy_nearest(values: NDArray, given: NDArray[np.bool_], missing: NDArray[np.bool_]) -> None:
    """Gives the missing pixels (H, W) the value (H, W) of the nearest given one, in place.

    Args:
        values: of the pixels.
        given, missing: pixels of which none is both; at least one is given.
    """
    far = np.asarray(~given, np.uint8)
    labels = cv2.distanceTransformWithLabels(
        far, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    nearest = np.asarray(labels, np.intp)
    of_label = np.zeros(int(nearest.max()) + 1, values.dtype)
    of_label[nearest[given]] = values[given]
    values[missing] = of_label[nearest[missing]]
