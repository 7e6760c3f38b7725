"""What every mask back end promises, in one body: geometric, SAM 2 (small, random), the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import Cancelled, InputError, PromptError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import LEVELS, Click, Prompt
from wildseg3d_ros.masks import load_masks
from wildseg3d_ros.masks.config import MaskConfig
from wildseg3d_ros.masks.geometric.backend import GeometricMasks
from wildseg3d_ros.masks.geometric.config import GeometricMaskConfig
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.pipeline import build_scene, segment, update_scene
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_testing.exact import exact_alignment, exact_world
from wildseg3d_testing.oracles import OracleMasks, OraclePointmaps
from wildseg3d_testing.scenes import construct_scene


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, width=160, height=120, objects=5)


@pytest.fixture(scope="module", params=["geometric", "sam2", "oracle"])
def backend(request, truth):
    if request.param == "oracle":
        return OracleMasks(truth)
    if request.param == "geometric":
        return load_masks(MaskConfig(geometric=GeometricMaskConfig()))
    request.getfixturevalue("one_thread")
    folder = request.getfixturevalue("small_sam2")
    config = Sam2MaskConfig(
        weights=str(folder), device="cpu", grid=6, predicted_iou=0.0, stability=0.3, anchors=1,
        box_overlap=1.0, max_area=0.9,
    )  # fmt: skip
    return load_masks(MaskConfig(backend="sam2", sam2=config))


@pytest.fixture(scope="module")
def cache(backend, truth):
    return run(backend, truth)


def run(backend, truth, progress=None):
    return backend.segment(
        truth.views, exact_alignment(truth), exact_world(truth), progress or Progress()
    )


def test_maps_and_scores_have_the_views_sizes_and_the_right_types(cache, truth):
    for level in cache.maps:
        assert [m.shape for m in level] == [view.size for view in truth.views]
        assert all(m.dtype == np.int32 and m.min() >= 0 for m in level)
    assert [s.shape for s in cache.scores] == [view.size for view in truth.views]
    for scores in cache.scores:
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        assert scores.min() >= 0
        assert scores.max() <= 1


def test_ids_are_those_in_the_maps_and_unique_over_levels(cache):
    by_level = [
        set(np.unique(np.concatenate([m.ravel() for m in level]))) - {0} for level in cache.maps
    ]
    assert sorted(by_level[0]) == list(cache.object_ids)
    assert sum(map(len, by_level)) == len(set().union(*by_level))
    assert by_level[0]


def test_records_describe_the_maps(cache):
    ids = {int(i) for level in cache.maps for m in level for i in np.unique(m)} - {0}
    assert [record.object_id for record in cache.objects] == sorted(ids)
    for record in cache.objects:
        maps = cache.maps[LEVELS.index(record.level)]
        shown = [v for v, m in enumerate(maps) if (m == record.object_id).any()]
        assert list(record.views) == shown
        for mask in record.masks:
            row, column = np.nonzero(maps[mask.view] == record.object_id)
            assert mask.area == len(row)
            assert mask.box == (column.min(), row.min(), column.max(), row.max())
            assert 0 <= mask.score <= 1
        assert not set(record.views) & set(record.unmasked)
        if record.parent:
            assert (
                LEVELS.index(cache.record(record.parent).level) == LEVELS.index(record.level) - 1
            )
    with pytest.raises(KeyError):
        cache.record(2**30)


def test_soft_scores_are_high_inside_and_lower_outside(cache):
    for scores, labels in zip(cache.scores, cache.labels, strict=True):
        if labels.any() and not labels.all():
            assert scores[labels > 0].mean() > scores[labels == 0].mean()
            assert (scores[labels > 0] >= 0.25).mean() > 0.9


def test_cancelling_stops_it_and_the_next_run_is_whole(backend, cache, truth):
    with pytest.raises(Cancelled):
        run(backend, truth, Progress(cancelled=lambda: True))
    again = run(backend, truth)
    for level, other in zip(again.maps, cache.maps, strict=True):
        for one, two in zip(level, other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_progress_never_falls_and_ends_at_one(backend, truth):
    fractions = []
    run(backend, truth, Progress(lambda _, fraction: fractions.append(fraction)))
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_a_scene_is_built_saved_and_answers_on_every_level(backend, truth, tmp_path):
    scene = build_scene(
        truth.views, SceneConfig(), pointmaps=OraclePointmaps(truth), masks=backend
    )
    save_scene(scene, tmp_path / "scene.ws3d")
    again = load_scene(tmp_path / "scene.ws3d")
    assert [r.object_id for r in again.masks.objects] == [r.object_id for r in scene.masks.objects]
    record = next(
        r for r in scene.masks.objects if r.level == "whole" and scene.index.count(r.object_id)
    )
    v, u = np.argwhere(scene.labels[record.views[0]] == record.object_id)[0]
    click = Click(scene.view_names[record.views[0]], u, v)
    whole = segment(scene, Prompt((click,)))
    assert whole.object_ids == (record.object_id,)
    np.testing.assert_array_equal(whole.points, segment(again, Prompt((click,))).points)
    for level in LEVELS:
        found = segment(again, Prompt((click,), level)).object_ids[0]
        # The level asked for, or the next coarser one that has something there.
        assert LEVELS.index(again.masks.record(found).level) <= LEVELS.index(level)


def test_one_image_is_replaced_and_the_other_views_keep_masks_and_ids(backend, truth):
    scene = build_scene(truth.views, pointmaps=OraclePointmaps(truth), masks=backend)
    updated = update_scene(
        scene, truth.views, "cam_1", pointmaps=OraclePointmaps(truth), masks=backend
    )
    for level, before in zip(updated.masks.maps, scene.masks.maps, strict=True):
        for v in (0, 2):
            np.testing.assert_array_equal(level[v], before[v])
    for record in scene.masks.objects:
        if set(record.views) - {1}:
            known = [
                ([m for m in r.masks if m.view != 1], set(r.unmasked) - {1})
                for r in (record, updated.masks.record(record.object_id))
            ]
            assert repr(known[0]) == repr(known[1])
    assert updated.scene_id != scene.scene_id
    assert [r.object_id for r in updated.masks.objects] == sorted(
        {int(i) for level in updated.masks.maps for m in level for i in np.unique(m)} - {0}
    )
    # The same image again: what other views know of an object tells its mask.
    for record in scene.masks.objects:
        if record.level == "whole" and len(record.views) == 3:
            mask = scene.labels[1] == record.object_id
            ids, counts = np.unique(updated.labels[1][mask], return_counts=True)
            if not isinstance(backend, (OracleMasks, GeometricMasks)):
                continue  # masks of random weights need not fit each other
            assert ids[counts.argmax()] == record.object_id
    with pytest.raises(PromptError, match="no camera 'cam_7'"):
        update_scene(scene, truth.views, "cam_7", masks=backend)
    with pytest.raises(InputError, match="build it anew"):
        update_scene(scene, truth.views[:2], "cam_1", masks=backend)
