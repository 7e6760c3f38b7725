"""Training of the affinity network: samples, targets, resuming, export, figures, the command."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import shlex
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from wildseg3d_ros import cli
from wildseg3d_ros.core.errors import FileError, InputError
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.masks.learned.inputs import CHANNELS, OFFSETS, network_input
from wildseg3d_ros.masks.learned.network import LIMIT, AffinityModel

torch = pytest.importorskip("torch", reason="EXTRA ABSENT: train")
pytest.importorskip("onnx", reason="EXTRA ABSENT: train")
trimesh = pytest.importorskip("trimesh", reason="EXTRA ABSENT: train")
if find_spec("mujoco") is None:  # it is imported later, when it has been told how to render
    pytest.skip("EXTRA ABSENT: train", allow_module_level=True)

from wildseg3d_ros.sim.cad_shapes import CadShapes, read_cad_shapes  # noqa: E402
from wildseg3d_ros.sim.random_scene import RandomSceneSpec, record_random_scene  # noqa: E402
from wildseg3d_ros.sim.random_shapes import SHAPES, random_shape  # noqa: E402
from wildseg3d_ros.training import command, frames, samples, train  # noqa: E402
from wildseg3d_ros.training.evaluation import CONDITIONS, DECILES, OUTPUTS, Tally  # noqa: E402
from wildseg3d_ros.training.export import check_export, export, rounded  # noqa: E402
from wildseg3d_ros.training.frames import Frame, frame_paths, record_frames  # noqa: E402
from wildseg3d_ros.training.loss import (  # noqa: E402
    affinity_targets,
    balanced_loss,
    network_loss,
)
from wildseg3d_ros.training.network import AffinityNetwork  # noqa: E402
from wildseg3d_ros.training.report import Curve  # noqa: E402
from wildseg3d_ros.training.samples import UNKNOWN, Samples, Variation, sample  # noqa: E402
from wildseg3d_ros.training.train import Schedule  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

K = np.array([[70.0, 0, 40], [0, 76.0, 33], [0, 0, 1]])
STILL = Variation(0, 0, 0, turned=0, scale=1, light=0, patchy=0)
NORMAL = np.array([0.3, -0.45, -0.84]) / np.linalg.norm([0.3, -0.45, -0.84])
DISTANCE = -0.8


@pytest.fixture
def tiny(monkeypatch):
    """Small inputs and a small network."""
    monkeypatch.setattr(samples, "HEIGHT", 64)
    monkeypatch.setattr(samples, "WIDTH", 96)
    narrow = functools.partial(AffinityNetwork, (4, 6, 8))
    monkeypatch.setattr(train, "AffinityNetwork", narrow)


def plane_frame(height=64, width=80):
    """A tilted plane; the image has row and column of each pixel."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)
    rays = back_project(np.ones((height, width), np.float32), K)
    depth = (DISTANCE / (rays @ NORMAL)).astype(np.float32)
    return Frame(image, depth, K, (rows // 16 + columns // 16).astype(np.uint8))


def random_frame(seed, height=64, width=96):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    depth = rng.uniform(0.5, 1.5, (height, width)).astype(np.float32)
    labels = np.kron(rng.integers(0, 4, (4, 6)), np.ones((16, 16))).astype(np.uint8)
    return Frame(image, depth, K, labels)


@pytest.fixture
def paths(tmp_path):
    """Five small frames."""
    out = [tmp_path / f"{k}.npz" for k in range(5)]
    for k, path in enumerate(out):
        random_frame(k).save(path)
    return out


# ---- frames and samples ----------------------------------------------------------------------


def test_frame_save_and_load(tmp_path):
    frame = random_frame(3)
    frame.save(tmp_path / "a.npz")
    read = Frame.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(read.image, frame.image)
    np.testing.assert_array_equal(read.labels, frame.labels)
    np.testing.assert_array_equal(read.K, frame.K)
    np.testing.assert_allclose(read.depth, frame.depth, atol=frames.DEPTH_UNIT)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:500])
    with pytest.raises(FileError, match=r"cannot read the recorded view .*a\.npz.*remove"):
        Frame.load(tmp_path / "a.npz")


