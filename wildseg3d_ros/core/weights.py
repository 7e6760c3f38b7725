"""Weights of networks: files, folders, and models of the hub that were downloaded before."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import is_folder, is_regular, of_home


def find_weights(
    weights: str,
    network: str,
    files: Sequence[str],
    remedy: Callable[..., str],
    suffixes: Sequence[str] = (".safetensors",),
) -> Path:
    """The file that a setting names.

    Nothing is downloaded: gigabytes under a licence of their own are fetched by a command that
    somebody decides to run.

    Args:
        weights: path of a file or folder, or a name on the hub.
        network: whose they are, for error text.
        files: names in a folder and on the hub: of the weights, and of what belongs beside them.
        remedy: how to come by weights of a hub name or, without one, of the published ones.
        suffixes: of files of weights.

    Raises:
        FileError: it is not there; the text has the command that fetches it.
    """
    path, who = of_home(weights), f"{network} weights '{weights}'"
    if is_regular(path):
        return path
    if is_folder(path):
        if is_regular(path / files[0]):
            return path / files[0]
        raise FileError(f"folder '{path}' holds no {files[0]}; {remedy()}")
    # A file is meant, be its ending misspelt; names on the hub have dots, too.
    if os.path.lexists(path):
        raise FileError(f"{who} are there and no file; {remedy()}")
    is_file = get_close_matches(path.suffix, suffixes, cutoff=0.7)
    if is_file or not re.fullmatch(r"[\w.-]+/[\w.-]+", weights):
        raise FileError(f"{who} do not exist; {remedy()}")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        # Beside each other in the cache, where they were fetched together.
        found = [Path(hf_hub_download(weights, name, local_files_only=True)) for name in files]
    except HFValidationError as error:
        raise FileError(f"{who}: {str(error).splitlines()[0]}; {remedy()}") from error
    except LocalEntryNotFoundError as error:
        raise FileError(
            f"{who} are not on this machine: there is no such file or folder (seen from "
            f"{Path.cwd()}), and no model of that name was downloaded with its "
            f"{' and '.join(files)}; {remedy(weights)}"
        ) from error
    return found[0]
