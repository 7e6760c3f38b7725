"""How many prompts and objects fit into the memory that the user allows."""

from __future__ import annotations

from dataclasses import dataclass

from wildseg3d_ros.errors import ConfigError

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
MOST_PROMPTS = 64
"""More prompts at once are not faster."""


@dataclass(frozen=True)
class MemoryPlan:
    """Batch sizes.

    Attributes:
        prompts: prompts that are decoded at once.
        objects: objects that are tracked at once.
    """

    prompts: int
    objects: int


def plan_memory(bound_mib: int, input_size: int, item_bytes: int, views: int) -> MemoryPlan:
    """Batch sizes that keep inside the bound.

    Args:
        bound_mib: memory beside the weights [MiB].
        input_size: edge of the network's input [px].
        item_bytes: bytes of a number.
        views: that are kept embedded, and that objects are tracked through.

    Raises:
        ConfigError: not even one prompt and one object fit.
    """
    pixel = input_size * input_size * item_bytes
    bound = bound_mib * 2**20
    kept = EMBEDDING * pixel * views
    tracked = (FOLLOWED + TRACKER * views) * pixel
    least = kept + max(ENCODER * pixel, DECODER * pixel, tracked)
    if bound < least:
        raise ConfigError(
            f"masks.sam2.max_memory_mib is {bound_mib}, too small for {views} view(s): images of "
            f"{input_size}x{input_size} take about {int(-(-least // 2**20))} MiB; raise it, or "
            "use dtype bfloat16, which halves that"
        )
    free = bound - kept
    return MemoryPlan(
        prompts=max(1, min(MOST_PROMPTS, int(free / (DECODER * pixel)))),
        objects=max(1, int(free / tracked)),
    )
