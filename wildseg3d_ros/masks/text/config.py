"""Settings of what finds things by their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.settings import setting
from wildseg3d_ros.masks.sam2.published import SAM3

if TYPE_CHECKING:
    from wildseg3d_ros.masks.text.sam3 import TextFinder


@dataclass(frozen=True)
class TextConfig:
    """Things by their names, by SAM 3, which is loaded when a text is asked for."""

    weights: str = setting(
        SAM3.name,
        "SAM 3, which finds what a text names: hub name of a downloaded model, or a folder",
    )
    device: str = setting("auto", "torch device: auto, cpu, cuda or cuda:N")

    def load(self) -> TextFinder:
        """SAM 3, ready to be asked.

        Raises:
            ConfigError: PyTorch or transformers is missing. FileError: there are no weights.
        """
        SAM3.check(self.weights)  # before seconds are spent on imports
        try:
            from wildseg3d_ros.masks.text.sam3 import TextFinder

            return TextFinder(self.weights, self.device)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"finding things by their names needs the Python module '{error.name}', which is "
                "not installed: `make setup EXTRAS=sam2` in a clone, else "
                "`pip install 'wildseg3d[sam2]'`"
            ) from error
