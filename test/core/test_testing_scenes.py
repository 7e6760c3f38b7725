"""The constructed truth is true: checked by marching along rays, by reprojection, by counting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from wildseg3d_ros.core.geometry.cameras import back_project, project
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.io.folder import load_folder, write_folder
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.scenes import construct_scene


@pytest.fixture(scope="module")
def scene():
    return construct_scene(views=3, objects=9, seed=4)


def march(scene, origin, directions, far=4.0):
    """Depth along each direction by sphere tracing: no formula of intersections."""
    depth = np.full(len(directions), 1e-3)
    length = np.linalg.norm(directions, axis=1)
    for _ in range(600):
        points = origin + depth[:, None] * directions
        distance = np.min([solid.distance(points) for solid in scene.solids], axis=0)
        depth = depth + distance / length
    return np.where((depth < far) & (np.abs(distance) < 1e-6), depth, np.inf)


def test_cast_depth_equals_sphere_tracing(scene):
    rng = np.random.default_rng(0)
    for k, view in enumerate(scene.views):
        rows, columns = rng.integers(0, view.size[0], 80), rng.integers(0, view.size[1], 80)
        pixels = np.stack([columns, rows, np.ones(80)], axis=1)
        pose = scene.world_from_cam[k]
        directions = pixels @ np.linalg.inv(view.K).T @ pose[:3, :3].T
        expected = march(scene, pose[:3, 3], directions)
        given = scene.depths[k][rows, columns].astype(np.float64)
        near = np.isfinite(expected)
        assert near.sum() > 40
        # A ray that grazes an edge by less than the tolerance may go either way.
        assert (np.abs(given - expected)[near] < 2e-5).mean() > 0.97


def test_construct_scene_points_labels_and_depth_belong_together(scene):
    for k, view in enumerate(scene.views):
        seen = scene.depths[k] > 0
        assert np.isfinite(scene.points[k][seen]).all()
        assert np.isnan(scene.points[k][~seen]).all()
        world = apply(scene.world_from_cam[k], back_project(scene.depths[k], view.K))
        np.testing.assert_allclose(world[seen], scene.points[k][seen], atol=2e-5)
        for label in scene.object_ids:
            here = scene.points[k][scene.labels[k] == label]
            if len(here):
                assert scene.distance_to_object(label, here).max() < 1e-5


def test_construct_scene_objects_are_seen_and_some_touch(scene):
    for label in scene.object_ids:
        assert sum(int((labels == label).sum()) for labels in scene.labels) > 100
    solids = {solid.label: solid for solid in scene.solids}
    for label, other in ((2, 1), (4, 1)):
        centre = solids[label].world_from_solid[:3, 3]
        half = solids[label].half[2] if label == 4 else solids[label].half[0]
        assert solids[other].distance(centre[None])[0] == pytest.approx(half, abs=1e-9)


def test_construct_scene_views_agree(scene):
    a, b = 0, 1
    there = apply(invert(scene.world_from_cam[b]), scene.points[a].astype(np.float64))
    uv, z = project(there, scene.views[b].K)
    height, width = scene.views[b].size
    with np.errstate(invalid="ignore"):
        inside = (z > 0) & (
            np.abs(uv - [(width - 1) / 2, (height - 1) / 2]) < [width / 2 - 1, height / 2 - 1]
        ).all(axis=-1)
    column, row = np.rint(uv[inside]).astype(int).T
    depth = scene.depths[b][row, column]
    # Nothing may be seen through: a point lies on or behind the surface that b sees there, give
    # or take a pixel at borders.
    nearest = ndimage.minimum_filter(scene.depths[b], 3)[row, column]
    assert (z[inside] > nearest - 0.002).all()
    same = np.abs(z[inside] - depth) < 0.004
    assert same.mean() > 0.5
    labels_a, labels_b = scene.labels[a][inside][same], scene.labels[b][row, column][same]
    assert (labels_a == labels_b).mean() > 0.98
    color_a = scene.views[a].image[inside][same].astype(float)
    color_b = scene.views[b].image[row, column][same].astype(float)
    mixed = np.random.default_rng(0).permutation(color_b)
    assert np.abs(color_a - color_b).mean() < 0.4 * np.abs(color_a - mixed).mean()


def test_construct_scene_depends_on_the_seed_alone():
    given = [construct_scene(2, 40, 30, 4, seed, depth_noise=DepthNoise()) for seed in (1, 1, 2)]
    for k in range(2):
        np.testing.assert_array_equal(given[0].views[k].image, given[1].views[k].image)
        np.testing.assert_array_equal(given[0].views[k].depth, given[1].views[k].depth)
    assert (given[0].views[0].image != given[2].views[0].image).any()


def test_construct_scene_pose_errors_have_the_size_asked_for():
    scene = construct_scene(60, 8, 6, 1, translation_sigma=0.004, rotation_sigma=0.006)
    off = np.array(
        [
            v.world_from_cam_prior @ invert(p)
            for v, p in zip(scene.views, scene.world_from_cam, strict=True)
        ]
    )
    moved = np.array(
        [
            v.world_from_cam_prior[:3, 3] - p[:3, 3]
            for v, p in zip(scene.views, scene.world_from_cam, strict=True)
        ]
    )
    assert moved.std() == pytest.approx(0.004, rel=0.25)
    angle = np.arccos(np.clip((np.trace(off[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert np.sqrt((angle**2).mean() / 3) == pytest.approx(0.006, rel=0.25)


def test_construct_scene_without_depth_or_poses():
    scene = construct_scene(2, 24, 18, 2, with_depth=False, with_priors=False)
    assert all(v.depth is None and v.world_from_cam_prior is None for v in scene.views)
    assert scene.world_from_cam.shape == (2, 4, 4)


def test_construct_scene_identical_objects_differ_in_their_place_alone():
    for seed in range(4):
        scene = construct_scene(1, 24, 18, 12, seed, identical=4)
        alike = [solid for solid in scene.solids if solid.label > 8]
        for solid in alike:
            assert solid.kind == alike[0].kind
            np.testing.assert_array_equal(solid.half, alike[0].half)
            np.testing.assert_array_equal(solid.colors, alike[0].colors)
        places = [solid.world_from_solid[:3, 3] for solid in alike]
        assert all(np.linalg.norm(a - b) > 0.05 for a in places for b in places if a is not b)


@pytest.mark.parametrize(
    "wrong", [{"objects": 0}, {"objects": 13}, {"objects": 6, "identical": 3}, {"views": 0}]
)
def test_construct_scene_refuses_numbers_out_of_range(wrong):
    with pytest.raises(ValueError, match="got"):
        construct_scene(**wrong)


def test_recording_survives_being_written_and_read(tmp_path):
    scene = construct_scene(2, 48, 36, 3)
    write_folder(tmp_path, scene.recording())
    back = load_folder(tmp_path)
    for k, view in enumerate(back.views):
        np.testing.assert_array_equal(view.image, scene.views[k].image)
        np.testing.assert_array_equal(back.object_masks[k], scene.labels[k])
        np.testing.assert_allclose(view.depth, scene.depths[k], atol=1e-3)
        np.testing.assert_allclose(view.world_from_cam_prior, scene.world_from_cam[k], atol=1e-9)
    assert back.object_names == scene.object_names
