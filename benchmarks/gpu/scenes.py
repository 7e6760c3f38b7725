"""Alignment and fusion of all pairs of constructed views."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.alignment_problems import problem
from benchmarks.gpu.measuring import Device, Rates
from wildseg3d_ros.alignment import align, fuse
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.core.types import PairPrediction

POINT = 4 * 4
"""Bytes that fusion reads of a pixel: a point and its confidence."""


def alignment_and_fusion(device: Device, rates: Rates, views: int, size: tuple[int, int]) -> None:
    """All directed pairs of ``views`` images (height, width), with the maps in the processor's
    memory and in the device's."""
    config = AlignmentConfig(device=str(device.torch))
    made = problem("clean", 0, views, size)
    amount = 2 * len(made.predictions) * size[0] * size[1] * POINT
    alignment = align(made.predictions, made.views, config)
    title = f"{views} views of {size[1]}x{size[0]}, {len(made.predictions)} pairs"
    device.measure(
        f"alignment of {title} (processor)",
        lambda: align(made.predictions, made.views, config),
        rates,
    )
    device.measure_bytes(
        f"fusion of {title}, maps in the processor's memory",
        lambda: fuse(made.predictions, made.views, alignment, config),
        amount,
        rates.sending,
    )
    there = [_sent(pair, device) for pair in made.predictions]
    device.measure_bytes(
        f"fusion of {title}, maps in the device's memory",
        lambda: fuse(there, made.views, alignment, config),
        amount,
        # A copy reads and writes; reading alone takes what reading takes of it.
        rates.copying,
    )


def _sent(pair: PairPrediction, device: Device) -> PairPrediction:
    """The pair with its maps on the device, as ``keep_on_device`` leaves them."""
    maps = ("pointmap_a", "pointmap_b", "confidence_a", "confidence_b")
    return replace(pair, **{n: torch.as_tensor(getattr(pair, n)).to(device.torch) for n in maps})
