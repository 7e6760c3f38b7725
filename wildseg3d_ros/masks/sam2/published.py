"""What is known of published models without PyTorch: names, sizes, licences, and whether the
weights that a setting names are there."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import is_folder, is_regular, of_home


@dataclass(frozen=True)
class Published:
    """A published model, for what is said of its weights.

    Attributes:
        title: what it is called.
        name: hub name.
        files: of the hub's page, what is read; the others are the same in other formats.
        size: of the files, and what fetching them needs.
        licence: of the published weights.
        setting: what names the weights.
        otherwise: what works without them.
    """

    title: str
    name: str
    files: str
    size: str
    licence: str
    setting: str
    otherwise: str

    def remedy(self, name: str = "") -> str:
        """How to come by the weights of a hub name or, for a folder or nothing, by these."""
        name = name if name and not is_folder(Path(name)) else self.name
        return (
            f"fetch them with `hf download {name} {self.files}` ({self.size}, licence "
            f"{self.licence}), or set {self.setting} to the model's folder. {self.otherwise}"
        )

    def check(self, weights: str) -> None:
        """Refuses weights of which a look at their name and place says that they cannot be loaded.

        Raises:
            FileError: neither a folder, a file with its description, nor a name on the hub.
        """
        path, who = of_home(weights), f"{self.title} weights '{weights}'"
        if is_folder(path):
            return
        if not is_regular(path):
            if re.fullmatch("[^.~/][^/]*/[^.~/][^/]*", weights):
                return
            raise FileError(f"{who} do not exist; {self.remedy()}")
        if path.suffix != ".safetensors":
            raise FileError(
                f"{who} are no .safetensors file; expected one in the layout of transformers, "
                f"not a checkpoint of the original code; {self.remedy()}"
            )
        folder = path.absolute().parent
        if not is_regular(folder / "config.json"):
            raise FileError(
                f"{who} have no config.json beside them, which says how the network is built: "
                f"fetch it into '{folder}' as well; {self.remedy()}"
            )


SAM2 = Published(
    "SAM 2",
    "facebook/sam2.1-hiera-small",
    "config.json model.safetensors",
    "184 MB for sam2.1-hiera-small",
    "Apache-2.0",
    "masks.sam2.weights",
    "The mask back end 'geometric' needs no weights",
)
SAM3 = Published(
    "SAM 3",
    "facebook/sam3",
    "config.json model.safetensors tokenizer.json tokenizer_config.json",
    "3.4 GB, gated: accept Meta's SAM License on the model's page first, then `hf auth login`",
    "SAM License (Meta's own, read it before you sell anything)",
    "text.weights (in Python the argument weights)",
    "Clicks, boxes and ids need no weights",
)
SAM3_TRACKER = replace(SAM3, setting=SAM2.setting, otherwise=SAM2.otherwise)
