"""How many prompts and objects fit into the memory that the user allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.masks.sam2.generation import LAYERS, MAX_MASKS

# Measured on sam2.1-hiera-small in float32 on a processor.
ENCODER = 140
"""Numbers that the image encoder holds at once per input pixel."""
DECODER = 9
"""Numbers that the decoder holds at once per input pixel and prompt."""
EMBEDDING = 4
"""Numbers of a view's embedding per input pixel."""
TRACKER = 5
"""Numbers that the tracker keeps per input pixel, object and view."""
FOLLOWED = 30
"""Numbers that following an object into a view takes at once per input pixel."""
MAX_PROMPTS = 64
"""More prompts at once are not faster."""

CANDIDATE = 2 / 16
"""Bytes of a mask before the selection per input pixel: two of its logits at a quarter of the
input's resolution."""
SELECTED = 3 / 16
"""The same of a selected mask, beside that: one of itself, and two of what it is compared with."""
LAYERED = (16 + 2) * LAYERS
"""Bytes per pixel of a view of its layers of masks: labels and scores, its own and tracked, and
soft scores of boxes that overlap."""
ASSOCIATED = 24 * 2**10
"""Bytes that associating one mask with those of all other views takes: 100 MiB for 4928 masks
(docs/explanation/masks.md), and some to spare."""
IN_USE = 0.8
"""Share of a process's memory that is in use; the rest is cached between uses."""


@dataclass(frozen=True)
class MemoryPlan:
    """Batch sizes.

    Attributes:
        prompts: prompts that are decoded at once.
        objects: objects that are tracked at once.
    """

    prompts: int
    objects: int


def plan_memory(
    config: Sam2MaskConfig, input_size: int, item_bytes: int, sizes: Sequence[tuple[int, int]]
) -> MemoryPlan:
    """Batch sizes that keep inside ``config.max_memory_mib``, which is beside the weights.

    Args:
        input_size: edge of the network's input [px].
        item_bytes: bytes of a number.
        sizes: (height, width) of the views that are kept embedded, and that objects are tracked
            through.

    Raises:
        ConfigError: not even one prompt and one object fit.
    """
    area = input_size * input_size
    pixel = area * item_bytes
    views = len(sizes)
    bound = IN_USE * config.max_memory_mib * 2**20
    made = 3 * config.grid**2
    candidates = area * (CANDIDATE * made + SELECTED * min(made, MAX_MASKS))
    kept = EMBEDDING * pixel * views + sum(LAYERED * height * width for height, width in sizes)
    associated = ASSOCIATED * min(made, MAX_MASKS) * views
    tracked = (FOLLOWED + TRACKER * views) * pixel
    following = tracked if config.anchors and views > 1 else 0
    needed = kept + max(ENCODER * pixel, candidates + DECODER * pixel, following, associated)
    if bound < needed:
        raise ConfigError(
            f"masks.sam2.max_memory_mib is {config.max_memory_mib}, too small for {views} "
            f"view(s): images of {input_size}x{input_size} take about "
            f"{math.ceil(needed / (IN_USE * 2**20))} MiB; raise it, or use dtype bfloat16, which "
            "halves most of that"
        )
    free = bound - kept
    return MemoryPlan(
        prompts=max(1, min(MAX_PROMPTS, int((free - candidates) / (DECODER * pixel)))),
        objects=max(1, int(free / tracked)),
    )
