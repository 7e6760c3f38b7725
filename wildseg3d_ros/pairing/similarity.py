"""Pairs of views without poses, by their images and their order."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import View
from wildseg3d_ros.pairing.config import PairingConfig
from wildseg3d_ros.pairing.graph import fill_up, pairs_from_exhaustive, tree_of


def pairs_from_similarity(
    similarity: NDArray[np.float64], config: PairingConfig = PairingConfig()
) -> list[tuple[int, int]]:
    """Pairs of views without poses: neighbours in the given order, and images that look alike.

    Args:
        similarity: (N, N), 0..1, of the views in their order.
    """
    # The order is evidence of its own: a moving camera's next view overlaps with this one. It
    # decides between equals in the tree, and comes before all similarity in what is added.
    count = len(similarity)
    in_order = np.eye(count, k=1) + np.eye(count, k=-1)
    tree = tree_of(similarity + 1e-6 * in_order, config.max_pairs_per_view)
    return fill_up(similarity + in_order, tree, 0.0, config.max_pairs_per_view)


def image_similarity(views: Sequence[View], keypoints: int = 400) -> NDArray[np.float64]:
    """(N, N) similarity of the images, 0..1: share of mutual matches of binary features, 0 on the
    diagonal.

    ORB (Rublee et al., ICCV 2011) on images of at most 480 pixels; for choosing candidates only.
    """
    orb = cv2.ORB_create  # pyright: ignore[reportAttributeAccessIssue]
    detector = orb(keypoints, fastThreshold=10)
    descriptors = []
    for view in views:
        shrink = min(1.0, 480.0 / max(view.size))
        gray = cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(gray, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        descriptors.append(detector.detectAndCompute(small, None)[1])
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    similarity = np.zeros((len(views), len(views)))
    for a, b in pairs_from_exhaustive(len(views)):
        if descriptors[a] is None or descriptors[b] is None:
            continue
        matches = matcher.match(descriptors[a], descriptors[b])
        # 64 of 256 bits is the usual limit of a true match.
        good = sum(match.distance < 64 for match in matches)
        fewest = min(len(descriptors[a]), len(descriptors[b]))
        similarity[a, b] = similarity[b, a] = good / max(fewest, 1)
    return similarity
