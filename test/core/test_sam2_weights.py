"""SAM 2 checkpoints as several versions of transformers save them, and as files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from wildseg3d_ros.core.errors import FileError  # noqa: E402
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig  # noqa: E402
from wildseg3d_ros.masks.sam2.network import Sam2Network  # noqa: E402
from wildseg3d_ros.masks.sam2.weights import edgetam_install, lasting_name  # noqa: E402
from wildseg3d_testing.sam2_weights import images_by_rule  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS = Path(__file__).parent / "data" / "sam2_config_4.57.json"
"""config.json of this small model as Sam2VideoModel and Sam2Model of transformers 4.57.3 write it;
4.56.2 differs in its own version alone."""
TIED = "prompt_encoder.shared_embedding.positional_embedding"
OF_IMAGES = (
    "vision_encoder.", "prompt_encoder.", "mask_decoder.", "shared_image", "no_memory_embedding",
)  # fmt: skip


def network(weights, anchors=1):
    return Sam2Network(Sam2MaskConfig(weights=str(weights), device="cpu", anchors=anchors))


def said(net):
    """What a model says of a click."""
    embedding = net.encode(images_by_rule(1)[0])
    logits, _ = net.decode(embedding, np.array([[[40.0, 70.0]]]), np.ones((1, 1), int))
    return logits


@pytest.fixture(scope="module")
def weights(small_sam2, tmp_path_factory):
    """With one positional embedding, as all published models have; random ones have two."""
    folder = tmp_path_factory.mktemp("tied")
    shutil.copy(small_sam2 / "config.json", folder)
    tensors = load_file(small_sam2 / "model.safetensors")
    tensors[TIED] = tensors["shared_image_embedding.positional_embedding"].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def reference(weights):
    return network(weights)


def saved(version, kind, weights, folder):
    """The weights as a version of transformers saves them, from its image or video model."""
    if version == "installed":
        name = "Sam2Model" if kind == "image" else "Sam2VideoModel"
        getattr(transformers, name).from_pretrained(weights).save_pretrained(folder)
        return folder
    tensors = load_file(weights / "model.safetensors")
    del tensors[TIED]
    if kind == "image":
        tensors = {key: value for key, value in tensors.items() if key.startswith(OF_IMAGES)}
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads(CONFIGS.read_text())[kind] | {"transformers_version": version}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("version", ["4.56.2", "4.57.3", "installed"])
def test_load_models_of_versions(version, kind, weights, reference, tmp_path):
    folder = saved(version, kind, weights, tmp_path / "saved")
    made = network(folder, anchors=0 if kind == "image" else 1)
    torch.testing.assert_close(said(made), said(reference), rtol=1e-3, atol=1e-2)
    assert made.fingerprint == reference.fingerprint
    if kind == "image":
        assert made.video_model is None
        return
    state = reference.video_model.state_dict()
    assert made.video_model.state_dict().keys() == state.keys()
    for key, value in made.video_model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_load_models_image_model_cannot_track(weights, tmp_path):
    folder = saved("4.57.3", "image", weights, tmp_path / "saved")
    with pytest.raises(FileError, match=r"not complete for Sam2VideoModel.*anchors to 0"):
        network(folder)


def test_load_models_neither_of_the_tied(weights, tmp_path):
    folder = saved("4.57.3", "video", weights, tmp_path / "saved")
    tensors = load_file(folder / "model.safetensors")
    del tensors["shared_image_embedding.positional_embedding"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(FileError, match=r"2 tensors are missing, .*'shared_image"):
        network(folder)


def test_load_models_file(weights, reference, tmp_path, monkeypatch):
    """A file of any name, with config.json beside it."""
    shutil.copy(weights / "config.json", tmp_path)
    file = tmp_path / "mine.safetensors"
    shutil.copy(weights / "model.safetensors", file)
    made = network(file)
    torch.testing.assert_close(said(made), said(reference), rtol=1e-3, atol=1e-2)
    monkeypatch.chdir(tmp_path)
    assert lasting_name("mine.safetensors") == str(file.resolve())
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(FileError, match=r"cannot load SAM 2 weights '.*mine.safetensors'"):
        network(file)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileError, match=r"no config.json beside.*model.safetensors`"):
        network(file)
    (tmp_path / "sam2.1_hiera_small.pt").write_bytes(b"PK")
    with pytest.raises(FileError, match="not a checkpoint of the original code"):
        network(tmp_path / "sam2.1_hiera_small.pt")


@pytest.mark.parametrize(
    "version, fits, build",
    [
        ("2.7.1", "0.22", ""),
        ("2.13.0+cpu", "0.28", "cpu"),
        ("2.6.0a0+cu126", "0.21", "cu126"),
    ],
)
def test_edgetam_install(version, fits, build):
    index = f" --extra-index-url https://download.pytorch.org/whl/{build}" if build else ""
    assert edgetam_install(version) == f"pip install timm 'torchvision=={fits}.*'{index}"


def test_edgetam_install_unknown_torch():
    assert "torchvision that goes with it" in edgetam_install("3.0")
