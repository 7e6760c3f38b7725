"""Learned evidence: the network's inputs, affinities of patches by brute force, fallbacks."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View, WorldPointmaps
from wildseg3d_ros.masks import as_built
from wildseg3d_ros.masks.config import MaskConfig
from wildseg3d_ros.masks.geometric import evidence
from wildseg3d_ros.masks.geometric.config import GeometricMaskConfig
from wildseg3d_ros.masks.geometric.evidence import own_network, package_network
from wildseg3d_ros.masks.learned import network as network_module
from wildseg3d_ros.masks.learned.affinities import REACHES, Affinities
from wildseg3d_ros.masks.learned.inputs import CHANNELS, OFFSETS, REACH, network_input
from wildseg3d_ros.masks.learned.network import (
    AffinityModel,
    PixelAffinities,
    default_network,
    resized_depth,
)
from wildseg3d_ros.masks.surface.features import PAIR_FEATURES
from wildseg3d_ros.masks.surface.graph import CUES, SUMS, PairEvidence, SurfaceGraph
from wildseg3d_ros.masks.surface.merge_tree import merge_patches
from wildseg3d_ros.masks.surface.model import ScoreModel
from wildseg3d_testing.exact import alignment_of_cameras

K = np.array([[210.0, 0, 90], [0, 230.0, 70], [0, 0, 1]])


def plane_depth(normal, distance, shape=(150, 200)):
    """Depth along the optical axis of n . x = distance."""
    rays = back_project(np.ones(shape, np.float32), K)
    return (distance / (rays @ np.asarray(normal))).astype(np.float32)


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.3, -0.2, -0.93), (-0.5, -0.6, -0.62)])
def test_network_input_normals_of_a_plane(normal):
    normal = np.array(normal) / np.linalg.norm(normal)
    depth = plane_depth(normal, -0.8)
    data = network_input(np.full((150, 200, 3), 50, np.float32), depth, K)
    assert data.shape == (len(CHANNELS), 160, 224)
    inner = data[4:7, 4:146, 4:196]
    np.testing.assert_allclose(
        inner, np.broadcast_to(normal[:, None, None], inner.shape), atol=2e-3
    )
    assert (data[:, 150:] == 0).all() and (data[:, :, 200:] == 0).all()


def test_network_input_does_not_depend_on_the_unit_of_depth():
    rng = np.random.default_rng(0)
    depth = plane_depth((0.1, -0.5, -0.8), -0.8) + rng.normal(0, 0.002, (150, 200))
    depth[rng.random(depth.shape) < 0.1] = 0
    lab = rng.uniform(0, 100, (150, 200, 3)).astype(np.float32)
    one, other = (network_input(lab, (depth * s).astype(np.float32), K) for s in (1.0, 3.7))
    np.testing.assert_allclose(one, other, atol=2e-4)


def test_network_input_without_depth_has_colour_alone():
    data = network_input(np.full((64, 96, 3), 75, np.float32), np.zeros((64, 96), np.float32), K)
    assert (data[0] == 0.5).all()
    assert (data[3:] == 0).all()


@pytest.mark.parametrize("shape", [(48, 64), (50, 30), (61, 83)])
def test_resized_depth_of_sparse_depth_is_of_the_pixels_it_stands_for(shape):
    rng = np.random.default_rng(2)
    depth = rng.uniform(0.5, 2.0, shape).astype(np.float32)
    depth[rng.random(shape) < 0.75] = 0
    depth[:, :9] = depth[-9:] = 0  # nothing at borders, either
    size = (shape[0] // 2, shape[1] // 2)
    small = resized_depth(depth, size)
    assert small.shape == size
    for row, column in itertools.product(*map(range, size)):
        about = depth[max(2 * row - 2, 0) : 2 * row + 4, max(2 * column - 2, 0) : 2 * column + 4]
        assert small[row, column] in (*about[about > 0].tolist(), 0.0)
        block = depth[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert small[row, column] > 0 or not block.any()
    assert (small[:, :3] == 0).all()
    assert (small > 0).mean() > 1.5 * (depth > 0).mean()


def random_affinities(rng, shape):
    """Random outputs for a view, at every other of its pixels."""
    out = rng.normal(size=(len(OFFSETS) + 1, *shape)).astype(np.float32)
    return PixelAffinities(out[:-1], out[-1], (2.0, 2.0)), out


def test_affinities_against_brute_force():
    rng = np.random.default_rng(1)
    count, shape = 9, (14, 20)
    views, pairs, sums, pixels = [], {}, {}, {}
    on_object, seen_pixels = np.zeros(count), np.zeros(count)
    for _ in range(2):
        said, out = random_affinities(rng, shape)
        patches = rng.integers(-1, count, (28, 40)).astype(np.int32)
        views.append((said, patches))
        small = patches[::2, ::2]
        for r, c in itertools.product(*map(range, shape)):
            if small[r, c] >= 0:
                on_object[small[r, c]] += out[-1, r, c]
                seen_pixels[small[r, c]] += 1
            for k, (dr, dc) in enumerate(OFFSETS):
                if not (r + dr < shape[0] and 0 <= c + dc < shape[1]):
                    continue
                a, b = sorted((small[r, c], small[r + dr, c + dc]))
                if a >= 0 and a != b:
                    key = (a, b, REACH[k])
                    pairs[a, b] = True
                    sums[key] = sums.get(key, 0.0) + out[k, r, c]
                    pixels[key] = pixels.get(key, 0) + 1
    found = Affinities.of_views(views, count)
    assert sorted(pairs) == [tuple(pair) for pair in found.pairs.tolist()]
    for (a, b), log_odds, number in zip(
        found.pairs.tolist(), found.log_odds, found.pixels, strict=True
    ):
        for reach in range(REACHES):
            assert log_odds[reach] == pytest.approx(sums.get((a, b, reach), 0.0), abs=1e-4)
            assert number[reach] == pixels.get((a, b, reach), 0)
    np.testing.assert_allclose(found.on_object, on_object / seen_pixels, atol=1e-5)


def affinities_of(pairs, log_odds, count):
    n = len(pairs)
    return Affinities(
        np.array(pairs, np.int64),
        np.full((n, REACHES), log_odds, np.float64),
        np.ones((n, REACHES)),
        np.arange(count, dtype=np.float64),
    )


def test_graph_with_affinities_keeps_what_it_had(chain):
    graph = chain.with_affinities(affinities_of([(0, 1), (0, 3)], 2.0, 4))
    assert [tuple(pair) for pair in graph.pairs.tolist()] == [(0, 1), (0, 3), (1, 2), (2, 3)]
    contact, affinity = (graph.cues[:, CUES.index(name)] for name in ("contact", "affinity_2"))
    assert contact.tolist() == [5, 0, 5, 5]
    assert affinity.tolist() == [2, 2, 0, 0]
    mean = graph.sums[:, SUMS.index("on_object")] / graph.sums[:, SUMS.index("voxels")]
    np.testing.assert_allclose(mean, [0, 1, 2, 3])


def test_merge_patches_affinities_far_apart_count_once_their_clusters_touch(chain):
    """Patches 0 and 3 belong together by pixels far apart; they merge no sooner than they touch,
    and the merge that joins them then sees it."""
    graph = chain.with_affinities(affinities_of([(0, 3)], 4.0, 4))
    seen = []

    def score(features):
        seen.append(features.copy())
        return np.zeros(len(features))

    tree = merge_patches(graph, score)
    assert len(tree.children) == 3
    assert [0, 3] not in np.sort(tree.children, axis=1).tolist()
    assert (tree.parent < 0).sum() == 1
    known = PAIR_FEATURES.index("affinity_known")
    assert seen[0][:, known].tolist() == [0, 0, 0]
    assert seen[-1][:, known].tolist() == [1]


def test_merge_tree_affinities_inside_and_across_each_node():
    rng = np.random.default_rng(5)
    count = 14
    pairs = sorted({tuple(sorted(rng.choice(count, 2, replace=False))) for _ in range(50)})
    touching = sorted(set(pairs) | {(k, k + 1) for k in range(count - 1)})
    affinities = Affinities(
        np.array(pairs),
        rng.normal(size=(len(pairs), REACHES)),
        rng.integers(1, 9, (len(pairs), REACHES)).astype(np.float64),
        np.zeros(count),
    )
    graph = row_of_patches(count, touching).with_affinities(affinities)
    tree = merge_patches(graph, lambda features: rng.normal(size=len(features)) - 3.0)
    held = [frozenset([k]) for k in range(count)]
    for one, other in tree.children.tolist():
        held.append(held[one] | held[other])
    said = np.concatenate([affinities.log_odds, affinities.pixels], axis=1)
    for node, patches in enumerate(held):
        ends = np.array([[a in patches, b in patches] for a, b in pairs])
        np.testing.assert_allclose(
            tree.inside[node], said[ends.all(axis=1)].sum(axis=0), atol=1e-9
        )
        across = ends.any(axis=1) & ~ends.all(axis=1)
        np.testing.assert_allclose(tree.outside[node], said[across].sum(axis=0), atol=1e-9)


@pytest.fixture
def chain():
    return row_of_patches(4, [(0, 1), (1, 2), (2, 3)])


def row_of_patches(count, pairs):
    """Patches of 10 voxels in a row, of which pairs touch."""
    x = 0.02 * np.arange(count)
    sums = np.zeros((count, len(SUMS)))
    sums[:, SUMS.index("voxels")] = 10
    sums[:, SUMS.index("x")], sums[:, SUMS.index("xx")] = 10 * x, 10 * x**2 + 1e-4
    sums[:, [SUMS.index("yy"), SUMS.index("zz")]] = 1e-4
    cues = np.zeros((len(pairs), len(CUES)))
    cues[:, CUES.index("contact")] = 5
    low = np.stack([x, *np.zeros((3, count))], axis=1)
    return SurfaceGraph(sums, low, low + 0.02, np.array(pairs), cues, 1.0, 0.004)


class Warned(Progress):
    def __init__(self):
        super().__init__()
        self.texts = []

    def warn(self, text):
        self.texts.append(text)


def test_package_network_is_the_one_that_the_scores_were_fitted_with():
    progress = Warned()
    assert package_network(progress) is default_network()
    assert progress.texts == []
    assert own_network("default") is own_network("none") is None


@pytest.mark.parametrize("fault", ["missing", "another", "no scores"])
def test_package_network_without_the_right_files_geometry_answers_and_says_so(
    fault, tmp_path, monkeypatch
):
    path = tmp_path / "affinities.onnx"
    if fault == "another":
        path.write_bytes(default_path().read_bytes() + b"\x92\x01\x00")
    if fault == "no scores":
        monkeypatch.setattr(
            evidence, "default_model", lambda affinities: ScoreModel.load(str(tmp_path / "none"))
        )
    else:
        monkeypatch.setattr(evidence, "default_network", lambda: AffinityModel(path))
    progress = Warned()
    assert package_network(progress) is None
    assert "less reliable" in progress.texts[0]
    assert "wildseg3d train-masks" in progress.texts[0]


@pytest.mark.parametrize("content", [None, b"", b"no network"])
def test_geometric_masks_say_at_once_that_the_weights_are_no_network(content, tmp_path):
    path = tmp_path / "mine.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match="mine.onnx"):
        GeometricMaskConfig(weights=str(path)).load()


@pytest.mark.parametrize("fault", ["inputs", "outputs", "step", "NaN"])
def test_affinity_model_refuses_another_network(fault, tmp_path):
    onnx = pytest.importorskip("onnx")
    inputs = 3 if fault == "inputs" else len(CHANNELS)
    outputs = 5 if fault == "outputs" else len(OFFSETS) + 1
    step = 1 if fault == "step" else 2
    weight = np.full((outputs, inputs, 2, 2), np.nan if fault == "NaN" else 0.1, np.float32)
    sizes = {"strides": [step, step], "kernel_shape": [2, 2]}
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["y"], **sizes)]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, inputs, "h", "w"]), ("y", [1, outputs, "r", "c"]))
    ]
    constants = [onnx.numpy_helper.from_array(weight, "w")]
    graph = onnx.helper.make_graph(nodes, "other", values[:1], values[1:], constants)
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "o.onnx"
    )
    with pytest.raises(FileError, match="is no affinity network: for a view"):
        AffinityModel(tmp_path / "o.onnx")


def test_score_model_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "scores.npz").write_bytes(b"bad")
    for name in ("scores.npz", "absent.npz"):
        with pytest.raises(FileError, match=name):
            ScoreModel.load(str(tmp_path / name))


@pytest.mark.parametrize(
    ("pairs", "log_odds", "weight"),
    [
        ([(0, 1)], [np.nan], [1.0]),
        ([(0, 1)], [1.0], [-1.0]),
        ([(2, 2)], [1.0], [1.0]),
        ([(-1, 2)], [1.0], [1.0]),
        ([(0, 9)], [1.0], [1.0]),
        ([(0, 1)], [1.0, 2.0], [1.0]),
    ],
)
def test_evidence_that_makes_no_sense_is_refused(chain, pairs, log_odds, weight):
    with pytest.raises(ValueError, match=r"evidence|log_odds"):
        chain.with_evidence([PairEvidence(*map(np.array, (pairs, log_odds, weight)))])


@pytest.mark.filterwarnings("ignore:invalid value")
def test_merge_patches_ends_when_log_odds_are_no_numbers(chain):
    with pytest.raises(ValueError, match="finite"):
        merge_patches(chain, lambda features: np.full(len(features), np.nan))


def test_scene_keeps_which_network_its_masks_were_made_with(tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_bytes(default_path().read_bytes())
    for weights, kept in (("default", "default"), ("none", "none"), (str(path), str(path))):
        config = MaskConfig(geometric=GeometricMaskConfig(weights=weights))
        cache = config.load().segment(*nothing_seen(), Progress())
        assert as_built(MaskConfig(), cache).geometric.weights == kept


def nothing_seen():
    """A view without a point, its camera and its world."""
    view = View("cam_0", np.zeros((48, 64, 3), np.uint8), K)
    world = WorldPointmaps(
        (np.full((48, 64, 3), np.nan, np.float32),), (np.zeros((48, 64), np.float32),)
    )
    return [view], alignment_of_cameras([K], [np.eye(4)]), world


def default_path():
    return Path(network_module.__file__).with_name(network_module.NETWORK_FILE)
