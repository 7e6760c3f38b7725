"""Weight-free masks on constructed views with known objects, and on real frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import Cancelled
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import apply, make_transform, rotation_from_vector
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View, WorldPointmaps
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.masks import load_masks
from wildseg3d_ros.masks.config import MaskConfig
from wildseg3d_ros.masks.geometric.backend import GeometricMasks
from wildseg3d_ros.masks.geometric.config import GeometricMaskConfig
from wildseg3d_ros.sim.cameras import look_at
from wildseg3d_testing.exact import alignment_of_cameras
from wildseg3d_testing.scenes import cast
from wildseg3d_testing.solids import Solid

RED = [[190, 60, 45], [205, 75, 60]]
BLUE = [[40, 80, 170], [55, 95, 190]]
GREEN = [[60, 140, 70], [75, 155, 85]]
YELLOW = [[225, 205, 60], [235, 215, 80]]
WOOD = [[150, 120, 90], [165, 135, 105]]
GREY = [[120, 122, 125], [135, 137, 140]]


def solid(kind, centre, half, colors, label=0, turn=0.0):
    pose = make_transform(rotation_from_vector([0, 0, turn]), centre)
    return Solid(kind, pose, np.array(half), np.array(colors, np.float64), label=label)


TABLE = solid("box", [0, 0, -0.02], [0.6, 0.5, 0.02], WOOD)
FLOOR = solid("box", [0, 0, -0.8], [4.0, 4.0, 0.05], GREY)


class Capture:
    """Views of solids with noise in depth, and what a mask back end is given."""

    def __init__(self, solids, eyes, target=(0, 0, 0.03), sizes=(240, 320), noise=0.001, seed=0):
        rng = np.random.default_rng(seed)
        sizes = [sizes] * len(eyes) if isinstance(sizes[0], int) else sizes
        poses, matrices = [], []
        self.views, self.truth, points, confidence = [], [], [], []
        for k, (eye, (height, width)) in enumerate(zip(eyes, sizes, strict=True)):
            pose = look_at(np.array(eye, np.float64), np.array(target, np.float64))
            K = np.array([[width, 0, (width - 1) / 2], [0, width, (height - 1) / 2], [0, 0, 1.0]])
            image, depth, labels, _ = cast(tuple(solids), pose, K, height, width)
            valid = depth > 0
            depth = depth + rng.normal(0, noise, depth.shape).astype(np.float32) * valid
            world = apply(pose, back_project(depth, K)).astype(np.float32)
            world[~valid] = np.nan
            self.views.append(View(f"cam_{k}", image, K=K, depth=depth, world_from_cam_prior=pose))
            self.truth.append(labels)
            points.append(world)
            confidence.append(np.where(valid, 5.0, 0.0).astype(np.float32))
            poses.append(pose)
            matrices.append(K)
        self.world = WorldPointmaps(tuple(points), tuple(confidence))
        self.alignment = alignment_of_cameras(matrices, poses)

    def segment(self, config=None, progress=None):
        backend = GeometricMasks(config or GeometricMaskConfig())
        progress = progress or Progress()
        return backend.segment(self.views, self.alignment, self.world, progress)


def ring(count, distance=0.7, height=0.5, arc=2.6):
    angles = np.linspace(-arc / 2, arc / 2, count) if count > 1 else [0.0]
    return [(distance * np.sin(a), -distance * np.cos(a), height) for a in angles]


def chosen(cache, truth, label):
    """The id that the object's pixels mostly got over all views, 0 if none."""
    ids = np.concatenate([c[t == label] for c, t in zip(cache.labels, truth, strict=True)])
    ids = ids[ids > 0]
    return int(np.bincount(ids).argmax()) if ids.size else 0


def iou(cache, truth, label):
    """IoU of one object over all views together, by its one id."""
    name = chosen(cache, truth, label)
    if name == 0:
        return 0.0
    both = union = 0
    for labels, true in zip(cache.labels, truth, strict=True):
        one, other = labels == name, true == label
        both += np.count_nonzero(one & other)
        union += np.count_nonzero(one | other)
    return both / union


def check_contract(cache, views):
    assert len(cache.labels) == len(cache.scores) == len(views)
    seen = set()
    for view, labels, scores in zip(views, cache.labels, cache.scores, strict=True):
        assert labels.shape == scores.shape == view.size
        assert labels.dtype == np.int32
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        assert scores.min() >= 0
        assert scores.max() <= 1
        seen |= set(np.unique(labels).tolist())
    assert seen - {0} == set(cache.object_ids)
    assert list(cache.object_ids) == sorted(cache.object_ids)


