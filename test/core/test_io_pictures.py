from __future__ import annotations

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.core.types import Click, Prompt
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.io.pictures import (
    PicturedScene,
    Selection,
    contact_sheet,
    draw_click,
    draw_ids,
    draw_labels,
    draw_masks,
    object_colors,
    write_sheet,
)
from wildseg3d_ros.io.rendering import BACKGROUND, DrawingCamera, render_cloud
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_testing.exact import exact_scene
from wildseg3d_testing.scenes import construct_scene

CAMERA = DrawingCamera(np.array([[80.0, 0, 49.5], [0, 80, 39.5], [0, 0, 1]]), np.eye(4), (80, 100))


@pytest.fixture(scope="module")
def scene():
    return exact_scene(construct_scene())


def selection_of(scene, object_id, view=0):
    u, v = most_interior_pixel(scene.labels[view] == object_id)
    clicks = (Click(scene.view_names[view], u, v),)
    return Selection(clicks, answer(scene, Prompt(clicks)), f"thing {object_id}")


def plane(z, color, half=0.1, at=(0.0, 0.0)):
    x, y = np.meshgrid(np.linspace(-half, half, 60), np.linspace(-half, half, 60))
    points = np.stack([x.ravel() + at[0], y.ravel() + at[1], np.full(x.size, z)], axis=1)
    return points.astype(np.float32), np.tile(np.array(color, np.uint8), (x.size, 1))


def test_object_colors_are_distinct_in_any_order():
    colors = object_colors(range(1, 25))
    assert len(set(colors.values())) == 24
    first = np.array([colors[i] for i in range(1, 9)], float)
    distance = np.linalg.norm(first[:, None] - first[None], axis=2) + 1e9 * np.eye(8)
    assert distance.min() > 40
    assert object_colors([7, 3, 5]) == object_colors([3, 5, 7])


def test_draw_labels_tints_outlines_and_dims():
    image = np.full((50, 60, 3), 120, np.uint8)
    labels = np.zeros((50, 60), np.int32)
    labels[10:30, 10:30] = 4
    labels[10:30, 40:50] = 9
    before = image.copy()
    out = draw_labels(image, labels, {4: (255, 0, 0)})
    np.testing.assert_array_equal(image, before)
    assert out[20, 20, 0] > 150 > 100 > out[20, 20, 1]
    assert out[10, 15, 0] > 230 > 30 > out[10, 15, 1]
    np.testing.assert_array_equal(out[20, 45], out[45, 5])  # no colour given: like background
    assert out[45, 5].max() < 120


def test_draw_masks_and_draw_click_stand_out_in_place():
    image = np.full((100, 120, 3), 200, np.uint8)
    mask = np.zeros((100, 120), bool)
    mask[40:60, 40:60] = True
    out = draw_masks(image, [(mask, (0, 255, 0))])
    assert out[50, 50].astype(int).sum() > 2 * out[10, 10].astype(int).sum()
    drawn = image.copy()
    draw_click(drawn, 90, 30)
    rows, columns = np.nonzero((drawn != image).any(axis=2))
    assert (rows.mean(), columns.mean()) == pytest.approx((30, 90), abs=0.6)
    negative = image.copy()
    draw_click(negative, 90, 30, positive=False)
    # Beside the sign, the disc is green for positive clicks and red for negative ones.
    assert drawn[27, 93, 1] > drawn[27, 93, 0]
    assert negative[27, 93, 0] > negative[27, 93, 1]
    draw_click(drawn, 0, 0)  # at the border it is cut off


def test_render_cloud_hides_farther_points():
    near, red = plane(1.0, (255, 0, 0), half=0.1)
    far, blue = plane(2.0, (0, 0, 255), half=0.8)
    for order in (1, -1):
        points = np.concatenate([near, far][::order])
        picture = render_cloud(points, np.concatenate([red, blue][::order]), CAMERA).astype(int)
        centre, side = picture[40, 50], picture[40, 75]
        assert centre[0] > 100
        assert centre[2] < 40
        assert side[2] > 80
        assert side[0] < 40


def test_render_cloud_draws_points_where_they_project():
    points, color = plane(1.0, (250, 250, 250), half=0.05, at=(0.3, -0.2))
    picture = render_cloud(points, color, CAMERA)
    rows, columns = np.nonzero((picture != BACKGROUND).any(axis=2))
    assert columns.mean() == pytest.approx(49.5 + 80 * 0.3, abs=0.7)
    assert rows.mean() == pytest.approx(39.5 - 80 * 0.2, abs=0.7)
    # A patch of 0.1 m at 80 px/m covers 8 px, without holes.
    assert 64 <= len(rows) <= 121


