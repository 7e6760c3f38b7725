"""Weights of points: confidence, and WildSeg3D's soft mask and dynamic adjustment.

All functions are pure and elementwise on NumPy arrays. ``S`` is the soft mask score in [0, 1],
``C`` the confidence >= 0; a point with C = 0 has no weight under any rule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.config import AlignmentConfig

EPSILON = 1e-6
"""eps of the dynamic adjustment's denominator (WildSeg3D)."""


def largest_confidence(confidence: NDArray) -> float:
    """The confidence beyond which a point counts no more, from the positive ones; inf for none.

    It is 100 typical ones: a few pixels must not outweigh a whole map, and sums over the squares
    of what a network's exponential gave must stay finite.
    """
    known = confidence[(confidence > 0) & (confidence < np.inf)]
    if not known.size:
        return float("inf")
    # A few thousand values have the median of all.
    return 100.0 * float(np.median(known[:: 1 + known.size // 4096]))


def sigmoid(value: NDArray) -> NDArray:
    """Logistic function without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * value))


def soft_mask_weight(scores: NDArray, confidence: NDArray) -> NDArray:
    """WildSeg3D's ``F = sigmoid(S * C)``, in [0.5, 1)."""
    return np.where(confidence > 0, sigmoid(scores * confidence), 0.0)


def dynamic_adjustment(
    soft: NDArray, matched: NDArray[np.bool_] | None, alpha_p: float, alpha_n: float
) -> NDArray:
    """WildSeg3D's ``A = (F + a F (1-F)) / (1 + |a| F (1-F) + eps)``.

    Args:
        soft: F.
        matched: a is ``alpha_p`` where True and ``-alpha_n`` where False; None for a = 0.
    """
    if matched is None:
        return soft / (1.0 + EPSILON)
    alpha = np.where(matched, alpha_p, -alpha_n)
    change = soft * (1.0 - soft)
    return np.maximum(soft + alpha * change, 0.0) / (1.0 + np.abs(alpha) * change + EPSILON)


def sharpened_weight(scores: NDArray, confidence: NDArray, median: float) -> NDArray:
    """``C * sigmoid(2 log(C / median) + 3 (S - 1/2))``: confidence, its ranking made steeper.

    Unlike F it is centred on the typical confidence, so that the ranking by confidence survives.
    """
    confidence = np.asarray(confidence)
    ratio = np.log(np.maximum(confidence, 1e-30) / median)
    return np.where(confidence > 0, confidence * sigmoid(2.0 * ratio + 3.0 * (scores - 0.5)), 0.0)


def point_weights(
    config: AlignmentConfig,
    confidence: NDArray,
    scores: NDArray,
    matched: NDArray[np.bool_] | None,
    median: float,
) -> NDArray:
    """W of each point by the configured rule.

    Args:
        confidence: C, any shape.
        scores: S, broadcastable to it.
        matched: flags of the dynamic adjustment; unused by other rules.
        median: typical confidence of the scene; used by ``sharpened`` only.
    """
    if config.weighting == "confidence":
        return np.array(confidence, dtype=np.float64)
    if config.weighting == "sharpened":
        return sharpened_weight(scores, confidence, median)
    soft = soft_mask_weight(scores, confidence)
    if config.weighting == "soft_mask":
        return soft
    adjusted = dynamic_adjustment(soft, matched, config.alpha_p, config.alpha_n)
    if config.weighting == "dynamic":
        return adjusted
    return adjusted * confidence
