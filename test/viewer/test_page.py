"""The page of a scene's file, clicked in a browser; answers are the library's own."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile

import cv2
import numpy as np
import pytest

from test.viewer.conftest import KNOWN, picture, serving, until
from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.core.types import NEGATIVE, Box, Click, Prompt
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.grasping.graspable import GraspableScene
from wildseg3d_ros.io.clouds import write_cloud
from wildseg3d_ros.io.folder import write_folder
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_ros.viewer.words import sentence, size_text

CHOSEN = np.array([255, 43, 214])


def pixel_of(truth, label, view=0):
    return most_interior_pixel(truth.labels[view] == label)


def place(page, view, u, v):
    """Where a pixel of a camera's image is on the page."""
    area = page.locator(".ws-canvas img").nth(view).bounding_box()
    return area["x"] + area["width"] * (u + 0.5) / 320, area["y"] + area["height"] * (
        v + 0.5
    ) / 240


def click(page, view, pixel, **options):
    page.mouse.move(*place(page, view, *pixel))
    for key in options.get("keys", ()):
        page.keyboard.down(key)
    page.mouse.click(*place(page, view, *pixel), button=options.get("button", "left"))
    for key in options.get("keys", ()):
        page.keyboard.up(key)


def figure(page, name):
    return page.get_by_test_id(f"figure-{name}").inner_text()


def selected(page, name, cloud):
    """Waits until something is selected, and compares its figures with a cloud's."""
    page.get_by_test_id("selected-name").get_by_text(name, exact=True).wait_for()
    assert until(lambda: figure(page, "points") == f"{len(cloud):,}"), figure(page, "points")


def look_through(page, view):
    page.get_by_test_id(f"camera-cam_{view}").get_by_role("button").first.click()
    page.wait_for_timeout(200)


def on_pane(page, point):
    """Where a 3D point is on the page, as the pane's camera projects it."""
    return page.evaluate(
        """(point) => {
          const it = getElement(+document.querySelector('.ws-cloud').id.slice(1));
          const seen = it.controls.target.clone().set(...point);
          it.camera.updateMatrixWorld();
          seen.project(it.camera);
          const area = it.$refs.canvas.getBoundingClientRect();
          return [area.x + area.width * (seen.x + 1) / 2, area.y + area.height * (1 - seen.y) / 2];
        }""",
        point.tolist(),
    )


def color_at(page, point):
    """Mean RGB of the points that the pane shows about a 3D point, without gaps between them."""
    x, y = map(round, on_pane(page, point))
    image = page.screenshot(clip={"x": x - 3, "y": y - 3, "width": 7, "height": 7})
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    pixels = pixels[..., ::-1].reshape(-1, 3)
    light = pixels.sum(axis=1)
    return pixels[2 * light >= light.max()].mean(axis=0)


def show_robot(page, links):
    """As the page's server has it drawn where a robot is described."""
    page.evaluate(
        """(links) => {
          const id = document.querySelector('.ws-cloud').id.slice(1);
          mounted_app.elements[id].props.robot = links;
        }""",
        links,
    )


def background(truth):
    """A pixel of the table far from all things."""
    for v, u in np.argwhere(np.abs(truth.points[0][..., 2]) < 1e-3):
        if not truth.labels[0][max(v - 14, 0) : v + 15, max(u - 14, 0) : u + 15].any():
            return int(u), int(v)
    raise AssertionError("there is none")


def test_page_shows_cameras_objects_and_cloud_with_nothing_from_outside(visit, scene, address):
    page = visit()
    picture(page, "loaded")
    for view, name in enumerate(scene.view_names):
        card = page.get_by_test_id(f"camera-{name}")
        shown = np.setdiff1d(np.unique(scene.labels[view]), [0])
        assert card.locator("svg text").all_text_contents() == [str(i) for i in shown]
    boxes = GraspableScene(scene)
    for object_id in KNOWN:
        row = page.get_by_test_id(f"object-{object_id}").inner_text()
        assert size_text(boxes.box((object_id,)), metric=True) in row
    assert not page.get_by_test_id("robot").is_visible()
    elsewhere = [url for url in page.requested if not url.startswith((address, "data:", "blob:"))]
    assert elsewhere == []
    page.get_by_role("tab", name="Cameras").click()
    page.get_by_test_id("no-check").get_by_text("neither the given ones").wait_for()


