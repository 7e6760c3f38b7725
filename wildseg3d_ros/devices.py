"""torch devices by name, and its threads. torch is imported when a function is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch's operations on the calling thread.

    They are small: a second thread gains nothing on an idle machine, and on a busy one waiting for
    it at every operation has made a solve ten times slower.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
