"""Objects that no cached mask is: found, lifted, checked, added; with and without a network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from wildseg3d_ros.cli import main
from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import (
    NEGATIVE,
    Box,
    Click,
    MaskCache,
    Prompt,
    ViewPrompts,
    WorldPointmaps,
)
from wildseg3d_ros.editing import add_object
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.masks import load_masks
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.masks.config import MaskConfig
from wildseg3d_ros.masks.interactive.adding import extend_cache
from wildseg3d_ros.masks.interactive.finding import find_object
from wildseg3d_ros.masks.interactive.leaves import add_leaves, set_leaves
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.pipeline import segment
from wildseg3d_ros.scene.clicks import prompts_by_view
from wildseg3d_ros.scene.file.consistency import check_scene
from wildseg3d_ros.scene.file.mask_checks import check_masks
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_testing.exact import exact_cache, exact_scene, exact_world
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import treed_cache, true_tree


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=4, width=160, height=120, objects=6, seed=4)


def without(truth, *object_ids):
    """A scene in which nobody found these objects."""
    cache = exact_cache(truth)
    labels = tuple(np.where(np.isin(m, object_ids), 0, m) for m in cache.labels)
    left = tuple(i for i in cache.object_ids if i not in object_ids)
    records = tuple(r for r in cache.objects if r.object_id not in object_ids)
    return exact_scene(truth, cache=MaskCache(labels, cache.scores, left, objects=records))


def on(truth, object_id, view=0):
    u, v = most_interior_pixel(truth.labels[view] == object_id)
    return Click(truth.views[view].name, u, v)


class Knowing:
    """Proposes the true mask below the first point that is on the object, and one that is not."""

    def __init__(self, truth, wrong_views=()):
        self.truth, self.wrong_views, self.asked = truth, wrong_views, []

    def propose(self, view, prompts):
        self.asked.append(view)
        labels = self.truth.labels[view]
        column, row = prompts.points[prompts.on][0].astype(int)
        mask = labels == labels[row, column]
        if view in self.wrong_views:
            mask = (labels > 0) & ~mask
        return np.stack([~mask, mask]).astype(np.float32), np.array([0.9, 0.8], np.float32)


def find(truth, source, object_id, view=0):
    click = on(truth, object_id, view)
    prompts = {view: ViewPrompts(np.array([[click.u, click.v]]), np.array([True]))}
    names = [v.name for v in truth.views]
    K = np.stack([v.K for v in truth.views])
    visibility = Visibility.create(K, truth.world_from_cam, exact_world(truth))
    return prompts, visibility, find_object(source, prompts, exact_world(truth), visibility, names)


class Boxed(Knowing):
    """Knows a thing's mask and takes no heed of anything else."""

    def propose(self, view, prompts):
        soft, quality = super().propose(view, prompts)
        return soft[1:], quality[1:]


@pytest.mark.parametrize("object_id", [1, 3, 5, 6])
def test_find_object_lifts_into_every_view_that_shows_it(truth, object_id):
    _, _, (masks, quality) = find(truth, Boxed(truth), object_id)
    assert sum(mask is not None for mask in masks) >= 3
    for mask, confidence, labels in zip(masks, quality, truth.labels, strict=True):
        if mask is not None:
            np.testing.assert_array_equal(mask > 0.5, labels == object_id)
            assert confidence == pytest.approx(0.8)
        else:
            assert confidence == 0
            assert (labels == object_id).sum() < 40


def test_find_object_refuses_a_proposal_that_does_not_come_back(truth):
    _, _, (masks, _) = find(truth, Boxed(truth, wrong_views=(2,)), 3)
    assert masks[2] is None
    assert masks[1] is not None


def test_find_object_does_not_ask_hidden_views():
    from wildseg3d_ros.sim.cameras import look_at
    from wildseg3d_testing.scenes import photograph
    from wildseg3d_testing.solids import Solid

    def body(kind, centre, half, label):
        pose = np.eye(4)
        pose[:3, 3] = centre
        return Solid(kind, pose, np.array(half), np.full((2, 3), 120.0), label=label)

    wall = body("box", [0.1, 0, 0.05], [0.003, 0.4, 0.2], 0)
    ball = body("ball", [0, 0, 0.03], [0.04] * 3, 1)
    poses = [
        look_at(np.array(e, float), np.array([0, 0, 0.03]))
        for e in ([-0.6, 0, 0.2], [-0.5, 0.4, 0.2], [0.7, 0, 0.1])
    ]
    truth = photograph([wall, ball], poses, 160, 120)
    source = Boxed(truth)
    prompts, visibility, (masks, _) = find(truth, source, 1)
    assert source.asked == [0, 1]
    assert masks[2] is None
    names = [v.name for v in truth.views]
    nothing = tuple(np.zeros_like(m) for m in truth.labels)
    empty = MaskCache(nothing, tuple(m.astype(np.float32) for m in nothing), ())
    cache, object_id = extend_cache(empty, source, prompts, exact_world(truth), visibility, names)
    assert cache.record(object_id).views == (0, 1)
    assert cache.record(object_id).unmasked == ()


