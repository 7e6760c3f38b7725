"""What a source of masks for prompts offers, and whether a mask satisfies a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import ViewPrompts

MIN_LEFT = 0.1
"""Share of an object below which what a cut leaves of it is no thing."""
MIN_HITS = 20
"""Pixels of a view that show an object, below which it is not visible there."""
IN_BOX = 0.8
"""Share of a thing that must be in its box: what goes on beyond it is background."""

SoftMask: TypeAlias = tuple[NDArray[np.float32], float]
"""(H, W) soft scores in [0, 1], and the quality of the mask in [0, 1]."""
Proposals: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""(A, H, W) soft scores in [0, 1] of alternatives, and (A,) their quality in [0, 1]."""


class MaskSource(Protocol):
    """Something that proposes masks for prompts."""

    def propose(self, view: int, prompts: ViewPrompts) -> Proposals:
        """Alternative masks in one view.

        Raises:
            PromptError: nothing can be proposed there; says why.
        """
        ...


@dataclass(frozen=True)
class LocatedClick:
    """A click in whole pixels: index of the view, row, column, and whether it is on the object."""

    view: int
    row: int
    column: int
    on: bool

    @property
    def uv(self) -> tuple[float, float]:
        """Column and row."""
        return float(self.column), float(self.row)

    def at(self, maps: Sequence[NDArray]) -> int:
        """The value of its pixel in maps (H, W) by view."""
        return int(maps[self.view][self.row, self.column])


def check_clicks_agree(clicks: Sequence[LocatedClick], names: Sequence[str]) -> None:
    """Raises PromptError if a pixel is clicked both on and off the object.

    Args:
        clicks: of a prompt.
        names: of all views.
    """
    on = {(click.view, click.uv) for click in clicks if click.on}
    for click in clicks:
        if not click.on and (click.view, click.uv) in on:
            raise PromptError(
                f"camera '{names[click.view]}' pixel {click.uv} is to be on the object and off "
                "it; give the click that counts alone",
                ErrorCode.CONTRADICTING_CLICKS,
            )


def box_window(box: Sequence[float]) -> tuple[slice, slice]:
    """Rows and columns of the pixels in a box (u0, v0, u1, v1)."""
    u0, v0, u1, v1 = (round(x) for x in box)
    return slice(max(v0, 0), v1 + 1), slice(max(u0, 0), u1 + 1)


def satisfies(mask: NDArray[np.bool_], prompts: ViewPrompts) -> bool:
    """Whether a mask (H, W) has the points on the object, none off it, and is in the box."""
    column, row = np.rint(prompts.points).astype(int).T
    if not np.array_equal(mask[row, column], prompts.on):
        return False
    if prompts.box is None:
        return bool(mask.any())
    inside = mask[box_window(prompts.box)].sum()
    return bool(inside and inside >= IN_BOX * mask.sum())
