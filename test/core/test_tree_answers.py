"""What is answered by the tree of masks: nodes, alternatives, levels, boxes, many clicks."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import (
    NEGATIVE,
    POSITIVE,
    Box,
    Click,
    MaskTree,
    Point,
    Prompt,
    ViewMask,
)
from wildseg3d_ros.core.types.tree import MIN_SCORE, in_runs
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_ros.scene.index import group_of_leaf
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_testing.exact import exact_scene
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import treed_cache, true_tree

KNOWN = (1, 3)
"""Objects that are cached; the others are in the tree alone."""


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=4, width=160, height=120, objects=6, seed=4)


@pytest.fixture(scope="module")
def made(truth):
    return true_tree(truth)


@pytest.fixture(scope="module")
def scene(truth, made):
    return exact_scene(truth, cache=treed_cache(truth, made, KNOWN))


def on(truth, label, view=0, sign=POSITIVE):
    u, v = most_interior_pixel(truth.labels[view] == label)
    return Click(f"cam_{view}", u, v, sign)


def background(truth):
    """A pixel of the table far from all things."""
    for v, u in np.argwhere(np.abs(truth.points[0][..., 2]) < 1e-3):
        if not truth.labels[0][max(v - 9, 0) : v + 10, max(u - 9, 0) : u + 10].any():
            return Click("cam_0", int(u), int(v))
    raise AssertionError


def is_label(cloud, truth, *labels):
    """Whether the masks are those of the things in all views."""
    return all(
        np.array_equal(cloud.masks[f"cam_{view}"], np.isin(m, labels))
        for view, m in enumerate(truth.labels)
    )


def test_index_every_node_is_a_slice_of_its_pixels(truth, made, scene):
    index, tree = scene.index, made.tree
    leaf = np.array([
        tree.leaves[view].ravel()[pixel]
        for view, pixel in zip(index.view, index.pixel, strict=True)
    ])  # fmt: skip
    assert (np.diff(leaf) >= 0).all()
    np.testing.assert_array_equal(
        np.bincount(leaf, minlength=tree.leaf_count), np.diff(index.leaf_offsets)
    )
    with_leaf = sum(np.count_nonzero(m >= 0) for m in tree.leaves)
    assert 0.85 * with_leaf < len(index) <= with_leaf
    for label, node in made.node_of.items():
        (rows,) = index.slices(tree.runs([node]))
        if label:
            assert truth.distance_to_object(label, index.points[rows]).max() < 1e-4
    assert index.count(3) == np.count_nonzero(
        np.isin(leaf, range(tree.start[made.node_of[3]], tree.stop[made.node_of[3]]))
    )


def test_index_filters_by_whole_object_and_topmost_free_node(truth, made, scene):
    group = group_of_leaf(scene.object_tree)
    for number, object_id in enumerate(KNOWN):
        held = made.tree.leaves_of([made.node_of[object_id]])
        assert (group[held] == number).all()
        assert (group[~held] != number).all()
    for name in range(len(KNOWN), int(group.max()) + 1):
        (node,) = made.tree.cover(group == name)
        above = made.tree.leaves_of([int(made.tree.parent[node])])
        assert np.isin(group[above], range(len(KNOWN))).any()


def test_answer_on_an_object_is_the_object(truth, made, scene):
    for label in KNOWN:
        cloud = answer(scene, Prompt((on(truth, label),)))
        assert cloud.object_ids == (label,)
        assert cloud.nodes == (made.node_of[label],)
        assert is_label(cloud, truth, label)
        assert cloud.score == 1.0


def test_answer_on_no_object_is_the_best_node(truth, made, scene):
    for label in sorted(set(made.node_of) - {0, *KNOWN}):
        for view in range(4):
            if np.count_nonzero(truth.labels[view] == label) < 50:
                continue
            cloud = answer(scene, Prompt((on(truth, label, view),)))
            assert cloud.object_ids == ()
            assert cloud.nodes == (made.node_of[label],)
            assert is_label(cloud, truth, label)
            assert truth.distance_to_object(label, cloud.points).max() < 1e-4
            assert cloud.score == 1.0


def test_answer_background_is_still_no_object(truth, scene):
    with pytest.raises(PromptError, match="background and no object within 6 px.*--add") as error:
        answer(scene, Prompt((background(truth),)))
    assert error.value.code == ErrorCode.NO_OBJECT_AT_PIXEL


def test_answer_beside_a_thing_is_the_nearest_good_pixel(truth, made, scene):
    """From background or from a pixel without a leaf."""
    row, column = np.argwhere(truth.labels[0] == 5)[0]
    beside = Click("cam_0", int(column), int(row) - 3)
    assert truth.labels[0][row - 3, column] == 0
    assert answer(scene, Prompt((beside,))).nodes == (made.node_of[5],)
    leaves = made.tree.leaves[0].copy()
    leaves[row - 4 : row - 1] = -1
    bare = dataclasses.replace(made.tree, leaves=(leaves, *made.tree.leaves[1:]))
    cache = dataclasses.replace(treed_cache(truth, made, ()), tree=bare)
    assert answer(exact_scene(truth, cache=cache), Prompt((beside,))).nodes == (made.node_of[5],)


def test_answer_alternatives_are_the_best_larger_and_smaller_nodes(truth, made, scene):
    """By brute force over the path."""
    tree, index = made.tree, scene.index
    for label in (1, 5):
        click = on(truth, label)
        cloud = answer(scene, Prompt((click,)))
        leaf = tree.leaves[0][int(click.v), int(click.u)]
        counts = {k: len(index.points[index.slices(tree.runs([k]))[0]]) for k in tree.path(leaf)}
        for larger in (True, False):
            sized = [
                k
                for k, n in counts.items()
                if (n > 1.25 * len(cloud) if larger else n < 0.8 * len(cloud))
                and tree.score[k] >= MIN_SCORE
            ]
            found = [each for each in cloud.alternatives if each.larger == larger]
            assert len(found) == bool(sized)
            for each in found:
                assert each.score == max(tree.score[k] for k in sized)
                assert each.count == counts[each.nodes[0]] == len(each.cloud)
                assert each.cloud.nodes == each.nodes
        best = max(each.score for each in cloud.alternatives)
        assert cloud.ambiguity == pytest.approx(min(1.0, best / cloud.score))
        assert cloud.close == (cloud.ambiguity > 0.8)


def test_answer_record_says_score_and_ambiguity(truth, made):
    cache = treed_cache(truth, made)
    records = tuple(
        dataclasses.replace(each, score=0.6, ambiguity=0.9) if each.object_id == 3 else each
        for each in cache.objects
    )
    scene = exact_scene(truth, cache=dataclasses.replace(cache, objects=records))
    for prompt in (Prompt((on(truth, 3),)), Prompt(object_ids=(3,))):
        cloud = answer(scene, prompt)
        assert (cloud.score, cloud.ambiguity, cloud.close) == (0.6, 0.9, True)
    assert answer(scene, Prompt(object_ids=(3,))).alternatives == ()
    assert math.isnan(answer(scene, Prompt(object_ids=(3, 1))).ambiguity)


def test_answer_several_clicks_on_no_object(truth, made, scene):
    """On one thing they are that thing, on two things both; negative ones leave a part."""
    both = Prompt((on(truth, 5, 0), on(truth, 5, 1)))
    assert answer(scene, both).nodes == (made.node_of[5],)
    cloud = answer(scene, Prompt((on(truth, 5), on(truth, 6))))
    assert is_label(cloud, truth, 5, 6)
    assert cloud.alternatives == ()
    cloud = answer(scene, Prompt((on(truth, 5), on(truth, 1))))
    assert cloud.object_ids == (1,)
    assert is_label(cloud, truth, 5, 1)
    cloud = answer(scene, Prompt((on(truth, 1), on(truth, 3))))
    assert cloud.object_ids == (1, 3)


def test_answer_negative_click_leaves_the_best_part_without_it(truth, made, scene):
    """By brute force; on an object and on none."""
    tree = made.tree
    for label in (1, 5):
        rows, columns = np.nonzero(truth.labels[0] == label)
        clicks = Click("cam_0", columns[0], rows[0]), Click("cam_0", columns[-1], rows[-1], 0)
        leaf, off = (tree.leaves[0][c.v, c.u] for c in clicks)
        assert leaf != off
        cloud = answer(scene, Prompt(clicks))
        fits = [k for k in tree.path(leaf) if not tree.start[k] <= off < tree.stop[k]]
        assert cloud.score == max(tree.score[fits])
        (node,) = cloud.nodes
        assert node in fits
        for each in cloud.alternatives:
            assert each.nodes[0] in fits


def test_answer_both_signs_on_one_leaf_contradict_each_other(truth, scene):
    click = on(truth, 5)
    off = dataclasses.replace(click, label=NEGATIVE)
    with pytest.raises(PromptError, match="holds both as one part.*leave one of the two") as error:
        answer(scene, Prompt((click, off)))
    assert error.value.code == ErrorCode.CONTRADICTING_CLICKS


@pytest.mark.parametrize("label", [1, 5])
def test_answer_box_mask_and_point(truth, made, scene, label):
    mask = truth.labels[0] == label
    rows, columns = np.nonzero(mask)
    box = Box("cam_0", columns.min(), rows.min(), columns.max(), rows.max())
    u, v = most_interior_pixel(mask)
    point = Point(*map(float, truth.points[0][v, u]))
    ids = (label,) if label in KNOWN else ()
    for prompt in (
        Prompt(boxes=(box,)), Prompt(masks=(ViewMask("cam_0", mask),)), Prompt(points=(point,))
    ):  # fmt: skip
        cloud = answer(scene, prompt)
        assert (cloud.nodes, cloud.object_ids) == ((made.node_of[label],), ids)


def test_answer_mask_of_two_things_is_their_nodes(truth, made, scene):
    mask = np.isin(truth.labels[0], (5, 6))
    cloud = answer(scene, Prompt(masks=(ViewMask("cam_0", mask),)))
    assert np.count_nonzero(cloud.masks["cam_0"] != mask) < 0.1 * np.count_nonzero(mask)
    with pytest.raises(PromptError, match="no cached object has a mask like"):
        answer(scene, Prompt(masks=(ViewMask("cam_0", np.eye(120, 160, dtype=bool)),)))


def halved(truth, made, label):
    """The tree in which the two halves of a thing are good nodes, and each half's are good too."""
    tree, score = made.tree, made.tree.score.copy()
    halves = tree.children(made.node_of[label])
    inside = np.flatnonzero(tree.leaves_of([made.node_of[label]])[tree.start])
    score[inside] = 0.1
    score[made.node_of[label]] = 0.9
    score[halves] = 0.7
    quarters = tree.children(int(halves[0]))
    score[quarters] = 0.6
    columns = {name: getattr(tree, name) for name in ("leaves", "start", "stop", "parent")}
    return made._replace(tree=MaskTree(**columns, score=score)), halves, quarters


