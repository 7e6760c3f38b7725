"""Point weights against the formulas of WildSeg3D, written out per point."""

import math

import numpy as np
import pytest

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.matching import mutual_matches
from wildseg3d_ros.alignment.graph.weights import (
    EPSILON,
    dynamic_adjustment,
    point_weights,
    sharpened_weight,
    soft_mask_weight,
)


@pytest.fixture
def points():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.0, 20.0, 50)
    confidence[:5] = 0.0
    return random.uniform(0.0, 1.0, 50), confidence, random.random(50) < 0.5


def logistic(value):
    return 1.0 / (1.0 + math.exp(-value))


def test_soft_mask_weight_is_the_logistic_of_score_times_confidence(points):
    scores, confidence, _ = points
    expected = [logistic(s * c) if c > 0 else 0.0 for s, c in zip(scores, confidence, strict=True)]
    np.testing.assert_allclose(soft_mask_weight(scores, confidence), expected, rtol=1e-12)


def test_dynamic_adjustment_follows_the_paper(points):
    scores, confidence, matched = points
    soft = soft_mask_weight(scores, confidence)
    alpha_p, alpha_n = 1.5, 0.7
    expected = []
    for f, is_matched in zip(soft, matched, strict=True):
        a = alpha_p if is_matched else -alpha_n
        expected.append((f + a * f * (1 - f)) / (1 + abs(a) * f * (1 - f) + EPSILON))
    np.testing.assert_allclose(dynamic_adjustment(soft, matched, alpha_p, alpha_n), expected)


def test_dynamic_adjustment_orders_matched_over_neutral_over_unmatched():
    soft = np.linspace(0.5, 0.99, 20)
    ones = np.ones(20, dtype=bool)
    plus = dynamic_adjustment(soft, ones, 1.0, 1.0)
    minus = dynamic_adjustment(soft, ~ones, 1.0, 1.0)
    neutral = dynamic_adjustment(soft, None, 1.0, 1.0)
    assert (plus > neutral).all()
    assert (neutral > minus).all()
    assert (minus > 0).all()


def test_dynamic_adjustment_is_never_negative():
    soft = np.linspace(0.0, 1.0, 101)
    assert (dynamic_adjustment(soft, np.zeros(101, dtype=bool), 1.0, 2.0) >= 0).all()


def test_sharpened_weight_follows_its_formula_and_keeps_the_ranking(points):
    scores, confidence, _ = points
    median = float(np.median(confidence[confidence > 0]))
    expected = [
        c * logistic(2 * math.log(c / median) + 3 * (s - 0.5)) if c > 0 else 0.0
        for s, c in zip(scores, confidence, strict=True)
    ]
    np.testing.assert_allclose(sharpened_weight(scores, confidence, median), expected)
    rising = sharpened_weight(np.ones(30), np.linspace(0.1, 9.0, 30), 2.0)
    assert (np.diff(rising) > 0).all()


@pytest.mark.parametrize(
    "weighting", ["confidence", "sharpened", "soft_mask", "dynamic", "dynamic_confidence"]
)
def test_point_weights_are_zero_without_confidence(points, weighting):
    scores, confidence, matched = points
    weight = point_weights(
        AlignmentConfig(weighting=weighting), confidence, scores, matched, median=5.0
    )
    assert (weight[confidence == 0] == 0).all()
    assert (weight[confidence > 0] > 0).all()


def test_mutual_matches_are_the_pixels_both_maps_show():
    v, u = np.mgrid[:64, :96].astype(float)
    surface = np.stack([u / 50, v / 50, 2 + 0.1 * np.sin(u / 9)], -1)
    # Map b shows the right part of map a's surface, and more beyond it.
    shifted = np.stack([(u + 40) / 50, v / 50, 2 + 0.1 * np.sin((u + 40) / 9)], -1)
    valid = np.ones((64, 96), dtype=bool)
    valid_a = valid.copy()
    valid_a[:, 90:] = False
    rows, cols = np.mgrid[2:64:5, 2:96:5]
    pixels = np.stack([rows.ravel(), cols.ravel()], 1)
    matched = mutual_matches(surface, valid_a, shifted, valid, pixels)
    inside = (pixels[:, 1] >= 44) & (pixels[:, 1] < 90)
    assert matched[inside].all()
    assert not matched[pixels[:, 1] < 36].any()
    assert not matched[pixels[:, 1] >= 90].any()
