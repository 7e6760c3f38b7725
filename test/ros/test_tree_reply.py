"""Scores, alternatives and parts that are no object, over real DDS."""

from __future__ import annotations

import math

import numpy as np
import pytest
import table

from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.scene.file.snapshot import save_scene

VIEWS = table.make_views()


def on(label: int, view: int = 0) -> tuple[str, int, int]:
    return (VIEWS[view].name, *table.pixel_on(VIEWS[view], label))


@pytest.fixture
def client(live, tmp_path):
    """Of a node whose scene has a tree, in which the green ball is no object but a node."""
    _, _, client = live
    scene = table.scene_by_color(VIEWS, Progress(), "world", found=(table.RED,))
    save_scene(scene, tmp_path / "scene.ws3d")
    client.load_scene(str(tmp_path / "scene.ws3d"))
    yield client
    client.build()


def test_list_objects_scores(client):
    (red,) = client.list_objects()
    assert (red.object_id, red.level) == (table.RED, LEVELS[0])
    assert (red.score, red.ambiguity) == (0.75, 0.5)


def test_segment_score_and_alternatives(client):
    found = client.segment([on(table.RED)], include_alternative_clouds=True)
    assert (found.object_ids, found.score, found.ambiguity) == ((table.RED,), 0.75, 0.5)
    (both,) = found.alternatives
    assert both.larger
    assert both.object_id == 0
    assert both.score == pytest.approx(0.72)
    assert both.count == len(both.points) > 1.25 * len(found.points)
    (lean,) = client.segment([on(table.RED)]).alternatives
    assert (lean.count, lean.score, len(lean.points)) == (both.count, both.score, 0)
    thin = client.segment([on(table.RED)], include_alternative_clouds=True, voxel_size=0.01)
    assert len(thin.alternatives[0].points) < 0.5 * len(both.points)


def test_segment_part_that_is_no_object(client):
    """With all that a reply may hold; and adding gives it an id."""
    more = client.describe(
        [on(table.GREEN)], include_surface=True, include_masks=True, include_context=True,
        include_surroundings=True, organized_cameras=["front"],
    )  # fmt: skip
    found = client.segment([on(table.GREEN)])
    assert found.object_ids == more.object_ids == ()
    assert found.score == pytest.approx(0.9)
    assert found.ambiguity == pytest.approx(0.8)
    centre, radius = table.BALLS[table.GREEN]
    distance = np.linalg.norm(found.points - np.array(centre), axis=1)
    assert np.abs(distance - radius).max() < 0.02
    assert np.linalg.norm(found.box.frame_from_box[:3, 3] - np.array(centre)) < radius
    np.testing.assert_array_equal(more.points, found.points)
    assert len(more.normals) == len(found.points)
    assert more.masks["front"].any()
    (object_id,) = client.add_object([on(table.GREEN)]).object_ids
    added = client.segment([on(table.GREEN)])
    assert added.object_ids == (object_id,)
    np.testing.assert_array_equal(added.points, found.points)
    assert not math.isnan(added.score)
