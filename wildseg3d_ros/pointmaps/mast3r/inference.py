"""Runs the network: every image through the encoder once, pairs in batches that fit the memory."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.models import call, ran_out_of_memory
from wildseg3d_ros.pointmaps.mast3r.network import Grid, Maps, Mast3r, Role

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_MAX_ON_GPU = 16
"""Pairs per batch that keep a large GPU busy; more only take memory."""

SHARE_OF_MEMORY = 0.8
"""Of the free memory that is used: alignment, masks, matches and other programs need some, too."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A view's encoder tokens (1, S, C) on its grid of patches."""

    tokens: Tensor
    grid: Grid


class Inference:
    """The network with the memory it may use.

    Args:
        network: on its device, in its type.
        batch_size: maximum of images or pairs at once; 0 = on a GPU as many as fit, on a processor
            one, which keeps it busy.
        warn: told of what a user should know.
        reserved: bytes of a GPU's memory that the maps of all pairs will take.
    """

    def __init__(
        self,
        network: Mast3r,
        batch_size: int = 0,
        warn: Callable[[str], None] = _log.warning,
        reserved: int = 0,
    ) -> None:
        self._network, self._batch_size, self._warn = network, batch_size, warn
        self._reserved = reserved
        parameter = next(network.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype

    @torch.inference_mode()
    def encode(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[Encoded]:
        """Encodes RGB images (H, W, 3) whose sides are multiples of the patch, in their order."""

        def run(part: list[NDArray[np.uint8]]) -> list[Encoded]:
            pixels = torch.from_numpy(np.stack(part)).to(self._device)
            batch = (pixels.permute(0, 3, 1, 2) / 127.5 - 1.0).to(self._dtype)
            grid = self._network.grid(batch)
            return [Encoded(tokens[None], grid) for tokens in self._network.encode(batch)]

        size = self._batch_size or (_MAX_ON_GPU if self._device.type == "cuda" else 1)
        for _, same in groupby(images, key=lambda image: image.shape):
            for result in self._in_batches(list(same), size, run, "images"):
                yield from result

    @torch.inference_mode()
    def decode(
        self, encoded: Mapping[int, Encoded], pairs: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[tuple[int, int], Maps, Maps]]:
        """Maps of each directed pair of views, without a batch dimension, by size of the views.

        A view's part in its pairs is computed once for each role and dropped after its last pair.
        """
        roles = _Roles(self._network, encoded, pairs)

        def grids(pair: tuple[int, int]) -> tuple[Grid, Grid]:
            return encoded[pair[0]].grid, encoded[pair[1]].grid

        left, on_gpu = len(pairs), self._device.type == "cuda"
        for _, same in groupby(sorted(pairs, key=grids), key=grids):
            todo = list(same)
            reserved = self._reserved * left // len(pairs)
            left -= len(todo)
            size = self._batch_size or 1
            if on_gpu and not self._batch_size:
                before = torch.cuda.memory_allocated(self._device)
                torch.cuda.reset_peak_memory_stats(self._device)
                yield from self._decode(roles, todo[:1], 1)
                peak = torch.cuda.max_memory_allocated(self._device)
                size = self._fitting(peak - before, reserved)
                todo = todo[1:]
            yield from self._decode(roles, todo, size)
            if on_gpu:
                peak = torch.cuda.max_memory_allocated(self._device)
                _log.info("peak memory on %s with the weights: %.2f GB", self._device, peak / 1e9)

    def _decode(
        self, roles: _Roles, pairs: list[tuple[int, int]], size: int
    ) -> Iterator[tuple[tuple[int, int], Maps, Maps]]:
        """As :meth:`decode`, of pairs whose views have the same grids."""

        def run(part: list[tuple[int, int]]) -> tuple[Maps, Maps]:
            one = Role.stack([roles.get(a, 1) for a, _ in part])
            two = Role.stack([roles.get(b, 2) for _, b in part])
            return self._network.decode(one, two)

        left = iter(pairs)
        for one, two in self._in_batches(pairs, size, run, "pairs"):
            for number, pair in zip(range(len(one.points)), left, strict=False):
                yield pair, one[number], two[number]
                roles.forget(pair)

    def _fitting(self, bytes_per_pair: int, reserved: int) -> int:
        free = SHARE_OF_MEMORY * free_on_gpu(self._device) - reserved
        fit = int(np.clip(free / max(bytes_per_pair, 1), 1, _MAX_ON_GPU))
        _log.info("a pair takes %.2f GB; %d at once", bytes_per_pair / 1e9, fit)
        return fit

    def _in_batches(
        self, items: list[_Item], size: int, run: Callable[[list[_Item]], _Result], what: str
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


def free_on_gpu(device: torch.device) -> int:
    """Bytes; what torch's allocator keeps for itself is free for us, too."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


class _Roles:
    """What each view gives to its pairs in each role, while a pair still needs it."""

    def __init__(
        self, network: Mast3r, encoded: Mapping[int, Encoded], pairs: Sequence[tuple[int, int]]
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
        return call("the MASt3R weights", run, part), None
    except (RuntimeError, MemoryError) as error:
        if ran_out_of_memory(error):
            return None, (str(error).splitlines() or ["MemoryError"])[0]
        raise