def test_click_in_an_image_selects_in_all_images_and_in_the_cloud(visit, truth, scene):
    page = visit()
    look_through(page, 0)
    pixel, other = pixel_of(truth, 3), pixel_of(truth, 1)
    points = [truth.points[0][v, u] for u, v in (pixel, other)]
    before = [color_at(page, point) for point in points]
    click(page, 0, pixel)
    cloud = answer(scene, Prompt((Click("cam_0", *pixel),)))
    selected(page, "Object 3", cloud)
    picture(page, "selected")
    assert re.search(r"Shown \d+ ms after the click", page.get_by_test_id("latency").inner_text())
    panel = page.get_by_test_id("selection")
    assert panel.evaluate("it => it.scrollHeight <= it.clientHeight")  # no figure is cut off
    for name in scene.view_names:
        outlines = page.get_by_test_id(f"camera-{name}").locator("path.selected")
        assert until(outlines.count) == int(cloud.masks[name].any())
    assert figure(page, "size") == size_text(GraspableScene(scene).box((3,)), metric=True)
    lit = 0.35 * before[0] + 0.65 * CHOSEN
    assert until(lambda: np.allclose(color_at(page, points[0]), lit, atol=25))
    dimmed = color_at(page, points[1])
    np.testing.assert_allclose(dimmed, 0.45 * before[1], atol=12)
    page.get_by_test_id("clear").click()
    assert until(lambda: np.allclose(color_at(page, points[0]), before[0], atol=5))


def test_click_in_the_cloud_selects_what_the_ray_meets_through_the_robot(visit, truth):
    page = visit()
    look_through(page, 0)
    column, row = pixel_of(truth, 1)
    point, centre = truth.points[0][row, column], truth.world_from_cam[0][:3, 3]
    before = color_at(page, point)
    pose = make_transform(np.eye(3), (point + centre) / 2)
    ball = {"kind": "sphere", "half": [0.03] * 3, "pose": pose.ravel().tolist()}
    show_robot(page, [ball])
    assert until(lambda: np.abs(color_at(page, point) - before).max() > 30)
    picture(page, "robot")
    page.mouse.click(*on_pane(page, point))
    page.get_by_test_id("selected-name").get_by_text("Object 1", exact=True).wait_for()
    page.get_by_test_id("clear").click()
    show_robot(page, [])
    assert until(lambda: np.allclose(color_at(page, point), before, atol=5))


def test_further_and_negative_clicks_mean_what_the_library_says(visit, truth, scene):
    page = visit()
    one, three = pixel_of(truth, 1), pixel_of(truth, 3)
    click(page, 0, one)
    click(page, 0, three, keys=["Control"])
    clicks = (Click("cam_0", *one), Click("cam_0", *three))
    selected(page, "Object 1, Object 3", answer(scene, Prompt(clicks)))
    click(page, 1, pixel_of(truth, 3, view=1), button="right")
    off = Click("cam_1", *pixel_of(truth, 3, view=1), NEGATIVE)
    selected(page, "Object 1", answer(scene, Prompt((*clicks, off))))
    page.keyboard.press("Backspace")
    selected(page, "Object 1, Object 3", answer(scene, Prompt(clicks)))
    page.keyboard.press("Backspace")
    selected(page, "Object 1", answer(scene, Prompt(clicks[:1])))


def test_drawn_box_and_alternative_select_what_the_library_says(visit, truth, scene):
    page = visit()
    rows, columns = np.nonzero(truth.labels[0] == 3)
    corners = [columns.min(), rows.min(), columns.max(), rows.max()]
    page.mouse.move(*place(page, 0, *corners[:2]))
    page.mouse.down()
    page.mouse.move(*place(page, 0, *pixel_of(truth, 3)))
    page.mouse.move(*place(page, 0, *corners[2:]))
    page.mouse.up()
    selected(page, "Object 3", answer(scene, Prompt(boxes=(Box("cam_0", *map(float, corners)),))))
    pixel = pixel_of(truth, 1)
    click(page, 0, pixel)
    cloud = answer(scene, Prompt((Click("cam_0", *pixel),)))
    selected(page, "Object 1", cloud)
    assert cloud.alternatives
    page.get_by_test_id("alternative-0").click()
    assert until(lambda: figure(page, "points") == f"{len(cloud.alternatives[0].cloud):,}")


def test_click_on_nothing_says_so_in_the_librarys_words(visit, truth, scene):
    page = visit()
    pixel = background(truth)
    with pytest.raises(PromptError) as refused:
        answer(scene, Prompt((Click("cam_0", *pixel),)))
    click(page, 0, pixel)
    page.get_by_test_id("error").get_by_text(sentence(refused.value)).wait_for()
    picture(page, "error")


def test_name_without_weights_says_what_is_needed(visit):
    page = visit()
    page.get_by_test_id("name-it").fill("red mug")
    page.get_by_test_id("name-it").press("Enter")
    error = page.get_by_test_id("error")
    error.wait_for(timeout=60_000)
    assert "SAM 3" in error.inner_text() or "not installed" in error.inner_text()