def test_samples_are_the_same_by_their_number_in_any_order(tiny, paths):
    one, other = (Samples(paths, 2, 6, seed=4) for _ in range(2))
    forwards = [one[k] for k in range(6)]
    backwards = [other[k] for k in range(5, -1, -1)][::-1]
    for (a, b), (c, d) in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)
    assert np.abs(forwards[0][0] - forwards[1][0]).max() > 0.1
    assert np.abs(forwards[0][0] - Samples(paths, 2, 6, seed=5)[0][0]).max() > 0.1
    with pytest.raises(IndexError):
        one[6]


def test_samples_vary_a_view_anew_each_time(tiny, paths):
    taken = Samples(paths[:1], 2, 2, seed=0)
    shown = [view.tobytes() for k in range(2) for view in taken[k][0]]
    assert len(set(shown)) == 4


def test_samples_show_every_view_once_in_each_pass(tiny, paths):
    taken = Samples(paths, 1, 10, seed=0, variation=None)
    shown = [taken[k][0][0].tobytes() for k in range(10)]
    assert len(set(shown[:5])) == len(set(shown[5:])) == 5
    assert set(shown[:5]) == set(shown[5:])
    assert shown[:5] != shown[5:]


def points_by_pixel(frame):
    """Back-projected point of each pixel, by the row and column that the image has of it."""
    points = back_project(frame.depth, frame.K)
    there = frame.labels != UNKNOWN
    keys = map(tuple, frame.image[there][:, :2].tolist())
    return dict(zip(keys, points[there], strict=True))


@pytest.mark.parametrize(
    ("change", "turn"),
    [
        (samples._turned, np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])),
        (samples._mirrored, np.diag([-1, 1, 1])),
        (lambda frame: samples._window(frame, 1.0, np.random.default_rng(0)), np.eye(3)),
    ],
    ids=["turned", "mirrored", "cut"],
)
def test_changed_frames_show_the_same_points(tiny, monkeypatch, change, turn):
    monkeypatch.setattr(samples, "WIDTH", 64)
    before, after = points_by_pixel(plane_frame()), points_by_pixel(change(plane_frame()))
    assert len(after) >= 64 * 64
    for key, point in after.items():
        np.testing.assert_allclose(point, turn @ before[key], atol=1e-5)


@pytest.mark.parametrize(
    ("variation", "turn"),
    [
        (None, np.eye(3)),
        (STILL, np.eye(3)),
        (
            Variation(0, 0, 0, turned=1, scale=1, light=0, patchy=0),
            [[0, 1, 0], [-1, 0, 0], [0, 0, 1]],
        ),
        (Variation(0, 0, 0, turned=0, scale=1.4, light=0, patchy=0), np.eye(3)),
    ],
    ids=["none", "still", "turned", "scaled"],
)
def test_sample_normals_are_those_of_the_turned_plane(tiny, variation, turn):
    mirror = np.array([-1, 1, 1])
    for seed in range(4):
        data, labels = sample(plane_frame(), np.random.default_rng(seed), variation)
        assert data.shape == (len(CHANNELS), 64, 96) and labels.shape == (32, 48)
        known = labels != UNKNOWN
        inner = np.zeros_like(known)
        inner[3:-3, 3:-3] = known[6:, 6:] & known[:-6, :-6]
        normals = data[4:7, ::2, ::2][:, inner]
        assert normals.shape[1] > 300
        expected = np.array(turn) @ NORMAL
        fits = [
            np.abs(np.median(normals, axis=1) - each).max()
            for each in (expected, expected * mirror)
        ]
        if variation is None:
            assert fits[0] < 0.02
        assert min(fits) < 0.02
        # What is outside of the view is known to be nothing.
        assert (data[:, ::2, ::2][:, ~known] == 0).all()


def test_sample_varies_colour_and_depth_as_often_as_asked(tiny):
    frame, rng = random_frame(0), np.random.default_rng(0)
    inputs = [sample(frame, rng, Variation(0.3, 0.4, 0.5, patchy=0))[0] for _ in range(200)]
    depthless = np.mean([(data[3:] == 0).all() for data in inputs])
    grey = np.mean([(data[1:3] == 0).all() for data in inputs])
    colourless = np.mean([(data[:3] == 0).all() for data in inputs])
    assert abs(depthless - 0.4) < 0.1
    assert abs(colourless - 0.3) < 0.1
    assert abs(grey - (0.3 + 0.7 * 0.5)) < 0.1


