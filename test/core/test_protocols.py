"""Benchmarks' folders, laid out as their authors distribute them, of a constructed scene."""

from __future__ import annotations

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest

from wildseg3d_ros import cli, pipeline
from wildseg3d_ros.core.errors import AlignmentError, ConfigError, FileError, InputError
from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.types import NEGATIVE, POSITIVE, Click, Prompt, View
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.io.folder import Recording, write_folder
from wildseg3d_ros.protocols import nvos, spin_nerf
from wildseg3d_ros.protocols.cases import (
    ask,
    images_of,
    load_views,
    read_mask,
    reduced,
    resized,
    score,
)
from wildseg3d_ros.protocols.wide import evaluate_wide
from wildseg3d_testing.exact import exact_cache, exact_scene
from wildseg3d_testing.layouts import write_llff
from wildseg3d_testing.oracles import OracleMasks, OraclePointmaps
from wildseg3d_testing.scenes import construct_scene, fan_poses

REFERENCE, TARGET = 0, 2


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=4, arc_degrees=60, objects=4)


@pytest.fixture(scope="module")
def scene(truth):
    return exact_scene(truth)


def write_png(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def scaled(mask, factor):
    """A mask at another size, each of its pixels a block or every n-th pixel."""
    if factor >= 1:
        return np.kron(mask, np.ones((int(factor), int(factor)), mask.dtype))
    step = round(1 / factor)
    return mask[step // 2 :: step, step // 2 :: step]


def write_nvos(root, truth, name="fern", label=1, other=2, labels="llff"):
    """Scribbles at half the size of the views, truth at twice their size."""
    write_folder(root / name, truth.recording())
    place = root / labels
    for kind, object_id in (("pos", label), ("neg", other)):
        drawn = np.zeros(truth.labels[REFERENCE].shape, np.uint8)
        inside = cv2.erode(
            (truth.labels[REFERENCE] == object_id).astype(np.uint8), np.ones((5, 5))
        )
        drawn[inside > 0] = 255
        stroke = cv2.cvtColor(scaled(drawn, 0.5), cv2.COLOR_GRAY2BGR)
        write_png(place / "scribbles" / name / f"{kind}_0_{name}.png", stroke)
    image = truth.views[REFERENCE].image[..., ::-1]
    write_png(place / "reference_image" / name / f"{truth.views[REFERENCE].name}.JPG", image)
    target = truth.views[TARGET].name
    write_png(place / "masks" / name / f"{target}.JPG", truth.views[TARGET].image[..., ::-1])
    mask = scaled((truth.labels[TARGET] == label).astype(np.uint8), 2) * 255
    write_png(place / "masks" / name / f"{target}_mask.png", mask)


def write_spin_nerf(root, truth, name="fern", label=1):
    write_folder(root / "nerf_llff_data" / name, truth.recording())
    for view, labels in zip(truth.views, truth.labels, strict=True):
        mask = (labels == label).astype(np.uint8)
        write_png(root / "MVSeg_data" / name / f"{view.name}.png", mask)
        for word in ("cutout", "pseudo"):
            write_png(root / "MVSeg_data" / name / f"{view.name}_{word}.png", 1 - mask)


@pytest.mark.parametrize("labels", ["", "llff", "labels/llff"])
def test_nvos_case_is_that_of_its_files(truth, tmp_path, labels):
    write_nvos(tmp_path, truth, labels=labels)
    (found,) = nvos.find(tmp_path)
    assert found.name == "fern"
    case = nvos.load(found, None)
    assert list(case.targets) == ["cam_2"]
    assert [view.name for view in case.views] == ["cam_0", "cam_1", "cam_2", "cam_3"]
    clicked = {
        truth.labels[REFERENCE][round(click.v), round(click.u)]: click.label
        for click in case.prompt.clicks
    }
    assert clicked == {1: POSITIVE, 2: NEGATIVE}
    assert {click.view for click in case.prompt.clicks} == {"cam_0"}
    true = scaled((truth.labels[TARGET] == 1).astype(np.uint8), 2) > 0
    np.testing.assert_array_equal(case.targets["cam_2"], true)


def as_distributed(place, truth):
    """A scene as LLFF has it: images_4 has other names, poses_bounds.npy the large size."""
    shutil.rmtree(place)
    write_llff(place, truth)
    (place / "images").rename(place / "images_4")
    for number, path in enumerate(sorted((place / "images_4").iterdir())):
        large = cv2.resize(cv2.imread(str(path)), None, fx=4, fy=4)
        write_png(place / "images" / path.name, large)
        path.rename(place / "images_4" / f"image{number:03d}.png")
    poses = np.load(place / "poses_bounds.npy")
    poses[:, 4:15:5] *= 4
    np.save(place / "poses_bounds.npy", poses)


@pytest.mark.parametrize(
    "protocol, write_benchmark, place",
    [(nvos, write_nvos, "fern"), (spin_nerf, write_spin_nerf, "nerf_llff_data/fern")],
)
def test_smaller_images_of_llff_have_the_names_of_the_large(
    truth, tmp_path, protocol, write_benchmark, place
):
    write_benchmark(tmp_path, truth)
    as_distributed(tmp_path / place, truth)
    (scene,) = protocol.find(tmp_path)
    case = protocol.load(scene, None)
    assert set(case.targets) <= {view.name for view in truth.views}
    assert [view.name for view in case.views] == [view.name for view in truth.views]
    for view, own in zip(case.views, truth.views, strict=True):
        assert view.size == own.size
        np.testing.assert_allclose(view.K, own.K, atol=0.6)
        np.testing.assert_allclose(view.world_from_cam_prior, own.world_from_cam_prior, atol=1e-6)


def test_nvos_takes_scenes_of_two_targets_from_one_folder(truth, tmp_path):
    write_nvos(tmp_path, truth, "horns_left", 1)
    write_nvos(tmp_path, truth, "horns_center", 2, other=1)
    (tmp_path / "horns_left").rename(tmp_path / "horns")
    for path in sorted((tmp_path / "horns_center").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "horns_center").rmdir()
    found = nvos.find(tmp_path)
    assert [scene.name for scene in found] == ["horns_center", "horns_left"]
    assert {scene.images("horns") for scene in found} == {tmp_path / "horns"}
    assert {nvos.load(scene, None).prompt.clicks[0].label for scene in found} == {POSITIVE}


def test_nvos_says_what_is_missing(truth, tmp_path):
    with pytest.raises(FileError, match="expected scribbles/, reference_image/ and masks/"):
        nvos.find(tmp_path)
    write_nvos(tmp_path, truth)
    (tmp_path / "llff" / "scribbles" / "fern" / "neg_0_fern.png").unlink()
    (tmp_path / "llff" / "masks" / "fern" / "cam_2_mask.png").unlink()
    (scene,) = nvos.find(tmp_path)
    with pytest.raises(FileError, match=r"lacks scribbles/fern/neg\*.png, masks/fern/\*_mask.png"):
        nvos.load(scene, None)
    write_nvos(tmp_path, truth)
    (tmp_path / "fern").rename(tmp_path / "elsewhere")
    with pytest.raises(FileError, match="lacks the images of fern, as fern/images_4"):
        nvos.load(scene, None)


def test_nvos_score_at_the_size_of_the_truth(truth, scene, tmp_path):
    write_nvos(tmp_path, truth)
    case = nvos.load(nvos.find(tmp_path)[0], None)
    perfect = score(case, scene)
    assert (perfect.iou, perfect.accuracy, perfect.error) == (1.0, 1.0, "")
    failed = score(case, None, "no pose was found")
    true = case.targets["cam_2"]
    assert (failed.iou, failed.error) == (0.0, "no pose was found")
    assert failed.accuracy == pytest.approx(1 - true.mean())
    # Half of the object is lost in the target: counted by the pixels of the truth.
    cache = exact_cache(truth)
    columns = np.nonzero(cache.labels[TARGET] == 1)[1]
    lost = (cache.labels[TARGET] == 1) & (np.arange(160) < np.median(columns))
    cache.labels[TARGET][lost] = 0
    half = score(case, exact_scene(truth, cache=cache))
    left = (truth.labels[TARGET] == 1).sum() - lost.sum()
    assert half.iou == pytest.approx(left / (truth.labels[TARGET] == 1).sum())
    assert half.accuracy == pytest.approx(1 - lost.sum() / lost.size)


def test_ask_leaves_out_clicks_that_show_nothing_or_contradict(truth, scene):
    on = Click("cam_0", *most_interior_pixel(truth.labels[0] == 1))
    off = dataclasses.replace(on, label=NEGATIVE)
    nothing = Click("cam_0", 1, 1)
    assert ask(scene, Prompt((on, nothing))).object_ids == (1,)
    assert ask(scene, Prompt((on, off))).object_ids == (1,)
    case_error = score(
        nvos.Case("x", truth.views, Prompt((nothing,)), {"cam_2": truth.labels[2] == 1}), scene
    )
    assert case_error.iou == 0 and "background" in case_error.error


def test_spin_nerf_case_is_that_of_its_files(truth, scene, tmp_path):
    write_spin_nerf(tmp_path, truth)
    (found,) = spin_nerf.find(tmp_path)
    case = spin_nerf.load(found, None)
    (given,) = case.prompt.masks
    assert given.view == "cam_0"
    np.testing.assert_array_equal(given.mask, truth.labels[0] == 1)
    assert list(case.targets) == ["cam_1", "cam_2", "cam_3"]
    result = score(case, scene)
    assert (result.iou, result.accuracy) == (1.0, 1.0)
    assert list(result.views) == ["cam_1", "cam_2", "cam_3"]
    fewer = spin_nerf.load(found, 2)
    assert len(fewer.views) == 2 and "cam_0" in [view.name for view in fewer.views]
    (tmp_path / "MVSeg_data" / "room").mkdir()
    with pytest.raises(FileError, match="lacks the images of room"):
        spin_nerf.load(spin_nerf.find(tmp_path)[1], None)


def test_spin_nerf_matches_masks_to_the_longest_name(tmp_path):
    images = tmp_path / "Truck" / "train" / "rgb"
    for name in ("0_1", "0_10"):
        write_png(images / f"{name}.png", np.zeros((4, 4, 3), np.uint8))
        write_png(tmp_path / "MVSeg_data" / "Truck" / f"{name}.png", np.ones((4, 4), np.uint8))
    (found,) = spin_nerf.find(tmp_path)
    masks = spin_nerf.masks_of(["0_1", "0_10"], sorted(found.masks.iterdir()))
    assert {name: path.stem for name, path in masks.items()} == {"0_1": "0_1", "0_10": "0_10"}
    assert images_of(found.images()) == images


def test_read_mask_of_every_kind(tmp_path):
    mask = np.zeros((6, 8), bool)
    mask[2:5, 3:6] = True
    for k, image in enumerate(
        [mask * np.uint8(1), mask * np.uint8(255), mask * np.uint16(65535),
         np.stack([mask * np.uint8(200)] * 3, axis=2)]
    ):  # fmt: skip
        write_png(tmp_path / f"{k}.png", image)
        np.testing.assert_array_equal(read_mask(tmp_path / f"{k}.png"), mask)
    np.testing.assert_array_equal(resized(mask, (12, 16)), scaled(mask, 2))


def test_reduced_view_sees_the_same_places(truth):
    view = truth.views[0]
    small = reduced(view, 80)
    assert small.size == (60, 80)
    points = np.array([[0.1, 0.05, 0.7], [-0.1, 0.02, 0.9]])
    before, after = project(points, view.K)[0], project(points, small.K)[0]
    np.testing.assert_allclose(after + 0.5, (before + 0.5) / 2)  # in units of edges
    assert small.depth.shape == (60, 80)
    assert reduced(view) is view


def test_load_views_keeps_what_is_needed(truth, tmp_path):
    write_folder(tmp_path / "plain", truth.recording())
    (tmp_path / "plain" / "transforms.json").unlink()
    names = [view.name for view in load_views(tmp_path / "plain", lambda _: ["cam_3", "cam_0"], 3)]
    assert len(names) == 3 and {"cam_0", "cam_3"} < set(names)
    with pytest.raises(FileError, match="has no image IMG_1; it has cam_0"):
        load_views(tmp_path / "plain", lambda _: ["IMG_1"], 3)


def test_eval_prints_the_papers_table(truth, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "load_for", lambda *_: OraclePointmaps(truth))
    monkeypatch.setattr(pipeline, "load_masks", lambda _: OracleMasks(truth))
    write_nvos(tmp_path, truth)
    words = ["eval", str(tmp_path), "--protocol", "nvos", "--json", str(tmp_path / "out.json")]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fern: IoU 1.000, accuracy 1.000, 1 view, ")
    assert "WildSeg3D (ICCV 2025)" in lines[-3] and lines[-3].split()[-2:] == ["94.1", "99.0"]
    assert lines[-2].split() == ["this", "run,", "1", "of", "8", "scenes", "no", "100.0", "100.0"]
    said = json.loads((tmp_path / "out.json").read_text())
    assert (said["miou"], said["scenes"][0]["name"]) == (1.0, "fern")
    write_nvos(tmp_path, truth, "room")
    shutil.rmtree(tmp_path / "room")
    write_nvos(tmp_path, truth, "aloe")
    damaged = tmp_path / "llff" / "masks" / "aloe" / "cam_2_mask.png"
    damaged.write_bytes(damaged.read_bytes()[:80])
    assert cli.main(words) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("aloe: IoU ?") and "cam_2_mask.png" in lines[1]
    assert lines[3].startswith("room: IoU ?") and "lacks the images of room" in lines[4]
    assert lines[-2].split()[2:] == ["1", "of", "8", "scenes", "no", "100.0", "100.0"]
    said = json.loads((tmp_path / "out.json").read_text())
    assert [each["failed"] for each in said["scenes"]] == [True, False, True]
    assert cli.main([*words, "--only", "fern"]) == 0
    shutil.rmtree(tmp_path / "llff" / "masks" / "room")
    shutil.rmtree(tmp_path / "llff" / "masks" / "aloe")
    capsys.readouterr()
    assert cli.main([*words, "--only", "room"]) == 2
    assert "there is no scene 'room' in it; there are fern" in capsys.readouterr().err
    assert cli.main([*words, "--reference-view", "cam_0"]) == 2
    assert "takes its own views" in capsys.readouterr().err


def test_eval_counts_scenes_that_cannot_be_built_and_stops_at_wrong_settings(
    truth, tmp_path, monkeypatch, capsys
):
    write_nvos(tmp_path, truth)
    words = ["eval", str(tmp_path), "--protocol", "nvos"]

    def fails(error):
        def build(*_, **__):
            raise error

        return build

    lost = AlignmentError("the views do not\nfit together")
    monkeypatch.setattr(pipeline, "build_scene", fails(lost))
    assert cli.main(words) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fern: IoU 0.000")
    assert lines[1] == "  no answer: the views do not fit together"
    assert lines[-1].split()[-2] == "0.0"
    monkeypatch.setattr(pipeline, "build_scene", fails(ConfigError("no such back end")))
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert "no such back end" in said.err and "this run" not in said.out


def test_wide_pairs_are_binned_by_the_angle_between_cameras():
    truth = construct_scene(objects=1, poses=fan_poses(5, 40.0))
    scene = exact_scene(truth)
    recording = truth.recording()
    found = evaluate_wide(recording, scene)
    solid = np.mean([points[labels == 1].mean(axis=0)
                     for points, labels in zip(truth.points, truth.labels, strict=True)
                     if (labels == 1).any()], axis=0)  # fmt: skip
    for pair in found.pairs:
        a, b = (
            truth.world_from_cam[int(name[-1])][:3, 3] - solid
            for name in (pair.clicked, pair.scored)
        )
        true = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
        assert pair.angle == pytest.approx(true, abs=8)  # the middle of what each view sees
        assert pair.iou == 1.0
    assert [(each.low, each.high) for each in found.bins] == [
        (0, 45), (45, 90), (90, 135), (135, 180),
    ]  # fmt: skip
    assert sum(each.pairs for each in found.bins) == len(found.pairs) == 20
    assert all(each.pairs and each.miou == 1.0 for each in found.bins)
    assert found.best == found.random == found.worst == 1.0
    assert all(len(each.random) == 5 for each in found.clicks)
    # A view that has lost the object is wrong in every pair that it is in.
    cache = exact_cache(truth)
    cache.labels[4][:] = 0
    lost = evaluate_wide(recording, exact_scene(truth, cache=cache))
    for pair in lost.pairs:
        assert pair.iou == (0.0 if "cam_4" in (pair.clicked, pair.scored) else 1.0)


def test_wide_needs_two_views_with_labels(truth, scene):
    alone = Recording(truth.views, (truth.labels[0].astype(np.uint8), None, None, None))
    with pytest.raises(InputError, match="label images of two views or more, got 1"):
        evaluate_wide(alone, scene)
    empty = Recording(truth.views, tuple(np.zeros((120, 160), np.uint8) for _ in range(4)))
    with pytest.raises(InputError, match="no object is shown by two views"):
        evaluate_wide(empty, scene)


def test_eval_wide_command(truth, scene, tmp_path, capsys):
    from wildseg3d_ros.scene.file.snapshot import save_scene

    write_folder(tmp_path / "recording", truth.recording())
    save_scene(scene, tmp_path / "scene.ws3d")
    words = ["eval", str(tmp_path / "recording"), "--protocol", "wide"]
    words += ["--scene", str(tmp_path / "scene.ws3d"), "--json", str(tmp_path / "wide.json")]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["angle", "pairs", "mean", "IoU"]
    assert lines[1].split()[-1] == "1.000"
    assert len(json.loads((tmp_path / "wide.json").read_text())["bins"]) == 4


def test_views_are_taken_from_plain_folders_of_images(tmp_path):
    """Without calibration, as LLFF's images are."""
    for name in ("a", "b", "c"):
        write_png(
            tmp_path / "fern" / "images_4" / f"{name}.png", np.full((30, 40, 3), 90, np.uint8)
        )
    views = load_views(tmp_path / "fern", lambda _: ["b"], None)
    assert [(view.name, view.K) for view in views] == [("a", None), ("b", None), ("c", None)]
    assert all(isinstance(view, View) for view in views)
