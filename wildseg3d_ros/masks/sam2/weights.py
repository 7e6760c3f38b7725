"""Models of SAM 2, EdgeTAM and SAM 3 from a hub name, a folder or a file, with nothing left to
chance."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.core.files.reading import is_folder, is_regular, of_home
from wildseg3d_ros.masks.sam2.batching import batched
from wildseg3d_ros.masks.sam2.published import SAM2, SAM3_TRACKER, Published

_log = logging.getLogger(__name__)

_MODELS = {
    "edgetam": "EdgeTam",
    "edgetam_video": "EdgeTam",
    "sam2": "Sam2",
    "sam2_video": "Sam2",
    "sam3_tracker": "Sam3Tracker",
    "sam3_tracker_video": "Sam3Tracker",
    "sam3_video": "Sam3Tracker",
}
"""First part of the names of their classes, by type. The last one holds the network that reads
texts as well, and is what SAM 3 is published as."""


_TRACKER_KEYS = {
    r"^detector_model\.vision_encoder\.backbone\.": "vision_encoder.backbone.",
    r"^tracker_neck\.": "vision_encoder.neck.",
    r"^tracker_model\.(.+)": r"\1",
}
"""Where SAM 3's file has the tracker's tensors: transformers 5.23 finds them for the video class
alone, and for no class that is derived from it."""
_TIED = "prompt_encoder.shared_embedding.positional_embedding"
"""Is ``shared_image_embedding``'s own; transformers 4 saved only that one."""


def lasting_name(weights: str) -> str:
    """What finds the same weights from every folder: a hub name as it is, or an absolute path."""
    path = of_home(weights)
    return str(path.resolve()) if is_folder(path) or is_regular(path) else weights


def load_models(
    weights: str, device: torch.device, dtype: torch.dtype, tracker: bool = True
) -> tuple[Any, Any]:
    """The image model and the video model, which share one encoder.

    Args:
        weights: hub name of a downloaded model, its folder, or its ``.safetensors`` file.
        tracker: whether the video model is needed; without, it is None.

    Raises:
        FileError: no such weights, of another model, or not all of them.
        ConfigError: a package that the model needs is missing.
    """
    with _quiet():
        source, state = _source(weights, SAM2)
        kind = _kind(source, tuple(_MODELS), SAM2)
        first = _MODELS[kind]
        published = SAM3_TRACKER if first == "Sam3Tracker" else SAM2
        image_model = _load(f"{first}Model", source, dtype, state, published)
        video_model = None
        if tracker:
            video_model = _load(f"{first}VideoModel", source, dtype, state, published)
    image_model = image_model.to(device).eval()
    if video_model is not None:
        # One encoder in memory: the two classes hold the same one.
        video_model.vision_encoder = image_model.vision_encoder
        video_model = video_model.to(device).eval()
    _say_loaded(weights, kind, video_model or image_model, published)
    return image_model, video_model


def load_model(
    weights: str,
    name: str,
    kinds: Sequence[str],
    device: torch.device,
    dtype: torch.dtype,
    published: Published,
) -> tuple[Any, Any]:
    """A model that reads text, and its tokenizer, of the same weights.

    Args:
        weights: as of :func:`load_models`.
        name: of the model's class in transformers.
        kinds: types that its weights may have.

    Raises:
        FileError, ConfigError: as of :func:`load_models`.
    """
    import transformers

    with _quiet():
        source, state = _source(weights, published)
        kind = _kind(source, kinds, published)
        model = _load(name, source, dtype, state, published).to(device).eval()
        with _clear_errors(source, published):
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=True)
    _say_loaded(weights, kind, model, published)
    return model, tokenizer


def _kind(source: str, kinds: Sequence[str], published: Published) -> str:
    """The type of a model, which is one of ``kinds``."""
    import transformers

    with _clear_errors(source, published):
        config = transformers.AutoConfig.from_pretrained(source, local_files_only=True)
    if config.model_type not in kinds:
        raise FileError(
            f"'{source}' is a model of type '{config.model_type}'; expected one of "
            f"{', '.join(kinds)}; {published.remedy()}"
        )
    return config.model_type