TABLETOP = [
    TABLE,
    FLOOR,
    solid("box", [-0.16, 0.02, 0.05], [0.05, 0.035, 0.05], RED, 1, 0.4),
    solid("ball", [0.02, 0.06, 0.04], [0.04] * 3, GREEN, 2),
    solid("cylinder", [0.17, 0.0, 0.06], [0.035, 0.035, 0.06], BLUE, 3),
    solid("box", [0.03, -0.1, 0.02], [0.04, 0.03, 0.02], YELLOW, 4, 0.9),
]


@pytest.fixture(scope="module")
def tabletop():
    capture = Capture(TABLETOP, ring(4))
    return capture, capture.segment()


def test_segment_finds_every_object_on_a_table_under_one_id(tabletop):
    capture, cache = tabletop
    check_contract(cache, capture.views)
    names = [chosen(cache, capture.truth, label) for label in (1, 2, 3, 4)]
    assert len(set(names)) == 4
    for label in (1, 2, 3, 4):
        assert iou(cache, capture.truth, label) > 0.85


def test_segment_takes_table_and_floor_for_background(tabletop):
    capture, cache = tabletop
    for labels, true in zip(cache.labels, capture.truth, strict=True):
        assert (labels[true == 0] > 0).mean() < 0.01


def test_segment_scores_are_high_on_objects_and_low_off_them(tabletop):
    capture, cache = tabletop
    for scores, true in zip(cache.scores, capture.truth, strict=True):
        inside = cv2.erode((true > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        outside = cv2.dilate((true > 0).astype(np.uint8), np.ones((15, 15), np.uint8)) == 0
        assert np.median(scores[inside]) > 0.95
        assert scores[outside].mean() < 0.02


def test_segment_same_input_gives_the_same_masks(tabletop):
    capture, cache = tabletop
    again = capture.segment()
    assert again.object_ids == cache.object_ids
    for one, other in zip(again.labels, cache.labels, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(again.scores, cache.scores, strict=True):
        np.testing.assert_array_equal(one, other)


def test_segment_does_not_depend_on_the_axes_of_the_world(tabletop):
    capture, _ = tabletop
    new_from_world = make_transform(rotation_from_vector([1.1, -0.7, 0.4]), [3.0, -2.0, 5.0])
    moved = Capture(TABLETOP, ring(4))
    moved.world = WorldPointmaps(
        tuple(apply(new_from_world, points) for points in capture.world.points),
        capture.world.confidence,
    )
    moved.alignment = alignment_of_cameras(
        capture.alignment.K, new_from_world @ capture.alignment.world_from_cam
    )
    cache = moved.segment()
    for label in (1, 2, 3, 4):
        assert iou(cache, capture.truth, label) > 0.85


def test_segment_separates_two_boxes_that_touch():
    solids = [
        TABLE,
        FLOOR,
        solid("box", [-0.05, 0, 0.06], [0.05, 0.04, 0.06], RED, 1),
        solid("box", [0.04, 0, 0.035], [0.04, 0.06, 0.035], BLUE, 2),
    ]
    capture = Capture(solids, ring(4))
    cache = capture.segment()
    assert chosen(cache, capture.truth, 1) != chosen(cache, capture.truth, 2)
    assert iou(cache, capture.truth, 1) > 0.8
    assert iou(cache, capture.truth, 2) > 0.8


def test_segment_separates_a_can_from_the_box_below():
    solids = [
        TABLE,
        FLOOR,
        solid("box", [0, 0, 0.05], [0.07, 0.06, 0.05], YELLOW, 1),
        solid("cylinder", [0, 0, 0.15], [0.03, 0.03, 0.05], GREEN, 2),
    ]
    capture = Capture(solids, ring(4, height=0.6), target=(0, 0, 0.08))
    cache = capture.segment()
    assert chosen(cache, capture.truth, 1) != chosen(cache, capture.truth, 2)
    assert iou(cache, capture.truth, 1) > 0.8
    assert iou(cache, capture.truth, 2) > 0.8


def test_segment_keeps_a_box_with_a_print_whole():
    """A sheet of another colour, flush with the box's front and top, is no object of its own."""
    solids = [
        TABLE,
        FLOOR,
        solid("box", [0, 0, 0.08], [0.07, 0.05, 0.08], RED, 1),
        solid("box", [0, -0.0501, 0.09], [0.035, 0.0002, 0.035], YELLOW, 1),
    ]
    capture = Capture(solids, ring(4), target=(0, 0, 0.06))
    assert iou(capture.segment(), capture.truth, 1) > 0.85


def test_segment_takes_walls_and_floor_of_a_shelf_for_background():
    half, thick = 0.3, 0.02
    shelf = [
        solid("box", [0, 0, -thick], [half, half, thick], GREY),
        solid("box", [0, half + thick, 0.2], [half, thick, 0.25], WOOD),
        solid("box", [-half - thick, 0, 0.2], [thick, half, 0.25], WOOD),
        solid("box", [half + thick, 0, 0.2], [thick, half, 0.25], WOOD),
    ]
    things = [
        solid("box", [-0.1, 0.05, 0.07], [0.05, 0.04, 0.07], RED, 1, 0.3),
        solid("cylinder", [0.12, 0.0, 0.05], [0.04, 0.04, 0.05], BLUE, 2),
    ]
    eyes = [(-0.15, -0.75, 0.3), (0.0, -0.8, 0.4), (0.15, -0.75, 0.3)]
    capture = Capture([*shelf, *things], eyes, target=(0, 0.05, 0.08))
    cache = capture.segment()
    assert iou(cache, capture.truth, 1) > 0.8
    assert iou(cache, capture.truth, 2) > 0.8
    # No object's id may cover more than a trace of the shelf.
    names = {chosen(cache, capture.truth, 1), chosen(cache, capture.truth, 2)}
    for labels, true in zip(cache.labels, capture.truth, strict=True):
        assert np.isin(labels[true == 0], list(names)).mean() < 0.01


def test_segment_finds_an_object_that_only_two_of_five_views_see():
    """A screen stands between the ball and the other cameras."""
    solids = [
        TABLE,
        FLOOR,
        solid("box", [0.02, 0, 0.1], [0.004, 0.3, 0.1], GREY),
        solid("ball", [-0.08, 0.0, 0.04], [0.04] * 3, GREEN, 1),
        solid("cylinder", [0.15, 0, 0.05], [0.04, 0.04, 0.05], BLUE, 2),
    ]
    eyes = [(-0.6, -0.3, 0.4), (-0.6, 0.3, 0.4), *[(0.7, y, 0.25) for y in (-0.3, 0.0, 0.3)]]
    capture = Capture(solids, eyes)
    assert [bool((true == 1).any()) for true in capture.truth] == [True, True, False, False, False]
    cache = capture.segment()
    assert iou(cache, capture.truth, 1) > 0.8


def test_segment_finds_nothing_on_an_empty_table():
    capture = Capture([TABLE, FLOOR], ring(3))
    cache = capture.segment()
    assert cache.object_ids == ()
    assert all((labels == 0).all() for labels in cache.labels)
    check_contract(cache, capture.views)


def test_segment_one_view_is_enough():
    capture = Capture(TABLETOP, ring(1))
    cache = capture.segment()
    check_contract(cache, capture.views)
    assert iou(cache, capture.truth, 1) > 0.7


def test_segment_views_may_differ_in_size():
    capture = Capture(TABLETOP, ring(3), sizes=[(240, 320), (480, 640), (150, 200)])
    cache = capture.segment()
    check_contract(cache, capture.views)
    for label in (1, 3):
        assert iou(cache, capture.truth, label) > 0.8


def test_segment_works_on_large_images_at_a_fraction():
    capture = Capture(TABLETOP, ring(2), sizes=(723, 965))
    cache = capture.segment()
    check_contract(cache, capture.views)
    assert iou(cache, capture.truth, 1) > 0.8


def test_segment_finds_nothing_without_points():
    capture = Capture(TABLETOP, ring(2))
    capture.world = WorldPointmaps(
        tuple(np.full_like(points, np.nan) for points in capture.world.points),
        tuple(np.zeros_like(confidence) for confidence in capture.world.confidence),
    )
    cache = capture.segment()
    assert cache.object_ids == ()
    check_contract(cache, capture.views)


def test_segment_warns_of_a_black_view():
    capture = Capture(TABLETOP, ring(3))
    black = capture.views[1].image
    black[:] = np.random.default_rng(0).integers(0, 9, black.shape)
    progress = Progress()
    cache = capture.segment(progress=progress)
    (warning,) = progress.warnings
    assert warning.startswith(f"camera '{capture.views[1].name}': its image is black")
    assert "lens cap" in warning
    check_contract(cache, capture.views)
    progress = Progress()
    Capture(TABLETOP, ring(3)).segment(progress=progress)
    assert progress.warnings == []


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 7), (24, 32)])
def test_segment_takes_tiny_images(size):
    capture = Capture(TABLETOP, ring(2), sizes=size)
    check_contract(capture.segment(), capture.views)


