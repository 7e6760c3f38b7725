"""The robot is left out of scenes: a constructed arm in the view of a constructed scene."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import apply, invert, make_transform
from wildseg3d_ros.pipeline import build_scene
from wildseg3d_ros.robot.self_filter import robot_pixels, without_robot
from wildseg3d_ros.robot.solids import LinkSolid
from wildseg3d_ros.robot.urdf import read_links, rotation_from_rpy
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.scenes import construct_scene, photograph
from wildseg3d_testing.solids import Solid

PADDING = 0.02
URDF = """<robot name="arm">
  <link name="base"><collision>
    <origin xyz="0 0 0.1"/><geometry><cylinder radius="0.05" length="0.2"/></geometry>
  </collision></link>
  <link name="upper"><collision>
    <origin xyz="0.15 0 0" rpy="0 1.5707963 0"/>
    <geometry><cylinder radius="0.03" length="0.3"/></geometry></collision>
    <visual><geometry><sphere radius="9"/></geometry></visual></link>
  <link name="hand"><visual><geometry><box size="0.06 0.08 0.05"/></geometry></visual></link>
  <link name="frame_only"/>
  <joint name="j" type="fixed"><parent link="base"/><child link="upper"/></joint>
</robot>"""
WORLD_FROM_LINK = {
    "base": make_transform(np.eye(3), [-0.02, 0.3, 0.0]),
    "upper": make_transform(rotation_from_rpy(np.array([0, 0, -1.2])), [-0.02, 0.3, 0.21]),
    "hand": make_transform(rotation_from_rpy(np.array([0, 0, -1.2])), [0.095, 0.0, 0.2]),
}
GREY = np.array([[60.0, 62.0, 66.0], [110.0, 112.0, 118.0]])


def arm_links():
    return read_links(URDF, pytest.fail)


def arm_solids():
    """The arm as bodies that rays hit; sizes are those of the description, by hand."""
    along_x = make_transform(np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]]), [0.15, 0, 0])
    base = make_transform(np.eye(3), [0, 0, 0.1])
    return (
        Solid("cylinder", WORLD_FROM_LINK["base"] @ base, np.array([0.05, 0.05, 0.1]), GREY),
        Solid("cylinder", WORLD_FROM_LINK["upper"] @ along_x, np.array([0.03, 0.03, 0.15]), GREY),
        Solid("box", WORLD_FROM_LINK["hand"], np.array([0.03, 0.04, 0.025]), GREY),
    )


def filtered(view, world_from_cam, with_depth=True) -> Any:
    links = {name: invert(world_from_cam) @ pose for name, pose in WORLD_FROM_LINK.items()}
    solids = [each.padded(PADDING) for each in arm_links()]
    asked = view if with_depth else dataclasses.replace(view, depth=None)
    return without_robot(view, robot_pixels(asked, solids, links))


@pytest.fixture(scope="module")
def scenes():
    """A scene without an arm, and the same with one."""
    noise = DepthNoise()
    bare = construct_scene(4, 320, 240, 5, 3, depth_noise=noise)
    armed = photograph(
        (*bare.solids, *arm_solids()), list(bare.world_from_cam), 320, 240, 3, noise
    )
    return bare, armed


def distance_to_arm(points):
    return np.min([solid.distance(points) for solid in arm_solids()], axis=0)


def test_read_links_gives_collision_geometry_and_else_visual():
    solids = {each.link: each for each in arm_links()}
    assert set(solids) == {"base", "upper", "hand"}
    assert solids["upper"].kind == "cylinder"
    np.testing.assert_allclose(solids["upper"].half, [0.03, 0.03, 0.15])
    ends = apply(solids["upper"].link_from_solid, np.array([[0, 0, -0.15], [0, 0, 0.15]]))
    np.testing.assert_allclose(ends, [[0, 0, 0], [0.3, 0, 0]], atol=1e-8)
    np.testing.assert_allclose(solids["hand"].half, [0.03, 0.04, 0.025])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no readable XML: no element found"),
        ("<robot><link name='a'>", "no readable XML"),
        ("<sdf/>", "it is a <sdf>, no <robot>"),
        ("<robot/>", "no link with a geometry"),
        ('<!DOCTYPE r [<!ENTITY a "b">]><robot>&a;</robot>', "declares a document type"),
        (URDF.replace('"0.05"', '"wide"'), "'radius' of <cylinder> is to hold 1 number"),
        (URDF.replace('"0.05"', '"-1"'), "cylinder has a size that is not above 0"),
        (URDF.replace('"0 0 0.1"', '"0 nan 0.1"'), "'xyz' of <origin>"),
        (f"<robot>{'<a>' * 60}{'</a>' * 60}</robot>", "more than 50 deep"),
    ],
)
def test_read_links_refuses_what_is_no_urdf_in_one_line(text, said):
    with pytest.raises(ConfigError, match=said) as error:
        read_links(text, pytest.fail)
    assert "\n" not in str(error.value)


def test_read_links_takes_the_smallest_solid_about_a_mesh(tmp_path, monkeypatch):
    trimesh = pytest.importorskip("trimesh")
    place = make_transform(rotation_from_rpy(np.array([0.3, 0.2, 0.1])), [0.4, 0.5, 0.6])
    meshes = {
        "tube": trimesh.creation.cylinder(0.05, 0.4, transform=place),
        "case": trimesh.creation.box((0.1, 0.2, 0.3), transform=place),
        "ball": trimesh.creation.icosphere(3, 0.1).apply_transform(place),
    }
    folder = tmp_path / "share" / "parts"
    folder.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    for name, mesh in meshes.items():
        mesh.apply_scale(1000.0)
        mesh.export(folder / f"{name}.stl")
        text = (
            f"<robot name='r'><link name='l'><visual><geometry><mesh scale='1e-3 1e-3 1e-3' "
            f"filename='package://parts/{name}.stl'/></geometry></visual></link></robot>"
        )
        (solid,) = read_links(text, pytest.fail)
        assert isinstance(solid, LinkSolid)
        assert solid.kind == {"tube": "cylinder", "case": "box", "ball": "sphere"}[name]
        np.testing.assert_allclose(solid.link_from_solid[:3, 3], place[:3, 3], atol=1e-4)
        local = apply(invert(solid.link_from_solid), mesh.vertices / 1000.0)
        assert (np.abs(local) <= solid.half + 1e-5).all()
        volume = {"tube": 0.4 * 0.1**2, "case": 0.006, "ball": 0.008}[name]
        assert np.prod(2 * solid.half) == pytest.approx(volume, rel=0.02)


def test_read_links_names_a_mesh_that_is_not_there():
    told = []
    mesh = "<visual><geometry><mesh filename='package://gone/a.stl'/></geometry></visual>"
    text = URDF.replace('<link name="frame_only"/>', f"<link name='tool'>{mesh}</link>")
    assert len(read_links(text, told.append)) == 3
    (said,) = told
    assert "link 'tool'" in said
    assert "package://gone/a.stl" in said


def test_robot_pixels_are_those_of_the_arm(scenes):
    """By depth: every point within the padding and no other; without depth: the silhouette."""
    _, armed = scenes
    for v, view in enumerate(armed.views):
        pose = armed.world_from_cam[v]
        found = filtered(view, pose)
        assert view.depth is not None
        assert view.K is not None
        measured = apply(pose, back_project(view.depth, view.K)).reshape(-1, 3)
        gap = distance_to_arm(measured).reshape(view.size)
        gap[view.depth == 0] = np.inf
        assert (gap < PADDING).any()
        assert not found.depth[gap < PADDING].any()
        # Solids are padded to their corners, which are farther away than the padding.
        far = np.isfinite(gap) & (gap > np.sqrt(3) * PADDING)
        np.testing.assert_array_equal(found.depth[far], view.depth[far])
        silhouette = filtered(view, pose, with_depth=False).ignored
        exact = distance_to_arm(armed.points[v].reshape(-1, 3)).reshape(view.size)
        assert silhouette[(armed.depths[v] > 0) & (exact < 1e-4)].all(), "the arm itself"
        assert silhouette[found.ignored].all()
        assert silhouette.mean() < 0.4


def iou_by_object(scene, truth):
    """Of each object the best scene object over all views, where the truth has points."""
    found = {}
    for label in range(1, 1 + max(int(each.max()) for each in truth.labels)):
        true = np.concatenate([(each == label).ravel() for each in truth.labels])
        labels = np.concatenate([each.ravel() for each in scene.masks.labels])
        ids, counts = np.unique(labels[true & (labels > 0)], return_counts=True)
        best = 0.0
        for i, shared in zip(ids, counts, strict=True):
            best = max(best, shared / np.count_nonzero(true | (labels == i)))
        found[label] = best
    return np.array(list(found.values()))


def test_build_scene_without_the_robot_is_as_without_an_arm(scenes):
    bare, armed = scenes
    views = [filtered(v, p) for v, p in zip(armed.views, armed.world_from_cam, strict=True)]
    scene, seen, alone = build_scene(views), build_scene(armed.views), build_scene(bare.views)
    # Without the filter there are points of the arm, and an object has some.
    for each, has_arm in ((seen, True), (scene, False)):
        points = np.concatenate([
            each.world.points[v][each.world.valid(v) & (each.masks.labels[v] > 0)]
            for v in range(4)
        ])  # fmt: skip
        assert (np.count_nonzero(distance_to_arm(points) < 0.012) > 200) == has_arm
        everything = np.concatenate([each.world.points[v][each.world.valid(v)] for v in range(4)])
        near = distance_to_arm(everything) < PADDING - 0.012
        assert near.any() == has_arm
    for v, view in enumerate(views):
        assert not scene.masks.labels[v][view.ignored].any()
    with_filter, without_arm = iou_by_object(scene, armed), iou_by_object(alone, bare)
    assert (with_filter > without_arm - 0.05).all(), (with_filter, without_arm)
