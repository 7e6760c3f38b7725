"""A scene remembers what made its masks, and is changed by the same unless told otherwise."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from wildseg3d_ros import cli, pipeline
from wildseg3d_ros.cli.commands import read_config
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Click, MaskOrigin, Prompt
from wildseg3d_ros.editing import add_object
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.io.folder import write_folder
from wildseg3d_ros.masks import as_built, load_masks
from wildseg3d_ros.masks.config import MaskConfig
from wildseg3d_ros.masks.geometric.backend import GeometricMasks
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.pipeline import update_scene
from wildseg3d_ros.pointmaps.depth.backend import DepthPointmaps
from wildseg3d_ros.ros.building.scene_masks import SceneMasks
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_testing.exact import exact_alignment, exact_cache, exact_scene, exact_world
from wildseg3d_testing.oracles import OracleMasks, OraclePointmaps
from wildseg3d_testing.scenes import construct_scene

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, width=160, height=120, objects=5)


def scene_by(truth, origin, gone=0):
    """The exact scene as if a back end had made its masks, of which one object is missing."""
    cache = exact_cache(truth)
    labels = tuple(np.where(m == gone, 0, m) for m in cache.labels)
    objects = tuple(each for each in cache.objects if each.object_id != gone)
    cache = cache.with_masks((labels,), cache.scores, objects)
    return exact_scene(truth, cache=dataclasses.replace(cache, origin=origin))


def on(truth, object_id, view=0):
    return most_interior_pixel(truth.labels[view] == object_id)


@pytest.fixture
def folder(truth, tmp_path):
    write_folder(tmp_path / "recording", truth.recording())
    return tmp_path / "recording"


@pytest.fixture
def loaded(truth, monkeypatch):
    """The configurations that are loaded, of which the truth is what comes back."""
    asked = []
    monkeypatch.setattr(pipeline, "load_for", lambda *_: OraclePointmaps(truth))

    def load(config):
        asked.append(config)
        return OracleMasks(truth)

    monkeypatch.setattr("wildseg3d_ros.masks.load_masks", load)
    return asked


def test_mask_origin_kept_by_changes(truth, tmp_path):
    masks = GeometricMasks()
    cache = masks.segment(truth.views, exact_alignment(truth), exact_world(truth), Progress())
    assert cache.origin == MaskOrigin("geometric")
    scene = scene_by(truth, MaskOrigin("sam2", "/a/folder"))
    save_scene(scene, tmp_path / "scene.ws3d")
    scene = load_scene(tmp_path / "scene.ws3d")
    assert scene.masks.origin == MaskOrigin("sam2", "/a/folder")
    both = tuple(Click("cam_0", *on(truth, object_id)) for object_id in (2, 3))
    extended, _ = add_object(scene, Prompt(both))
    assert len(extended.index.ids) == len(scene.index.ids) - 2 + 1, "both are in the new one"
    assert extended.masks.origin == scene.masks.origin
    updated = update_scene(scene, truth.views, "cam_1", pointmaps=DepthPointmaps(), masks=masks)
    assert updated.masks.origin == scene.masks.origin


def test_mask_origin_absolute_weights(small_sam2, truth, monkeypatch, one_thread):
    monkeypatch.chdir(small_sam2.parent)
    config = Sam2MaskConfig(weights=small_sam2.name, device="cpu", grid=2, anchors=0)
    masks = load_masks(MaskConfig(backend="sam2", sam2=config))
    cache = masks.segment(truth.views, exact_alignment(truth), exact_world(truth), Progress())
    assert cache.origin == MaskOrigin("sam2", str(small_sam2.resolve()))


def test_as_built_and_read_config(truth, tmp_path):
    cache = scene_by(truth, MaskOrigin("sam2", "some/weights")).masks
    base = SceneConfig(masks=as_built(MaskConfig(), cache))
    assert read_config(None, [], base).masks.backend == "sam2"
    assert read_config(None, [], base).masks.sam2.weights == "some/weights"
    assert read_config(None, ["masks.backend=geometric"], base).masks.backend == "geometric"
    given = read_config(None, ["masks.sam2.weights=other/weights"], base)
    assert (given.masks.backend, given.masks.sam2.weights) == ("sam2", "other/weights")
    (tmp_path / "a.yaml").write_text("masks: {sam2: {grid: 8}}\n")
    assert read_config(tmp_path / "a.yaml", [], base).masks == dataclasses.replace(
        base.masks, sam2=dataclasses.replace(base.masks.sam2, grid=8)
    )
    (tmp_path / "b.yaml").write_text("masks: {backend: geometric}\n")
    assert read_config(tmp_path / "b.yaml", [], base).masks.backend == "geometric"


def test_as_built_not_installed(truth, tmp_path, capsys):
    """Such a scene answers; only what has to change its masks asks for the back end."""
    scene = scene_by(truth, MaskOrigin("nobodys", "some/weights"), gone=3)
    config = as_built(MaskConfig(), scene.masks)
    assert config.backend == "nobodys"
    with pytest.raises(ConfigError, match="masks.backend.*one of geometric, sam2.*'nobodys'"):
        load_masks(config)
    save_scene(scene, tmp_path / "scene.ws3d")
    words = ["segment", str(tmp_path / "scene.ws3d"), "--view", "cam_0", "--pixel"]
    assert cli.main([*words, *map(str, on(truth, 2))]) == 0
    assert cli.main([*words, *map(str, on(truth, 3)), "--add"]) == 2
    error = capsys.readouterr().err
    assert "made by 'nobodys' with the weights 'some/weights', which cannot be loaded" in error
    assert "another back end, one that takes prompts" in error


def test_update_back_end_of_the_scene(truth, folder, loaded, tmp_path):
    path, out = tmp_path / "scene.ws3d", tmp_path / "out.ws3d"
    save_scene(scene_by(truth, MaskOrigin("sam2", "/a/folder")), path)
    words = ["update", str(path), str(folder), "--view", "cam_1", "-o", str(out), "--quiet"]
    assert cli.main(words) == 0
    assert (loaded[-1].backend, loaded[-1].sam2.weights) == ("sam2", "/a/folder")
    assert cli.main([*words, "--set", "masks.backend=geometric"]) == 0
    assert loaded[-1].backend == "geometric"


def test_update_missing_weights(truth, folder, tmp_path, capsys):
    path = tmp_path / "scene.ws3d"
    save_scene(scene_by(truth, MaskOrigin("sam2", str(tmp_path / "gone"))), path)
    before = path.read_bytes()
    words = ["update", str(path), str(folder), "--view", "cam_1"]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert f"the scene's masks were made by 'sam2' with the weights '{tmp_path}/gone'" in error
    assert "cannot be loaded here" in error
    assert "`hf download facebook/sam2" in error
    assert "masks.sam2.weights" in error
    assert "masks.backend=geometric" in error
    assert path.read_bytes() == before
    # Who names weights himself is not told about the scene's.
    assert cli.main([*words, "--set", "masks.sam2.weights=/no/where"]) == 2
    assert "the scene's masks" not in capsys.readouterr().err
    assert cli.main([*words, "--set", "masks.backend=geometric", "--quiet"]) == 0


def test_segment_add_back_end_of_the_scene(truth, small_sam2, tmp_path, capsys, one_thread):
    path, weights = tmp_path / "scene.ws3d", tmp_path / "weights"
    shutil.copytree(small_sam2, weights)
    save_scene(scene_by(truth, MaskOrigin("sam2", str(weights)), gone=3), path)
    u, v = on(truth, 3)
    words = ["segment", str(path), "--view", "cam_0", "--pixel", str(u), str(v), "--add"]
    assert cli.main(words) == 0
    shutil.rmtree(weights)
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert str(weights) in error
    assert "another back end, one that takes prompts" in error
    assert cli.main([*words, "--set", "masks.backend=geometric"]) == 2
    assert "takes prompts" in capsys.readouterr().err
    assert cli.main([*words, "--set", f"masks.sam2.weights={small_sam2}"]) == 0


def test_scene_masks_of_another_back_end(truth, small_sam2, tmp_path, one_thread):
    scene = scene_by(truth, MaskOrigin("sam2", str(small_sam2)))
    config = dataclasses.replace(
        MaskConfig(), sam2=dataclasses.replace(MaskConfig().sam2, device="cpu")
    )
    masks = SceneMasks(config, chosen=False)
    backend, note = masks.of(scene)
    assert (backend.network.image_model is not None, note) == (True, "")
    assert masks.of(scene)[0] is backend
    assert masks.of(scene_by(truth, None)) == (masks.backend, "")
    assert SceneMasks(config, chosen=True).of(scene)[1] == ""
    lost = scene_by(truth, MaskOrigin("sam2", str(tmp_path / "gone")))
    backend, note = masks.of(lost)
    assert backend is masks.backend
    assert f"made by 'sam2' with the weights '{tmp_path}/gone', which cannot be loaded" in note
    assert "changes are made by 'geometric' instead" in note
    assert "hf download" in note


def test_scene_masks_loads_at_once(tmp_path):
    config = MaskConfig("sam2", sam2=Sam2MaskConfig(weights=str(tmp_path / "gone")))
    with pytest.raises(FileError, match="hf download"):
        SceneMasks(config, chosen=True)