def test_add_object_gets_a_new_id_and_the_old_scene_stays(truth, monkeypatch):
    scene = without(truth, 3)
    prompt = Prompt((on(truth, 3),))
    with pytest.raises(PromptError):
        segment(scene, prompt)
    backend = type("Backend", (), {"prompts": lambda self, images, cache: Boxed(truth)})()
    extended, cloud = add_object(scene, prompt, masks=backend)
    assert cloud.object_ids == (7,)
    assert 7 in extended.object_ids
    assert 7 not in scene.object_ids
    assert extended.scene_id == cloud.scene_id != scene.scene_id
    exact = exact_scene(truth)
    assert segment(extended, prompt).object_ids == (7,)
    np.testing.assert_array_equal(cloud.points, segment(exact, prompt).points)
    for name, labels in zip(scene.view_names, truth.labels, strict=True):
        assert (cloud.masks[name] != (labels == 3)).sum() < 40
    for object_id in scene.object_ids:
        assert extended.index.count(object_id) == scene.index.count(object_id)
    assert extended.warnings == scene.warnings


def test_segment_click_on_a_part_means_the_whole_where_the_view_lacks_it(truth):
    cache = exact_cache(truth)
    half = [(m == 5) & (np.arange(120)[:, None] < np.median(np.nonzero(m == 5)[0])) for m in
            cache.labels]  # fmt: skip
    finer = tuple(np.where(mask, 50, 0).astype(np.int32) for mask in half)
    labels = tuple(np.where(m == 5, 0, m) if v == 1 else m for v, m in enumerate(cache.labels))
    records = describe_objects([labels, finer], cache.scores)
    assert next(r for r in records if r.object_id == 50).parent == 5
    masks = MaskCache(labels, cache.scores, cache.object_ids, (finer,), records)
    scene = exact_scene(truth, cache=masks)
    u, v = most_interior_pixel(half[1])
    click = Click("cam_1", u, v)
    assert segment(scene, Prompt((click,))).object_ids == (5,)
    assert segment(scene, Prompt((click,), "part")).object_ids == (50,)
    with pytest.raises(PromptError, match="one object"):
        segment(scene, Prompt((on(truth, 5), Click("cam_1", u, v, NEGATIVE))))


