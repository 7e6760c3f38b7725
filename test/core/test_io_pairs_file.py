"""`wildseg3d align`: files of pairs, right and wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wildseg3d_ros import cli
from wildseg3d_ros.core.errors import FileError, InputError
from wildseg3d_ros.io.pairs_file import load_pairs
from wildseg3d_testing.pairs import (
    PairErrors,
    complete_pairs,
    construct_views,
    predict_like_network,
)

EDGES = complete_pairs(4)


@pytest.fixture(scope="module")
def made():
    scene = construct_views(4, (48, 64), seed=3)
    return predict_like_network(scene, EDGES, PairErrors(scale=0.3, confidence_noise=0.2))


@pytest.fixture
def arrays(made):
    """A complete file; the first camera's pose and the last one's intrinsics are unknown."""
    pairs = made.predictions
    priors = made.world_from_cam.copy()
    priors[0] = np.nan
    K = np.stack([view.K for view in made.views])
    K[3] = np.nan
    return {
        "edges": np.array(EDGES, dtype=np.int32),
        "pointmap_i": np.stack([p.pointmap_a for p in pairs]),
        "pointmap_j": np.stack([p.pointmap_b for p in pairs]),
        "confidence_i": np.stack([p.confidence_a for p in pairs]),
        "confidence_j": np.stack([p.confidence_b for p in pairs]),
        "soft_mask": np.stack([mask.astype(np.float32) for mask in made.objects]),
        "matched_i": np.ones((len(EDGES), 48, 64), dtype=bool),
        "matched_j": np.ones((len(EDGES), 48, 64), dtype=bool),
        "K": K,
        "world_from_cam_prior": priors,
    }


@pytest.fixture
def write(tmp_path):
    def save(arrays):
        np.savez(tmp_path / "pairs.npz", **arrays)
        return tmp_path / "pairs.npz"

    return save


def only_required(arrays):
    required = ("edges", "pointmap_i", "pointmap_j", "confidence_i", "confidence_j")
    return {name: arrays[name] for name in required}


def run(*words):
    return cli.main(["align", *map(str, words)])


def test_align_command_gives_the_exact_world(made, arrays, write, tmp_path, capsys):
    assert run(write(arrays), "-o", tmp_path / "out" / "a.npz", "--weighting", "dynamic") == 0
    printed = capsys.readouterr().out
    assert "12 of 12 used" in printed
    assert "converged" in printed
    with np.load(tmp_path / "out" / "a.npz", allow_pickle=False) as out:
        assert set(out.files) == {
            "world_from_cam",
            "K",
            "pair_scale",
            "world_pointmap",
            "confidence",
            "pair_residual",
            "pair_used",
            "scale_factor",
            "scale_sources",
            "registration_residual",
            "converged",
            "condition",
            "stop_reason",
            "warnings",
            "seconds",
        }
        np.testing.assert_allclose(out["world_from_cam"], made.world_from_cam, atol=1e-5)
        np.testing.assert_allclose(out["K"], [view.K for view in made.views], rtol=1e-3)
        np.testing.assert_allclose(out["pair_scale"], made.pair_scale, rtol=1e-5)
        np.testing.assert_allclose(out["world_pointmap"], made.points, atol=5e-4)
        assert out["confidence"].shape == (4, 48, 64)
        assert out["pair_used"].dtype == bool
        assert out["pair_residual"].shape == (12,)
        assert out["scale_sources"].tolist() == ["camera poses"]
        assert out["scale_factor"] == pytest.approx(np.exp(np.log(made.pair_scale).mean()))
        assert out["registration_residual"] < 1e-4
        assert out["converged"]
        assert 1.0 < out["condition"] < 1e5
        assert str(out["stop_reason"]).startswith("converged after")
        assert out["warnings"].shape == (0,)
        seconds = json.loads(str(out["seconds"]))
    assert set(seconds) == {"read", "align", "fuse"}


def test_align_command_says_when_not_converged(arrays, write, tmp_path, capsys):
    """Second maps in any order: nothing fits anything."""
    for name in ("pointmap_j", "confidence_j"):
        arrays[name] = np.roll(arrays[name], 5, axis=0)
    out = tmp_path / "a.npz"
    del arrays["world_from_cam_prior"]
    assert run(write(arrays), "-o", out, "--quiet") == 3
    assert capsys.readouterr().err.startswith(
        "wildseg3d: not to be relied on: the pairs contradict"
    )
    with np.load(out) as held:
        assert not held["converged"]
        assert any("contradict each other throughout" in text for text in held["warnings"])


def test_load_pairs_takes_flags_for_scores(arrays, write):
    arrays["soft_mask"] = arrays["soft_mask"] > 0.5
    arrays["confidence_i"] = arrays["confidence_i"] > 1.5
    read = load_pairs(write(arrays))
    np.testing.assert_array_equal(read.masks.scores, arrays["soft_mask"])
    assert read.predictions[0].confidence_a.dtype == np.float32


def test_load_pairs_without_optional_arrays(made, arrays, write, tmp_path):
    path = write(only_required(arrays))
    assert run(path, "-o", tmp_path / "a.npz", "--quiet", "--loss", "geman_mcclure") == 0
    with np.load(tmp_path / "a.npz") as out:
        np.testing.assert_allclose(out["world_from_cam"][0], np.eye(4), atol=1e-9)
        assert np.log(out["pair_scale"]).mean() == pytest.approx(0.0, abs=1e-9)


def test_load_pairs_metric_pairs_have_no_scale(made, arrays, write, tmp_path):
    for name in ("pointmap_i", "pointmap_j"):
        arrays[name] = arrays[name] * made.pair_scale[:, None, None, None].astype(np.float32)
    del arrays["world_from_cam_prior"]
    assert run(write(arrays), "-o", tmp_path / "a.npz", "--quiet", "--metric") == 0
    with np.load(tmp_path / "a.npz") as out:
        assert (out["pair_scale"] == 1.0).all()


def test_load_pairs_soft_masks_and_matches_reach_the_solver(made, arrays, write):
    read = load_pairs(write(arrays))
    np.testing.assert_array_equal(read.masks.scores, arrays["soft_mask"])
    assert read.predictions[0].matched_b.dtype == bool
    assert read.views[0].world_from_cam_prior is None
    assert read.views[3].K is None
    np.testing.assert_array_equal(read.views[1].world_from_cam_prior, made.world_from_cam[1])


def with_value(arrays, name, at, value):
    array = arrays[name].copy()
    array[at] = value
    return arrays | {name: array}


def renamed(arrays, old, new):
    return {new if name == old else name: value for name, value in arrays.items()}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda a: renamed(a, "confidence_j", "conf_j"), r"lacks confidence_j.*conf_j"),
        (lambda a: renamed(a, "soft_mask", "softmask"), r"'softmask'.*did you mean 'soft_mask'"),
        (lambda a: renamed(a, "matched_j", "other"), "matched_i and matched_j"),
        (lambda a: a | {"edges": a["edges"].astype(float)}, "integers, got float64"),
        (lambda a: a | {"edges": a["edges"][:, :1]}, r"\(E, 2\).*\(12, 1\)"),
        (lambda a: a | {"edges": a["edges"][:0]}, "E >= 1"),
        (lambda a: a | {"edges": np.where(a["edges"] == 3, 2, a["edges"])}, "two different"),
        (lambda a: a | {"edges": a["edges"] - 1}, "counted from 0"),
        (lambda a: a | {"edges": a["edges"][:5]}, r"pointmap_i must be \(5, H, W, 3\)"),
        (lambda a: a | {"pointmap_i": a["pointmap_i"][..., :2]}, r"got \(12, 48, 64, 2\)"),
        (lambda a: a | {"pointmap_j": a["pointmap_j"][:, :9]}, r"pointmap_j.*got \(12, 9, 64, 3"),
        (lambda a: a | {"confidence_i": a["confidence_i"].astype("U9")}, "float32, got <U9"),
        (lambda a: a | {"soft_mask": 20 * a["soft_mask"]}, r"\[0, 1\].*sigmoid"),
        (lambda a: a | {"K": a["K"][:2]}, r"K must be \(4, 3, 3\).*got \(2, 3, 3\)"),
        (lambda a: a | {"matched_i": a["confidence_i"]}, "matched_i must be bool"),
        (lambda a: renamed(a, "K", "k"), "'k', which nothing reads; did you mean 'K'"),
        (
            lambda a: renamed(a, "K", "intrinsics"),
            "'intrinsics', which nothing.*may hold.*K, world",
        ),
        (lambda a: a | {"mask": a["soft_mask"]}, "'mask', which nothing reads.*may hold"),
        (lambda a: with_value(a, "edges", (5, 1), 9), r"edge 5 is \[1, 9\].*soft_mask.* 4 views"),
        (
            lambda a: with_value(only_required(a), "edges", (5, 1), 10**9),
            r"edge 5 is \[1, 1000000000\].*12 edges are of 24 views at most",
        ),
        (
            lambda a: with_value(a, "world_from_cam_prior", (2, 0, 3), np.nan),
            r"world_from_cam_prior\[2\] is partly NaN.*NaN throughout",
        ),
        (lambda a: with_value(a, "K", (1, 0, 0), np.nan), r"K\[1\] is partly NaN"),
    ],
)
def test_load_pairs_refuses_a_wrong_file(arrays, write, spoil, says):
    with pytest.raises(FileError, match=says):
        load_pairs(write(spoil(arrays)))


def test_load_pairs_names_the_camera_of_an_invalid_pose(arrays, write):
    arrays["world_from_cam_prior"][2] *= 2
    with pytest.raises(InputError, match=r"pairs.npz.*camera '2'.*not a rotation"):
        load_pairs(write(arrays))


def test_load_pairs_names_the_camera_of_an_invalid_bottom_row(arrays, write):
    spoilt = with_value(arrays, "world_from_cam_prior", (2, 3, 2), 1.0)
    with pytest.raises(InputError, match=r"camera '2'.*bottom row is \[0.0, 0.0, 1.0, 1.0\]"):
        load_pairs(write(spoilt))
    with pytest.raises(InputError, match=r"camera '1'.*bottom row of the intrinsics K"):
        load_pairs(write(with_value(arrays, "K", (1, 2, 0), 5.0)))


def test_align_command_no_points_blames_no_setting(arrays, write, capsys):
    arrays["pointmap_i"] = np.full_like(arrays["pointmap_i"], np.nan)
    assert run(write(arrays)) == 2
    error = capsys.readouterr().err
    assert "no pair has enough points" in error
    assert "pairing." not in error


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive", b"1 2\n3 4\n"])
def test_align_command_damaged_file_is_one_line(tmp_path, capsys, content):
    path = tmp_path / "pairs.npz"
    path.write_bytes(content)
    assert run(path) == 2
    error = capsys.readouterr().err
    assert error.startswith("wildseg3d: error:")
    assert "pairs.npz" in error
    assert "Traceback" not in error
    assert "pickle" not in error


def test_align_command_does_not_overwrite_the_pairs(arrays, write, capsys):
    path = write(arrays)
    before = path.read_bytes()
    assert run(path, "-o", path) == 2
    assert "is what is read" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_load_pairs_refuses_python_objects_and_single_arrays(tmp_path):
    np.savez(tmp_path / "o.npz", edges=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FileError, match="Python objects") as info:
        load_pairs(tmp_path / "o.npz")
    assert "pickle" not in str(info.value)
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(FileError, match="single array"):
        load_pairs(tmp_path / "single.npy")
    with pytest.raises(FileError, match="cannot read"):
        load_pairs(tmp_path / "absent.npz")
