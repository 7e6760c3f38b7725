"""Loading weights: what fits is loaded exactly, everything else is refused with the reason."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import logging
import pickle
import shutil
import tarfile
from contextlib import ExitStack
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from wildseg3d_ros.config import SceneConfig  # noqa: E402
from wildseg3d_ros.core.errors import ConfigError, FileError  # noqa: E402
from wildseg3d_ros.pointmaps import load_pointmaps  # noqa: E402
from wildseg3d_ros.pointmaps.config import PointmapConfig  # noqa: E402
from wildseg3d_ros.pointmaps.mast3r.checkpoint import (  # noqa: E402
    load_network,
    network_from_checkpoint,
)
from wildseg3d_ros.pointmaps.mast3r.files import (  # noqa: E402
    Checkpoint,
    find_weights,
    open_checkpoint,
)
from wildseg3d_ros.pointmaps.mast3r.network import (  # noqa: E402
    Architecture,
    Mast3r,
    published_name,
)
from wildseg3d_testing.mast3r_weights import (  # noqa: E402
    TINY,
    network_by_rule,
    write_checkpoint,
)

CPU = torch.device("cpu")
HUB = "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric"
MODEL = "AsymmetricMASt3R(pos_embed='RoPE100', enc_num_heads=2, dec_num_heads=2, two_confs=True)"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("published"))


@pytest.fixture
def checkpoint(written, tmp_path):
    """A copy that a test may spoil: path and tensors."""
    for file in written.parent.iterdir():
        shutil.copy(file, tmp_path / file.name)
    return tmp_path / written.name, load_file(written)


def load(path, dtype=torch.float32):
    return load_network(str(path), CPU, dtype)


def assert_is_tiny(network, dtype=torch.float32):
    assert network.architecture == TINY
    expected = network_by_rule(TINY).shortened(dtype).state_dict()
    found = network.state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.dtype == (torch.float32 if "head" in name else dtype)
        assert torch.equal(value, expected[name]), name
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_load_network_safetensors(written, dtype):
    assert_is_tiny(load(written, dtype), dtype)


def test_load_network_from_a_folder(written):
    assert_is_tiny(load(written.parent))


def test_load_network_pth_with_the_arguments_of_its_training(checkpoint, tmp_path):
    path, tensors = tmp_path / "trained.pth", checkpoint[1]
    torch.save({"args": argparse.Namespace(model=MODEL, lr=1e-4), "model": tensors}, path)
    assert_is_tiny(load(path))


def test_load_network_pth_with_plain_values_of_other_libraries(checkpoint, tmp_path):
    path, tensors = tmp_path / "trained.pth", checkpoint[1]
    said = {
        "loss": np.float64(0.25), "epoch": np.int64(3), "best": np.bool_(True),
        "scale": np.float32(2.0), "data": Path("/data"), "pure": PurePosixPath("a/b"),
        "windows": PureWindowsPath("c:/x"),
    }  # fmt: skip
    args = argparse.Namespace(model=MODEL, output_dir=Path("out"), lr=np.float32(1e-4))
    torch.save({"args": args, "model": tensors, **said}, path)
    assert_is_tiny(load(path))


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (dt.timedelta(1), r"datetime\.timedelta"),
        (collections.defaultdict(int), r"builtins\.int, collections\.defaultdict"),
    ],
)
def test_load_network_pth_names_the_type_that_it_refuses(value, named, checkpoint, tmp_path):
    path = tmp_path / "trained.pth"
    torch.save({"model": checkpoint[1], "when": value}, path)
    with pytest.raises(FileError, match=rf"has {named}, which is not among the types"):
        load(path)


def test_network_from_checkpoint_takes_a_tensor_by_its_other_name(checkpoint):
    path, tensors = checkpoint
    for head in (1, 2):
        for level in range(4):
            prefix = f"downstream_head{head}.dpt.scratch."
            value = tensors.pop(f"{prefix}layer{level + 1}_rn.weight")
            tensors[f"{prefix}layer_rn.{level}.weight"] = value
    save_file(tensors, path)
    assert_is_tiny(load(path))


def test_network_from_checkpoint_ignores_tensors_that_inference_does_not_use(checkpoint):
    path, tensors = checkpoint
    tensors["mask_token"] = torch.zeros(1, 1, 24)
    tensors["downstream_head1.dpt.scratch.refinenet4.resConfUnit1.conv1.bias"] = torch.zeros(16)
    save_file(tensors, path)
    assert_is_tiny(load(path))


def test_load_network_logs_licence_and_memory_once(written, caplog):
    with caplog.at_level(logging.INFO):
        load(written, torch.bfloat16)
    said = [
        record.getMessage() for record in caplog.records if "CC BY-NC-SA 4.0" in record.message
    ]
    assert len(said) == 1
    assert "no commercial use" in said[0]
    assert "MB as bfloat16 (heads float32) on cpu" in said[0]
    assert caplog.records[0].levelno >= logging.WARNING, "shown without any set-up of logging"


class TestRefused:
    @pytest.mark.parametrize(
        "key",
        [
            "dec_blocks2.3.cross_attn.projk.bias",
            "enc_norm.weight",
            "downstream_head2.dpt.scratch.layer3_rn.weight",
            "patch_embed.proj.weight",
            "decoder_embed.weight",
        ],
    )
    def test_network_from_checkpoint_names_a_missing_tensor(self, checkpoint, key):
        path, tensors = checkpoint
        del tensors[key]
        save_file(tensors, path)
        with pytest.raises(FileError, match=rf"lacks {key}"):
            load(path)

    def test_network_from_checkpoint_names_both_shapes_of_a_wrong_one(self, checkpoint):
        path, tensors = checkpoint
        tensors["dec_blocks.1.mlp.fc2.weight"] = torch.zeros(24, 47)
        save_file(tensors, path)
        text = r"wrong shapes: dec_blocks\.1\.mlp\.fc2\.weight is \[24, 47\], expected \[24, 48\]"
        with pytest.raises(FileError, match=text):
            load(path)

    def test_network_from_checkpoint_counts_many_missing_tensors(self, checkpoint):
        path, tensors = checkpoint
        kept = {k: v for k, v in tensors.items() if not ("dec_blocks2." in k and ".norm" in k)}
        save_file(kept, path)
        with pytest.raises(FileError, match=r"dec_blocks2\.0\.norm1\.weight, .* and \d+ more"):
            load(path)

    @pytest.mark.parametrize(
        "layers", [("dec_blocks.3",), ("dec_blocks2.3",), ("dec_blocks.2", "dec_blocks.3")]
    )
    def test_network_from_checkpoint_misses_last_layers_of_one_decoder(self, checkpoint, layers):
        path, tensors = checkpoint
        prefixes = tuple(f"{layer}." for layer in layers)
        save_file({k: v for k, v in tensors.items() if not k.startswith(prefixes)}, path)
        named = ", ".join(rf"{layer}\.\*" for layer in layers)
        with pytest.raises(FileError, match=rf"lacks {named} .* 4 in either decoder"):
            load(path)

    @pytest.mark.parametrize(
        ("encoder", "decoder", "lacks"),
        [
            (23, 12, r"enc_blocks\.23\.\*"),
            (24, 11, r"dec_blocks\.11\.\*, dec_blocks2\.11\.\*"),
        ],
    )
    def test_network_from_checkpoint_misses_last_layers_of_the_published_sizes(
        self, encoder, decoder, lacks
    ):
        architecture = Architecture(encoder_depth=encoder, decoder_depth=decoder)
        with torch.device("meta"):
            state = Mast3r(architecture).state_dict()
        shapes = {published_name(name): tuple(value.shape) for name, value in state.items()}

        def read(key):
            raise AssertionError(f"{key} is read although layers are missing")

        checkpoint = Checkpoint(Path("model.safetensors"), shapes, read)
        with pytest.raises(FileError, match=rf"lacks {lacks} .* 24 layers .* 12 in either"):
            network_from_checkpoint(checkpoint, CPU, torch.float32)

    @pytest.mark.parametrize("kind", ["DPT", "linear"])
    def test_architecture_of_refuses_dust3r(self, checkpoint, kind):
        path, tensors = checkpoint
        if kind == "DPT":
            tensors = {k: v for k, v in tensors.items() if "head_local_features" not in k}
        else:
            tensors = {k: v for k, v in tensors.items() if not k.startswith("downstream_head")}
            tensors["downstream_head1.proj.weight"] = torch.zeros(1024, 24)
        save_file(tensors, path)
        with pytest.raises(FileError, match=rf"DUSt3R checkpoint \({kind} head.*no descriptors"):
            load(path)

    def test_architecture_of_refuses_croco(self, checkpoint):
        path, tensors = checkpoint
        save_file({k: v for k, v in tensors.items() if not k.startswith("downstream")}, path)
        with pytest.raises(FileError, match="no heads .*CroCo"):
            load(path)

    def test_architecture_of_refuses_another_model(self, checkpoint):
        path = checkpoint[0]
        save_file({"conv1.weight": torch.zeros(2, 2)}, path)
        with pytest.raises(FileError, match=r"not a MASt3R checkpoint.*conv1\.weight"):
            load(path)

    @pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
    @pytest.mark.parametrize("share", [0.0, 0.001, 0.7])
    def test_open_checkpoint_truncated(self, checkpoint, tmp_path, name, share):
        path = tmp_path / name
        if name.endswith("pth"):
            torch.save({"model": checkpoint[1]}, path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(FileError, match=r"truncated|damaged") as error:
            load(path)
        assert str(path) in str(error.value)
        assert f"`hf download {HUB} model.safetensors`" in str(error.value)

    def test_open_checkpoint_runs_no_code(self, tmp_path):
        proof = tmp_path / "ran"

        class Evil:
            def __reduce__(self):
                return (open, (str(proof), "w"))

        path = tmp_path / "evil.pth"
        torch.save({"model": {"a": Evil()}}, path)
        with pytest.raises(FileError, match=r"has _?io\.open, which is not among the types"):
            load(path)
        plain = tmp_path / "plain.pth"
        plain.write_bytes(pickle.dumps(Evil()))
        with pytest.raises(FileError, match=r"a plain pickle.*could run code"):
            load(plain)
        old = tmp_path / "old.pth"
        torch.save({"model": {"a": Evil()}}, old, _use_new_zipfile_serialization=False)
        with pytest.raises(FileError, match="could run code"):
            load(old)
        assert not proof.exists()

    def test_open_checkpoint_names_an_old_format_that_can_be_written_anew(
        self, checkpoint, tmp_path
    ):
        path = tmp_path / "old.pth"
        torch.save({"model": checkpoint[1]}, path, _use_new_zipfile_serialization=False)
        with pytest.raises(FileError, match=r"before version 1\.6 .no zip archive") as error:
            load(path)
        assert "truncated" not in str(error.value)
        assert "torch.save(torch.load('old.pth'" in str(error.value)
        new = tmp_path / "new.pth"
        torch.save(torch.load(path, map_location="cpu", weights_only=True), new)
        assert open_checkpoint(new, ExitStack()).shapes.keys() == checkpoint[1].keys()

    def test_open_checkpoint_names_a_tar_archive(self, checkpoint, tmp_path):
        path = tmp_path / "older.pth"
        with tarfile.open(path, "w") as archive:
            archive.add(checkpoint[0], "tensors")
        with pytest.raises(FileError, match=r"before version 1\.6"):
            load(path)

    def test_open_checkpoint_refuses_a_foreign_suffix(self, tmp_path):
        path = tmp_path / "weights.onnx"
        path.write_bytes(b"x")
        with pytest.raises(FileError, match=r"expected \.safetensors or \.pth, got '\.onnx'"):
            load(path)

    def test_architecture_of_channels_that_do_not_split_into_heads(self, checkpoint):
        path = checkpoint[0]
        (path.parent / "config.json").unlink()
        with pytest.raises(FileError, match=r"give enc_num_heads in a config\.json"):
            load(path)


class TestAbsent:
    def test_find_weights_hub_name_without_a_download(self, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(FileError) as error:
            load(HUB)
        text = str(error.value)
        assert "there is no such file or folder" in text
        assert f"`hf download {HUB} model.safetensors`" in text
        assert "CC BY-NC-SA 4.0" in text
        assert "'depth' and 'stereo' need no weights" in text

    def test_find_weights_hub_name_that_was_downloaded(self, written, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        model = tmp_path / f"models--{HUB.replace('/', '--')}"
        snapshot = model / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
        shutil.copytree(written.parent, snapshot)
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(snapshot.name)
        assert_is_tiny(load(HUB))

    @pytest.mark.parametrize(
        "name", ["absent.safetensors", "somewhere/else.pth", "weights/mast3r.safetensor", "a/b/c"]
    )
    def test_find_weights_absent_path(self, name):
        with pytest.raises(
            FileError, match=rf"'{name}' do not exist; fetch them with `hf download"
        ):
            load(name)

    def test_find_weights_folder_without_the_file(self, tmp_path):
        with pytest.raises(FileError, match=r"holds no model\.safetensors"):
            load(tmp_path)


def configured(weights, **values) -> PointmapConfig:
    settings = {"backend": "mast3r", "mast3r": {"weights": str(weights), **values}}
    return SceneConfig.from_mapping({"pointmaps": settings}).pointmaps


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_backend_without_the_gpu_asked_for(written):
    with pytest.raises(
        ConfigError, match=r"pointmaps\.mast3r\.device 'cuda'.*use 'auto' or 'cpu'"
    ):
        load_pointmaps(configured(written, device="cuda"))


def test_backend_on_a_device_that_no_torch_knows(written):
    with pytest.raises(ConfigError, match=r"pointmaps\.mast3r\.device 'fpga' cannot be used"):
        load_pointmaps(configured(written, device="fpga"))


def test_backend_image_size_that_is_no_multiple_of_the_patch(written, monkeypatch):
    """Said before 2.8 GB are read."""
    monkeypatch.setattr("wildseg3d_ros.pointmaps.mast3r.checkpoint.Mast3r", None)
    with pytest.raises(
        ConfigError, match=r"image_size must be a multiple of 16, got 100; .* 96 and 112"
    ):
        load_pointmaps(configured(written, device="cpu", image_size=100))


def test_find_weights_name_that_the_hub_cannot_have():
    with pytest.raises(FileError, match=r"foo/-bar.*hf download"):
        find_weights("foo/-bar")


@pytest.mark.parametrize("heads", ['"lots"', "Infinity", "NaN", "2.5", "true", "[]", "-1", "0"])
def test_open_checkpoint_heads_that_are_no_number(heads, written, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(written, folder / "model.safetensors")
    (folder / "config.json").write_text(f'{{"enc_num_heads": {heads}}}')
    with pytest.raises(FileError, match=r"\[.*, None\] encoder.*whole numbers"):
        load(folder / "model.safetensors")