def _say_loaded(weights: str, kind: str, model: Any, published: Published) -> None:
    parameter = next(model.parameters())
    _log.warning(
        "%s weights '%s' (%s) loaded: %.1f M parameters as %s on %s; the published weights are "
        "under %s",
        published.title,
        weights,
        kind,
        sum(p.numel() for p in model.parameters()) / 1e6,
        str(parameter.dtype).removeprefix("torch."),
        parameter.device,
        published.licence,
    )


def _source(weights: str, published: Published) -> tuple[str, Mapping[str, torch.Tensor] | None]:
    """What transformers loads by name, a folder or a hub name, and the tensors of a given file."""
    published.check(weights)
    path = of_home(weights)
    if is_folder(path):
        return str(path), None
    if not is_regular(path):
        return weights, None
    folder = path.absolute().parent
    from safetensors.torch import load_file

    with _clear_errors(str(folder), published, path):
        return str(folder), load_file(path)


def _load(
    name: str,
    source: str,
    dtype: torch.dtype,
    state: Mapping[str, torch.Tensor] | None,
    published: Published,
) -> Any:
    """A model of transformers by the name of its class, all of whose tensors are the weights'."""
    import transformers

    model_class = getattr(transformers, name)
    model_class = batched(model_class) if "Video" in name else model_class
    given: dict[str, Any] = {"dtype": dtype, "output_loading_info": True, "local_files_only": True}
    if name.startswith("Sam3Tracker"):
        given["key_mapping"] = _TRACKER_KEYS
    with _clear_errors(source, published):
        if state is None:
            model, report = model_class.from_pretrained(source, **given)
        else:
            config = model_class.config_class.from_pretrained(source, local_files_only=True)
            model, report = model_class.from_pretrained(
                None, config=config, state_dict=dict(state), **given
            )
    missing = set(report["missing_keys"])
    if _TIED in missing:
        # Where it is missing as well, it stays in the list.
        tied = model.shared_image_embedding.positional_embedding.detach().clone()
        model.prompt_encoder.shared_embedding.positional_embedding = tied
        missing.remove(_TIED)
    if some := [*sorted(missing), *sorted(report["mismatched_keys"])][:3]:
        tracks = any("memory" in key for key in missing)
        without = "; or set masks.sam2.anchors to 0, which needs no tracker" if tracks else ""
        raise FileError(
            f"the weights of '{source}' are not complete for {name}: {len(missing)} tensors are "
            f"missing, such as {some}{without}; {published.remedy()}"
        )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers and the hub from writing to the terminal."""
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled

    verbosity, were_off = transformers.logging.get_verbosity(), are_progress_bars_disabled()
    transformers.logging.set_verbosity_error()
    if not were_off:
        transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        # Where the environment has them off, turning them on is a warning.
        if not were_off:
            transformers.logging.enable_progress_bar()


@contextmanager
def _clear_errors(source: str, published: Published, file: Path | None = None) -> Iterator[None]:
    """Makes errors of loading say what is missing, and the way out."""
    from safetensors import SafetensorError

    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"the model '{source}' needs a package that is not installed or does not load "
            f"({str(error).strip().splitlines()[0]}); EdgeTAM needs timm and the torchvision of "
            f"the installed torch: {edgetam_install(torch.__version__)}"
        ) from error
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        if not is_folder(Path(source)):
            raise FileError(
                f"{published.title} weights '{source}' are neither a folder (there is no "
                f"'{of_home(source).absolute()}') nor a downloaded model of that name "
                f"on the hub; {published.remedy(source)}"
            ) from error
        first = (str(error).strip() or repr(error)).splitlines()[0]
        raise FileError(
            f"cannot load {published.title} weights '{file or source}' ({first}); "
            f"{published.remedy(source)}"
        ) from error


def edgetam_install(torch_version: str) -> str:
    """The command that installs what EdgeTAM's encoder needs beside this version of torch.

    torchvision 0.(n + 15) is built for torch 2.n, and for the same CPU or CUDA build of it.
    """
    found = re.match(r"2\.(\d+)[^+]*(?:\+(\w+))?", torch_version)
    if not found:
        return "pip install timm, and the torchvision that goes with it"
    fits = f"pip install timm 'torchvision==0.{int(found[1]) + 15}.*'"
    build = f" --extra-index-url https://download.pytorch.org/whl/{found[2]}" if found[2] else ""
    return fits + build
