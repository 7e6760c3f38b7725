"""Loading weights of Depth Anything 3: key by key, licence said, everything else refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from wildseg3d_ros.core.errors import FileError  # noqa: E402
from wildseg3d_ros.core.progress import Progress  # noqa: E402
from wildseg3d_ros.pointmaps.da3.backend import Da3Pointmaps  # noqa: E402
from wildseg3d_ros.pointmaps.da3.checkpoint import (  # noqa: E402
    architecture_of,
    licence_of,
    load_network,
)
from wildseg3d_ros.pointmaps.da3.config import Da3PointmapConfig  # noqa: E402
from wildseg3d_ros.pointmaps.da3.files import Checkpoint  # noqa: E402
from wildseg3d_testing.da3_weights import (  # noqa: E402
    SMALL,
    TINY,
    network_by_rule,
    write_checkpoint,
)
from wildseg3d_testing.scenes import construct_scene  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
VIT = "model.backbone.pretrained."


def load(folder, dtype=torch.float32):
    return load_network(str(folder), CPU, dtype)


@pytest.fixture
def spoil(tmp_path):
    """A folder of weights whose tensors or description were changed."""

    def make(tensors=lambda t: None, description=lambda d: None):
        folder = write_checkpoint(tmp_path)
        state = load_file(folder / "model.safetensors")
        tensors(state)
        save_file(state, folder / "model.safetensors")
        said = json.loads((folder / "config.json").read_text())
        description(said)
        (folder / "config.json").write_text(json.dumps(said))
        return folder

    return make


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_load_network_is_the_files(tmp_path, dtype):
    folder = write_checkpoint(tmp_path)
    network, licence = load(folder, dtype)
    assert network.architecture == TINY
    assert licence == "Apache-2.0"
    expected = network_by_rule().state_dict()
    found = network.state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        # Heads and cameras stay exact.
        assert value.dtype == (dtype if name.startswith("backbone.") else torch.float32)
        assert torch.equal(value, expected[name].to(value.dtype)), name
    load(folder / "model.safetensors")


def test_architecture_of_the_published_small_model():
    """From the shapes alone, without a description."""
    shapes = json.loads((Path(__file__).parent / "data" / "da3_checkpoint_keys.json").read_text())
    checkpoint = Checkpoint(
        Path("x"), {k: tuple(v) for k, v in shapes.items()}, lambda k: torch.zeros(1)
    )
    assert architecture_of(checkpoint) == SMALL


@pytest.mark.parametrize(
    ("name", "channels", "licence"),
    [
        ("da3-small", 384, "Apache"),
        ("da3-base", 768, "Apache"),
        ("da3-large", 1024, "CC BY-NC 4.0: no commercial use"),
        ("", 1024, "CC BY-NC 4.0: no commercial use"),
        ("DA3-LARGE-1.1", 768, "CC BY-NC 4.0: no commercial use"),
    ],
)
def test_licence_of_sizes(name, channels, licence):
    from dataclasses import replace

    sizes = replace(SMALL, backbone=replace(SMALL.backbone, channels=channels))
    assert licence_of(sizes, name).startswith(licence)


def test_load_says_the_licence(tmp_path, caplog):
    """Of large models as a warning, in the log and in each scene."""
    with caplog.at_level(logging.INFO):
        load(write_checkpoint(tmp_path / "small"))
    assert "Apache-2.0" in caplog.text
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    folder = write_checkpoint(tmp_path / "large", name="da3-large")
    config = Da3PointmapConfig(weights=str(folder), device="cpu", image_size=84)
    backend, progress = Da3Pointmaps(config), Progress()
    assert [r for r in caplog.records if r.levelno >= logging.WARNING and "CC BY-NC" in r.message]
    views = construct_scene(2, 84, 56, 2, with_depth=False, with_priors=False).views
    backend.predict(views, [(0, 1)], progress)
    assert "no commercial use" in progress.warnings[0]


def drop(*keys):
    return lambda state: [state.pop(key) for key in keys]


def test_load_missing_keys_are_named(spoil):
    folder = spoil(drop(f"{VIT}norm.weight", "model.cam_enc.token_norm.bias"))
    with pytest.raises(FileError, match=rf"lacks {VIT}norm.weight, model.cam_enc.token_norm.bias"):
        load(folder)


def test_load_missing_last_layer_is_noticed(spoil):
    """A network whose last layers are gone is not taken for a shallower one."""
    folder = spoil(lambda s: [s.pop(k) for k in list(s) if k.startswith(f"{VIT}blocks.9.")])
    with pytest.raises(FileError, match="four of the 9 layers"):
        load(folder)


def test_load_wrong_shapes_are_named(spoil):
    folder = spoil(lambda s: s.update({f"{VIT}norm.weight": torch.zeros(5)}))
    with pytest.raises(FileError, match=rf"{VIT}norm.weight is \[5\], expected \[32\]"):
        load(folder)


def test_load_unexpected_keys_are_named(spoil, caplog):
    """Those that training needs are not; others may change what the network is."""
    more = {
        "model.head.scratch.output_conv1_aux.0.0.weight": torch.zeros(1),
        "model.new_head.weight": torch.zeros(1),
    }
    load(spoil(lambda s: s.update(more)))
    said = [r.message for r in caplog.records if "without a use" in r.message]
    assert len(said) == 1
    assert said[0].endswith("here: model.new_head.weight")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("model.da3.head.norm.weight", "nested"),
        (f"{VIT}blocks.0.mlp.w12.weight", "giant size"),
    ],
)
def test_load_refuses_relatives_by_a_key(spoil, key, reason):
    with pytest.raises(FileError, match=f"{reason}.*needs DA3-SMALL"):
        load(spoil(lambda s: s.update({key: torch.zeros(1)})))


def test_load_refuses_models_for_one_view(spoil):
    folder = spoil(lambda s: [s.pop(k) for k in list(s) if ".cam_" in k])
    with pytest.raises(FileError, match="for one view .mono, metric.: it has no cameras"):
        load(folder)


def test_load_refuses_another_model(spoil):
    def replaced(state):
        state.clear()
        state["encoder.weight"] = torch.zeros(2)

    with pytest.raises(FileError, match="is not Depth Anything 3: it holds 1 tensors"):
        load(spoil(replaced))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        ({"alt_start": 4}, "config.json says alt_start 4, and the tensors say 2"),
        ({"out_layers": [1, 2]}, "heads read the layers .1, 2."),
        ({"out_layers": "all"}, "heads read the layers all"),
        ({"out_layers": [3, 5, 7, 10]}, "four of the 10 layers"),
        ({"out_layers": [3, 7, 7, 9]}, "each once"),
        ({"out_layers": [3, -1, 7, 9]}, "each once"),
    ],
)
def test_load_refuses_a_description_that_contradicts(spoil, net, reason):
    with pytest.raises(FileError, match=reason):
        load(spoil(description=lambda d: d["config"]["net"].update(net)))


def test_load_damaged_file(tmp_path):
    folder = write_checkpoint(tmp_path)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:1000])
    with pytest.raises(FileError, match="truncated, damaged or no file of weights"):
        load(folder)


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ("", "holds no model.safetensors"),
        ("none.safetensors", "do not exist"),
        ("depth-anything/DA3-SMALL", "are not on this machine"),
        ("a/b/c", "do not exist"),
    ],
)
def test_load_absent_weights_say_the_command(tmp_path, monkeypatch, weights, reason):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    where = tmp_path / weights if "/" not in weights else weights
    with pytest.raises(FileError, match=rf"{reason}.*`hf download depth-anything/DA3-\w+ config"):
        load(where)
