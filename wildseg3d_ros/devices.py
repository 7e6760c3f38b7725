"""torch devices by name. torch is imported when a function is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wildseg3d_ros.errors import ConfigError

if TYPE_CHECKING:
    import torch


def torch_device(name: str, setting: str) -> torch.device:
    """The device of that name; ``auto`` is the first GPU where there is one, else the processor.

    Args:
        name: auto, cpu, cuda or cuda:N.
        setting: key of the setting that names it, for the error.

    Raises:
        ConfigError: no such device on this machine.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"{setting} '{name}' cannot be used here ({str(error).splitlines()[0]}); use 'auto' "
            "or 'cpu', or 'cuda' on a machine with an NVIDIA GPU and a torch build for it"
        ) from error
    return device
