"""Validated types: what is accepted, what is refused, and with which words."""

import numpy as np
import pytest

from wildseg3d_ros.core.errors import ErrorCode, InputError, PromptError
from wildseg3d_ros.core.types import (
    NEGATIVE,
    Click,
    PairPrediction,
    Prompt,
    View,
    ViewMasks,
    check_views,
)

IMAGE = np.zeros((4, 6, 3), np.uint8)
K = np.array([[5.0, 0, 3], [0, 5.0, 2], [0, 0, 1]])


def test_view_depth_without_meaning_becomes_zero_in_a_copy():
    depth = np.array([[np.nan, np.inf, -1.0, 0.0, 1.0, 2.0]] * 4, np.float32)
    view = View("a", IMAGE, K, depth)
    assert view.depth[0].tolist() == [0, 0, 0, 0, 1, 2]
    assert np.isnan(depth[0, 0])


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        ({"name": ""}, ErrorCode.BAD_IMAGE, "needs a name"),
        ({"image": IMAGE[..., 0]}, ErrorCode.BAD_IMAGE, r"'a': expected an \(H, W, 3\) uint8"),
        ({"image": IMAGE.astype(float)}, ErrorCode.BAD_IMAGE, "float64"),
        ({"K": K * 0}, ErrorCode.BAD_CALIBRATION, "positive focal"),
        ({"K": np.full((3, 3), np.nan)}, ErrorCode.BAD_CALIBRATION, "finite 3x3"),
        ({"depth": np.ones((4, 5))}, ErrorCode.BAD_DEPTH, "depth is 5x4 but the image is 6x4"),
        ({"world_from_cam_prior": np.eye(3)}, ErrorCode.BAD_CALIBRATION, "4x4"),
        ({"world_from_cam_prior": 2 * np.eye(4)}, ErrorCode.BAD_CALIBRATION, "not a rotation"),
        (
            {"world_from_cam_prior": np.diag([1.0, 1.0, -1.0, 1.0])},
            ErrorCode.BAD_CALIBRATION,
            "not a rotation",
        ),
    ],
)
def test_view_refuses_with_a_reason(arguments, code, text):
    with pytest.raises(InputError, match=text) as caught:
        View(**({"name": "a", "image": IMAGE} | arguments))
    assert caught.value.code == code


def test_check_views_names_twins_and_counts():
    a, b = View("left", IMAGE), View("left", IMAGE)
    with pytest.raises(InputError, match="two cameras are named 'left'"):
        check_views([a, b])
    with pytest.raises(InputError, match="at least 2") as caught:
        check_views([a])
    assert caught.value.code == ErrorCode.TOO_FEW_VIEWS


def test_pointmap_b_in_a_applies_the_transform():
    points = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    pose = np.eye(4)
    pose[:3, 3] = [1.0, 2.0, 3.0]
    ones = np.ones((4, 6), np.float32)
    pair = PairPrediction(0, 1, points, points, ones, ones, a_from_map_b=pose)
    assert pair.pointmap_b_in_a == pytest.approx(points + [1.0, 2.0, 3.0], abs=1e-6)
    with pytest.raises(ValueError, match="confidence_b"):
        PairPrediction(0, 1, points, points, ones, ones[:2])


def test_prompt_needs_a_positive_click_with_finite_pixels():
    with pytest.raises(PromptError, match="none of them positive"):
        Prompt((Click("a", 1, 1, NEGATIVE),))
    with pytest.raises(PromptError, match="finite"):
        Click("a", float("nan"), 1)
    with pytest.raises(PromptError, match="label"):
        Click("a", 1, 1, 7)


def test_view_masks_are_a_mapping_of_the_selected_leaves():
    leaves = [np.array([[-1, 1], [2, 3]], np.int32), np.array([[3, 3], [-1, 1]], np.int32)]
    masks = ViewMasks(["a", "b"], leaves, np.array([[1, 2], [3, 4]], np.int32))
    assert masks["a"].tolist() == [[False, True], [False, True]]
    assert masks["b"].tolist() == [[True, True], [False, True]]
    assert list(masks) == ["a", "b"] and len(masks) == 2
    with pytest.raises(KeyError, match="no view 'c'"):
        masks["c"]
    run = ViewMasks(["a", "b"], leaves, np.array([[1, 3]], np.int32))
    assert run["a"].tolist() == [[False, True], [True, False]]
    nothing = ViewMasks(["a", "b"], leaves, np.zeros((0, 2), np.int32))
    assert not nothing["a"].any()