def test_segment_ignores_points_that_are_not_finite():
    capture = Capture(TABLETOP, ring(3))
    rng = np.random.default_rng(1)
    for points in capture.world.points:
        points[rng.random(points.shape[:2]) < 0.3] = np.nan
        points[rng.random(points.shape[:2]) < 0.01, 2] = np.inf
    cache = capture.segment()
    check_contract(cache, capture.views)
    assert iou(cache, capture.truth, 1) > 0.8


def test_segment_drops_a_gripper_that_moves_with_the_cameras():
    capture = Capture(TABLETOP, ring(5))
    height, width = capture.views[0].size
    for k, view in enumerate(capture.views):
        depth = np.zeros(view.size, np.float32)
        depth[: height // 4, : width // 5] = 0.12
        foam = apply(capture.alignment.world_from_cam[k], back_project(depth, view.K))
        capture.world.points[k][depth > 0] = foam[depth > 0]
        view.image[depth > 0] = 30
        capture.truth[k][depth > 0] = 0
    cache = capture.segment()
    for label in (1, 2, 3, 4):
        assert iou(cache, capture.truth, label) > 0.75


def test_segment_cancels_and_reports_progress():
    capture = Capture(TABLETOP, ring(2), sizes=(120, 160))
    fractions = []
    capture.segment(progress=Progress(report=lambda _, fraction: fractions.append(fraction)))
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    assert len(fractions) > 6
    with pytest.raises(Cancelled):
        capture.segment(progress=Progress(cancelled=lambda: True))


def test_segment_voxel_size_can_be_set():
    capture = Capture(TABLETOP, ring(3))
    cache = capture.segment(GeometricMaskConfig(voxel_size=0.006))
    assert iou(cache, capture.truth, 1) > 0.8


def test_load_masks_knows_the_back_end():
    assert isinstance(load_masks(MaskConfig()), GeometricMasks)


def test_segment_finds_objects_on_real_frames(real_data):
    """Every third frame of a shelf bin: one click near an object's middle finds it."""
    folder = real_data("apc_shelf")
    recording = load_folder(folder)
    picked = [1, 4, 7, 10, 13]
    views = [recording.views[i] for i in picked]
    truth = [np.asarray(recording.object_masks[i]).astype(np.int32) for i in picked]
    poses = [view.world_from_cam_prior for view in views]
    points, confidence = [], []
    for view, pose in zip(views, poses, strict=True):
        world = apply(pose, back_project(view.depth, view.K)).astype(np.float32)
        world[view.depth <= 0] = np.nan
        points.append(world)
        confidence.append((view.depth > 0).astype(np.float32))
    cache = GeometricMasks().segment(
        views,
        alignment_of_cameras([view.K for view in views], poses),
        WorldPointmaps(tuple(points), tuple(confidence)),
        Progress(),
    )
    check_contract(cache, views)
    means = []
    for label in recording.object_names:
        mask = np.pad(truth[2] == label, 1).astype(np.uint8)
        distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)[1:-1, 1:-1]
        row, col = np.unravel_index(distance.argmax(), distance.shape)
        window = cache.labels[2][row - 6 : row + 7, col - 6 : col + 7]
        name = np.bincount(window[window > 0], minlength=1).argmax() if window.any() else -1
        shares = []
        for view, labels, true in zip(views, cache.labels, truth, strict=True):
            valid = view.depth > 0
            one, other = (labels == name) & valid, (true == label) & valid
            shares.append((one & other).sum() / max(1, (one | other).sum()))
        means.append(np.mean(shares))
    assert np.mean(means) > 0.55, dict(zip(recording.object_names.values(), means, strict=True))