def test_render_cloud_of_nothing_visible_is_background():
    points, color = plane(-1.0, (250, 250, 250))
    for some in (slice(None), slice(0)):
        assert (render_cloud(points[some], color[some], CAMERA) == BACKGROUND).all()


def test_drawing_camera_around_shows_the_whole_cloud():
    points, color = plane(0.0, (200, 200, 200), half=0.2, at=(3.0, 1.0))
    start = make_transform(np.eye(3), [3.1, 1.0, -2.0])
    for azimuth in (0.0, 0.4):
        camera = DrawingCamera.around(points, start, (120, 160), azimuth, elevation=0.3)
        shown = (render_cloud(points, color, camera) != BACKGROUND).any(axis=2)
        assert shown.any()
        for border in (shown[0], shown[-1], shown[:, 0], shown[:, -1]):
            assert not border.any()
        rows, columns = np.nonzero(shown)
        assert max(np.ptp(rows) / 120, np.ptp(columns) / 160) > 0.6
    # Rotated to the right, the camera stands right of where it was, as far from the cloud.
    beside = DrawingCamera.around(points, start, (120, 160), azimuth=0.4)
    assert beside.world_from_cam[0, 3] > 3.5
    assert np.linalg.norm(beside.world_from_cam[:3, 3] - [3, 1, 0]) == pytest.approx(
        np.linalg.norm([0.1, 0, -2.0]), abs=0.05
    )
    above = DrawingCamera.around(points, start, (120, 160), elevation=0.4)
    assert above.world_from_cam[1, 3] < 0.5  # y points down


def test_contact_sheet_shows_the_clicked_view_first(scene):
    plain = contact_sheet(scene, max_views=2)
    single = contact_sheet(scene, [selection_of(scene, 1, view=2)], max_views=2)
    assert single.shape[1] > 1.8 * plain.shape[1]
    clicked_only = contact_sheet(scene, [selection_of(scene, 1, view=2)], max_views=1)
    np.testing.assert_array_equal(
        single[66 : clicked_only.shape[0]], clicked_only[66:]
    )  # below the titles, the first row is that of the clicked view
    several = contact_sheet(scene, [selection_of(scene, 1), selection_of(scene, 2)], max_views=2)
    assert several.shape == single.shape
    assert not np.array_equal(several, single)


def test_draw_ids_stands_on_each_object_and_nowhere_else():
    labels = np.zeros((120, 160), np.int32)
    labels[20:61, 20:61], labels[70:111, 100:141] = 3, 12
    image = np.full((120, 160, 3), 90, np.uint8)
    draw_ids(image, labels, scale=0.5)
    drawn = (image != 90).any(axis=2)
    assert not drawn[labels == 0].any()
    for label, center in ((3, (40, 40)), (12, (90, 120))):
        rows, columns = np.nonzero(drawn & (labels == label))
        middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
        np.testing.assert_allclose(middle, center, atol=4)
    wide = [np.ptp(np.nonzero(drawn & (labels == label))[1]) for label in (3, 12)]
    assert wide[1] > 1.5 * wide[0]  # two digits


def test_contact_sheet_says_that_views_are_left_out(scene):
    count = len(scene.view_names)
    one = contact_sheet(scene, max_views=count - 1)[:40]
    every = contact_sheet(scene, max_views=count)[:40]
    assert (one > 200).sum() > (every > 200).sum()  # more letters in the title


def test_contact_sheet_of_a_pictured_scene_is_that_of_the_scene(scene):
    pictured = PicturedScene(scene.view_names, scene.images, scene.labels, scene.world_from_cam)
    chosen = [selection_of(scene, 3)]
    np.testing.assert_array_equal(
        contact_sheet(pictured, chosen, max_views=2), contact_sheet(scene, chosen, max_views=2)
    )


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_write_sheet_goes_by_the_suffix(scene, tmp_path, suffix):
    path = tmp_path / "pictures" / f"sheet.{suffix}"
    chosen = selection_of(scene, 1)
    write_sheet(path, scene, chosen.clicks, chosen.cloud, max_views=2)
    assert path.read_bytes()[:2] == (b"\x89P" if suffix == "png" else b"\xff\xd8")
    picture = cv2.imread(str(path))[..., ::-1].astype(int)
    expected = contact_sheet(scene, [Selection(chosen.clicks, chosen.cloud)], max_views=2)
    assert np.abs(picture - expected).mean() < (0.01 if suffix == "png" else 4)
    with pytest.raises(FileError, match="cannot write"):
        write_sheet(path / "below.png", scene)
