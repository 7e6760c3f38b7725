"""Tensors of networks, from files that may be damaged or of other networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import is_regular
from wildseg3d_ros.core.files.tensors import check_safetensors


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors of a file by key, read when they are asked for.

    Attributes:
        network: whose weights they are, for error text.
        remedy: how to come by weights; see :func:`find_weights`.
        source: the file.
        shapes: of all tensors.
        read: gives a tensor by its key.
    """

    network: ClassVar[str]
    remedy: ClassVar[Callable[..., str]]
    source: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]

    def shape(self, key: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor that sizes are read from.

        Raises:
            FileError: there is none, or it has another number of dimensions.
        """
        if key not in self.shapes:
            raise self.lacks([key])
        shape = self.shapes[key]
        if len(shape) != dimensions or 0 in shape:
            raise self._misshapen([f"{key} is {list(shape)}, expected {dimensions} dimensions"])
        return shape

    def tensors(
        self,
        keys: Mapping[str, str],
        wanted: Mapping[str, Tensor],
        dtypes: Callable[[str], torch.dtype],
        place: Place,
    ) -> dict[str, Tensor]:
        """What a network holds, moved to its device one by one.

        Args:
            keys: in the file, by the network's name.
            wanted: tensors of these shapes, by name.
            dtypes: number type by name.

        Raises:
            FileError: another shape, too little memory, or a damaged file.
        """
        wrong = [
            f"{key} is {list(self.shapes[key])}, expected {list(wanted[name].shape)}"
            for name, key in keys.items()
            if self.shapes[key] != tuple(wanted[name].shape)
        ]
        if wrong:
            raise self._misshapen(wrong)
        try:
            return {
                name: self.read(key).to(device=place.device, dtype=dtypes(name))
                for name, key in keys.items()
            }
        except torch.OutOfMemoryError as error:
            raise FileError(
                f"the weights of '{self.source}' do not fit into the memory of {place.device}; "
                f"{place.way_out}"
            ) from error
        except (RuntimeError, OSError) as error:
            raise damaged(self.source, error, self.remedy) from error

    def lacks(self, missing: Sequence[str], why: str = "") -> FileError:
        """The error that a file does not hold what the network needs."""
        return FileError(
            f"'{self.source}' lacks {listed(missing)}{why}; are these whole weights of "
            f"{self.network}? If not, {self.remedy()}"
        )

    def _misshapen(self, wrong: Sequence[str]) -> FileError:
        return FileError(f"'{self.source}' has tensors of wrong shapes: {listed(wrong)}")


@dataclass(frozen=True)
class Place:
    """Where weights go, and what to set where they do not fit there."""

    device: torch.device
    way_out: str


def open_safetensors(
    path: Path, stack: ExitStack, remedy: Callable[..., str]
) -> tuple[dict[str, tuple[int, ...]], Callable[[str], Tensor]]:
    """Shapes of a file's tensors by key, and what reads one. The stack closes the file.

    Raises:
        FileError: truncated, damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_safetensors(path)
        file = stack.enter_context(safe_open(path, framework="pt"))
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise damaged(path, error, remedy) from error
    return shapes, file.get_tensor


def damaged(path: Path, error: Exception, remedy: Callable[..., str]) -> FileError:
    """What to tell of a file that cannot be read to its end."""
    size = path.stat().st_size if is_regular(path) else 0
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return FileError(
        f"'{path}' ({size / 1e6:.1f} MB) is truncated, damaged or no file of weights ({first}); "
        f"{remedy()}"
    )


def listed(texts: Sequence[str], named: int = 5) -> str:
    """The first of them, and how many more there are."""
    rest = f" and {len(texts) - named} more" if len(texts) > named else ""
    return ", ".join(texts[:named]) + rest
