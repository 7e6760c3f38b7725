from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from wildseg3d_ros.core.errors import AlignmentError
from wildseg3d_ros.core.types import Click
from wildseg3d_ros.io.folder import Recording, write_folder
from wildseg3d_ros.io.images import read_color
from wildseg3d_testing.exact import exact_scene
from wildseg3d_testing.scenes import construct_scene

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def benchmark():
    """The module of a folder that is no installed package."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks import clicks, stability, worst_cases
    finally:
        sys.path.remove(str(ROOT))
    return clicks, stability, worst_cases


@pytest.fixture(scope="module")
def truth():
    return construct_scene()


def measured(benchmark, recording, scene):
    measurement = benchmark[1].Measurement()
    measurement.click(benchmark[0].Source("set", "scene"), recording, scene)
    return measurement


def relabelled(truth, view, label, other):
    """The recording with an object's label in one view replaced."""
    masks = [np.array(mask) for mask in truth.recording().object_masks]
    masks[view][masks[view] == label] = other
    return Recording(truth.views, tuple(masks), truth.object_names)


def test_perfect_masks_score_one_for_every_click(benchmark, truth):
    measurement = measured(benchmark, truth.recording(), exact_scene(truth))
    assert {record.kind for record in measurement.records} == {"best", "random"}
    for record in measurement.records:
        assert record.iou == record.iou_others == record.iou_at_depth == 1.0, record
        assert not record.error and record.object_ids == (record.label,)
    summary = json.loads(json.dumps(measurement.results()))["summary"]["set"]
    assert summary["best"]["miou"] == summary["random"]["miou_worst_clicks"] == 1.0
    assert summary["best"]["share_without_answer"] == summary["best"]["share_useless"] == 0.0


def test_iou_is_the_mean_over_the_views_that_show_the_object(benchmark, truth):
    clicks = benchmark[0]
    scene = exact_scene(truth)
    # In view 3 the object is said to be another one: right nowhere there, and not scored there.
    labels = sorted(set(np.unique(truth.labels[0]).tolist()) - {0})
    label, other = labels[0], labels[1]
    masks = clicks.truth_of(relabelled(truth, 3, label, other))
    seen = clicks.views_that_show(masks, label)
    assert seen and "cam_3" not in seen
    click = masks.click("cam_0", other)
    record, _ = clicks.score_click(
        clicks.Source("", ""), scene, masks, (other, "best", click), "other"
    )
    by_view = []
    for view in clicks.views_that_show(masks, other):
        answered, right = truth.labels[int(view[-1])] == other, masks.labels[view] == other
        by_view.append((answered & right).sum() / (answered | right).sum())
    assert min(by_view) < 1.0
    assert record.iou == pytest.approx(np.mean(by_view))
    assert record.iou_others == pytest.approx(np.mean(by_view[1:]))


def test_click_without_answer_and_failed_build_count_as_zero(benchmark, truth):
    clicks = benchmark[0]
    masks = clicks.truth_of(truth.recording())
    label = sorted(masks.areas("cam_0"))[0]
    row, column = np.argwhere(truth.labels[0] == 0)[0]
    background = Click("cam_0", int(column), int(row))
    for scene in (exact_scene(truth), AlignmentError("the views do not fit together")):
        record, cloud = clicks.score_click(
            clicks.Source("", ""), scene, masks, (label, "best", background), "it"
        )
        assert cloud is None and record.error
        assert record.iou == record.iou_others == 0.0


def test_random_clicks_lie_inside_the_outline(benchmark, truth):
    clicks = benchmark[0]
    masks = clicks.truth_of(truth.recording())
    chosen = clicks.choose_clicks(masks, seed=3)
    assert chosen == clicks.choose_clicks(masks, seed=3)
    assert chosen != clicks.choose_clicks(masks, seed=4)
    for label, kind, click in chosen:
        mask = masks.labels[click.view] == label
        assert mask[click.v, click.u]
        if kind == "random":
            assert mask.sum() >= clicks.MIN_CLICKED
            padded = np.argwhere(~np.pad(mask, 1)) - 1
            nearest = np.linalg.norm(padded - (click.v, click.u), axis=1).min()
            assert nearest - 0.5 >= clicks.MARGIN
    assert len({click for _, kind, click in chosen if kind == "random"}) > clicks.RANDOM_CLICKS


def test_object_that_one_view_alone_shows_is_left_out(benchmark, truth):
    clicks = benchmark[0]
    masks = [np.array(mask) for mask in truth.recording().object_masks]
    label = int(np.unique(masks[0][masks[0] > 0])[0])
    for mask in masks[1:]:
        mask[mask == label] = 0
    alone = clicks.truth_of(Recording(truth.views, tuple(masks)))
    assert clicks.views_that_show(alone, label) == ["cam_0"]
    assert label not in {chosen[0] for chosen in clicks.choose_clicks(alone, 0)}


