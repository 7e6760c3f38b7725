"""Models of SAM 2, EdgeTAM and SAM 3 from a hub name, a folder or a file, with nothing left to
chance."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.core.files.reading import is_folder, is_regular, of_home, shown
from wildseg3d_ros.core.models import (
    DESCRIPTION,
    WEIGHTS,
    Checkpoint,
    build,
    lacking,
    made_of,
    read_checkpoint,
    read_tokenizer,
)
from wildseg3d_ros.core.weights import find_weights
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
    checkpoint = _checkpoint(weights, tuple(_MODELS), SAM2)
    first = _MODELS[checkpoint.kind]
    published = SAM3_TRACKER if first == "Sam3Tracker" else SAM2
    image_model = _load(f"{first}Model", checkpoint, dtype, published)
    video_model = None
    if tracker:
        video_model = _load(f"{first}VideoModel", checkpoint, dtype, published)
    image_model = image_model.to(device).eval()
    if video_model is not None:
        # One encoder in memory: the two classes hold the same one.
        video_model.vision_encoder = image_model.vision_encoder
        video_model = video_model.to(device).eval()
    _say_loaded(weights, checkpoint.kind, video_model or image_model, published)
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
    checkpoint = _checkpoint(weights, kinds, published)
    model = _load(name, checkpoint, dtype, published).to(device).eval()
    with _clear_errors(checkpoint.file, published):
        tokenizer = read_tokenizer(checkpoint.file.parent)
    _say_loaded(weights, checkpoint.kind, model, published)
    return model, tokenizer


def _checkpoint(weights: str, kinds: Sequence[str], published: Published) -> Checkpoint:
    """The description and the tensors of a model whose type is one of ``kinds``."""
    files = (WEIGHTS, DESCRIPTION)
    file = find_weights(weights, published.title, files, published.remedy)
    if file.suffix != ".safetensors":
        raise FileError(
            f"{published.title} weights '{weights}' are no .safetensors file; expected one in the "
            f"layout of transformers, not a checkpoint of the original code; {published.remedy()}"
        )
    if not is_regular(file.parent / DESCRIPTION):
        raise FileError(
            f"{published.title} weights '{weights}' have no {DESCRIPTION} beside them, which says "
            f"how the network is built: fetch it into '{file.absolute().parent}' as well; "
            f"{published.remedy()}"
        )
    with _clear_errors(file, published):
        checkpoint = read_checkpoint(file)
    if checkpoint.kind not in kinds:
        raise FileError(
            f"'{file}' is a model of type '{shown(checkpoint.kind)}'; expected one of "
            f"{', '.join(kinds)}; {published.remedy()}"
        )
    return checkpoint


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


def _load(name: str, checkpoint: Checkpoint, dtype: torch.dtype, published: Published) -> Any:
    """A model of transformers by the name of its class, all of whose tensors are the weights'."""
    import transformers

    model_class = getattr(transformers, name)
    model_class = batched(model_class) if "Video" in name else model_class
    keys = _TRACKER_KEYS if name.startswith("Sam3Tracker") else None
    with _clear_errors(checkpoint.file, published):
        model, report = build(model_class, checkpoint, dtype, keys)
    missing, tied = report["missing_keys"], ()
    if _TIED in missing and "shared_image_embedding.positional_embedding" not in missing:
        own = model.shared_image_embedding.positional_embedding.detach().clone()
        model.prompt_encoder.shared_embedding.positional_embedding = own
        tied = (_TIED,)
    if said := lacking(report, tied):
        tracks = any("memory" in key for key in missing)
        without = "; or set masks.sam2.anchors to 0, which needs no tracker" if tracks else ""
        raise FileError(
            f"the weights of '{checkpoint.file}' are not complete for {name}: "
            f"{said}{without}; {published.remedy()}"
        )
    return model


@contextmanager
def _clear_errors(file: Path, published: Published) -> Iterator[None]:
    """Makes errors of loading say what is missing, and the way out."""
    with made_of(f"{published.title} weights '{file}'", published.remedy, always=True):
        try:
            yield
        except ImportError as error:
            raise ConfigError(
                f"the model '{file}' needs a package that is not installed or does not load "
                f"({str(error).strip().splitlines()[0]}); EdgeTAM needs timm and the torchvision "
                f"of the installed torch: {edgetam_install(torch.__version__)}"
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
