"""Runs the network: every image through the encoder once, pairs in batches that fit the memory."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.errors import WildSeg3DError
from wildseg3d_ros.pointmaps.mast3r.network import Grid, Maps, Mast3r, Role

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_MOST_ON_GPU = 16
"""Pairs per batch that keep a large GPU busy; more only take memory."""

_MOST_ON_CPU = 2
"""A processor is busy with one pair."""

_SHARE_OF_MEMORY = 0.8
"""Of the memory that is free; the rest is for matches and what others allocate meanwhile."""

_BYTES_PER_PIXEL = 3800
"""Peak of decoding a pair in float32 per pixel of a view, measured on a CPU at the published
size."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A view's encoder tokens (1, S, C) on its grid of patches."""

    tokens: Tensor
    grid: Grid


class Inference:
    """The network with the memory it may use.

    Args:
        network: on its device, in its type.
        batch_size: most pairs at once; 0 = as many as fit.
        warn: told of what a user should know.
    """

    def __init__(
        self, network: Mast3r, batch_size: int = 0, warn: Callable[[str], None] = _log.warning
    ) -> None:
        self._network, self._batch_size, self._warn = network, batch_size, warn
        parameter = next(network.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype

    @torch.inference_mode()
    def encode(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[Encoded]:
        """Encodes RGB images (H, W, 3) whose sides are multiples of the patch, in their order."""

        def run(part: list[NDArray[np.uint8]]) -> list[Encoded]:
            pixels = torch.from_numpy(np.stack(part)).to(self._device)
            batch = pixels.permute(0, 3, 1, 2).to(self._dtype) / 127.5 - 1.0
            grid = self._network.grid(batch)
            return [Encoded(tokens[None], grid) for tokens in self._network.encode(batch)]

        most = self._batch_size or (_MOST_ON_GPU if self._device.type == "cuda" else 1)
        for _, same in groupby(images, key=lambda image: image.shape):
            for result in self._in_batches(list(same), most, run, "images"):
                yield from result

    @torch.inference_mode()
    def decode(
        self, encoded: Sequence[Encoded], pairs: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[tuple[int, int], Maps, Maps]]:
        """Maps of each directed pair, without a batch dimension, by size of their views.

        A view's part in its pairs is computed once for each role and dropped after its last pair.
        """
        roles = _Roles(self._network, encoded, pairs)

        def run(part: list[tuple[int, int]]) -> tuple[Maps, Maps]:
            one = Role.stack([roles.get(a, 1) for a, _ in part])
            two = Role.stack([roles.get(b, 2) for _, b in part])
            return self._network.decode(one, two)

        def grids(pair: tuple[int, int]) -> tuple[Grid, Grid]:
            return encoded[pair[0]].grid, encoded[pair[1]].grid

        for key, same in groupby(sorted(pairs, key=grids), key=grids):
            todo = list(same)
            most = self._most_pairs(key)
            if self._device.type == "cuda" and not self._batch_size and len(todo) > 1:
                before = torch.cuda.memory_allocated(self._device)
                torch.cuda.reset_peak_memory_stats(self._device)
                yield from self._split(todo[:1], *run(todo[:1]))
                most = self._fitting(torch.cuda.max_memory_allocated(self._device) - before)
                roles.forget(todo.pop(0))
            done = 0
            for first, second in self._in_batches(todo, most, run, "pairs"):
                part = todo[done : done + len(first.points)]
                yield from self._split(part, first, second)
                for pair in part:
                    roles.forget(pair)
                done += len(part)

    def _split(
        self, pairs: Sequence[tuple[int, int]], one: Maps, two: Maps
    ) -> Iterator[tuple[tuple[int, int], Maps, Maps]]:
        for number, pair in enumerate(pairs):
            yield pair, one[number], two[number]

    def _most_pairs(self, grids: tuple[Grid, Grid]) -> int:
        if self._batch_size:
            return self._batch_size
        if self._device.type == "cuda":
            return 1
        patch = self._network.architecture.patch
        pixels = max(rows * cols for rows, cols in grids) * patch**2
        bytes_per_pair = pixels * _BYTES_PER_PIXEL * self._dtype.itemsize // 4
        fit = int(_SHARE_OF_MEMORY * _available_memory() / max(bytes_per_pair, 1))
        return int(np.clip(fit, 1, _MOST_ON_CPU))

    def _fitting(self, bytes_per_pair: int) -> int:
        free, _ = torch.cuda.mem_get_info(self._device)
        # What the allocator keeps for itself is free for us, too.
        free += torch.cuda.memory_reserved(self._device)
        free -= torch.cuda.memory_allocated(self._device)
        fit = int(np.clip(_SHARE_OF_MEMORY * free / max(bytes_per_pair, 1), 1, _MOST_ON_GPU))
        _log.info("a pair takes %.2f GB; %d at once", bytes_per_pair / 1e9, fit)
        return fit

    def _in_batches(
        self,
        items: list[_Item],
        size: int,
        run: Callable[[list[_Item]], _Result],
        what: str,
    ) -> Iterator[_Result]:
        """Results of batches in order; where memory does not suffice, the batches are halved."""
        position = 0
        while position < len(items):
            part = items[position : position + size]
            result, error = _attempt(run, part)
            if error is None:
                assert result is not None
                yield result
                position += len(part)
                continue
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            if len(part) == 1:
                raise WildSeg3DError(
                    f"MASt3R ran out of memory on {self._device} with one of the {what} at a time "
                    f"({error}); set pointmaps.mast3r.image_size lower, its dtype to bfloat16, or "
                    "its device to cpu"
                )
            size = len(part) // 2
            self._warn(
                f"MASt3R ran out of memory with {len(part)} {what} at a time and goes on with "
                f"{size}; pointmaps.mast3r.batch_size={size} avoids the attempt"
            )


class _Roles:
    """What each view gives to its pairs in each role, while a pair still needs it."""

    def __init__(
        self, network: Mast3r, encoded: Sequence[Encoded], pairs: Sequence[tuple[int, int]]
    ) -> None:
        self._network, self._encoded = network, encoded
        self._left = Counter((view, role) for pair in pairs for role, view in enumerate(pair, 1))
        self._made: dict[tuple[int, int], Role] = {}

    def get(self, view: int, number: int) -> Role:
        key = view, number
        if key not in self._made:
            seen = self._encoded[view]
            self._made[key] = self._network.role(seen.tokens, seen.grid, number)
        return self._made[key]

    def forget(self, pair: tuple[int, int]) -> None:
        for number, view in enumerate(pair, start=1):
            self._left[view, number] -= 1
            if not self._left[view, number]:
                self._made.pop((view, number), None)


def _attempt(
    run: Callable[[list[_Item]], _Result], part: list[_Item]
) -> tuple[_Result | None, str | None]:
    """The result, or the text of the error when memory did not suffice.

    The error itself would keep what was allocated alive.
    """
    try:
        return run(part), None
    except (RuntimeError, MemoryError) as error:
        text = (str(error).splitlines() or ["MemoryError"])[0]
        # torch has no class for failures of its allocator on the processor.
        on_cpu = "can't allocate memory" in text or "not enough memory" in text
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or on_cpu:
            return None, text
        raise


def _available_memory() -> int:
    """Bytes that the system can give without swapping; a guess of 4 GB where it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 10**9