def record(clicks, **given):
    values = {field.name: None for field in dataclasses.fields(clicks.ClickRecord)}
    values |= {"recording": "r", "draw": 0, "kind": "best", "view": "v", "u": 0, "v": 0}
    values |= {"error": "", "iou_others": 0.0, "label": 1}
    return clicks.ClickRecord(**{**values, **given})


def test_summary_of_flips_scores_and_worst_clicks(benchmark):
    clicks = benchmark[0]
    flips = [(0.9, 0.9), (0.2, 0.85)]  # IoU, ambiguity by draw
    steady = [(0.8, 0.0), (0.7, 0.9)]
    records = [
        record(clicks, label=label, draw=draw, iou=iou, ambiguity=ambiguity, score=iou)
        for label, draws in ((1, flips), (2, steady))
        for draw, (iou, ambiguity) in enumerate(draws)
    ]
    found = clicks.summarise(records)["best"]
    assert found["miou"] == pytest.approx(0.65)
    assert found["miou_worst_clicks"] == pytest.approx((0.2 + 0.7) / 2)
    assert found["miou_by_draw"] == pytest.approx([0.85, 0.45])
    assert found["miou_worst_draw"] == pytest.approx(0.45)
    assert found["share_useless"] == 0.25
    assert found["clicked_pixels_that_flip"] == 1
    assert found["share_of_flipping_marked_ambiguous"] == 1.0
    assert found["share_of_steady_marked_ambiguous"] == 0.5
    assert found["share_with_high_score"] == 0.5
    assert found["share_of_high_scores_that_are_good"] == 1.0


def test_noise_stays_within_its_bounds(benchmark, truth):
    stability = benchmark[1]
    noisy = stability.with_sensor_noise(truth.views, np.random.default_rng(0))
    for before, after in zip(truth.views, noisy, strict=True):
        change = after.image.astype(int) - before.image
        inner = (before.image > 0) & (before.image < 255)
        assert set(np.unique(change[inner])) == {-1, 0, 1}
        assert np.abs(after.depth - before.depth).max() <= 0.0005001
        assert np.allclose(after.depth * 1e3, np.rint(after.depth * 1e3), atol=1e-3)
    moved = stability.with_pose_noise(truth.views, np.random.default_rng(0))
    for before, after in zip(truth.views, moved, strict=True):
        off = np.linalg.inv(before.world_from_cam_prior) @ after.world_from_cam_prior
        assert 0 < np.linalg.norm(off[:3, 3]) < 0.006


def test_worst_cases_are_the_worst_click_of_each_object(benchmark, tmp_path):
    clicks, _, worst_cases = benchmark
    worst = worst_cases.WorstCases()
    image, mask = np.zeros((24, 32, 3), np.uint8), np.zeros((24, 32), np.bool_)
    mask[5:15, 5:20] = True
    for label in range(worst_cases.COUNT + 2):
        for iou in (0.9, 0.05 * label, 0.7):
            case = record(clicks, label=label, iou=iou, name="it", dataset="set")
            worst.offer(case, image, mask, ~mask)
    nothing = record(clicks, label=99, iou=0.0, name="it", dataset="set")
    worst.offer(nothing, image, mask, np.zeros_like(mask))  # as bad, with fewer wrong pixels
    worst.write(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["sheet.png", *(f"worst_{n:02d}.png" for n in range(1, 11))]
    expected = {*range(9), 99}
    assert {label for _, label in worst._kept} == expected
    first = read_color(tmp_path / "worst_01.png", upright=False)
    assert first.shape[1:] == (worst_cases.WIDTH, 3) and len(first) > worst_cases.WIDTH
    assert (first == worst_cases.ANSWERED).all(axis=2).any()


def test_folder_is_measured_from_the_command_line(benchmark, truth, tmp_path, monkeypatch):
    stability = benchmark[1]
    write_folder(tmp_path / "table", truth.recording())
    monkeypatch.setattr(stability, "build_scene", lambda views: exact_scene(truth))
    given = [str(tmp_path / "table"), "--json", str(tmp_path / "out" / "s.json")]
    options = stability._options([*given, "--pictures", str(tmp_path / "worst")])
    results = stability.measure(options)
    assert json.loads((tmp_path / "out" / "s.json").read_text())["clicks"]
    assert (tmp_path / "worst" / "sheet.png").is_file()
    lines = list(stability.table_lines(results["summary"]))
    assert f"| {tmp_path / 'table'} | best |" in lines[2]
