"""What the page computes itself: rays, outlines, colours by object, prompts of a session."""

from __future__ import annotations

import dataclasses
import signal
import threading

import cv2
import numpy as np
import pytest

from test.viewer.conftest import until
from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.cameras import rays
from wildseg3d_ros.core.types import NEGATIVE, Box, Click, Point, Prompt
from wildseg3d_ros.io.folder import write_folder
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_ros.viewer.drawing import inner_pixel, label_points, outline
from wildseg3d_ros.viewer.file_source import FileSource
from wildseg3d_ros.viewer.session import Session, Sessions
from wildseg3d_ros.viewer.source import SourceState
from wildseg3d_testing.scenes import construct_scene


@pytest.fixture(scope="module")
def source(scene_file):
    return FileSource(scene_file)


def test_along_gives_the_surface_that_a_cameras_ray_meets(source, truth):
    shown = source.shown
    view = 0
    K, pose = truth.views[view].K, truth.world_from_cam[view]
    directions = rays(K, 240, 320)
    for label in truth.object_ids:
        mask = truth.labels[view] == label
        if mask.sum() < 200:
            continue
        column, row = inner_pixel(mask)
        direction = pose[:3, :3] @ directions[row, column]
        found = shown.along(pose[:3, 3], direction, 0.01)
        there = truth.points[view][row, column]
        assert np.linalg.norm([found.x - there[0], found.y - there[1], found.z - there[2]]) < 0.02


def test_along_says_that_there_is_nothing(source, truth):
    pose = truth.world_from_cam[0]
    with pytest.raises(PromptError) as refused:
        source.shown.along(pose[:3, 3], -pose[:3, 2], 0.01)
    assert refused.value.code == ErrorCode.POINT_OUTSIDE_SCENE


def test_outline_filled_is_the_mask_again(truth):
    for label in truth.object_ids:
        mask = truth.labels[0] == label
        drawn = np.zeros(mask.shape, np.uint8)
        for part in outline(mask).split("M")[1:]:
            corners = [tuple(map(float, c.split())) for c in part.rstrip("Z").split("L")]
            cv2.fillPoly(drawn, [np.array(corners).astype(np.int32)], (1.0,))
        both, either = (drawn > 0) & mask, (drawn > 0) | mask
        assert both.sum() >= 0.95 * either.sum()
    assert outline(np.zeros((5, 5), bool)) == ""


def test_label_points_are_those_of_the_objects(source, scene):
    shown = source.shown
    clouds = [(i, answer(scene, Prompt(object_ids=(i,))).points) for i in scene.object_ids]
    labels = label_points(shown, clouds)
    own = {tuple(p) for _, points in clouds for p in points.tolist()}
    among = np.array([tuple(p) in own for p in shown.points.tolist()])
    assert (labels[among] > 0).all()
    assert (labels > 0).sum() < 1.5 * among.sum()


def test_file_source_answers_as_the_library(source, scene, truth):
    pixel = inner_pixel(truth.labels[0] == 1)
    prompt = Prompt((Click("cam_0", *pixel),))
    mine, theirs = source.ask(prompt).cloud, answer(scene, prompt)
    np.testing.assert_array_equal(mine.points, theirs.points)
    place = Point(*map(float, truth.points[0][pixel[1], pixel[0]]))
    assert source.click_at(place).view in scene.view_names


def test_session_keeps_what_was_pointed_at_until_it_is_taken_back():
    session = Session()
    one, two = Click("a", 1, 1), Click("a", 2, 2)
    session.point_at(one, further=False)
    session.point_at(two, further=True)
    session.point_at(Click("b", 3, 3, NEGATIVE), further=False)  # never begins anew
    assert session.prompt == Prompt((one, two, Click("b", 3, 3, NEGATIVE)))
    session.take_back()
    assert session.prompt == Prompt((one, two))
    session.point_at(two, further=False)
    assert session.prompt == Prompt((two,))
    session.take_back()
    assert session.prompt is None


def test_session_has_one_box_in_a_view():
    session = Session()
    session.point_at(Box("a", 0, 0, 5, 5), further=False)
    session.point_at(Box("a", 1, 1, 6, 6), further=True)
    assert session.prompt == Prompt(boxes=(Box("a", 1, 1, 6, 6),))


def test_session_has_one_name_beside_clicks():
    session = Session()
    session.point_at("red mug", further=False)
    assert session.prompt == Prompt(text="red mug")
    session.point_at(Click("a", 1, 1), further=True)
    assert session.prompt == Prompt((Click("a", 1, 1),), text="red mug")
    session.point_at(Click("a", 1, 1), further=False)
    assert session.prompt == Prompt((Click("a", 1, 1),))


def test_session_refines_by_the_clicks_after_that():
    session = dataclasses.replace(Session(), refining=3)
    with pytest.raises(PromptError):
        _ = session.correction
    session.point_at(Click("a", 1, 1, NEGATIVE), further=False)
    assert session.correction == Prompt((Click("a", 1, 1, NEGATIVE),), object_ids=(3,))


def test_sessions_are_one_for_each_tab_and_not_without_end():
    sessions = Sessions()
    first = sessions.of_tab("first")
    assert sessions.of_tab("first") is first
    assert sessions.of_key(first.key) is first
    for number in range(300):
        sessions.of_tab(str(number))
    assert sessions.of_key(first.key) is None


@pytest.fixture
def sigterm_ignored():
    """As a process ignores it that was started by one that does."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


def test_file_source_builds_a_recording_and_can_be_stopped(tmp_path, sigterm_ignored):
    truth = construct_scene(views=3, arc_degrees=60)
    write_folder(tmp_path, truth.recording())
    source = FileSource(tmp_path)
    assert "Build" in source.state.problem
    thread = threading.Thread(target=source.build)
    thread.start()
    assert until(lambda: source.state.busy is not None and source.state.busy[0] != "starting", 60)
    source.cancel()
    thread.join(20)
    assert not thread.is_alive()
    assert source.shown is None
    assert "cancelled" in source.state.failed
    source.build()
    assert source.state == SourceState()
    assert source.no_check == ""
    check = source.check()
    assert check.verdict == "ok"
    assert [each.name for each in check.cameras] == list(source.scene.view_names)
    assert len(check.pictures) == 1 + 3, "all cameras, and each pair of three"
    assert all(each.jpeg.startswith(b"\xff\xd8") for each in check.pictures)
    poses = [camera.world_from_cam for camera in source.shown.cameras]
    np.testing.assert_allclose(poses, truth.world_from_cam, atol=2e-3)
