from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.scene.config import IndexConfig
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_testing.exact import exact_alignment, exact_cache, exact_scene, exact_world
from wildseg3d_testing.scenes import construct_scene

NO_FILTER = IndexConfig(
    min_confidence=0.0,
    max_free_space_views=0,
    max_slant=90.0,
    min_neighbours=0,
    min_density=0.0,
    min_cluster=0.0,
)


@pytest.fixture(scope="module")
def truth():
    return construct_scene()


@pytest.fixture(scope="module")
def scene(truth):
    return exact_scene(truth)


def pixels_of(truth, index):
    """View, row and column that each point comes from, found by projecting it in float64."""
    rows = np.empty(len(index), int)
    columns = np.empty(len(index), int)
    for view, pose in enumerate(truth.world_from_cam):
        mine = index.view == view
        uv, _ = project(
            apply(invert(pose), index.points[mine].astype(np.float64)), truth.views[view].K
        )
        columns[mine], rows[mine] = np.rint(uv).astype(int).T
    return rows, columns


def test_build_without_filters_has_exactly_the_labelled_pixels(truth):
    index = exact_scene(truth, config=NO_FILTER).index
    rows, columns = pixels_of(truth, index)
    where = {(int(v), r, c) for v, r, c in zip(index.view, rows, columns, strict=True)}
    expected = {
        (view, int(r), int(c))
        for view, labels in enumerate(truth.labels)
        for r, c in np.argwhere((labels > 0) & (truth.depths[view] > 0))
    }
    assert where == expected
    assert len(index) == len(expected)


def test_build_gives_each_object_one_run_of_points_and_colours(truth, scene):
    index = scene.index
    rows, columns = pixels_of(truth, index)
    labels = np.array(
        [truth.labels[v][r, c] for v, r, c in zip(index.view, rows, columns, strict=True)]
    )
    colors = np.array(
        [truth.views[v].image[r, c] for v, r, c in zip(index.view, rows, columns, strict=True)]
    )
    np.testing.assert_array_equal(index.colors, colors)
    np.testing.assert_array_equal(index.pixel, rows * truth.labels[0].shape[1] + columns)
    assert index.leaf_offsets[0] == 0
    assert index.leaf_offsets[-1] == len(index)
    for object_id, run in index:
        assert (labels[run] == object_id).all()
        assert index.count(object_id) == run.stop - run.start > 0
        assert truth.distance_to_object(object_id, index.points[run]).max() < 1e-4
    assert [object_id for object_id, _ in index] == list(truth.object_ids)


def test_build_filters_leave_a_perfect_cloud_almost_whole(truth, scene):
    labelled = sum(np.count_nonzero(labels) for labels in truth.labels)
    assert len(scene.index) > 0.99 * labelled


def rays_that_reach(truth, points, view):
    """(M,) whether nothing lies between a camera and the points, and they are in its image."""
    pose = truth.world_from_cam[view]
    eye = pose[:3, 3]
    way = points.astype(np.float64) - eye
    free = np.ones(len(points), bool)
    for solid in truth.solids:
        free &= solid.hit(eye, way) > 1 - 1e-4  # the hit's parameter is 1 at the point itself
    uv, z = project(apply(invert(pose), points.astype(np.float64)), truth.views[view].K)
    height, width = truth.views[view].size
    return free & (z > 0) & (uv > -0.5).all(1) & (uv < [width - 0.5, height - 0.5]).all(1)


def test_build_view_count_agrees_with_rays_cast_at_the_solids():
    truth = construct_scene(width=320, height=240)
    index = exact_scene(truth).index
    views = range(len(truth.views))
    reached = np.stack([rays_that_reach(truth, index.points, view) for view in views])
    reached[index.view, np.arange(len(index))] = True
    expected = reached.sum(axis=0)
    off = index.view_count.astype(int) - expected
    # Silhouettes and surfaces at a grazing angle are a matter of tolerance.
    assert np.mean(off == 0) > 0.85
    assert np.mean(np.abs(off) <= 1) > 0.97
    assert abs(off.mean()) < 0.05


def test_rows_of_an_unknown_object_name_those_there_are(scene):
    with pytest.raises(KeyError, match=r"no object 99; objects are \[1, 2, 3, 4, 5, 6\]"):
        scene.index.rows(99)


