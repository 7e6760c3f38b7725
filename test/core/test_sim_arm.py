"""The arm: reached poses, and a URDF that describes what the cameras see of it."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from wildseg3d_ros.core.errors import InputError, PromptError
from wildseg3d_ros.core.geometry.transforms import invert, make_transform, rotation_from_vector
from wildseg3d_ros.robot.self_filter import robot_pixels
from wildseg3d_ros.robot.urdf import read_links
from wildseg3d_ros.sim.arm import CAMERA_FRAME, LINKS, Arm
from wildseg3d_ros.sim.live import WRIST, CellSpec, LiveCell

DOWN = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def cell():
    if find_spec("mujoco") is None:
        pytest.skip("SIMULATOR ABSENT: make setup EXTRAS=sim")
    spec = CellSpec(
        objects=2, views=2, wrist=True, arm=True, width=160, height=120, light_samples=2,
        depth_noise=None,
    )  # fmt: skip
    try:
        made = LiveCell(spec)
    except InputError as error:
        if "without a display" not in str(error):
            raise
        pytest.skip(f"NO OFFSCREEN RENDERING: {error}")
    yield made
    made.close()


@pytest.mark.parametrize("turn", [0.0, 1.0, -2.5])
@pytest.mark.parametrize("place", [(0.5, 0.1, 0.4), (-0.3, 0.5, 0.6), (0.8, 0.0, 0.2)])
def test_arm_reaches_a_pose_within_its_limits(place, turn):
    arm = Arm(make_transform(rotation_from_vector([0, 0, 0.7]), [0.1, -0.2, 0.0]))
    target = arm.world_from_base @ make_transform(rotation_from_vector([0, 0, turn]) @ DOWN, place)
    angles = arm.reach(target)
    assert angles is not None
    np.testing.assert_allclose(arm.poses(angles)["tool0"], target, atol=3e-4)
    limits = [link.limit for link in LINKS if link.axis]
    assert (np.abs(angles) <= np.array(limits) + 0.01).all()


def test_arm_does_not_reach_beyond_its_length_or_under_the_table():
    arm = Arm(np.eye(4))
    assert arm.reach(make_transform(DOWN, [1.6, 0.0, 0.4])) is None
    assert arm.reach(make_transform(DOWN, [0.5, 0.0, -0.1])) is None


def test_arm_carries_the_wrist_camera_through_its_tour(cell):
    assert len(cell.tour) >= 5
    for place in (1, 3):
        cell.place_wrist(place)
        pose = cell.arm.poses()[CAMERA_FRAME]
        np.testing.assert_allclose(pose, cell.tour[place], atol=5e-3)
        np.testing.assert_array_equal(cell.sensed(WRIST).world_from_cam_prior, pose)


def test_arm_in_the_images_is_what_its_urdf_describes(cell):
    """By exact depth: all that comes into the images with the arm is in the described solids."""
    solids = read_links(cell.arm.model.urdf(), pytest.fail)
    cell.place_arm("home")
    before = {name: cell.sensed(name).depth for name in ("cam_0", "cam_1")}
    cell.place_arm("over")
    came = 0
    for name, depth in before.items():
        view = cell.sensed(name)
        cam_from_world = invert(cell.true_pose(name))
        links = {link: cam_from_world @ pose for link, pose in cell.arm.poses().items()}
        found = robot_pixels(view, [solid.padded(0.003) for solid in solids], links)
        new = view.depth < depth - 0.02
        came += new.sum()
        assert (found & new).sum() >= 0.99 * new.sum()
        gone = view.depth > depth + 0.02
        assert not (found & ~new & ~gone & (np.abs(view.depth - depth) > 1e-6)).any()
        assert not cell.labels(name)[new].any(), "the arm is no thing"
    assert came > 500


def test_arm_postures_and_where_there_is_none(cell):
    with pytest.raises(PromptError, match="no posture 'up', but home, over"):
        cell.place_arm("up")
    with pytest.raises(InputError, match="behind those on a shelf is a wall"):
        LiveCell(CellSpec(arm=True, things="shelf"))


def random_cell(**fields):
    if find_spec("mujoco") is None:
        pytest.skip("SIMULATOR ABSENT: make setup EXTRAS=sim")
    try:
        return LiveCell(CellSpec(things="table", views=2, width=160, height=120, **fields))
    except InputError as error:
        if "without a display" not in str(error):
            raise
        pytest.skip(f"NO OFFSCREEN RENDERING: {error}")


def test_random_things_are_those_of_the_seed_and_glass_has_no_depth():
    cell = random_cell(seed=3)
    again = random_cell(seed=3)
    assert cell.things == again.things
    for name, pose in cell.poses().items():
        np.testing.assert_array_equal(again.poses()[name], pose)
    clear = [cell.label(name) for name in cell.things if cell._stage._lost[cell.label(name)] == 1]
    assert clear, "another seed has glass"
    views = [cell.sensed(name) for name in cell.cameras]
    labels = [cell.labels(name) for name in cell.cameras]
    glass = [np.isin(each, clear) for each in labels]
    assert sum(each.sum() for each in glass) > 100
    for view, there in zip(views, glass, strict=True):
        assert not view.depth[there].any()
        assert (view.depth[~there] > 0).mean() > 0.5
    for name, (pose, edges) in cell.boxes().items():
        assert (edges > 0).all(), name
        assert np.linalg.norm(pose[:3, 3] - cell.poses()[name][:3, 3]) <= edges.max()


def test_random_things_move_and_another_scene_comes():
    cell = random_cell(seed=3)
    thing = cell.things[0]
    place = cell.poses()[thing][:3, 3].copy()
    cell.move(thing, 0.05, 0.0, 0.0)
    assert 0.02 < np.linalg.norm(cell.poses()[thing][:2, 3] - place[:2]) < 0.15
    before, cameras = cell.poses(), {name: cell.true_pose(name) for name in cell.cameras}
    cell.shuffle()
    assert not any(
        (pose == old).all() for pose in cell.poses().values() for old in before.values()
    )
    for name, pose in cameras.items():
        np.testing.assert_array_equal(cell.true_pose(name), pose)
