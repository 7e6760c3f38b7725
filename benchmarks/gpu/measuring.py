"""Times, counted operations, memory peaks and the rates of a device."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

ROUNDS = 3


@dataclass(frozen=True)
class Figure:
    """One measured piece of work.

    Attributes:
        name: what was done.
        seconds: the least of a few runs.
        floor: seconds that its operations, or its bytes, take at the rates of this device; None
            where the processor does the work and no rate says anything.
        work: of what the floor is made, in words.
        peak: largest memory of the device while it ran [GB], weights included; None on a
            processor.
    """

    name: str
    seconds: float
    floor: float | None
    work: str
    peak: float | None


@dataclass(frozen=True)
class Rates:
    """What the device reaches.

    Attributes:
        products: operations per second of a large matrix product, by number type.
        copying: bytes per second read and written by a copy in the device's memory.
        sending: bytes per second from the processor's memory, as NumPy has it, to the device's.
    """

    products: Mapping[torch.dtype, float]
    copying: float
    sending: float

    def seconds(self, operations: Mapping[torch.dtype, int]) -> float:
        """What so many operations take at the least.

        Types that no rate was measured of take the rate of the quickest.
        """
        quickest = max(self.products.values())
        return sum(n / self.products.get(dtype, quickest) for dtype, n in operations.items())

    def as_json(self) -> dict[str, float]:
        """In TFLOP/s and GB/s."""
        out = {f"{_name(d)} product [TFLOP/s]": r / 1e12 for d, r in self.products.items()}
        out["copy in the device's memory, read and written [GB/s]"] = self.copying / 1e9
        return out | {"from the processor's memory [GB/s]": self.sending / 1e9}


@dataclass
class Device:
    """Where everything runs, and what has been measured there."""

    torch: torch.device
    rounds: int = ROUNDS
    figures: list[Figure] = field(default_factory=list)

    @property
    def is_gpu(self) -> bool:
        """Whether its work is asynchronous and its memory its own."""
        return self.torch.type == "cuda"

    def wait(self) -> None:
        """Until all work that was given to the device is done."""
        if self.is_gpu:
            torch.cuda.synchronize(self.torch)

    def least(self, work: Callable[[], Any]) -> float:
        """Seconds of the quickest of a few runs."""
        seconds = []
        for _ in range(self.rounds):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    def measure(self, name: str, work: Callable[[], Any], rates: Rates) -> None:
        """Adds the figure of work whose floor are its operations; they are counted in a first
        run, in which kernels are chosen, too."""
        with Operations() as counted:
            work()
        total = sum(counted.by_type.values())
        said = f"{total / 1e12:.3g} TFLOP" if total else "none on the device"
        self._add(name, work, rates.seconds(counted.by_type) if total else None, said)

    def measure_bytes(self, name: str, work: Callable[[], Any], amount: int, rate: float) -> None:
        """Adds the figure of work that must move ``amount`` bytes at ``rate`` bytes per second."""
        work()
        self._add(name, work, amount / rate, f"{amount / 1e9:.3g} GB")

    def _add(self, name: str, work: Callable[[], Any], floor: float | None, said: str) -> None:
        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats(self.torch)
        seconds = self.least(work)
        peak = torch.cuda.max_memory_allocated(self.torch) / 1e9 if self.is_gpu else None
        self.figures.append(Figure(name, seconds, floor, said, peak))


class Operations(TorchDispatchMode):
    """Counts multiply-adds, times two, by the number type that they are done in.

    ``torch.utils.flop_counter.FlopCounterMode`` counts the same without types, and a network in
    bfloat16 has heads in float32, which another rate bounds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_type: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        counts = flop_registry.get(func._overloadpacket)
        if counts is None:
            # Within inference mode whole layers arrive here; their parts are counted.
            with self:
                made = func.decompose(*args, **given)
            return func(*args, **given) if made is NotImplemented else made
        out = func(*args, **given)
        first = out[0] if isinstance(out, tuple | list) else out
        self.by_type[first.dtype] += counts(*args, **given, out_val=out)
        return out


def measure_rates(device: Device, size: int, megabytes: int) -> Rates:
    """The device's rates, the best of a few runs.

    Args:
        size: rows and columns of the matrices.
        megabytes: what is copied.
    """
    products, times = {}, 10 if device.is_gpu else 1
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(size, size, device=device.torch).to(dtype) for _ in range(2))
        torch.mm(a, b)
        seconds = device.least(lambda a=a, b=b: [torch.mm(a, b) for _ in range(times)])
        products[dtype] = times * 2.0 * size**3 / seconds
    block = torch.zeros(megabytes * 250_000, device=device.torch)
    target = torch.empty_like(block)
    target.copy_(block)
    copied = device.least(lambda: target.copy_(block))
    host = torch.zeros(megabytes * 250_000)
    target.copy_(host)
    sent = device.least(lambda: target.copy_(host))
    amount = 4 * block.numel()
    return Rates(products, 2 * amount / copied, amount / sent)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
