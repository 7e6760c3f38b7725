"""What a source of masks for prompts offers, and whether a mask satisfies a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

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

    @property
    def note(self) -> str:
        """What a user should know of its answers; empty when nothing."""
        ...

    def propose(self, view: int, prompts: ViewPrompts) -> Proposals:
        """Alternative masks in one view.

        Raises:
            PromptError: nothing can be proposed there; says why.
        """
        ...


@runtime_checkable
class SurfaceSource(MaskSource, Protocol):
    """A source whose answers are parts of the surface, so that it knows them in all views."""

    def elsewhere(self, view: int, known: Mapping[int, NDArray[np.bool_]]) -> SoftMask | None:
        """What a view shows of the object that masks (H, W) of other views, by index, show; None
        if nothing."""
        ...


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