def test_add_object_inside_a_whole_becomes_its_part(truth):
    scene = exact_scene(truth)
    view = 1
    rows, _ = np.nonzero(truth.labels[view] == 5)
    half = (truth.labels[view] == 5) & (np.arange(120)[:, None] < np.median(rows))

    class Half(Boxed):
        def propose(self, v, prompts):
            if v != view:
                raise PromptError("asks for nothing else")
            return half[None].astype(np.float32), np.array([0.9], np.float32)

    backend = type("Backend", (), {"prompts": lambda self, images, cache: Half(truth)})()
    v, u = np.argwhere(half)[len(np.argwhere(half)) // 2]
    click = Click("cam_1", u, v)
    extended, cloud = add_object(scene, Prompt((click,)), masks=backend)
    record = extended.masks.record(cloud.object_ids[0])
    assert (record.level, record.parent, record.views) == ("part", 5, (1,))
    np.testing.assert_array_equal(extended.masks.labels[view], truth.labels[view])
    assert segment(extended, Prompt((click,))).object_ids == (5,)
    assert segment(extended, Prompt((click,), "part")).object_ids == (record.object_id,)
    # A click on the part and one off it, both inside the whole, mean the part.
    v, u = np.argwhere((truth.labels[view] == 5) & ~half)[-1]
    both = Prompt((click, Click("cam_1", u, v, NEGATIVE)))
    assert segment(extended, both).object_ids == (record.object_id,)
    with pytest.raises(PromptError, match="one object") as error:
        segment(scene, both)
    assert error.value.code == ErrorCode.CONTRADICTING_CLICKS


def test_add_object_negative_points_and_boxes_choose(truth):
    scene = without(truth, 1, 2)
    union = [np.isin(m, (1, 2)) for m in truth.labels]
    only = [m == 1 for m in truth.labels]

    class Two(Boxed):
        def propose(self, view, prompts):
            soft = np.stack([union[view], only[view]]).astype(np.float32)
            return soft, np.array([0.9, 0.6], np.float32)

    backend = type("Backend", (), {"prompts": lambda self, images, cache: Two(truth)})()
    view = max(range(4), key=lambda v: min((truth.labels[v] == i).sum() for i in (1, 2)))
    name = truth.views[view].name
    positive, other = on(truth, 1, view), on(truth, 2, view)
    negative = Click(name, other.u, other.v, NEGATIVE)
    _, cloud = add_object(scene, Prompt((positive,)), masks=backend)
    np.testing.assert_array_equal(cloud.masks[name], union[view])
    _, cloud = add_object(scene, Prompt((positive, negative)), masks=backend)
    np.testing.assert_array_equal(cloud.masks[name], only[view])
    rows, columns = np.nonzero(only[view])
    box = Box(name, columns.min(), rows.min(), columns.max(), rows.max())
    prompts = prompts_by_view(scene, Prompt((negative,), boxes=(box,)))
    assert prompts[view].box == (box.u0, box.v0, box.u1, box.v1)
    assert prompts[view].on.tolist() == [False]
    _, cloud = add_object(scene, Prompt((negative,), boxes=(box,)), masks=backend)
    np.testing.assert_array_equal(cloud.masks[name], only[view])
    everything = tuple(on(truth, i, view) for i in (1, 2))
    nothing = Prompt((*everything, Click(name, positive.u + 1, positive.v, NEGATIVE)))
    says = rf"no mask holds all.*pixel \({positive.u + 1}, {positive.v}\), which is to be off"
    with pytest.raises(PromptError, match=says):
        add_object(scene, nothing, masks=backend)


def test_segment_box_about_a_cached_object(truth):
    scene = exact_scene(truth)
    rows, columns = np.nonzero(truth.labels[0] == 5)
    box = Box("cam_0", columns.min() - 1, rows.min() - 1, columns.max() + 1, rows.max() + 1)
    assert segment(scene, Prompt((), boxes=(box,))).object_ids == (5,)
    with pytest.raises(PromptError, match=r"no cached object fills the box.*add it"):
        segment(scene, Prompt((), boxes=(Box("cam_0", 0, 0, 159, 119),)))


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (lambda t: Prompt((Click("cam_9", 1, 1),)), "no camera 'cam_9'"),
        (lambda t: Prompt((Click("cam_0", 900, 1),)), "outside the image"),
        (
            lambda t: Prompt((), boxes=(Box("cam_0", 1, 1, 5, 5), Box("cam_0", 2, 2, 9, 9))),
            "two boxes",
        ),
    ],
)
def test_add_object_refuses_bad_prompts(truth, prompt, says):
    with pytest.raises(PromptError, match=says):
        add_object(exact_scene(truth), prompt(truth))


def test_prompts_by_view_needs_something_positive_in_each(truth):
    prompt = Prompt((on(truth, 3), Click("cam_1", 5, 5, NEGATIVE)))
    with pytest.raises(PromptError, match="'cam_1' has negative clicks only"):
        prompts_by_view(exact_scene(truth), prompt)


@pytest.mark.parametrize("ask", [segment, add_object])
def test_add_object_and_segment_end_boxes_at_the_edge(truth, ask):
    outside = r"box from \(500, 300\) to \(900, 400\) is outside.*'cam_0'.*u from 0 to 159"
    with pytest.raises(PromptError, match=outside) as error:
        ask(exact_scene(truth), Prompt((), boxes=(Box("cam_0", 500, 300, 900, 400),)))
    assert error.value.code == ErrorCode.PIXEL_OUTSIDE_IMAGE
    far = Prompt((), boxes=(Box("cam_0", -900, 20, 1e6, 60),))
    assert prompts_by_view(exact_scene(truth), far)[0].box == (0, 20, 159, 60)


def test_segment_box_far_beyond_the_edge_means_what_is_inside(truth):
    labels = tuple(m.copy() for m in truth.labels)
    labels[0][:] = 0
    labels[0][30:90, 100:160] = 5
    cache = exact_cache(dataclasses.replace(truth, labels=labels))
    scene = exact_scene(truth, cache=cache)
    box = Box("cam_0", 99, 29, 4000, 91)
    assert segment(scene, Prompt((), boxes=(box,))).object_ids == (5,)


@pytest.mark.parametrize("corners", [(5, 5, 5, 9), (1, 9, 4, 3), (0, 0, np.nan, 4)])
def test_box_refuses_bad_corners(corners):
    with pytest.raises(PromptError, match="u0 < u1"):
        Box("cam_0", *corners)