# ---- loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", OFFSETS)
def test_affinity_targets_against_brute_force(offset):
    rng = np.random.default_rng(1)
    labels = rng.choice([0, 1, 2, UNKNOWN], (2, 20, 19), p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
    target, counts = affinity_targets(torch.from_numpy(labels), offset)
    for b, r, c in itertools.product(*map(range, labels.shape)):
        row, column = r + offset[0], c + offset[1]
        inside = row < 20 and 0 <= column < 19
        one, other = int(labels[b, r, c]), int(labels[b, row, column]) if inside else UNKNOWN
        known = UNKNOWN not in (one, other) and (one > 0 or other > 0)
        assert bool(counts[b, r, c]) == known
        if known:
            assert bool(target[b, r, c]) == (one == other)


def test_balanced_loss_against_its_formula():
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 2, (2, 5, 6))
    target, counts = rng.random((2, 2, 5, 6)) < 0.4
    yes, no = [], []
    for x, t, known in zip(odds.ravel(), target.ravel(), counts.ravel(), strict=True):
        if known:
            (yes if t else no).append(-np.log(1 / (1 + np.exp(-x if t else x))))
    args = [torch.from_numpy(a) for a in (odds, target, counts)]
    assert float(balanced_loss(*args)) == pytest.approx((np.mean(yes) + np.mean(no)) / 2)
    assert float(balanced_loss(*args[:2], torch.zeros(2, 5, 6, dtype=torch.bool))) == 0


def test_network_loss_has_one_loss_for_each_output():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, (2, 34, 36), dtype=np.uint8))
    output = torch.from_numpy(rng.normal(size=(2, OUTPUTS, 34, 36)))
    losses = network_loss(output, labels)
    for k, offset in enumerate(OFFSETS):
        assert losses[k] == balanced_loss(output[:, k], *affinity_targets(labels, offset))
    everywhere = torch.ones(2, 34, 36, dtype=torch.bool)
    assert losses[-1] == balanced_loss(output[:, -1], labels > 0, everywhere)


# ---- training and export ---------------------------------------------------------------------


def test_train_stopped_and_resumed_is_as_one_that_was_not(tiny, paths, tmp_path, monkeypatch):
    schedule = Schedule(steps=5, batch=2, every=2)
    whole = train.train(paths, schedule, tmp_path / "whole")
    save = train._save

    def stop_after(folder, step, *parts):
        save(folder, step, *parts)
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "_save", stop_after)
    with pytest.raises(KeyboardInterrupt):
        train.train(paths, schedule, tmp_path / "parts")
    monkeypatch.setattr(train, "_save", save)
    parts = train.train(paths, schedule, tmp_path / "parts", workers=2)
    again = train.train(paths, schedule, tmp_path / "parts")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
        assert torch.equal(value, again.state_dict()[name]), name
    assert not whole.training
    curves = [Curve.load(tmp_path / name) for name in ("whole", "parts")]
    for curve in curves:
        assert curve.steps.tolist() == [2, 4, 5]
        np.testing.assert_array_equal(curve.losses, curves[0].losses)
    other = train.train(paths, Schedule(steps=5, batch=2, every=2, seed=1), tmp_path / "other")
    assert not torch.equal(whole.head.weight, other.head.weight)


def test_train_refuses_checkpoints_of_other_schedules_and_broken_ones(tiny, paths, tmp_path):
    train.train(paths, Schedule(steps=1, batch=1), tmp_path / "run")
    with pytest.raises(FileError, match=r"with steps 1, this is with steps 2: .*another folder"):
        train.train(paths, Schedule(steps=2, batch=1), tmp_path / "run")
    checkpoint = tmp_path / "run" / train.CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(FileError, match="no checkpoint of this network.*remove it"):
        train.train(paths, Schedule(steps=1, batch=1), tmp_path / "run")


