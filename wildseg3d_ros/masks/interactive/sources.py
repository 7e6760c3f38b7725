"""What is asked of a source of masks for prompts, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

LEFT = 0.1
"""Share of an object below which what a cut leaves of it is no thing."""


@dataclass(frozen=True, eq=False)
class Hints:
    """What is known of an object in one view.

    Attributes:
        points: (n, 2) pixels (u, v).
        on: (n,) bool, whether each is on the object.
        box: (u0, v0, u1, v1) about it; None when there is none.
        area: (H, W) bool pixels that are on the object by the points of other views; None in a
            view that was prompted itself.
        spared: (H, W) bool pixels of which a tenth should be off it, where there is a choice.
        mask: (H, W) bool all pixels of the object, to be taken as they are; None when not given.
        elsewhere: hints of the other prompted views, by their index.
    """

    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    on: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    box: tuple[float, float, float, float] | None = None
    area: NDArray[np.bool_] | None = None
    spared: NDArray[np.bool_] | None = None
    mask: NDArray[np.bool_] | None = None
    elsewhere: Mapping[int, Hints] = field(default_factory=dict)

    @property
    def positive(self) -> bool:
        """Whether something is on the object: without that, they only say what is off it."""
        return self.box is not None or self.mask is not None or bool(self.on.any())


class MaskSource(Protocol):
    """Something that proposes masks for hints."""

    @property
    def note(self) -> str:
        """What a user should know of its answers; empty when nothing."""
        ...

    def propose(self, view: int, hints: Hints) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(A, H, W) soft scores in [0, 1] of alternatives, and (A,) their quality in [0, 1].

        Raises:
            PromptError: nothing can be proposed there; says why.
        """
        ...


@runtime_checkable
class SurfaceSource(MaskSource, Protocol):
    """A source whose answers are parts of the surface, so that it knows them in all views."""

    def elsewhere(
        self, view: int, known: Mapping[int, NDArray[np.bool_]]
    ) -> tuple[NDArray[np.float32], float] | None:
        """(H, W) soft scores in a view, and their quality, of what masks of other views show.

        Args:
            view: index of the view.
            known: masks (H, W) by the index of their view.

        Returns:
            None where the view does not show it.
        """
        ...


def leaves(mask: NDArray[np.bool_], spared: NDArray[np.bool_]) -> bool:
    """Whether a mask leaves a tenth or more of what should be spared."""
    return bool((spared & ~mask).sum() >= LEFT * spared.sum())


def satisfies(mask: NDArray[np.bool_], hints: Hints) -> bool:
    """Whether a mask (H, W) holds the points on the object, none off it, and is in the box."""
    column, row = np.rint(hints.points).astype(int).T
    if not np.array_equal(mask[row, column], hints.on):
        return False
    if hints.box is None:
        return bool(mask.any())
    u0, v0, u1, v1 = (round(x) for x in hints.box)
    inside = mask[max(v0, 0) : v1 + 1, max(u0, 0) : u1 + 1].sum()
    return bool(inside and inside >= 0.8 * mask.sum())