def treed(truth, *known, edge=0.03, joined=()):
    """A scene of which the tree knows all things, and the cache some."""
    made = true_tree(truth, edge, joined=joined)
    return exact_scene(truth, cache=treed_cache(truth, made, known)), made


def test_add_object_by_the_tree_gets_an_id_and_no_image_is_segmented(truth):
    scene, made = treed(truth, 1, 2)
    prompt = Prompt((on(truth, 3),))
    assert segment(scene, prompt).object_ids == ()
    extended, cloud = add_object(scene, prompt)
    assert cloud.object_ids == (3,)
    assert segment(extended, prompt).object_ids == (3,)
    for view, labels in enumerate(truth.labels):
        np.testing.assert_array_equal(cloud.masks[f"cam_{view}"], labels == 3)
        np.testing.assert_array_equal(extended.labels[view] == 3, labels == 3)
    record = extended.masks.record(3)
    assert (record.level, record.nodes, record.score) == ("whole", (made.node_of[3],), 1.0)
    assert extended.index.points is scene.index.points
    assert scene.object_ids == (1, 2)
    check_scene(extended)
    again, cloud = add_object(extended, prompt)
    assert again is extended
    assert cloud.object_ids == (3,)


def test_add_object_part_by_the_tree(truth):
    """Two nodes of an object that a click on it and one off it tell apart."""
    scene, made = treed(truth, *truth.object_ids)
    rows, columns = np.nonzero(truth.labels[0] == 5)
    last = Click("cam_0", columns[-1], rows[-1], NEGATIVE)
    extended, cloud = add_object(scene, Prompt((Click("cam_0", columns[0], rows[0]), last)))
    record = extended.masks.record(cloud.object_ids[0])
    assert (record.level, record.parent) == ("part", 5)
    assert made.tree.leaves_of(record.nodes)[made.tree.leaves[0][rows[0], columns[0]]]
    np.testing.assert_array_equal(extended.labels[0], scene.labels[0])
    check_scene(extended)


def test_add_object_takes_from_others_what_it_shares(truth):
    """A tenth of the new object was another one's, which keeps the rest."""
    scene, made = treed(truth, 1)
    tree = made.tree
    both = tree.leaves_of([made.node_of[1], made.node_of[3]])
    part = tree.leaves_of([made.node_of[3]])
    own = np.flatnonzero(tree.leaves_of([made.node_of[1]]))
    area = tree.leaf_areas
    smallest = own[np.argsort(area[own])]
    part[smallest[: max(1, int(np.sum(np.cumsum(area[smallest]) < 0.1 * area[part].sum())))]] = (
        True
    )
    cache, object_id = add_leaves(scene.masks, part)
    assert [each.level for each in cache.objects] == ["whole", "whole"]
    held = [tree.leaves_of(cache.record(i).nodes) for i in (1, object_id)]
    assert not (held[0] & held[1]).any()
    np.testing.assert_array_equal(held[0] | held[1], both)
    check_masks(cache)


def test_add_object_that_another_one_is_most_of_takes_its_place(truth):
    """An object lacked a tenth of a thing: it is no whole that the thing could be part of."""
    scene, made = treed(truth, *truth.object_ids)
    tree = made.tree
    whole = tree.leaves_of([made.node_of[3]])
    less = whole.copy()
    leaves = np.flatnonzero(whole)
    order = leaves[np.argsort(tree.leaf_areas[leaves])]
    less[order[np.cumsum(tree.leaf_areas[order]) < 0.1 * tree.leaf_areas[whole].sum()]] = False
    assert less.sum() < whole.sum()
    cache, object_id = add_leaves(set_leaves(scene.masks, 0, 3, less), whole)
    assert cache.record(object_id).level == "whole"
    assert set(cache.object_ids) == {*truth.object_ids, object_id} - {3}
    check_masks(cache)


def test_add_object_cuts_a_leaf_between_clicks(truth):
    """Objects 1 and 4, one on the other, are one patch where they meet."""
    scene, _ = treed(truth, edge=10.0, joined=[(1, 4)])
    view = 1
    top, below = on(truth, 4, view), on(truth, 1, view)
    prompt = Prompt((top, Click(below.view, below.u, below.v, NEGATIVE)))
    with pytest.raises(PromptError, match="one part") as error:
        segment(scene, prompt)
    assert error.value.code == ErrorCode.CONTRADICTING_CLICKS
    extended, cloud = add_object(scene, prompt)
    mask = cloud.masks[f"cam_{view}"]
    assert mask[int(top.v), int(top.u)]
    assert not mask[int(below.v), int(below.u)]
    both = sum((cloud.masks[f"cam_{v}"] & (m == 4)).sum() for v, m in enumerate(truth.labels))
    either = sum((cloud.masks[f"cam_{v}"] | (m == 4)).sum() for v, m in enumerate(truth.labels))
    assert both / either > 0.9
    check_scene(extended)