def test_exports_are_the_files_that_the_library_writes(visit, truth, scene, tmp_path):
    page = visit()
    pixel = pixel_of(truth, 3)
    click(page, 0, pixel)
    cloud = answer(scene, Prompt((Click("cam_0", *pixel),)))
    selected(page, "Object 3", cloud)

    def export(kind):
        page.get_by_test_id("export").click()
        with page.expect_download() as download:
            page.get_by_test_id(f"export{kind}").click()
        return download.value.path().read_bytes()

    for kind in (".ply", ".pcd", ".npz"):
        write_cloud(tmp_path / f"object{kind}", cloud)
        assert export(kind) == (tmp_path / f"object{kind}").read_bytes()
    with zipfile.ZipFile(io.BytesIO(export(".masks.zip"))) as masks:
        for name in scene.view_names:
            data = np.frombuffer(masks.read(f"{name}.png"), np.uint8)
            mask = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) > 0
            np.testing.assert_array_equal(mask, cloud.masks[name])
    box = GraspableScene(scene).box((3,))
    figures = json.loads(export(".box.json"))
    np.testing.assert_allclose(figures["size"], box.size)
    np.testing.assert_allclose(figures["frame_from_box"], box.frame_from_box)


def test_browsers_have_selections_of_their_own_which_outlive_a_reload(visit, truth):
    first, second = visit(), visit()
    click(first, 0, pixel_of(truth, 1))
    click(second, 0, pixel_of(truth, 3))
    first.get_by_test_id("selected-name").get_by_text("Object 1", exact=True).wait_for()
    second.get_by_test_id("selected-name").get_by_text("Object 3", exact=True).wait_for()
    first.reload()
    first.get_by_test_id("selected-name").get_by_text("Object 1", exact=True).wait_for()
    assert until(lambda: first.locator("path.selected").count() > 1)


def test_tablet_selects_by_touch(visit, truth):
    page = visit(width=820, height=1180, has_touch=True)
    page.touchscreen.tap(*place(page, 0, *pixel_of(truth, 3)))
    page.get_by_test_id("selected-name").get_by_text("Object 3", exact=True).wait_for()


def test_added_object_is_there_for_all_browsers_until_it_is_undone(visit, truth):
    page, other = visit(), visit()
    label = next(
        i for i in truth.object_ids if i not in KNOWN and (truth.labels[0] == i).sum() > 99
    )
    click(page, 0, pixel_of(truth, label))
    page.get_by_test_id("selected-name").get_by_text("A part that is no object").wait_for()
    page.get_by_test_id("add").click()
    name = page.get_by_test_id("selected-name").get_by_text(re.compile(r"Object \d+"))
    name.wait_for()
    added = int(name.inner_text().split()[1])
    assert added not in KNOWN
    other.get_by_test_id(f"object-{added}").click()
    other.get_by_test_id("selected-name").get_by_text(f"Object {added}", exact=True).wait_for()
    picture(page, "added")
    page.get_by_test_id("undo-edit").click()
    page.get_by_test_id(f"object-{added}").wait_for(state="detached")


def test_taken_port_gives_the_next_free_one_where_a_recording_is_checked(
    address, truth, chromium, tmp_path
):
    write_folder(tmp_path, truth.recording())
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with serving(tmp_path, "--port", port) as (other, said):
        assert other == f"http://127.0.0.1:{port + 1}/"
        assert f"port {port} is taken; using {port + 1}" in said
        with chromium.new_page(viewport={"width": 1280, "height": 720}) as page:
            page.goto(other)
            page.get_by_role("tab", name="Cameras").click()
            page.get_by_test_id("check").click()
            shown = page.get_by_test_id("checked")
            shown.get_by_alt_text("All cameras as given").wait_for(timeout=60_000)
            images = shown.locator("img")
            assert images.count() > 1, "pairs as well"
            images.last.scroll_into_view_if_needed()
            assert until(lambda: images.last.evaluate("it => it.naturalWidth"))
            picture(page, "checked")
            page.get_by_test_id("check-close").click()
            shown.wait_for(state="detached")


def test_page_for_other_machines_needs_its_token(visit, scene_file):
    port = 31000 + os.getpid() % 1000
    with serving(scene_file, "--host", "0.0.0.0", "--port", port) as (address, _):
        bare, token = address.split("?token=")
        assert len(token) > 20
        page = visit(address)
        assert page.url == bare, "the token does not stay in the address"
        stranger = page.context.browser.new_context().new_page()
        assert stranger.goto(bare).status == 403
        stranger.context.close()
