"""Surfaces, contexts and surroundings of a constructed scene."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import Prompt
from wildseg3d_ros.grasping.graspable import GraspableScene
from wildseg3d_ros.grasping.surroundings import context_edge
from wildseg3d_ros.pipeline import segment
from wildseg3d_ros.scene.voxels import voxel_downsample
from wildseg3d_testing.exact import exact_scene, exact_world
from wildseg3d_testing.scenes import construct_scene


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=5, width=240, height=180, objects=7)


@pytest.fixture(scope="module")
def graspable(truth):
    return GraspableScene(exact_scene(truth))


def solid(truth, label):
    return next(each for each in truth.solids if each.label == label)


@pytest.mark.parametrize("voxel_size", [0.0, 0.004])
def test_seen_surface_has_the_points_of_the_cloud(truth, graspable, voxel_size):
    for ids in ((1,), (3, 5)):
        cloud = voxel_downsample(segment(graspable.scene, Prompt(object_ids=ids)), voxel_size)
        surface = graspable.surface(ids, voxel_size)
        np.testing.assert_array_equal(surface.points, cloud.points)
        assert len(graspable.normals(ids, voxel_size)) == len(cloud)


def test_seen_surface_bits_say_which_views_see_a_point(truth, graspable):
    surface, index = graspable.surface((1,)), graspable.scene.index
    bits = (surface.views[:, None] >> np.arange(5)) & 1 > 0
    np.testing.assert_array_equal(bits.sum(axis=1), index.view_count[index.rows(1)])
    assert bits[np.arange(len(bits)), index.view[index.rows(1)]].all()
    thin = graspable.surface((1,), 0.01)
    assert np.bitwise_or.reduce(thin.views) == np.bitwise_or.reduce(surface.views)


def test_graspable_normals_and_boxes_of_all_solids(truth, graspable):
    for label in truth.object_ids:
        surface, normals = graspable.surface((label,)), graspable.normals((label,))
        step = 1e-5
        true = np.stack(
            [
                solid(truth, label).distance(surface.points + step * axis)
                - solid(truth, label).distance(surface.points - step * axis)
                for axis in np.eye(3)
            ],
            axis=1,
        )
        true /= np.linalg.norm(true, axis=1, keepdims=True)
        off = np.degrees(np.arccos(np.clip((true * normals).sum(axis=1), -1, 1)))
        assert np.median(off) < 2.5
        assert np.percentile(off, 85) < 6.0
        assert ((normals * surface.toward).sum(axis=1) >= 0).all()
        if solid(truth, label).kind == "box":
            box = graspable.box((label,))
            np.testing.assert_allclose(box.frame_from_box[:3, 2], [0, 0, 1], atol=1e-6)
            np.testing.assert_allclose(
                np.sort(box.size), np.sort(2 * solid(truth, label).half), atol=0.003
            )
            centre = solid(truth, label).world_from_solid[:3, 3]
            np.testing.assert_allclose(box.frame_from_box[:3, 3], centre, atol=0.002)
            assert box.face_coverage[4] < 0.1


def test_context_is_a_cube_about_the_object(truth, graspable):
    near = graspable.context((1,))
    centre = graspable.box((1,)).frame_from_box[:3, 3]
    assert np.abs(near.points - centre).max() <= 0.15 + 1e-6
    distance = truth.distance_to_object(1, near.points)
    # Voxel means are off a round or edged surface by less than their size.
    assert distance[near.on_object].max() < 0.004
    assert (distance[~near.on_object] > 0.004).mean() > 0.9
    wide = graspable.context((1,), edge=0.5)
    assert 0.2 < np.abs(wide.points - centre).max() <= 0.25 + 1e-6
    assert not len(graspable.context((1,), edge=1e-7).points)


@pytest.mark.parametrize(
    ("largest", "metric", "edge"), [(0.05, True, 0.3), (0.2, True, 0.4), (2.0, True, 0.6),
                                    (2.0, False, 4.0)]
)  # fmt: skip
def test_context_edge_follows_the_object(largest, metric, edge):
    assert context_edge(np.array([0.01, largest, 0.02]), metric) == pytest.approx(edge)


def test_without_object_leaves_no_ghost(truth, graspable):
    rest = graspable.surroundings((1,)).points
    assert truth.distance_to_object(1, rest[rest[:, 2] > 0.012]).min() > 0.002
    others = [i for i in truth.object_ids if i != 1]
    for label in others:
        near = truth.distance_to_object(label, rest) < 0.004
        assert near.sum() > 30
    table = np.abs(rest[:, 2]) < 2e-3
    assert table.sum() > 5000


def test_solid_pixels_have_no_flying_ones(truth):
    """A curtain between an object's edge and the table behind it."""
    world = exact_world(truth)
    labels, depth = truth.labels[0], truth.depths[0]
    focal = truth.views[0].K[0, 0]
    pixel = depth[:, 1:-1] / focal
    jump = depth[:, 2:] - depth[:, :-2] > 30 * pixel
    jump &= np.abs(depth[:, 1:-1] - depth[:, :-2]) < 3 * pixel
    edge = np.argwhere((labels[:, 1:-1] > 0) & jump) + [0, 1]
    eye = truth.world_from_cam[0][:3, 3]
    for row, column in edge:
        between = (depth[row, column - 1] + depth[row, column + 1]) / 2 / depth[row, column]
        world.points[0][row, column] = eye + between * (truth.points[0][row, column] - eye)
    spoiled = GraspableScene(exact_scene(truth, world))
    flying = {tuple(p) for p in world.points[0][edge[:, 0], edge[:, 1]]}
    assert len(flying) > 30
    solid_in_view = spoiled._solid[0]
    assert solid_in_view[edge[:, 0], edge[:, 1]].mean() < 0.1
    assert solid_in_view.sum() > 0.98 * (spoiled.scene.world.confidence[0] > 0).sum()
    for label in truth.object_ids:
        points, _ = spoiled.organized((label,), 0)
        known = np.isfinite(points).all(axis=-1)
        assert len({tuple(p) for p in points[known]} & flying) < 0.1 * len(flying)


def test_organized_points_are_at_their_pixels(truth, graspable):
    for view in range(5):
        points, image = graspable.organized((1, 2), view)
        known = np.isfinite(points).all(axis=-1)
        assert not known[~np.isin(truth.labels[view], (1, 2))].any()
        np.testing.assert_array_equal(points[known], truth.points[view][known])
        assert image.shape == points.shape
        z = apply(invert(truth.world_from_cam[view]), points[known].astype(float))[:, 2]
        np.testing.assert_allclose(z, truth.depths[view][known], atol=1e-4)


def test_graspable_refuses_voxels_that_are_too_small(graspable):
    for ask in (graspable.surface, graspable.surroundings):
        with pytest.raises(PromptError, match="too small"):
            ask((1,), 1e-12)
    with pytest.raises(PromptError, match="too small"):
        graspable.context((1,), voxel_size=1e-12)


def test_graspable_threads_share_what_was_computed(truth):
    graspable = GraspableScene(exact_scene(truth))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(graspable.normals((1,)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for each in found:
        np.testing.assert_array_equal(each, found[0])
    assert graspable.normals((1,)) is graspable.normals((1,))
    for _ in range(3):
        for voxel in np.linspace(0.01, 0.05, 40):
            graspable.surface((1,), float(voxel))
    assert len(graspable._kept) <= 32