def test_build_pixels_without_depth_have_no_point(truth):
    world = exact_world(truth)
    hole = np.zeros(truth.labels[0].shape, bool)
    hole[:, : hole.shape[1] // 2] = True
    world.points[0][hole], world.confidence[0][hole] = np.nan, 0
    index = exact_scene(truth, world, config=NO_FILTER).index
    expected = sum(np.count_nonzero(labels) for labels in truth.labels)
    assert len(index) == expected - np.count_nonzero(truth.labels[0][hole])
    assert np.isfinite(index.points).all()


def patch_of(truth, view, size=9):
    """Rows and columns of a square inside the largest object of a view."""
    ids, counts = np.unique(truth.labels[view][truth.labels[view] > 0], return_counts=True)
    object_id = ids[np.argmax(counts)]
    at = np.argwhere(truth.labels[view] == object_id)
    row, column = at[len(at) // 2]
    half = size // 2
    square = np.s_[row - half : row + half + 1, column - half : column + half + 1]
    return square, truth.labels[view][square] == object_id


def test_build_leaves_out_points_that_other_views_look_through():
    truth = construct_scene(views=8, arc_degrees=90)
    world = exact_world(truth)
    square, on_object = patch_of(truth, 0)
    moved = world.points[0][square][on_object]
    eye = truth.world_from_cam[0][:3, 3]
    floating = (moved + 0.25 * (eye - moved)).astype(np.float32)
    world.points[0][square][on_object] = floating  # a view of the map: changes it in place

    def holds(index):
        return {tuple(p) for p in index.points} & {tuple(p) for p in floating}

    only_free_space = dataclasses.replace(NO_FILTER, max_free_space_views=2)
    assert not holds(exact_scene(truth, world, config=only_free_space).index)
    assert len(holds(exact_scene(truth, world, config=NO_FILTER).index)) == on_object.sum()


def test_build_leaves_out_pixels_between_two_surfaces():
    """Depth averaged over the edge of an object, as sensors do, makes a curtain in the air."""
    truth = construct_scene(views=3, arc_degrees=60, width=320, height=240)
    world, added = exact_world(truth), 0
    for view, labels in enumerate(truth.labels):
        eye = truth.world_from_cam[view][:3, 3]
        depth = truth.depths[view]
        focal = truth.views[view].K[0, 0]
        # Where an object's edge is far in front of what is right of it, the pixel is in between.
        edge = np.argwhere(
            (labels[:, 1:-1] > 0) & (depth[:, 2:] - depth[:, :-2] > 30 * depth[:, 1:-1] / focal)
            & (np.abs(depth[:, 1:-1] - depth[:, :-2]) < 3 * depth[:, 1:-1] / focal)
        )  # fmt: skip
        added += len(edge)
        for row, column in edge + [0, 1]:
            middle = (depth[row, column - 1] + depth[row, column + 1]) / 2
            way = truth.points[view][row, column] - eye
            world.points[view][row, column] = eye + way * middle / depth[row, column]
    assert added > 100

    def off(config):
        index = exact_scene(truth, world, config=config).index
        distances = [truth.distance_to_object(i, index.points[run]) for i, run in index]
        return len(index), int(np.sum(np.concatenate(distances) > 0.005))

    kept, in_the_air = off(dataclasses.replace(NO_FILTER, max_slant=85.0))
    everything, all_in_the_air = off(NO_FILTER)
    assert all_in_the_air > 0.9 * added
    assert in_the_air < 0.03 * all_in_the_air
    assert everything - kept < 1.3 * added  # grazing pixels of round things, too
    assert len(exact_scene(truth, config=dataclasses.replace(NO_FILTER, max_slant=85.0)).index) \
        > 0.995 * everything  # fmt: skip


def test_build_leaves_out_points_with_hardly_a_neighbour(truth):
    world = exact_world(truth)
    square, on_object = patch_of(truth, 1, size=3)
    rng = np.random.default_rng(0)
    strays = rng.uniform(5.0, 6.0, (on_object.sum(), 3)).astype(np.float32)
    world.points[1][square][on_object] = strays
    kept = exact_scene(truth, world).index
    assert not {tuple(p) for p in kept.points} & {tuple(p) for p in strays}
    everything = exact_scene(truth, world, config=NO_FILTER).index
    assert {tuple(p) for p in everything.points} >= {tuple(p) for p in strays}


def test_build_leaves_out_tiny_fragments_but_no_large_ones(truth):
    cluster_only = dataclasses.replace(NO_FILTER, min_cluster=0.05)
    for size, kept in ((3, False), (13, True)):
        world = exact_world(truth)
        square, on_object = patch_of(truth, 1, size)
        apart = (world.points[1][square][on_object] + [0, 0, 3]).astype(np.float32)
        world.points[1][square][on_object] = apart
        index = exact_scene(truth, world, config=cluster_only).index
        assert ({tuple(p) for p in index.points} >= {tuple(p) for p in apart}) is kept
        assert not kept or len(index) == sum(np.count_nonzero(each) for each in truth.labels)


def test_build_leaves_out_points_of_low_confidence(truth):
    world = exact_world(truth)
    square, on_object = patch_of(truth, 2)
    world.confidence[2][square][on_object] = 0.01
    kept = exact_scene(truth, world, config=IndexConfig(min_confidence=0.1)).index
    assert kept.confidence.min() == 2.0
    assert exact_scene(truth, world, config=NO_FILTER).index.confidence.min() == np.float32(0.01)


def test_visibility_depth_sigma_is_the_noise_between_views():
    truth = construct_scene(views=5, arc_degrees=60)
    world = exact_world(truth)
    rng = np.random.default_rng(1)
    for view, points in enumerate(world.points):
        eye = truth.world_from_cam[view][:3, 3].astype(np.float32)
        points += (points - eye) * rng.normal(0, 0.01, points.shape[:2])[..., None]
    K = np.stack([view.K for view in truth.views])
    # Two independent errors of 1 % each.
    sigma = Visibility.create(K, truth.world_from_cam, world).depth_sigma
    assert sigma == pytest.approx(0.01 * np.sqrt(2), rel=0.2)
    assert Visibility.create(K, truth.world_from_cam, exact_world(truth)).depth_sigma < 0.004


def test_scene_tells_what_it_is_made_from(truth, scene):
    assert scene.view_names == tuple(view.name for view in truth.views)
    assert scene.camera_frames == tuple(view.frame_id for view in truth.views)
    assert scene.object_ids == truth.object_ids
    assert scene.frame_id == "base"
    assert scene.stamp_ns == max(view.stamp_ns for view in truth.views)
    assert scene.warnings == ()
    assert exact_scene(truth, warnings=("a pair was left out",)).warnings == (
        "a pair was left out",
    )
    timed = Scene.create(
        truth.views,
        exact_alignment(truth),
        exact_world(truth),
        exact_cache(truth),
        seconds={"pairs": 0.25},
    )
    assert timed.seconds["pairs"] == 0.25
    assert timed.seconds["index"] > 0
    assert exact_scene(truth).scene_id != scene.scene_id
    in_camera = exact_scene(truth, in_prior_frame=False)
    assert in_camera.frame_id == truth.views[0].frame_id


def test_scene_without_objects_says_so(truth):
    cache = exact_cache(truth)
    for labels in cache.labels:
        labels[:] = 0
    scene = exact_scene(truth, cache=type(cache)(cache.labels, cache.scores, ()))
    assert len(scene.index) == 0
    assert any("no object" in warning for warning in scene.warnings)


def test_scene_is_read_only_and_leaves_the_callers_arrays_alone(truth):
    world = exact_world(truth)
    scene = exact_scene(truth, world)
    for copy in (scene, pickle.loads(pickle.dumps(scene))):
        for array in (copy.labels[0], copy.index.points, copy.world.points[0], copy.alignment.K):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
    world.points[0][0, 0] = 7  # the caller's own handle stays writeable


def test_scene_pickled_is_the_same(scene):
    again = pickle.loads(pickle.dumps(scene))
    assert again.scene_id == scene.scene_id
    assert again.seconds == scene.seconds
    np.testing.assert_array_equal(again.index.points, scene.index.points)
    np.testing.assert_array_equal(again.labels[1], scene.labels[1])