def test_curve_load_counts_later_rows_and_all_stretches_of_time(tmp_path):
    rows = [(250, 0.9, 60.0), (500, 0.8, 110.0), (500, 0.7, 50.0), (750, 0.6, 90.0)]
    lines = [
        json.dumps({"step": step, "loss": loss, "losses": [loss] * OUTPUTS, "seconds": seconds})
        for step, loss, seconds in rows
    ]
    (tmp_path / train.CURVE).write_text("\n".join([*lines, '{"step": 100']))
    curve = Curve.load(tmp_path)
    assert curve.steps.tolist() == [250, 500, 750]
    assert curve.losses[:, 0].tolist() == [0.9, 0.7, 0.6]
    assert curve.seconds == 200.0


def random_network(widths):
    """With statistics of batch normalisation that are not those of the beginning."""
    torch.manual_seed(0)
    network = AffinityNetwork(widths).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                values.normal_(0, 0.5)
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 2.0)
    return network


@pytest.mark.parametrize("shape", [(240, 320), (320, 240)])
def test_export_gives_what_pytorch_gives(tmp_path, shape):
    network, path = random_network((6, 8, 10, 8)), tmp_path / "affinities.onnx"
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export(network, path)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    rng = np.random.default_rng(0)
    lab = rng.uniform(0, 100, (*shape, 3)).astype(np.float32)
    depth = rng.uniform(0.4, 0.6, shape).astype(np.float32)
    said = AffinityModel(path)(lab, depth, K)
    data = torch.from_numpy(network_input(lab, depth, K)[None])
    with torch.no_grad():
        exact, expected = (each(data)[0].numpy() for each in (network, rounded(network)))
    found = np.concatenate([said.log_odds, said.on_object[None]])
    rows, columns = shape[0] // 2, shape[1] // 2
    assert found.shape == (OUTPUTS, rows, columns)
    limited = np.clip(expected[:, :rows, :columns], -LIMIT, LIMIT)
    assert np.abs(found).max() < LIMIT, "the comparison would be blind"
    np.testing.assert_allclose(found, limited, atol=1e-3)
    # Half of the precision, and batch normalisation folded in, change little.
    assert exact.std() > 0.1
    assert np.abs(exact - expected).max() < 0.05 * exact.std()
    assert path.stat().st_size < 2.5 * sum(p.numel() for p in network.parameters()) + 6000


def test_check_export_notices_other_weights(tmp_path):
    network, path = random_network((4, 6)), tmp_path / "affinities.onnx"
    export(network, path)
    data = np.random.default_rng(0).standard_normal((len(CHANNELS), 32, 64)).astype(np.float32)
    assert check_export(network, path, [data]) < 1e-4
    network.head.bias.data[3] += 0.01
    with pytest.raises(FileError, match="off PyTorch's"):
        check_export(network, path, [data])
    network = random_network((4, 6))
    broken = np.full_like(data, np.nan)
    for inputs in ([data, broken], [broken, data]):
        with pytest.raises(FileError, match="off PyTorch's"):
            check_export(network, path, inputs)


# ---- figures ---------------------------------------------------------------------------------


def test_tally_against_brute_force():
    rng = np.random.default_rng(0)
    tally, seen = Tally(), []
    for _ in range(2):
        odds = rng.normal(0, 2, (9, 11)).astype(np.float32)
        target, counts = rng.random((2, 9, 11)) < 0.4
        tally.add(3, odds, target, counts)
        seen += list(zip(odds[counts].tolist(), target[counts].tolist(), strict=True))
    sides = [[1 / (1 + np.exp(-x)) for x, yes in seen if yes == side] for side in (False, True)]
    losses = [np.mean([-np.log(p if side else 1 - p) for p in sides[side]]) for side in (0, 1)]
    assert tally.log_loss()[3] == pytest.approx(np.mean(losses))
    right = [np.mean([(p > 0.5) == bool(side) for p in sides[side]]) for side in (0, 1)]
    assert tally.accuracy()[3] == pytest.approx(np.mean(right))
    for k in range(DECILES):
        no, yes = (np.mean([k / 10 <= p < (k + 1) / 10 for p in side]) for side in sides)
        assert tally.calibration()[3, k] == pytest.approx(yes / (yes + no), nan_ok=True)
    assert np.isnan(tally.log_loss()[0])


