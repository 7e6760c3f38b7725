"""What the examples for MoveIt, GPD, Contact-GraspNet and GraspGen make of a selection.

Where their messages are not installed, classes with the same fields stand for them: the fields
are those of moveit_msgs 2.6, shape_msgs and gpd_ros.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import Pose, PoseStamped
from std_msgs.msg import Header, Int64

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.files.arrays import read_npz
from wildseg3d_ros.core.files.writing import write_npz
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.examples import gpd_samples, graspnet_file, moveit_objects
from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.grasping.surroundings import PlainCloud
from wildseg3d_ros.ros.messages.clouds import columns_from_cloud
from wildseg3d_ros.ros.messages.conversions import matrix_from_pose
from wildseg3d_ros.ros.messages.grasps import pose_message

SIZE = np.array([0.06, 0.04, 0.1])
FIELDS = {
    "moveit_msgs": {
        "CollisionObject": "header pose id primitives primitive_poses meshes mesh_poses operation",
        "AllowedCollisionEntry": "enabled",
        "AllowedCollisionMatrix": "entry_names entry_values",
    },
    "shape_msgs": {
        "SolidPrimitive": "type dimensions",
        "Mesh": "vertices triangles",
        "MeshTriangle": "vertex_indices",
    },
    "gpd_ros": {
        "CloudSamples": "cloud_sources samples",
        "CloudSources": "cloud camera_source view_points",
    },
}
CONSTANTS = {"CollisionObject": {"ADD": b"\x00"}, "SolidPrimitive": {"BOX": 1}}


@pytest.fixture(autouse=True)
def messages(monkeypatch):
    """Their message modules, or classes that take the fields of these and no others."""
    for package, kinds in FIELDS.items():
        if importlib.util.find_spec(package) is not None:
            continue
        module = ModuleType(f"{package}.msg")
        for name, fields in kinds.items():
            made = {"__slots__": tuple(fields.split()), "__init__": _take}
            setattr(module, name, type(name, (), made | CONSTANTS.get(name, {})))
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, f"{package}.msg", module)


def _take(self, **values):
    for name in self.__slots__:
        setattr(self, name, values.pop(name, []))
    assert not values, f"{type(self).__name__} has no {', '.join(values)}"


@pytest.fixture
def found():
    """A selection of the 8 corners of a box that stands askew, and points inside of it."""
    turn = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    box = OrientedBox(make_transform(turn, [0.4, -0.1, 0.05]), SIZE)
    inside = 0.5 * (box.corners() - box.frame_from_box[:3, 3]) + box.frame_from_box[:3, 3]
    points = np.concatenate([box.corners(), inside]).astype(np.float32)
    pose = PoseStamped(header=Header(frame_id="base"), pose=pose_message(box.frame_from_box))
    return SimpleNamespace(
        points=points,
        normals=np.tile(np.float32([0, 0, 1]), (len(points), 1)),
        views=np.array([0b110] * 8 + [0b1] * 7 + [0], np.uint32),
        view_points={"a": np.zeros(3), "b": np.array([0, 1, 0.0]), "c": np.array([0, 0, 1.0])},
        box=box,
        pose=pose,
        frame_id="base",
        stamp_ns=1_500_000_000,
        object_ids=(7,),
    )


def test_moveit_box_is_the_box(found):
    thing = moveit_objects.collision_object(found, "wildseg3d_7", "box")
    assert (thing.id, thing.header.frame_id) == ("wildseg3d_7", "base")
    assert thing.operation == type(thing).ADD
    assert np.allclose(matrix_from_pose(thing.pose), found.box.frame_from_box)
    (primitive,) = thing.primitives
    assert primitive.type == type(primitive).BOX
    assert list(primitive.dimensions) == pytest.approx(SIZE)
    assert list(thing.primitive_poses) == [Pose()], "relative to the object's pose"


def test_moveit_mesh_is_closed_and_has_the_volume_of_the_box(found):
    thing = moveit_objects.collision_object(found, "wildseg3d_7", "mesh")
    (mesh,) = thing.meshes
    vertices = np.array([[p.x, p.y, p.z] for p in mesh.vertices])
    corners = np.array([each.vertex_indices for each in mesh.triangles], dtype=int)
    assert np.allclose(np.abs(vertices), SIZE / 2, atol=1e-6), "in the object's frame"
    a, b, c = (vertices[corners[:, k]] for k in range(3))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    assert volume == pytest.approx(np.prod(SIZE), rel=1e-4), "positive: all face outwards"
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    assert {(b, a) for a, b in edges.tolist()} == set(map(tuple, edges.tolist()))


def test_moveit_mesh_of_a_sheet_is_refused(found):
    flat = SimpleNamespace(**{**vars(found), "points": found.points[:3]})
    with pytest.raises(InputError, match="3 points .* lie in a plane.*--shape box"):
        moveit_objects.collision_object(flat, "wildseg3d_7", "mesh")


def test_moveit_allowed_collisions_keep_what_was_there():
    import moveit_msgs.msg as moveit

    rows = [[False, True], [True, False]]
    matrix = moveit.AllowedCollisionMatrix(
        entry_names=["arm", "finger"],
        entry_values=[moveit.AllowedCollisionEntry(enabled=row) for row in rows],
    )
    moveit_objects.allow(matrix, "mug", ["finger", "<octomap>"])
    names = list(matrix.entry_names)
    assert names == ["arm", "finger", "mug", "<octomap>"]
    allowed = np.array([list(entry.enabled) for entry in matrix.entry_values])
    expected = np.zeros((4, 4), bool)
    for one, two in (("arm", "finger"), ("mug", "finger"), ("mug", "<octomap>")):
        expected[names.index(one), names.index(two)] = True
    assert (allowed == (expected | expected.T)).all()
    moveit_objects.allow(matrix, "mug", ["finger"])
    assert list(matrix.entry_names) == names


def test_gpd_samples_have_the_layout_that_it_reads(found):
    message = gpd_samples.cloud_samples(found, samples=5)
    sources = message.cloud_sources
    names = [field.name for field in sources.cloud.fields]
    assert names == ["x", "y", "z", "normal_x", "normal_y", "normal_z"]
    assert sources.cloud.header.frame_id == "base"
    columns = columns_from_cloud(sources.cloud)
    assert np.array_equal(columns["x"], found.points[:, 0])
    assert all(isinstance(each, Int64) for each in sources.camera_source)
    assert [each.data for each in sources.camera_source] == [1] * 8 + [0] * 8
    assert [(p.x, p.y, p.z) for p in sources.view_points] == [(0, 0, 0), (0, 1, 0), (0, 0, 1)]
    places = np.array([[p.x, p.y, p.z] for p in message.samples])
    assert len(places) == 5
    assert np.isin(places[:, 0].astype(np.float32), found.points[:, 0]).all()


def test_graspnet_file_gives_the_points_back(tmp_path):
    """Read as Contact-GraspNet does: the pixels of the depth, by K, are the points."""
    rng = np.random.default_rng(3)
    points = rng.uniform([-0.2, -0.1, 0.6], [0.2, 0.1, 0.9], (400, 3)).astype(np.float32)
    points[-1] = [0.0, 0.0, -1.0]  # behind the camera
    cloud = PlainCloud(points, np.full((400, 3), (250, 10, 20), np.uint8), points[:, 0] > 0)
    path = tmp_path / "object.npz"
    write_npz(path, **graspnet_file.depth_image(cloud))
    read = read_npz(path, "file of an object")
    row, column = np.nonzero(read["depth"])
    z = read["depth"][row, column].astype(float)
    K = read["K"]
    back = np.stack([(column - K[0, 2]) * z / K[0, 0], (row - K[1, 2]) * z / K[1, 1], z], axis=1)
    apart = np.linalg.norm(points[:-1, None] - back[None], axis=2)
    assert np.median(apart.min(axis=1)) < 1e-3
    assert apart.min(axis=0).max() < 1e-3, "half a pixel at 0.9 m"
    nearest = apart.argmin(axis=0)
    assert np.array_equal(read["segmap"][row, column] == 1, points[nearest, 0] > 0)
    assert tuple(read["rgb"][row[0], column[0]]) == (20, 10, 250), "blue first"


def test_graspnet_file_needs_an_optical_frame():
    behind = PlainCloud(
        np.array([[0, 0, -1]], np.float32), np.zeros((1, 3), np.uint8), np.array([True])
    )
    with pytest.raises(InputError, match="optical frame"):
        graspnet_file.depth_image(behind)


def test_graspnet_file_doubts_a_frame_without_a_camera(found):
    assert graspnet_file.frame_warning(found) == "", "camera a is in the origin"
    found.view_points = {"b": np.array([0, 1, 0.0]), "c": np.array([0, 0, 0.8])}
    assert "nearest one 0.80 m off: is it an optical frame" in graspnet_file.frame_warning(found)
