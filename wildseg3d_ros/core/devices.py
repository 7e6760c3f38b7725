"""torch devices by name, threads of numerical libraries, and memory. torch is imported when a
function is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from wildseg3d_ros.core.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from threadpoolctl import threadpool_limits


class _Limit:
    """On the threads of linear algebra, for as long as anybody wants it."""

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0
        self._limits: threadpool_limits | None = None

    def take(self) -> None:
        from threadpoolctl import threadpool_limits

        with self._lock:
            if self._users == 0:
                self._limits = threadpool_limits(1, user_api="blas")
            self._users += 1

    def give_back(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._limits is not None:
                self._limits.restore_original_limits()


_limit = _Limit()

_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


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
def blas_on_one_thread() -> Iterator[None]:
    """Keeps the linear algebra of NumPy and SciPy on the calling thread.

    Many small products in a row: a second thread gains nothing on an idle machine, and on a busy
    one it is waited for at every product, which has made a solve ten times slower. The limit is
    the whole process's: it stands until the last thread that asked for it has left.
    """
    import scipy.linalg  # noqa: F401  it brings an OpenBLAS of its own

    _limit.take()
    try:
        yield
    finally:
        _limit.give_back()


def available_memory() -> int | None:
    """Bytes that this process can still take without swapping, as the kernel and its control group
    (version 2) say; None where neither says it. Files that are only cached count as free."""
    found = []
    with suppress(OSError, ValueError, KeyError):
        found.append(1024 * _figures(_MEMINFO)["MemAvailable:"])
    with suppress(OSError, ValueError, KeyError):
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            found.append(int(limit) - _figures(_CGROUP / "memory.stat")["anon"])
    return max(min(found), 0) if found else None


def _figures(path: Path) -> dict[str, int]:
    """The numbers of a file of lines that begin with a name and a number."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