def test_tally_of_calibrated_odds_is_calibrated():
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 2, 200_000)
    # Yes and no are equally many: the weights change nothing.
    target = rng.random(len(odds)) < 1 / (1 + np.exp(-odds))
    tally = Tally()
    tally.add(0, odds, target, np.ones(len(odds), bool))
    np.testing.assert_allclose(tally.calibration()[0], np.arange(0.05, 1, 0.1), atol=0.02)


# ---- parts of one's own ----------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path):
    """An L of two closed bodies and a tube, in millimetres."""
    folder = tmp_path / "parts"
    (folder / "more").mkdir(parents=True)
    base, wall = trimesh.creation.box((80, 40, 6)), trimesh.creation.box((6, 40, 50))
    wall.apply_translation((37, 0, 28.5))
    trimesh.util.concatenate([base, wall]).export(folder / "angle.stl")
    tube = trimesh.creation.annulus(6, 15, 20)
    tube.faces = tube.faces[:, ::-1]  # inside out
    tube.export(folder / "more" / "TUBE.PLY", file_type="ply")
    trimesh.creation.icosphere(subdivisions=3, radius=25).export(folder / "ball.obj")
    return folder


def test_read_cad_shapes_true_size_and_sides(parts):
    trimesh.creation.icosphere(subdivisions=6, radius=25).export(parts / "ball.obj")
    angle, ball, tube = read_cad_shapes([parts], "mm").parts
    for shape, extent in (
        (angle, [0.08, 0.04, 0.0565]),
        (tube, [0.03, 0.03, 0.02]),
        (ball, [0.05, 0.05, 0.05]),
    ):
        mesh = shape.pieces[0].mesh
        np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), extent, rtol=0.02)
        np.testing.assert_allclose(mesh.vertices.max(axis=0), np.array(extent) / 2, rtol=0.02)
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-6)
        corner = mesh.vertices[mesh.faces]
        facing = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        assert ((facing * mesh.normals[mesh.faces].mean(axis=1)).sum(axis=1) >= 0).all()
        # Outwards: the signed volume is that of the body.
        assert (facing * corner.mean(axis=1)).sum() / 6 > 0
        assert (mesh.uv >= 0).all() and (mesh.uv <= 1).all()
        felt = np.concatenate([solid.points + solid.pose[:3, 3] for solid in shape.solids])
        np.testing.assert_allclose(np.ptp(felt, axis=0), extent, rtol=0.02)
    assert [len(solid.points) for solid in angle.solids] == [8, 8]
    assert len(tube.solids) == 1
    assert len(ball.pieces[0].mesh.faces) <= 20_000
    assert len(ball.solids[0].points) <= 206
    # A ball is round: its corners' normals point away from its centre.
    mesh = ball.pieces[0].mesh
    away = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    assert (mesh.normals * away).sum(axis=1).min() > 0.98


def test_cad_shapes_are_half_of_the_things_on_all_sides(parts):
    shapes = read_cad_shapes([parts], "mm")
    rng = np.random.default_rng(0)
    drawn = [shapes(rng, 0.1) for _ in range(400)]
    own = [shape for shape in drawn if shape.kind == "part"]
    assert 0.43 < len(own) / len(drawn) < 0.57
    assert {shape.kind for shape in drawn if shape.kind != "part"} <= set(SHAPES)
    long_sides = [np.ptp(s.points, axis=0).argmax() for s in own if len(s.solids) == 2]
    assert set(long_sides) == {0, 1, 2}
    for shape in own:
        extent = np.sort(np.ptp(shape.points, axis=0))
        assert (
            min(
                np.abs(extent - np.sort(np.ptp(part.points, axis=0))).max()
                for part in shapes.parts
            )
            < 1e-9
        )
        np.testing.assert_allclose(shape.points.max(axis=0), -shape.points.min(axis=0), atol=1e-9)
        felt = np.concatenate([apply(solid.pose, solid.points) for solid in shape.solids])
        np.testing.assert_allclose(felt.max(axis=0), shape.points.max(axis=0), atol=0.001)


def test_cad_shapes_digest_is_of_the_files(parts):
    first = read_cad_shapes([parts], "mm").digest
    assert read_cad_shapes([parts], "mm").digest == first
    trimesh.creation.box((30, 30, 30)).export(parts / "ball.obj")
    assert read_cad_shapes([parts], "mm").digest != first


