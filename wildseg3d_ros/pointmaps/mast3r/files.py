"""Finds and opens files of weights; no file's code is ever run."""

from __future__ import annotations

import argparse
import os
import pathlib
import pickle
import re
import tarfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import shown
from wildseg3d_ros.core.files.tensors import check_pth
from wildseg3d_ros.core.files.text import read_json
from wildseg3d_ros.core.weights import find_weights as weights_file
from wildseg3d_ros.pointmaps import weights

LICENCE = "CC BY-NC-SA 4.0"
_FILE = "model.safetensors"


def find_weights(name: str) -> Path:
    """The file of weights that a setting names; see :mod:`wildseg3d_ros.core.weights`."""
    return weights_file(name, "MASt3R", (_FILE,), remedy, (".safetensors", ".pth"))


def remedy(name: str = "") -> str:
    """How to come by weights of that hub name, or by the published ones, for an error."""
    name = name or "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric"
    return (
        f"fetch them with `hf download {name} {_FILE}` (2.8 GB, licence {LICENCE}: no "
        "commercial use), or set pointmaps.mast3r.weights to the path of a .safetensors or .pth "
        "file. The pointmap back ends 'depth' and 'stereo' need no weights"
    )


@dataclass(frozen=True, eq=False)
class Checkpoint(weights.Checkpoint):
    """Tensors of a file.

    Attributes:
        heads: numbers of attention heads of encoder and decoder where the file or its
            ``config.json`` says them; the tensors do not.
    """

    network: ClassVar[str] = "MASt3R"
    remedy: ClassVar[Callable[..., str]] = staticmethod(remedy)
    heads: tuple[int | None, int | None] = (None, None)


def open_checkpoint(path: Path, stack: ExitStack) -> Checkpoint:
    """Reads what a ``.safetensors`` or ``.pth`` file holds, its tensors not yet. The stack closes
    the file when it ends.

    Raises:
        FileError: truncated, damaged, of another format, or more than data.
    """
    if path.suffix == ".safetensors":
        heads = _heads(_read_config(path.parent / "config.json"))
        return Checkpoint(path, *weights.open_safetensors(path, stack, remedy), heads)
    if path.suffix == ".pth":
        return _open_pth(path)
    raise FileError(
        f"'{path}' is no checkpoint this package reads: expected .safetensors or .pth, got "
        f"'{path.suffix}'"
    )


def _open_pth(path: Path) -> Checkpoint:
    _refuse_pickles(path)
    try:
        check_pth(path)
        with torch.serialization.safe_globals(_plain_types()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old storages, a source line each
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        # What is not data is refused before any of it runs.
        raise FileError(
            f"'{path}' is not loaded: {_refused_types(path) or _said(error)}; use the "
            ".safetensors file, or save the tensors alone"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError) as error:
        raise weights.damaged(path, error, remedy) from error
    tensors = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping):
        raise FileError(
            f"'{path}' holds a {type(content).__name__}; expected a dictionary with the tensors "
            "under 'model'"
        )
    tensors = {k: v for k, v in tensors.items() if isinstance(k, str) and isinstance(v, Tensor)}
    said = getattr(content.get("args"), "model", None)
    found = re.findall(
        r"(enc_num_heads|dec_num_heads)\s*=\s*(\d{1,9})", said if isinstance(said, str) else ""
    )
    described = {name: int(number) for name, number in found}
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    return Checkpoint(path, shapes, tensors.__getitem__, _heads(described))


def _plain_types() -> list[Any]:
    """What training leaves beside tensors and is plain data: its arguments in a Namespace, as in
    the published file, numbers of NumPy, and paths, which are not opened."""
    types: list[Any] = [argparse.Namespace, np.dtype, frozenset]
    types += [type(np.dtype(code)) for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4")]
    types += [type(np.dtype(code)) for code in ("u8", "f2", "f4", "f8", "U1")]
    scalar = np.float64(0).__reduce__()[0]
    # NumPy 1 and Python before 3.13 wrote other names.
    types += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    for kind, system in (("PurePosixPath", "Posix"), ("PureWindowsPath", "Windows")):
        for name in (kind, f"{system}Path"):
            for module in ("pathlib", "pathlib._local"):
                types.append((getattr(pathlib, kind), f"{module}.{name}"))
    return types


def _refused_types(path: Path) -> str:
    """The types in a file that are not loaded, for error text; their code is not run."""
    try:
        with torch.serialization.safe_globals(_plain_types()):
            found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError):
        return ""
    named = ", ".join(sorted(map(shown, found))[:5])
    return f"it has {named}, which is not among the types that are read" if found else ""


def _said(error: Exception) -> str:
    return f"it is damaged, or {shown((str(error).splitlines() or [''])[0])}"


def _refuse_pickles(path: Path) -> None:
    """Refuses what is no zip archive: torch would go through other loaders, one of which has run
    code although told not to (CVE-2025-32434)."""
    # Of files that torch wrote before version 1.6: a pickled number.
    legacy = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")
    try:
        with path.open("rb") as file:
            start = file.read(len(legacy))
        is_tar = tarfile.is_tarfile(path)
    except OSError as error:
        raise weights.damaged(path, error, remedy) from error
    if start == legacy or is_tar:
        form = "a file as torch wrote them before version 1.6 (no zip archive)"
    elif start[:1] == b"\x80":
        form = "a plain pickle and no file of torch.save"
    else:
        return
    raise FileError(
        f"'{path}' is {form}. It is not loaded, because that could run code. Where you trust it, "
        f"write it anew with torch.save(torch.load('{path.name}', map_location='cpu', "
        "weights_only=True), 'new.pth') in torch 2.6 or later, or use the .safetensors file"
    )


def _read_config(path: Path) -> Mapping[str, Any]:
    if not os.path.lexists(path):
        return {}
    content = read_json(path, "description of the checkpoint")
    return content if isinstance(content, Mapping) else {}


def _heads(config: Mapping[str, Any]) -> tuple[int | None, int | None]:
    values = [config.get(key) for key in ("enc_num_heads", "dec_num_heads")]
    if not all(value is None or (type(value) is int and value > 0) for value in values):
        raise FileError(
            f"the checkpoint's description says {shown(values)} encoder and decoder heads; "
            f"expected two whole numbers; {remedy()}"
        )
    return values[0], values[1]
