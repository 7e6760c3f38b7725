"""Objects that opposite cameras see two sides of: one id, and none for two of them."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.masks.association import associate
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import draw_samples, mask_confidence, measure_overlap
from wildseg3d_testing.association import (
    body,
    count_right,
    draw_depths,
    facing,
    names_of,
    row_of_bodies,
    rows_of_twins,
    with_errors,
)
from wildseg3d_testing.exact import exact_world
from wildseg3d_testing.masks import spoil_masks
from wildseg3d_testing.scenes import photograph

OPPOSITE = [(0, 180), (0, 10, 180, 190), (0, 20, 180, 200)]
FACE_ON = ("board", (0, 180))
"""Nothing tells a board whose edges no view shows from two."""


def test_measure_overlap_two_sides():
    """From its own height the thickness of a ball is no disagreement between opposite views."""
    balls = row_of_bodies("ball", np.random.default_rng(0))
    for azimuths in OPPOSITE:
        truth = photograph(balls, facing(azimuths), 240, 180)
        assert draw_depths(truth).depth_sigma < 0.002


def right(truth, masks=None, names=None, world=None, poses=None):
    world = world or exact_world(truth)
    result = associate(masks or truth.labels, world, draw_depths(truth, world, poses))
    return count_right(result.id_of_mask, names or names_of(truth))


def shared_samples(truth, masks, world, poses=None):
    """Share of a mask, at most, that the first and the last view both see."""
    nodes = MaskNodes.from_labels(masks)
    confidence, visibility = mask_confidence(nodes), draw_depths(truth, world, poses)
    samples = draw_samples(nodes, world, confidence, visibility)
    overlap = measure_overlap(nodes, samples, confidence)
    front, back = nodes.of_view(0), nodes.of_view(nodes.views - 1)
    return overlap.hits[front, back].max() / samples.mass.max()


@pytest.mark.parametrize(
    ("kind", "azimuths"),
    [(k, a) for k in ("ball", "cylinder", "box", "board") for a in OPPOSITE if (k, a) != FACE_ON],
    ids=str,
)
def test_associate_two_sides_one_id(kind, azimuths):
    """Cameras that look down by 8 degrees: the tops of boxes are a few pixels of either view."""
    total = np.zeros(3, int)
    for seed in range(3):
        bodies = row_of_bodies(kind, np.random.default_rng(seed))
        truth = photograph(bodies, facing(azimuths, 8.0), 240, 180)
        total += right(truth)
    assert tuple(total) == (9, 9, 0)


@pytest.mark.parametrize("azimuths", OPPOSITE, ids=str)
def test_associate_ball_from_its_height(azimuths):
    """Two sides of a ball have one id from its own height."""
    balls = row_of_bodies("ball", np.random.default_rng(0))
    truth = photograph(balls, facing(azimuths), 240, 180)
    world = exact_world(truth)
    if len(azimuths) == 2:
        assert shared_samples(truth, truth.labels, world) < 0.02
    assert right(truth) == (3, 3, 0)


@pytest.mark.parametrize("azimuths", OPPOSITE[1:], ids=str)
@pytest.mark.parametrize("kind", ["ball", "cylinder"])
def test_associate_round_bodies_with_errors(kind, azimuths):
    """Round bodies keep one id under errors."""
    total = np.zeros(3, int)
    for seed in range(4):
        bodies = row_of_bodies(kind, np.random.default_rng(seed))
        truth = photograph(bodies, facing(azimuths, 8.0), 240, 180)
        masks, names = spoil_masks(truth.labels, np.random.default_rng(seed), missing=0.0)
        total += right(truth, masks, names, *with_errors(truth, 0.002, 0.003, 0.002, seed))
    assert total[2] == 0
    assert total[0] >= 11


@pytest.mark.parametrize("azimuths", OPPOSITE, ids=str)
@pytest.mark.parametrize("elevation", [0.0, 8.0])
@pytest.mark.parametrize("kind", ["ball", "cylinder", "box", "board"])
def test_associate_twin_behind_stays_apart(kind, elevation, azimuths):
    """A body that hides its twin is not taken for its other side."""
    twins = rows_of_twins(kind, np.random.default_rng(0))
    truth = photograph(twins, facing(azimuths, elevation), 240, 180)
    assert right(truth).merged == 0


def test_associate_pillar_behind_others():
    """In the views at 60 degrees two pillars stand before a third one."""
    pillars = [
        body("cylinder", [x, 0, 0.03], [0.03, 0.03, 0.04], k + 1)
        for k, x in enumerate((-0.1, 0.0, 0.1))
    ]
    truth = photograph(pillars, facing([0, 60, 120, 180]), 160, 120)
    assert shared_samples(truth, truth.labels, exact_world(truth)) < 0.02
    assert right(truth) == (3, 3, 0)


@pytest.mark.parametrize("kind", ["box", "cylinder"])
def test_associate_chain_of_views(kind):
    """Each view shares surface with its neighbours alone: front, corner, side, corner, back."""
    half = {"box": [0.03, 0.025, 0.04], "cylinder": [0.03, 0.03, 0.04]}[kind]
    bodies = [body(kind, [x, 0, 0.03], half, k + 1) for k, x in enumerate((-0.12, 0.0, 0.12))]
    truth = photograph(bodies, facing([0, 45, 90, 135, 180]), 200, 150)
    masks, names = spoil_masks(truth.labels, np.random.default_rng(1), missing=0.0)
    exact = truth.labels, names_of(truth), exact_world(truth), truth.world_from_cam
    erring = masks, names, *with_errors(truth, 0.002, 0.003, 0.002)
    for masks, names, world, poses in (exact, erring):
        assert shared_samples(truth, masks, world, poses) < 0.05
        assert right(truth, masks, names, world, poses) == (3, 3, 0)