def test_random_scenes_with_own_parts_fall_and_are_labelled(parts, renders):
    shapes = CadShapes(read_cad_shapes([parts], "mm").parts, "", share=1.0)
    recording = record_random_scene(RandomSceneSpec(6, 2, 96, 72, shapes=shapes))
    assert all(name.startswith("part_") for name in recording.object_names.values())
    assert len(np.unique(recording.object_masks[0])) > 3
    assert RandomSceneSpec().shapes is random_shape


# ---- recording -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def renders():
    """Skips where nothing can be drawn."""
    try:
        record_random_scene(RandomSceneSpec(4, 1, 32, 32))
    except InputError as error:
        if "without a display" not in str(error):
            raise
        pytest.skip(f"NO OFFSCREEN RENDERING: {error}")


@pytest.fixture
def small_scenes(tiny, renders, monkeypatch):
    """Scenes of two small views; the list of the seeds that were recorded, and their shapes."""
    recorded = []

    def record_scene(seed, shapes):
        recorded.append((seed, shapes))
        if seed == command.FIRST_SEED + 1:
            raise frames.NothingAtRest("nothing came to rest")
        return record_random_scene(RandomSceneSpec(seed, 2, 96, 72, shapes=shapes))

    monkeypatch.setattr(frames, "VIEWS", 2)
    monkeypatch.setattr(frames, "record_scene", record_scene)
    return recorded


def test_record_frames_goes_on_where_it_was(small_scenes, tmp_path):
    told = []
    first = record_frames(tmp_path, [7, 8])
    assert [path.name for path in first] == [
        "0000007_0.npz", "0000007_1.npz", "0000008_0.npz", "0000008_1.npz"
    ]  # fmt: skip
    first[3].unlink()
    again = record_frames(tmp_path, [7, 8, command.FIRST_SEED + 1], report=told.append)
    assert again == first
    seeds = [7, 8, 8, command.FIRST_SEED + 1]
    assert small_scenes == [(seed, random_shape) for seed in seeds]
    assert told == pytest.approx([1 / 3, 2 / 3, 1])


def test_record_frames_side_by_side_gives_the_same_files(renders, tmp_path):
    record_frames(tmp_path / "one", [5])
    paths = record_frames(tmp_path / "two", [5, 6], workers=2)
    assert len(paths) == 2 * frames.VIEWS
    for path in frame_paths(tmp_path / "one", 5):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


# ---- the command -----------------------------------------------------------------------------


NUMBERS = ("--scenes", 3, "--held-out", 1, "--steps", 3, "--batch", 2, "--workers", 1)


def run(*words):
    return cli.main(["train-masks", *map(str, words)])


def fails(capsys, *words):
    """The text of an error."""
    assert run(*words) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return next(line for line in text.splitlines() if line.startswith("wildseg3d: error: "))


def test_command_end_to_end(small_scenes, parts, tmp_path, capsys):
    folder, out = tmp_path / "run", tmp_path / "made" / "parts.onnx"
    words = (out, "--folder", folder, *NUMBERS, "--meshes", parts, "--mesh-unit", "mm")
    assert run(*words) == 0
    first = out.read_bytes()
    assert [seed for seed, _ in small_scenes] == [99000, 100000, 100001, 100002]
    assert all(isinstance(shapes, CadShapes) for _, shapes in small_scenes)
    card, report = out.with_suffix(".md").read_text(), (folder / "report.md").read_text()
    assert hashlib.sha256(first).hexdigest() in card
    assert "TUBE.PLY" in card and "yours to choose" in card
    assert shlex.join(["wildseg3d", "train-masks", *map(str, words)]) in report
    # The middle seed of the three had no scene.
    assert "4 views" in card and "2 views of other scenes" in " ".join(card.split())
    figures = json.loads((folder / "report.json").read_text())["held_out"]
    assert set(figures) == set(CONDITIONS)
    for values in figures.values():
        assert len(values["log_loss"]) == OUTPUTS
        assert all(0.3 < value < 2 for value in values["log_loss"])
    for name in ("curve.png", "views.png"):
        assert (folder / name).stat().st_size > 1000
    model = AffinityModel(out)
    said = model(np.full((72, 96, 3), 50, np.float32), np.ones((72, 96), np.float32), K)
    assert np.isfinite(said.log_odds).all()
    # Again: nothing is recorded or trained anew, and the result is the same.
    small_scenes.clear()
    out.unlink()
    (folder / "frames" / "0100002_1.npz").unlink()
    assert run(*words) == 0
    assert [seed for seed, _ in small_scenes] == [100001, 100002]
    assert out.read_bytes() == first
    capsys.readouterr()
    # Another run does not fit into the folder.
    text = fails(capsys, *words, "--steps", 4)
    assert "with --steps 3, this is one with --steps 4: repeat the former" in text
    text = fails(capsys, "--folder", folder, *NUMBERS)
    assert "other --meshes" in text and "another --folder" in text