def test_add_object_by_label_maps_alone(truth):
    """A click off the objects has no answer, clicks on one and off it cut it, and need depth."""
    scene = without(truth, 3)
    with pytest.raises(PromptError, match="background and no object.*mask back end that takes"):
        add_object(scene, Prompt((on(truth, 3),)))
    (rows, columns), off = np.nonzero(truth.labels[0] == 5), NEGATIVE
    prompt = Prompt(
        (Click("cam_0", columns[0], rows[0]), Click("cam_0", columns[-1], rows[-1], off))
    )
    extended, cloud = add_object(scene, prompt)
    record = extended.masks.record(cloud.object_ids[0])
    assert (record.level, record.parent, record.nodes) == ("part", 5, ())
    assert extended.masks.tree is None
    check_scene(extended)
    world = exact_world(truth)
    for points, confidence in zip(world.points, world.confidence, strict=True):
        points[:] = np.nan
        confidence[:] = 0
    blind = exact_scene(truth, world=world, cache=scene.masks)
    with pytest.raises(PromptError, match="no depth") as error:
        add_object(blind, prompt)
    assert error.value.code == ErrorCode.CONTRADICTING_CLICKS


def test_add_object_sam2_uses_kept_embeddings(
    truth, small_sam2, one_thread, monkeypatch, tmp_path
):
    config = Sam2MaskConfig(
        weights=str(small_sam2), device="cpu", grid=4, predicted_iou=0.0, stability=0.3, anchors=0,
        box_overlap=0.9, max_area=0.9,
    )  # fmt: skip
    backend = load_masks(MaskConfig(backend="sam2", sam2=config))
    from wildseg3d_ros.pipeline import build_scene
    from wildseg3d_testing.oracles import OraclePointmaps

    scene = build_scene(truth.views, pointmaps=OraclePointmaps(truth), masks=backend)
    save_scene(scene, tmp_path / "scene.ws3d")
    monkeypatch.setattr(backend.network, "encode", lambda _: pytest.fail("encoded anew"))
    box = Box("cam_1", 4, 4, 150, 110)
    found = 0
    for prompt in (Prompt((), boxes=(box,)), *(Prompt((on(truth, i),)) for i in (3, 5, 6))):
        try:
            extended, cloud = add_object(
                load_scene(tmp_path / "scene.ws3d"), prompt, masks=backend
            )
        except PromptError:
            continue  # random weights need not put a point's mask at the point
        (object_id,) = cloud.object_ids
        assert object_id > max(r.object_id for r in scene.masks.objects)
        record = extended.masks.record(object_id)
        view = 1 if prompt.boxes else 0
        assert view in record.views
        assert record.masks[0].soft is not None
        assert extended.warnings == scene.warnings
        found += 1
    assert found > 0


def test_add_object_without_depth_is_left_to_the_network(truth, monkeypatch, tmp_path):
    """As shiny and transparent ones are; through the command line."""
    scene = without(truth, 2)
    click = on(truth, 2)
    rows, columns = np.ogrid[:120, :160]
    hole = (rows - click.v) ** 2 + (columns - click.u) ** 2 < 10**2
    points, confidence = scene.world.points[0].copy(), scene.world.confidence[0].copy()
    points[hole], confidence[hole] = np.nan, 0.0
    world = WorldPointmaps(
        (points, *scene.world.points[1:]), (confidence, *scene.world.confidence[1:])
    )
    scene = dataclasses.replace(scene, world=world)

    class Prompted:
        def prompts(self, images, cache):
            return Knowing(truth)

        def segment(self, views, alignment, world, progress):
            raise AssertionError("nothing is segmented anew")

    monkeypatch.setattr("wildseg3d_ros.masks.load_masks", lambda config: Prompted())
    save_scene(scene, tmp_path / "scene.ws3d")
    place = ["--view", click.view, "--pixel", str(click.u), str(click.v)]
    command = ["segment", str(tmp_path / "scene.ws3d"), *place]
    assert main(command) == 2
    more = tmp_path / "more.ws3d"
    assert main([*command, "--add", "--save", str(more)]) == 0
    found = load_scene(more)
    new = max(found.object_ids)
    mask = truth.labels[1] == 2
    assert (found.labels[1][mask] == new).mean() > 0.8
