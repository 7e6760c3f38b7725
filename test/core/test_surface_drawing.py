"""Labelled voxels drawn into a view: outlines, scores, and leaves, against constructed truth."""

import numpy as np
import pytest

from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.surface.drawing import draw_labels, leaves_in_view, likeliest_labels
from wildseg3d_ros.masks.surface.observations import LONG_EDGE, Observation, observe_views

HEIGHT, WIDTH = 120, 160
FLOOR, RED, BLUE = (150, 140, 120), (190, 40, 40), (40, 60, 180)


def _picture():
    """A red and a blue box side by side on a floor, with noise; and the true labels."""
    truth = np.zeros((HEIGHT, WIDTH), np.int32)
    truth[30:90, 40:80], truth[40:90, 80:120] = 1, 2
    noise = np.random.default_rng(0).normal(0, 4, (HEIGHT, WIDTH, 3))
    image = np.array([FLOOR, RED, BLUE])[truth] + noise
    return image.clip(0, 255).astype(np.uint8), truth


def _observation(stride=1):
    depth = np.ones((HEIGHT // stride, WIDTH // stride), np.float32)
    points = np.zeros((*depth.shape, 3), np.float32)
    return Observation(points, points, depth, depth, np.eye(4), np.eye(3), stride, (HEIGHT, WIDTH))


def _one_voxel_per_pixel(projected):
    """What the pixels show, and the voxels' labels."""
    return np.arange(projected.size, dtype=np.int32).reshape(projected.shape), projected.ravel()


def _iou(a, b):
    return (a & b).sum() / (a | b).sum()


def _draw(image, projected, stride=1):
    return draw_labels(image, _observation(stride), *_one_voxel_per_pixel(projected))


def _faulty(truth, fault):
    labels = truth.copy()
    if fault == "skirt of the floor":
        labels[90:104, 40:80] = 1
    elif fault == "strip of the neighbour":
        labels[45:85, 80:88] = 1
    elif fault == "eaten rim":
        labels[:, :44][truth[:, :44] == 1] = 0
    elif fault == "no depth about the outline":
        labels[30:90, 36:46] = -1
    return labels


@pytest.mark.parametrize(
    "fault",
    [
        "none",
        "skirt of the floor",
        "strip of the neighbour",
        "eaten rim",
        "no depth about the outline",
    ],
)
def test_draw_labels_moves_outlines_to_the_edges_of_the_image(fault):
    image, truth = _picture()
    drawn, score = _draw(image, _faulty(truth, fault))
    for name in (1, 2):
        assert _iou(drawn == name, truth == name) > 0.95
    assert drawn.dtype == np.int32 and score.dtype == np.float32
    assert score.min() >= 0 and score.max() <= 1


def test_draw_labels_scores_are_high_on_the_object_low_beside_it_and_0_far_away():
    image, truth = _picture()
    _, score = _draw(image, truth)
    assert score[60, 60] > 0.95 and score[10, 10] == 0
    assert (score[32:88, 41:79] > 0.5).all() and (score[32:88, 32:39] < 0.5).all()


def test_draw_labels_at_half_resolution_fills_the_full_image():
    image, truth = _picture()
    drawn, score = _draw(image, np.ascontiguousarray(truth[::2, ::2]), stride=2)
    assert drawn.shape == score.shape == truth.shape
    assert _iou(drawn == 1, truth == 1) > 0.9 and set(np.unique(drawn)) == {0, 1, 2}


@pytest.mark.parametrize("value", [0, -1])
def test_draw_labels_without_objects_draws_nothing(value):
    image, truth = _picture()
    drawn, score = _draw(image, np.full_like(truth, value))
    assert not drawn.any() and not score.any()


def test_draw_labels_of_an_image_that_one_object_fills():
    image, truth = _picture()
    drawn, score = _draw(image, np.ones_like(truth))
    assert (drawn == 1).all() and (score > 0.5).all()


def test_draw_labels_leaves_out_what_is_a_few_pixels():
    image, truth = _picture()
    truth[10:12, 10:14] = 7
    assert 7 not in _draw(image, truth)[0]


def test_likeliest_labels_probabilities_of_the_best_and_of_none_are_at_most_one():
    image, truth = _picture()
    label, best, none = likeliest_labels(image, truth)
    assert (best + none <= 1 + 1e-5).all()
    assert (none[label == 0] == 1).all()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("fault", ["eaten rim", "skirt of the floor"])
def test_leaves_in_view_every_pixel_has_a_leaf_of_what_is_drawn_the_nearest_one(stride, fault):
    _, truth = _picture()
    projected = _faulty(truth, fault)[::stride, ::stride]
    seen, labels = _one_voxel_per_pixel(projected)
    patches = np.arange(len(labels), dtype=np.int32) // 7
    patches = (patches * 3 + labels + 1).astype(np.int32)  # a patch is of one label
    seen = np.where(np.arange(seen.shape[1]) < 10 // stride, -1, seen)
    leaves = leaves_in_view(_observation(stride), seen, labels, patches, truth)
    of_patch = np.full(patches.max() + 1, -9)
    of_patch[patches] = labels
    assert leaves.shape == truth.shape
    assert (of_patch[leaves[:, 10:]] == truth[:, 10:]).all()
    assert (leaves[:, :10] == -1).all()
    own = np.where(seen >= 0, patches[seen], -1).repeat(stride, 0).repeat(stride, 1)
    right = truth == projected.repeat(stride, 0).repeat(stride, 1)
    assert (leaves[right] == own[right]).all()
    if fault == "eaten rim":  # of the red box: it takes the patch across
        assert (leaves[60, 40:44] == own[60, 44]).all()
    else:
        assert leaves[103, 60] == own[104, 60]


def test_leaves_in_view_of_a_mask_without_background_are_none_beside_it():
    _, truth = _picture()
    seen, labels = _one_voxel_per_pixel(np.ones_like(truth))
    drawn = np.where(truth == 1, 1, 0)
    leaves = leaves_in_view(_observation(), seen, labels, np.zeros_like(labels), drawn)
    np.testing.assert_array_equal(leaves, np.where(truth == 1, 0, -1))


def test_leaves_in_view_says_what_object_is_not_in_the_view():
    _, truth = _picture()
    seen, labels = _one_voxel_per_pixel(truth)
    with pytest.raises(ValueError, match="object 3 is drawn"):
        leaves_in_view(_observation(), seen, labels, labels, np.full_like(truth, 3))


@pytest.mark.parametrize("first", [0, 1])
def test_observe_views_of_a_large_image_with_depth_at_every_other_pixel(first):
    """As of a smaller depth camera, registered to the images."""
    shape = (20, 2 * LONG_EDGE)
    confidence = np.zeros(shape, np.float32)
    confidence[first::2, first::2] = 1.0
    points = np.ones((*shape, 3), np.float32)
    image, K = np.zeros((*shape, 3), np.uint8), np.eye(3)[None]
    world = WorldPointmaps((points,), (confidence,))
    (seen,) = observe_views([image], world, K, np.eye(4)[None])
    assert (seen.depth == 1.0).all()
