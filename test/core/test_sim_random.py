"""Random scenes: shapes, places, pictures against ray casting, sensors, and the command."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.sim.__main__ import main
from wildseg3d_ros.sim.layout import polygon_gap
from wildseg3d_ros.sim.random_layout import RELATIONS, Arranger, Region
from wildseg3d_ros.sim.random_meshes import superellipsoid
from wildseg3d_ros.sim.random_scene import (
    RandomSceneSpec,
    build_random_scene,
    random_sensors,
    record_random_scene,
)
from wildseg3d_ros.sim.random_shapes import SHAPES, random_shape
from wildseg3d_ros.sim.random_surroundings import KINDS, MAKERS, random_cameras
from wildseg3d_ros.sim.random_textures import ground_texture, random_color, thing_texture

SMALL = {"views": 2, "width": 96, "height": 72}


# ---- shapes, textures and places, without MuJoCo ---------------------------------------------


@pytest.mark.parametrize("kind", list(SHAPES))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shapes_are_seen_from_outside_and_as_large_as_asked(kind, seed):
    shape = SHAPES[kind][0](np.random.default_rng(seed), 0.1)
    assert shape.kind == kind
    extent = np.ptp(shape.points, axis=0)
    assert 0.04 < extent.max() < 0.16
    np.testing.assert_allclose(shape.points.max(axis=0), extent / 2, atol=1e-9)
    for piece in shape.pieces:
        mesh = piece.mesh
        assert np.isfinite(mesh.vertices).all()
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1.0, atol=1e-6)
        corner = mesh.vertices[mesh.faces]
        facing = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        along = (facing * mesh.normals[mesh.faces].mean(axis=1)).sum(axis=1)
        assert (along[np.linalg.norm(facing, axis=1) > 1e-10] > 0).all()
        assert (mesh.uv > -1e-9).all()
        assert (mesh.uv < 1 + 1e-9).all()


def corners(solid):
    """Points on a solid's surface, enough for its extent."""
    if solid.points is not None:
        return apply(solid.pose, solid.points)
    rng = np.random.default_rng(0)
    direction = rng.standard_normal((800, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    if solid.kind == "ellipsoid":
        return apply(solid.pose, direction * solid.size)
    if solid.kind == "box":
        return apply(solid.pose, np.sign(direction) * solid.size)
    radius, half = solid.size
    shift = np.sign(direction[:, 2:]) * half * [0, 0, 1]
    if solid.kind == "capsule":
        return apply(solid.pose, radius * direction + shift)
    direction[:, 2] = 0
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return apply(solid.pose, radius * direction + shift)


@pytest.mark.parametrize("kind", list(SHAPES))
def test_shapes_feel_as_large_as_they_look(kind):
    for seed in range(4):
        shape = SHAPES[kind][0](np.random.default_rng(seed), 0.1)
        felt = np.concatenate([corners(solid) for solid in shape.solids])
        for side in (np.min, np.max):
            off = side(felt, axis=0) - side(shape.points, axis=0)
            assert np.abs(off).max() < 0.008, (seed, off)


def test_hollow_shapes_have_room():
    for kind in ("mug", "bowl", "carton"):
        shape = SHAPES[kind][0](np.random.default_rng(1), 0.12)
        assert shape.hollow
        middle = np.zeros(3)
        for solid in shape.solids:
            hull = ConvexHull(corners(solid)).equations
            assert (hull[:, :3] @ middle + hull[:, 3]).max() > 0, kind


def test_superellipsoid_lies_on_its_surface():
    half, e1, e2 = np.array([0.05, 0.03, 0.02]), 0.5, 1.3
    x, y, z = np.abs(superellipsoid(half, e1, e2).vertices / half).T
    value = (x ** (2 / e2) + y ** (2 / e2)) ** (e2 / e1) + z ** (2 / e1)
    np.testing.assert_allclose(value, 1.0, atol=1e-9)


def test_random_shape_draws_all_kinds():
    rng = np.random.default_rng(0)
    assert {random_shape(rng, 0.1).kind for _ in range(250)} == set(SHAPES)


def test_textures_vary_and_repeat_by_seed():
    def draw(seed):
        rng = np.random.default_rng(seed)
        return thing_texture("box", random_color(rng), rng), ground_texture(rng)

    first, again, other = draw(3), draw(3), draw(4)
    for a, b, c in zip(first, again, other, strict=True):
        assert a.dtype == np.uint8 and a.ndim == 3
        np.testing.assert_array_equal(a, b)
        assert np.abs(a.astype(float) - c).mean() > 2


def test_arranger_puts_beside_what_touches_and_piles_what_is_above():
    shape = SHAPES["box"][0](np.random.default_rng(0), 0.08)
    for relation in ("beside", "pile", "free", "on"):
        weights = np.array([float(name == relation) for name in RELATIONS])
        arranger = Arranger(Region((0.5, 0.5)), np.random.default_rng(2), weights)
        poses = [arranger.put(shape) for _ in range(4)]
        boxes = [apply(pose, shape.points) for pose in poses if pose is not None]
        assert len(boxes) == 4
        outlines = [box[ConvexHull(box[:, :2]).vertices][:, :2] for box in boxes]
        for k, (box, outline) in enumerate(zip(boxes, outlines, strict=True)):
            assert box[:, 2].min() > 0
            gaps = [polygon_gap(outline, other) for other in outlines[:k]]
            if relation == "beside" and k:
                assert 0 < min(gaps) < 0.0005
            if relation == "free":
                assert min(gaps, default=1) > 0
            for gap, other in zip(gaps, boxes[:k], strict=True):
                assert gap > 0 or box[:, 2].min() > other[:, 2].max()


@pytest.mark.parametrize("kind", list(KINDS))
def test_random_cameras_look_at_the_things_from_where_they_may_stand(kind):
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.15, 0.15, (200, 3)) + [0, 0, 0.15]
    for _ in range(20):
        around = MAKERS[kind]((0.2, 0.15), rng)
        for camera in random_cameras(around, 5, points, rng):
            eye, forward = camera.world_from_cam[:3, 3], camera.world_from_cam[:3, 2]
            to_things = points.mean(axis=0) - eye
            distance = np.linalg.norm(to_things)
            assert 0.3 < distance < 1.8
            assert ((points - eye) @ forward).min() > 0.19
            assert forward @ to_things > 0.8 * distance
            assert np.radians(37.9) < camera.fovy < np.radians(70.1)
            if kind == "shelf":
                assert eye[1] < -0.15


# ---- pictures --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes():
    """A small scene of each kind as perfect cameras see it."""
    if find_spec("mujoco") is None:
        pytest.skip("SIMULATOR ABSENT: install mujoco to test the scene's generator")
    try:
        return {
            kind: build_random_scene(RandomSceneSpec(seed=4, kind=kind, **SMALL)) for kind in KINDS
        }
    except InputError as error:
        if "without a display" not in str(error):
            raise
        pytest.skip(f"NO OFFSCREEN RENDERING: {error}")


@pytest.mark.parametrize("kind", list(KINDS))
def test_labels_and_depth_are_those_of_rays(scenes, kind):
    import mujoco

    scene = scenes[kind]
    world, group = scene.world, np.array([1, 1, 1, 0, 0, 1], dtype=np.uint8)
    rng, hit = np.random.default_rng(0), np.zeros(1, dtype=np.int32)
    same, off = [], []
    for camera, frame in zip(scene.cameras, scene.frames, strict=True):
        height, width = frame.depth.shape
        K = camera.intrinsics(width, height)
        ones = back_project(np.ones((height, width), np.float32), K).astype(np.float64)
        rays = ones @ camera.world_from_cam[:3, :3].T
        for row, column in rng.integers(0, [height, width], (250, 2)):
            eye, ray = camera.world_from_cam[:3, 3], rays[row, column]
            length = np.linalg.norm(ray)
            far = mujoco.mj_ray(world.model, world.data, eye, ray / length, group, 1, -1, hit)
            label = world.geom_label[hit[0]] if hit[0] >= 0 else 0
            same.append(label == frame.labels[row, column])
            if same[-1] and 0 < far / length < 11 and frame.depth[row, column] > 0:
                off.append(abs(far / length - frame.depth[row, column]))
    # A ray along a border hits either side, and thin walls that face away are drawn by neither.
    assert np.mean(same) > 0.98
    assert np.quantile(off, 0.97) < 0.001
    assert sum((frame.labels > 0).sum() for frame in scene.frames) > 300


@pytest.mark.parametrize("kind", list(KINDS))
def test_labelled_pixels_lie_on_their_things(scenes, kind):
    scene = scenes[kind]
    assert scene.around.kind == kind
    assert len(scene.world.kept) >= 3
    for camera, frame in zip(scene.cameras, scene.frames, strict=True):
        height, width = frame.depth.shape
        points = back_project(frame.depth, camera.intrinsics(width, height)).astype(np.float64)
        world = apply(camera.world_from_cam, points)
        for label, (k, pose) in enumerate(
            zip(scene.world.kept, scene.world.poses, strict=True), start=1
        ):
            vertices = apply(pose, scene.things[k].shape.points)
            here = world[frame.labels == label]
            assert (here > vertices.min(axis=0) - 0.002).all()
            assert (here < vertices.max(axis=0) + 0.002).all()


def test_record_random_scene_repeats_by_seed(scenes):
    spec = RandomSceneSpec(seed=11, **SMALL)
    first, again = record_random_scene(spec), record_random_scene(spec)
    assert first.object_names == again.object_names
    for a, b in zip(first.views, again.views, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.depth, b.depth)
        np.testing.assert_array_equal(a.world_from_cam_prior, b.world_from_cam_prior)
        np.testing.assert_array_equal(a.K, b.K)
    for a, b in zip(first.object_masks, again.object_masks, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.max() <= len(first.object_names)
    other = record_random_scene(RandomSceneSpec(seed=12, **SMALL))
    assert other.views[0].image.shape != first.views[0].image.shape or (
        np.abs(other.views[0].image.astype(float) - first.views[0].image).mean() > 2
    )


def test_random_sensors_are_within_their_ranges():
    drawn = [random_sensors(np.random.default_rng(seed)) for seed in range(300)]
    assert 0.4 < np.mean([sensors.rounded for sensors in drawn]) < 0.6
    assert max(sensors.translation_sigma for sensors in drawn) <= 0.004
    assert max(sensors.rotation_sigma for sensors in drawn) <= np.radians(0.3)
    # Noise of the disparity over the baseline is what the error of the depth follows.
    factor = [0.055 * s.depth.disparity_sigma / s.depth.baseline / 0.09 for s in drawn]
    assert 0.29 < min(factor) < 0.35 and 1.7 < max(factor) < 1.81


def test_command_writes_a_random_recording(scenes, tmp_path, capsys):
    assert (
        main(
            ["--random", "--seed", "3", "--views", "2", "--size", "96x72", "--out", str(tmp_path)]
        )
        == 0
    )
    assert "2 views" in capsys.readouterr().out
    read = load_folder(tmp_path)
    made = record_random_scene(RandomSceneSpec(seed=3, **SMALL))
    assert read.object_names == made.object_names
    for a, b in zip(read.object_masks, made.object_masks, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(read.views, made.views, strict=True):
        np.testing.assert_allclose(a.depth, b.depth, atol=0.00011)
    with pytest.raises(SystemExit):
        main(["--random", "--perfect", "--out", str(tmp_path)])
    assert "--perfect is not for --random" in capsys.readouterr().err


def test_build_random_scene_refuses_numbers_out_of_range():
    with pytest.raises(InputError, match="views must be 1 to 64, got 0"):
        build_random_scene(RandomSceneSpec(views=0))
    with pytest.raises(InputError, match="16 to 4096 pixels, got 320x4"):
        build_random_scene(RandomSceneSpec(height=4))
