"""SAM 3 where it is installed, and the way out where it is not; PyTorch is imported when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.masks.text import WEIGHTS

if TYPE_CHECKING:
    from wildseg3d_ros.masks.text.sam3 import TextFinder


def load_text_finder(weights: str = WEIGHTS, device: str = "auto") -> TextFinder:
    """SAM 3, ready to be asked; see :class:`wildseg3d_ros.masks.text.sam3.TextFinder`.

    Raises:
        ConfigError: PyTorch or transformers is missing. FileError: there are no weights.
    """
    try:
        from wildseg3d_ros.masks.text.sam3 import TextFinder

        return TextFinder(weights, device)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"finding things by their names needs the Python module '{error.name}', which is not "
            "installed: `make setup EXTRAS=sam2` in a clone, else `pip install 'wildseg3d[sam2]'`"
        ) from error