def test_command_says_what_is_wrong_with_meshes(parts, tmp_path, capsys):
    bad = tmp_path / "bad"
    bad.mkdir()

    def answer(*more):
        return fails(capsys, "--folder", tmp_path / "run", *NUMBERS, "--meshes", *more)

    assert "'nowhere' is not there" in answer("nowhere")
    assert "is a file" in answer(parts / "angle.stl")
    assert "has no OBJ, PLY or STL file" in answer(bad)
    assert "is its unit mm? --mesh-unit mm" in answer(parts)
    for name, content, expected in (
        ("a.stl", "no mesh", "no triangles"),
        ("a.obj", "v a b c\nf 1 2 3\n", "cannot read"),
        ("a.obj", "v 0 0 0\nv .1 0 0\nv 0 .1 0\nf 1 2 3\n", "is flat"),
        ("a.obj", "v 0 0 0\nv nan 0 0\nv 0 .1 0\nf 1 2 3\n", "no numbers"),
    ):
        (bad / name).write_text(content)
        text = answer(bad)
        assert expected in text and name in text and "take it out of the folder" in text
        (bad / name).unlink()


def test_command_says_what_is_wrong_with_files_and_machine(tmp_path, capsys, monkeypatch):
    folder = ("--folder", tmp_path / "run", *NUMBERS)
    (tmp_path / "file").write_text("")
    assert "OUT must end in .onnx" in fails(capsys, *folder, "out.pt")
    assert "is a folder" in fails(capsys, *folder, _made(tmp_path / "a.onnx"))
    assert "is a file" in fails(capsys, *NUMBERS, "--folder", tmp_path / "file")
    text = fails(capsys, *folder, "/proc/nowhere/out.onnx")
    assert "/proc/nowhere" in text and "repeat the command" in text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no NVIDIA GPU" in fails(capsys, *folder, "--device", "cuda")
    usage = command.shutil.disk_usage(tmp_path)._replace(free=10**8)
    monkeypatch.setattr(command.shutil, "disk_usage", lambda _: usage)
    text = fails(capsys, *folder, "--device", "cpu")
    assert "4 scenes are still to be recorded" in text and "0.1 GB are free: make room" in text
    # A lock of this process's own does not keep it out: that of another one does.
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); "
    code += "print('locked', flush=True); sys.stdin.read()"
    other = [sys.executable, "-c", code, str(tmp_path / "run" / "lock")]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        assert "another run is at work" in fails(capsys, *folder)
        process.stdin.close()


@pytest.mark.parametrize("there", [True, False])
def test_command_trains_on_the_gpu_where_there_is_one(there, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert command._device(None) == ("cuda" if there else "cpu")
    assert command._device("cpu") == "cpu"


def _made(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("--scenes", 0), ("--held-out", 1001), ("--steps", "1e3"), ("--batch", -1),
        ("--seed", "x"), ("--workers", 0), ("--device", "tpu"), ("--mesh-unit", "inch"),
    ],
)  # fmt: skip
def test_command_refuses_nonsense(words, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        run("--folder", tmp_path / "run", *words)
    assert caught.value.code == 2
    assert f"argument {words[0]}: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_command_scenes_that_never_come_to_rest(small_scenes, tmp_path, capsys, monkeypatch):
    def record_scene(seed, shapes):
        raise frames.NothingAtRest("nothing came to rest")

    monkeypatch.setattr(frames, "record_scene", record_scene)
    text = fails(capsys, "--folder", tmp_path / "run", *NUMBERS)
    assert "none of the 1 scenes from seed 99000 on came to rest" in text
