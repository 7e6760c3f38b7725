"""An association that is given what does not fit together says what, and takes no harm of NaN."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from wildseg3d_ros.masks.association import Tracks, associate
from wildseg3d_testing.association import draw_depths
from wildseg3d_testing.exact import exact_world
from wildseg3d_testing.scenes import construct_scene


@pytest.fixture(scope="module")
def truth():
    return construct_scene(3, 120, 90, 4)


def tracks(truth, **changes):
    return [dataclasses.replace(Tracks(0, truth.labels, ((1, 2),)), **changes)]


WRONG = {
    "no views": (lambda t: {"labels": []}, "no views"),
    "float labels": (
        lambda t: {"labels": [m.astype(float) for m in t.labels]},
        r"view 0 are float64.*integer labels",
    ),
    "one row of labels": (lambda t: {"labels": [m[0] for m in t.labels]}, r"shape \(120,\)"),
    "pointmaps alone": (lambda t: {"world": exact_world(t)}, "no visibility"),
    "visibility alone": (lambda t: {"visibility": draw_depths(t)}, "no pointmaps"),
    "an anchor too many": (
        lambda t: {"tracks": tracks(t, anchor=3)},
        "view 3: there are views 0 to 2",
    ),
    "tracks of fewer views": (
        lambda t: {"tracks": tracks(t, labels=t.labels[:2])},
        r"maps of 2 views.*each of the 3",
    ),
    "a visit to no view": (lambda t: {"tracks": tracks(t, order=((1, 7),))}, r"visit \[7\]"),
    "a visit to the anchor": (lambda t: {"tracks": tracks(t, order=((0, 1),))}, r"visit \[0\]"),
    "tracks of another size": (
        lambda t: {"tracks": tracks(t, labels=(None, t.labels[1][:9], None))},
        r"in view 1 are \(9, 120\)",
    ),
    "ids of fewer views": (lambda t: {"known": [{}, {}]}, "known ids of 2 views"),
    "an id 0": (lambda t: {"known": [{1: 0}, {}, {}]}, "ids are 1 and more, got 0"),
    "no ids left": (lambda t: {"first_id": 2**31 - 3}, "2147483647"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_associate_wrong_input(truth, wrong):
    """Wrong input is named."""
    change, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        associate(**({"labels": truth.labels} | change(truth)))


def test_associate_wrong_sizes(truth):
    """Sizes that do not fit are named."""
    masks = [truth.labels[0], truth.labels[1][:20], truth.labels[2]]
    with pytest.raises(ValueError, match=r"\(20, 120\).*\(90, 120\)"):
        associate(masks, exact_world(truth), draw_depths(truth))


def test_associate_last_ids(truth):
    """The last ids are given."""
    count = sum(len(np.unique(m)) - 1 for m in truth.labels)
    result = associate(truth.labels, first_id=2**31 - count)
    assert max(result.object_ids) == 2**31 - 1
    assert min(result.labels[0].min(), *(m.min() for m in result.labels)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_associate_points_not_finite(truth, value):
    """Points that are not finite are no points."""
    expected = associate(truth.labels, exact_world(truth), draw_depths(truth))
    world = exact_world(truth)
    row, column = np.argwhere(truth.labels[1] == 1)[0]
    world.points[1][row, column] = value
    found = associate(truth.labels, world, draw_depths(truth))
    assert found.id_of_mask == expected.id_of_mask