@pytest.mark.parametrize("label", [1, 5])
def test_answer_levels_are_the_best_parts_of_the_tree(truth, made, label):
    with_halves, halves, quarters = halved(truth, made, label)
    tree = with_halves.tree
    scene = exact_scene(truth, cache=treed_cache(truth, with_halves, KNOWN))
    runs = tree.runs([int(quarters[0])])
    view = max(range(4), key=lambda v: in_runs(tree.leaves[v], runs).sum())
    rows, columns = np.nonzero(in_runs(tree.leaves[view], runs))
    click = Click(f"cam_{view}", columns[0], rows[0])
    found = [
        answer(scene, Prompt((click,), level)).nodes for level in ("whole", "part", "sub_part")
    ]
    assert found == [(with_halves.node_of[label],), (int(halves[0]),), (int(quarters[0]),)]


def test_scene_with_a_tree_in_a_file(truth, made, scene, tmp_path):
    save_scene(scene, tmp_path / "scene.ws3d")
    again = load_scene(tmp_path / "scene.ws3d")
    assert again.masks.tree is again.object_tree.tree
    for name in ("start", "stop", "parent", "score"):
        np.testing.assert_array_equal(getattr(again.masks.tree, name), getattr(made.tree, name))
    for prompt in (Prompt((on(truth, 1),)), Prompt((on(truth, 5),))):
        one, other = answer(scene, prompt), answer(again, prompt)
        np.testing.assert_allclose(one.points, other.points, atol=1e-5)  # as exact as files are
        assert (one.nodes, one.score, one.ambiguity) == (other.nodes, other.score, other.ambiguity)
