"""Rigs of which some views cannot be related to the others: the largest group is built."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest

from wildseg3d_ros.cli import main
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import (
    AlignmentError,
    DisconnectedViews,
    ErrorCode,
    InputError,
    InvalidScene,
    PromptError,
)
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Click, PairPrediction, Prompt
from wildseg3d_ros.io.folder import Recording, write_folder
from wildseg3d_ros.pairing import keep_largest, largest_group
from wildseg3d_ros.pipeline import build_scene, segment, update_scene
from wildseg3d_ros.pointmaps.depth.backend import DepthPointmaps
from wildseg3d_ros.rig.aligned import align_measured, unrelated_by_stereo
from wildseg3d_ros.scene.file.consistency import check_scene
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_testing.scenes import construct_scene, fan_poses
from wildseg3d_testing.stereo import stereo_scene

STEREO = SceneConfig.from_mapping({"pointmaps": {"backend": "stereo"}})
NAMES = "cam_0", "cam_1", "cam_2", "cam_3", "cam_4"


@pytest.fixture(scope="module")
def views():
    """Three views 12 degrees apart, and two more 60 degrees further on."""
    fan = fan_poses(9, 12.0)
    poses = [fan[k] for k in (0, 1, 2, 7, 8)]
    return construct_scene(5, 200, 150, 5, seed=1, with_depth=False, poses=poses).views


@pytest.fixture(scope="module")
def scene(views):
    return build_scene(views, STEREO)


def apart(groups, predictions=()):
    return DisconnectedViews("apart", groups, "nothing leads there", predictions)


class TestChoice:
    def test_most_views_come_first(self, views):
        group, gaps = largest_group(views, [[3, 4], [0, 1, 2]])
        assert group == (0, 1, 2)
        (gap,) = gaps
        assert (gap.group, gap.inside, gap.outside) == ((3, 4), 3, 2)
        assert np.degrees(gap.angle) == pytest.approx(60.0, abs=8.0)

    def test_of_as_many_views_those_of_most_overlap(self):
        """The second two look at the same place, the first two past each other."""
        poses = fan_poses(4, 12.0)
        aside = np.eye(4)
        aside[:3, 3] = [0.3, 0.0, 0.0]
        posed = construct_scene(
            4, 160, 120, 4, with_depth=False, poses=[poses[0] @ aside, *poses[1:]]
        )
        assert largest_group(posed.views, [[0, 1], [2, 3]])[0] == (2, 3)
        assert largest_group(posed.views, [[2, 3], [0, 1]])[0] == (2, 3)

    def test_without_poses_the_images_say_what_is_missing(self, views):
        blind = [dataclasses.replace(v, world_from_cam_prior=None) for v in views]
        group, (gap,) = largest_group(blind, [[0, 1, 2], [3, 4]])
        assert group == (0, 1, 2)
        assert gap.inside in (3, 4) and gap.outside in (0, 1, 2)
        assert np.isnan(gap.angle)

    def test_pairs_are_kept_by_new_numbers(self, views):
        maps = [np.ones((2, 2, 3), np.float32)] * 2 + [np.ones((2, 2), np.float32)] * 2
        pairs = [PairPrediction(a, b, *maps) for a, b in ((0, 1), (2, 3), (3, 4))]
        kept = keep_largest(views, apart([[0, 1], [2, 3, 4]], pairs))
        assert kept.index == (2, 3, 4)
        assert [(p.a, p.b) for p in kept.predictions] == [(0, 1), (1, 2)]
        assert [view.name for view in kept.left_out] == ["cam_0", "cam_1"]

    def test_single_views_are_no_scene(self, views):
        error = apart([[k] for k in range(5)])
        with pytest.raises(DisconnectedViews) as raised:
            keep_largest(views, error)
        assert raised.value is error

    def test_error_is_of_both_kinds_and_crosses_processes(self):
        error = pickle.loads(pickle.dumps(apart([[0], [1]], ["a pair"])))
        assert isinstance(error, InputError) and isinstance(error, AlignmentError)
        assert (error.code, error.groups) == (ErrorCode.DISCONNECTED_VIEWS, ((0,), (1,)))
        assert error.predictions == ()


class TestScene:
    def test_largest_group_is_built_and_the_others_are_named(self, scene, views):
        assert scene.view_names == NAMES[:3]
        assert [view.name for view in scene.left_out] == ["cam_3", "cam_4"]
        assert [v.verdict for v in scene.verdicts] == ["ok"] * 3 + ["left out"] * 2
        (warning,) = [w for w in scene.warnings if "took no part" in w]
        for text in ("'cam_3', 'cam_4'", "between 'cam_2' and 'cam_3'", "3 of 5", "--strict"):
            assert text in warning
        for left, view in zip(scene.left_out, views[3:], strict=True):
            np.testing.assert_array_equal(left.world_from_cam, view.world_from_cam_prior)

    def test_click_in_a_left_out_view_says_why(self, scene):
        with pytest.raises(PromptError, match="'cam_4' is not in the scene.*between") as error:
            segment(scene, Prompt((Click("cam_4", 50, 50),)))
        assert error.value.code is ErrorCode.UNKNOWN_CAMERA

    def test_file_keeps_what_was_left_out(self, scene, tmp_path):
        save_scene(scene, tmp_path / "scene.ws3d")
        read = load_scene(tmp_path / "scene.ws3d")
        assert [view.verdict.why for view in read.left_out] == [
            view.verdict.why for view in scene.left_out
        ]
        for left, before in zip(read.left_out, scene.left_out, strict=True):
            np.testing.assert_array_equal(left.world_from_cam, before.world_from_cam)

    def test_file_does_not_take_a_view_twice(self, scene):
        doubled = dataclasses.replace(scene, left_out=(scene.left_out[0],) * 2)
        with pytest.raises(InvalidScene, match="left_out.*'cam_3'"):
            check_scene(doubled)

    def test_update_takes_the_views_that_the_scene_was_built_from(self, scene, views):
        updated = update_scene(scene, views, "cam_1", STEREO)
        assert updated.view_names == NAMES[:3]
        assert [view.name for view in updated.left_out] == ["cam_3", "cam_4"]
        with pytest.raises(PromptError, match="'cam_3' is not in the scene"):
            update_scene(scene, views, "cam_3", STEREO)

    def test_all_views_can_be_required(self, views):
        config = SceneConfig.from_mapping(
            {"pointmaps": {"backend": "stereo"}, "pairing": {"require_all_views": True}}
        )
        with pytest.raises(DisconnectedViews, match="2 groups"):
            build_scene(views, config)


class Severed(DepthPointmaps):
    """Depth pairs without those between the first views and the others."""

    def predict(self, views, pairs, progress):
        severed = {"cam_0", "cam_1"}
        found = super().predict(views, pairs, progress)
        return [p for p in found if len(severed & {views[p.a].name, views[p.b].name}) != 1]


class TestOtherBackends:
    def test_pairs_that_a_back_end_does_not_give(self):
        """It need not raise: what the alignment cannot connect is left out as well."""
        truth = construct_scene(5, 120, 90, 4, seed=2, arc_degrees=80.0)
        progress = Progress()
        scene = build_scene(truth.views, progress=progress, pointmaps=Severed())
        assert scene.view_names == NAMES[2:]
        assert {tuple(edge) for edge in scene.alignment.edges} == {(0, 1), (0, 2), (1, 2)}
        assert all("enough points" in view.verdict.why for view in scene.left_out)
        np.testing.assert_allclose(scene.world_from_cam, truth.world_from_cam[2:], atol=0.01)

    def test_check_aligns_the_largest_group(self):
        truth = construct_scene(4, 160, 120, 4, seed=2, arc_degrees=60.0)
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 255, truth.views[3].image.shape, dtype=np.uint8)
        depth = np.full_like(truth.views[3].depth, 5.0)
        views = [
            *truth.views[:3],
            dataclasses.replace(
                truth.views[3], image=noise, depth=depth, world_from_cam_prior=None
            ),
        ]
        aligned = align_measured(views)
        assert list(aligned.left_out) == ["cam_3"]
        assert aligned.cameras is not None
        known = ~np.isnan(aligned.cameras.world_from_cam).any((1, 2))
        assert known.tolist() == [True, True, True, False]


@pytest.fixture(scope="module")
def folder(views, tmp_path_factory):
    folder = tmp_path_factory.mktemp("apart")
    write_folder(folder, Recording(tuple(views)))
    return folder


class TestCommands:
    def test_build_writes_who_was_left_out(self, folder, tmp_path, capsys):
        out = tmp_path / "scene.json"
        scene = ["-o", str(tmp_path / "scene.ws3d")]
        assert main(["build", str(folder), *scene, "--json", str(out)]) == 0
        cameras = json.loads(out.read_text())["cameras"]
        assert [c["verdict"] for c in cameras] == ["ok"] * 3 + ["left out"] * 2
        assert "between" in cameras[4]["why"] and cameras[4]["world_from_cam"] is None
        printed = capsys.readouterr().out
        assert "3 of 5 views" in printed and "left out" in printed
        assert "no camera has depth: pointmaps.backend=stereo was taken" in printed
        assert main(["build", str(folder), *scene, "--strict", "--quiet"]) == 2
        assert "2 groups" in capsys.readouterr().err

    def test_check_says_it_before_the_build(self, folder, views, capsys):
        main(["check", str(folder)])
        assert "camera 'cam_3', 'cam_4' took no part" in capsys.readouterr().out
        assert unrelated_by_stereo(stereo_scene(3, 10.0, 100, 75).views) == []

    def test_check_names_other_ways_where_stereo_relates_nothing(self):
        (said,) = unrelated_by_stereo(stereo_scene(2, 100.0, 100, 75).views)
        assert "by pointmaps.backend: stereo no scene can be built: " in said
        assert said.endswith("da3 and mast3r need downloaded weights, and no such angles")
