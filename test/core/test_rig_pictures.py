"""What is drawn of a rig lies where constructed cameras see it, in the colour of what it means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.core.types import View
from wildseg3d_ros.rig.cameras import Cameras, Evidence, all_pairs
from wildseg3d_ros.rig.matches import Matches
from wildseg3d_ros.rig.overview import COLORS as VERDICT_COLORS
from wildseg3d_ros.rig.overview import draw_rig, overview_picture, world_axes
from wildseg3d_ros.rig.panel import AXIS_COLORS, PANEL, Panel, in_metres, round_length
from wildseg3d_ros.rig.pictures import (
    COLORS,
    NEARLY,
    Stage,
    draw_reprojection,
    fitted,
    pair_picture,
    point_colors,
)
from wildseg3d_ros.rig.reprojection import (
    Outcome,
    Reprojection,
    Reprojections,
    pairs_to_show,
    reproject_depth,
    reproject_matches,
)
from wildseg3d_ros.rig.surfaces import TOLERANCE
from wildseg3d_testing.rigs import MISTAKES
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.stereo import stereo_scene

K = np.array([[400.0, 0, 239.5], [0, 400.0, 179.5], [0, 0, 1]])
BLACK = np.zeros((360, 480, 3), np.uint8)


@pytest.fixture(scope="module")
def truth():
    return construct_scene(4, 160, 120, seed=5, arc_degrees=110)


@pytest.fixture(scope="module")
def plain():
    """Without depth."""
    return stereo_scene(3, 12.0, 320, 240)


def point_views(seen_at):
    """Camera a sees one point, at pixel (239, 179) and 2 m; camera b is 0.1 m to its right and
    sees a wall at that distance."""
    depth = np.zeros(BLACK.shape[:2], np.float32)
    depth[179, 239] = 2.0
    wall = np.full(BLACK.shape[:2], seen_at, np.float32)
    beside = make_transform(np.eye(3), [0.1, 0, 0])
    return [View("a", BLACK, K, depth, np.eye(4)), View("b", BLACK, K, wall, beside)]


def count_agreeing(panel):
    """Pixels from blue to yellow: on the line between the two colours."""
    good, nearly = np.array(COLORS[Outcome.AGREES]), np.array(NEARLY)
    share = np.clip((panel - good) @ (nearly - good) / np.sum((nearly - good) ** 2), 0, 1)
    off = panel - (good + share[..., None] * (nearly - good))
    return int((np.abs(off).max(axis=2) < 8).sum())


def reprojection(off, outcome=Outcome.AGREES, uv=(100.0, 50.0)):
    """One point."""
    return Reprojection(np.array([uv]), np.array([int(outcome)]), np.array([off]))


# ---- where points lie ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen_at", "outcome"),
    [
        (2.0, Outcome.AGREES),
        (2.0 * 1.03, Outcome.AGREES),
        (2.0 * 1.08, Outcome.CONTRADICTS),
        (2.0 * 0.92, Outcome.HIDDEN),
        (0.0, Outcome.UNKNOWN),
    ],
)
def test_reproject_depth_of_one_point(seen_at, outcome):
    views = point_views(seen_at)
    found = reproject_depth(views, Cameras.of(views), 0, 1)
    # 0.1 m at 2 m are 400 * 0.05 px.
    np.testing.assert_allclose(found.uv, [[239.0 - 20.0, 179.0]], atol=1e-9)
    assert found.outcome.tolist() == [outcome]
    assert (found.behind, found.outside) == (0.0, 0.0)
    if seen_at:
        assert found.off[0] == pytest.approx(np.log(2.0 / seen_at), abs=1e-6)


def test_reproject_depth_counts_what_is_behind_and_outside():
    views = point_views(2.0)
    back = make_transform(rotation_from_vector([0, np.pi, 0]), np.zeros(3))
    found = reproject_depth(
        views, Cameras.of([views[0], replace(views[1], world_from_cam_prior=back)]), 0, 1
    )
    assert (len(found.uv), found.behind, found.outside) == (0, 1.0, 0.0)
    away = make_transform(np.eye(3), [5.0, 0, 0])
    found = reproject_depth(
        views, Cameras.of([views[0], replace(views[1], world_from_cam_prior=away)]), 0, 1
    )
    assert (len(found.uv), found.behind, found.outside) == (0, 0.0, 1.0)
    assert np.isnan(found.agreement)


def test_reproject_depth_scales_depth():
    """Depth five times too large, and the cameras that know it."""
    views = [replace(view, depth=view.depth * 5) for view in point_views(2.0)]
    cameras = replace(Cameras.of(views), depth_scale=np.array([0.2, 0.2]))
    found = reproject_depth(views, cameras, 0, 1)
    np.testing.assert_allclose(found.uv, [[219.0, 179.0]], atol=1e-4)
    assert found.outcome.tolist() == [Outcome.AGREES]


def test_reproject_depth_of_exact_cameras_agrees(truth):
    """Points of exact depth lie where the exact world points are, on the other's surface but
    along edges."""
    found = reproject_depth(truth.views, Cameras.of(truth.views), 0, 1)
    assert found.agreement > 0.97
    pose, intrinsics = truth.world_from_cam[1], np.asarray(truth.views[1].K)
    world = truth.points[0].reshape(-1, 3)
    world = world[np.isfinite(world).all(axis=1)]
    exact = (world - pose[:3, 3]) @ pose[:3, :3] @ intrinsics.T
    exact = exact[:, :2] / exact[:, 2:]
    nearest = [np.linalg.norm(exact - uv, axis=1).min() for uv in found.uv[::50]]
    assert max(nearest) < 0.01


def test_reproject_matches_puts_features_onto_epipolar_lines(plain):
    cameras = Cameras.of(plain.views)
    matches = Matches(plain.views, all_pairs(3))
    found = reproject_matches(matches, plain.views, cameras, 0, 1)
    assert len(found.uv) >= 16
    assert found.agreement == 1.0
    a, b = cameras.world_from_cam[:2]
    b_from_a = np.linalg.inv(b) @ a
    x, y, z = b_from_a[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ b_from_a[:3, :3]
    inverse = [np.linalg.inv(k) for k in cameras.K[:2]]
    lines = np.c_[found.matched[0], np.ones(len(found.uv))] @ (
        (inverse[1].T @ essential @ inverse[0]).T
    )
    lines /= np.linalg.norm(lines[:, :2], axis=1, keepdims=True)
    off = (np.c_[found.uv, np.ones(len(found.uv))] * lines).sum(axis=1)
    np.testing.assert_allclose(off, 0.0, atol=1e-6)
    to_match = found.matched[1] - found.uv
    across = np.abs((to_match * lines[:, :2]).sum(axis=1))
    np.testing.assert_allclose(np.linalg.norm(to_match, axis=1), across, atol=1e-6)
    assert np.median(across) < 1.5


def test_reproject_matches_of_swapped_poses_contradicts(plain):
    poses = np.stack([view.world_from_cam_prior for view in plain.views])[[0, 2, 1]]
    cameras = replace(Cameras.of(plain.views), world_from_cam=poses)
    found = reproject_matches(Matches(plain.views, all_pairs(3)), plain.views, cameras, 0, 2)
    assert found.agreement < 0.6


def test_triangulated_points_lie_on_the_surfaces(plain):
    points, seen_by, uv = Reprojections(plain.views).triangulated(Cameras.of(plain.views))
    assert len(points) >= 40
    off = [
        np.linalg.norm(plain.points[v][row, col] - point)
        for point, v, (col, row) in zip(points, seen_by, uv, strict=True)
    ]
    # A pixel at 0.7 m and 12 degrees between the cameras is about a centimetre of depth.
    assert np.nanmedian(off) < 0.015


def test_reprojections_say_nothing_of_unknown_cameras(truth):
    views = [replace(truth.views[0], world_from_cam_prior=None), *truth.views[1:]]
    evidence = Reprojections(views).evidence(Cameras.of_any(views))
    unknown = (all_pairs(4) == 0).any(axis=1)
    assert (evidence.log_ratio[unknown] == 0).all() and (evidence.compared[unknown] == 0).all()
    assert (evidence.log_ratio[~unknown] > 1).all()


# ---- which pairs -----------------------------------------------------------------------------


def told(log_ratio, agreeing, compared):
    values = [np.array(each, dtype=np.float64) for each in (log_ratio, agreeing, compared)]
    return Evidence(values[0], values[0], values[0], values[1], values[2])


def test_pairs_to_show_worst_first_and_only_what_overlaps():
    # Pairs 01, 02, 12: good, nothing in common, bad.
    evidence = told([30.0, 0.0, -30.0], [90, 0, 10], [100, 0, 100])
    assert pairs_to_show([evidence], 3, 12, 4) == [(1, 2), (0, 1)]
    # By the other cameras 02 should overlap as well.
    mended = told([30.0, 30.0, 30.0], [90, 90, 90], [100, 100, 100])
    assert pairs_to_show([evidence, mended], 3, 12, 4) == [(0, 2), (1, 2), (0, 1)]
    assert pairs_to_show([evidence, mended], 3, 1, 4) == [(0, 2)]


def test_pairs_to_show_has_every_camera_before_more_of_one():
    """Camera 0 is the worst in all pairs; the pair of the others has its place all the same."""
    pairs = all_pairs(6)
    bad = (pairs == 0).any(axis=1)
    evidence = told(np.where(bad, -30.0, 30.0), np.where(bad, 0, 90), np.full(15, 100))
    shown = pairs_to_show([evidence], 6, 6, 1)
    assert {v for pair in shown for v in pair} == set(range(6))
    assert shown[0] == (0, 1)


# ---- colours ---------------------------------------------------------------------------------


def test_point_colors_tell_outcomes_and_distances_apart():
    assert point_colors(reprojection(0.0)).tolist() == [list(COLORS[Outcome.AGREES])]
    assert point_colors(reprojection(-TOLERANCE)).tolist() == [list(NEARLY)]
    for outcome in (Outcome.CONTRADICTS, Outcome.HIDDEN, Outcome.UNKNOWN):
        assert point_colors(reprojection(np.nan, outcome)).tolist() == [list(COLORS[outcome])]


def test_draw_reprojection_colors_known_pixels():
    drawn = draw_reprojection(BLACK, reprojection(0.3, Outcome.HIDDEN))
    assert tuple(drawn[50, 100]) == COLORS[Outcome.HIDDEN]
    assert tuple(drawn[60, 100]) == (0, 0, 0)
    # Twice as large, the panel shows it at half the place.
    large = np.zeros((720, 960, 3), np.uint8)
    drawn = draw_reprojection(large, reprojection(-0.3, Outcome.CONTRADICTS, (200.5, 100.5)))
    assert tuple(drawn[50, 100]) == COLORS[Outcome.CONTRADICTS]


def test_draw_reprojection_has_what_contradicts_on_top():
    both = Reprojection(
        np.full((2, 2), 100.0), np.array([Outcome.CONTRADICTS, Outcome.AGREES]), np.zeros(2)
    )
    assert tuple(draw_reprojection(BLACK, both)[100, 100]) == COLORS[Outcome.CONTRADICTS]


def test_fitted_centres_images_of_any_shape():
    tall = np.full((720, 240, 3), 255, np.uint8)
    panel, scale, corner = fitted(tall, (480, 360))
    assert (panel.shape, scale, corner.tolist()) == ((360, 480, 3), 0.5, [180.0, 0.0])
    assert (panel[:, 180:300] == 255).all() and not (panel[:, [179, 300]] == 255).any()


def test_pair_picture_shows_crosses_as_given_and_few_when_mended(truth):
    """Poses of two cameras exchanged, and the right ones."""
    wrong = MISTAKES["two poses swapped"].make(truth.views[:2], np.random.default_rng(0))
    stages = [
        Stage("as given", Cameras.of(wrong)),
        Stage("without the mistake", Cameras.of(truth.views[:2])),
    ]
    picture = pair_picture(wrong, Reprojections(wrong), stages, 0, 1)
    panels = [picture[70:430, left : left + 480] for left in (12, 504, 996)]

    red = [int((panel == COLORS[Outcome.CONTRADICTS]).all(axis=2).sum()) for panel in panels]
    assert red[0] == 0 and red[1] > 10 * red[2] + 1000
    assert count_agreeing(panels[2]) > 2 * count_agreeing(panels[1]) + 10_000


def test_pair_picture_says_why_a_camera_is_not_known(truth):
    views = [replace(truth.views[0], world_from_cam_prior=None), truth.views[1]]
    stages = [
        Stage("as given", Cameras.of_any(views), {views[0].name: "no pose"}),
        Stage("after alignment", Cameras.of(truth.views[:2])),
    ]
    picture = pair_picture(views, Reprojections(views), stages, 0, 1)
    unknown = picture[70:430, 504 : 504 + 480]
    assert count_agreeing(unknown) == 0
    assert count_agreeing(picture[70:430, 996:]) > 10_000


# ---- the world -------------------------------------------------------------------------------


def panel_of(points, centres, axes=None):
    axes = np.diag([1.0, -1.0, -1.0]) if axes is None else axes
    points = np.asarray(points, np.float64)
    colors = np.full((len(points), 3), 90, np.uint8)
    return Panel.of(axes, points, colors, np.asarray(centres, np.float64))


def test_panel_from_above_has_x_right_and_y_up_in_scale():
    panel = panel_of(np.zeros((0, 3)), [[0, 0, 1], [2.0, 0, 1], [2.0, 1.0, 1]])
    first, second, third = panel.pixels(np.array([[0, 0, 1.0], [2.0, 0, 1], [2.0, 1.0, 1]]))
    np.testing.assert_allclose(second - first, [2 * panel.scale, 0], atol=0.01 * panel.scale)
    np.testing.assert_allclose(third - second, [0, -panel.scale], atol=0.01 * panel.scale)
    for at in (first, second, third):
        assert (at > 0).all() and (at < PANEL).all()
    assert panel.picture.shape == (PANEL[1], PANEL[0], 3)


def test_panel_is_not_made_small_by_far_points():
    near = np.random.default_rng(0).uniform(-0.5, 0.5, (1000, 3))
    far = np.full((40, 3), 500.0)
    assert panel_of(np.concatenate([near, far]), [[0, 0, 1.0]]).scale > 200


def test_panel_draws_axes_in_their_colors():
    panel = panel_of(np.zeros((0, 3)), [[0, 0, 0], [1.0, 1.0, 0]])
    panel.draw_axes(np.eye(4), 0.4, 3)
    for k in (0, 1):
        col, row = np.rint(panel.pixels(0.2 * np.eye(3)[[k]])[0]).astype(int)
        assert tuple(panel.picture[row, col]) == AXIS_COLORS[k]


@pytest.mark.parametrize("centres", [[[0, 0, 0]], [[5e5, 4e6, 100.0], [5e5 + 1, 4e6, 100.0]]])
def test_panel_of_one_camera_and_of_cameras_far_from_the_origin(centres):
    panel = panel_of(np.zeros((0, 3)), centres)
    panel.draw_axes(np.eye(4), 0.1, 1)
    panel.draw_scale()
    for at in panel.pixels(np.array(centres, dtype=np.float64)):
        assert (at > 0).all() and (at < PANEL).all()


def test_panel_names_do_not_lie_over_each_other():
    """Five cameras in one place, and one far away."""
    centres = np.array([[0.001 * k, 0, 0] for k in range(5)] + [[1.0, 1.0, 0]])
    panel = panel_of(np.zeros((0, 3)), centres)
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]
    panel.draw_names([("HHHHH", at, color) for at, color in zip(centres, colors, strict=True)])
    inked = []
    for color in colors:
        lit = np.where(np.array(color) > 0, panel.picture > 140, panel.picture < 90)
        inked.append(int(lit.all(axis=2).sum()))
    assert min(inked) > 0.8 * max(inked) > 20, "a name is covered"


@pytest.mark.parametrize(
    ("most", "length", "text"),
    [(0.03, 0.02, "20 mm"), (0.9999, 0.5, "0.5 m"), (7.0, 5.0, "5 m"), (2500.0, 2000.0, "2 km")],
)
def test_round_length(most, length, text):
    assert round_length(most) == pytest.approx(length)
    assert in_metres(length) == text


def test_world_axes_are_those_of_the_world(truth):
    points = truth.points[0].reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    np.testing.assert_array_equal(world_axes(points, truth.world_from_cam), np.eye(3))


def test_world_axes_in_a_cameras_frame_are_those_of_the_table(truth):
    points = truth.points[0].reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1) & (points[:, 2] > -0.1)].astype(np.float64)
    first_from_world = np.linalg.inv(truth.world_from_cam[0])
    in_camera = points @ first_from_world[:3, :3].T + first_from_world[:3, 3]
    axes = world_axes(in_camera, first_from_world @ truth.world_from_cam)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    up = first_from_world[:3, 2]
    assert axes[:, 2] @ up > np.cos(np.radians(15))


def test_draw_rig_marks_suspect_cameras(truth):
    panel = panel_of(np.zeros((0, 3)), truth.world_from_cam[:, :3, 3])
    draw_rig(panel, truth.views, ["ok", "suspect", "ok", "ok"], Cameras.of(truth.views))
    places = panel.pixels(truth.world_from_cam[:, :3, 3])
    red = np.argwhere((panel.picture == VERDICT_COLORS["suspect"]).all(axis=2))[:, ::-1]
    from_camera = [np.linalg.norm(red - at, axis=1).min() for at in places]
    assert np.argmin(from_camera) == 1 and from_camera[1] < 6
    green = (panel.picture == VERDICT_COLORS["ok"]).all(axis=2)
    assert green.sum() > 100


def test_overview_picture_of_any_verdicts_and_cameras(truth):
    views = [replace(truth.views[0], world_from_cam_prior=None), *truth.views[1:]]
    stage = Stage("as given", Cameras.of_any(views))
    verdicts = ["unchecked", "ok", "suspect", "mended"]
    drawn = overview_picture(views, verdicts, Reprojections(views), stage, Cameras.of(truth.views))
    for verdict in verdicts[1:]:
        assert (drawn == VERDICT_COLORS[verdict]).all(axis=2).any()
