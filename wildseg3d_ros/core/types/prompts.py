"""Prompts and what answers them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.geometry.resizing import nearest
from wildseg3d_ros.core.types.masks import LEVELS, Level
from wildseg3d_ros.core.types.tree import in_runs

POSITIVE, NEGATIVE = 1, 0
"""Labels of clicks, as in SAM."""


def _finite(*values: Any) -> bool:
    """Whether all of what a caller gave are numbers, and finite."""
    return all(isinstance(v, int | float | np.number) and np.isfinite(v) for v in values)


def check_text(text: str) -> None:
    """Raises PromptError where a text names nothing."""
    if not isinstance(text, str) or not text.strip():
        found = "empty" if isinstance(text, str) else repr(text)[:80]
        raise PromptError(f"the text is {found}; name the thing that is meant, as 'red mug'")


@dataclass(frozen=True)
class Click:
    """A pixel in one view: ``uv`` = (column, row), label POSITIVE or NEGATIVE.

    >>> Click("front", 320, 240)
    Click(view='front', u=320, v=240, label=1)
    """

    view: str
    u: float
    v: float
    label: int = POSITIVE

    def __post_init__(self) -> None:
        if not _finite(self.label) or self.label not in (POSITIVE, NEGATIVE):
            raise PromptError(
                f"a click's label is {POSITIVE} (on the object) or {NEGATIVE} (not on it), "
                f"got {self.label!r}"
            )
        if not _finite(self.u, self.v):
            raise PromptError(f"a click needs finite pixel coordinates, got ({self.u}, {self.v})")


@dataclass(frozen=True)
class Box:
    """A rectangle about an object in one view, from pixel (u0, v0) to pixel (u1, v1).

    >>> Box("front", 300, 220, 340, 260)
    Box(view='front', u0=300, v0=220, u1=340, v1=260)
    """

    view: str
    u0: float
    v0: float
    u1: float
    v1: float

    def __post_init__(self) -> None:
        corners = (self.u0, self.v0, self.u1, self.v1)
        if not _finite(*corners) or self.u1 <= self.u0 or self.v1 <= self.v0:
            raise PromptError(
                f"a box needs finite corners with u0 < u1 and v0 < v1, got {corners}"
            )


@dataclass(frozen=True, eq=False)
class ViewMask:
    """The pixels of an object in one view.

    Attributes:
        view: name of the view.
        mask: (H, W) bool of the view's size, at least one pixel of it True.
    """

    view: str
    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask)
        if mask.ndim != 2 or mask.dtype != np.bool_:
            raise PromptError(
                f"a mask is an array of (height, width) booleans, got shape {mask.shape} of "
                f"{mask.dtype}"
            )
        if not mask.any():
            raise PromptError(
                f"the mask of camera '{self.view}' is empty; mark the object's pixels in it"
            )
        object.__setattr__(self, "mask", mask)


@dataclass(frozen=True)
class Point:
    """A place on an object: x, y, z in the scene's frame and unit."""

    x: float
    y: float
    z: float

    def __post_init__(self) -> None:
        if not _finite(self.x, self.y, self.z):
            raise PromptError(f"a point needs finite coordinates, got {self.x, self.y, self.z}")


@dataclass(frozen=True)
class Prompt:
    """What the caller points at, in one or several ways; what they choose is united.

    Something says what is on the object: a positive click, a box, a mask, a point, an id or a
    text.

    >>> Prompt((Click("front", 320, 240), Click("left", 10, 20, NEGATIVE)), level="part").level
    'part'
    >>> Prompt()
    Traceback (most recent call last):
    ...
    wildseg3d_ros.core.errors.PromptError: a prompt needs at least one click with label 1 ...

    Attributes:
        clicks: pixels.
        level: whether a click or point means the whole thing there, or the part or sub-part.
            Where nothing that fine is known, the next coarser level answers.
        boxes: rectangles about the object, one per view at most.
        masks: pixels of the object, one per view at most.
        points: places on the object.
        object_ids: objects of any level.
        text: words that name the object; who knows a network that reads finds its mask first.
    """

    clicks: tuple[Click, ...] = ()
    level: Level = "whole"
    boxes: tuple[Box, ...] = ()
    masks: tuple[ViewMask, ...] = ()
    points: tuple[Point, ...] = ()
    object_ids: tuple[int, ...] = ()
    text: str = ""

    def __post_init__(self) -> None:
        for name in ("clicks", "boxes", "masks", "points", "object_ids"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not isinstance(self.level, str) or self.level not in LEVELS:
            raise PromptError(
                f"a prompt's level is one of {', '.join(LEVELS)}; got {self.level!r}"
            )
        for kind, each in (("boxes", self.boxes), ("masks", self.masks)):
            views = [given.view for given in each]
            twice = sorted({view for view in views if views.count(view) > 1})
            if twice:
                raise PromptError(f"camera '{twice[0]}' has two {kind}; give one per view")
        rest = (*self.boxes, *self.masks, *self.points, *self.object_ids, *self.text)
        if not rest and not any(click.label == POSITIVE for click in self.clicks):
            raise PromptError(
                f"a prompt needs at least one click with label {POSITIVE} (on the object), a box, "
                "a mask, a 3D point, an object id or a text; got "
                f"{len(self.clicks)} click(s), none of them positive"
            )

    def with_found(self, mask: ViewMask) -> Prompt:
        """The prompt with the mask of what its text names in place of the text.

        >>> Prompt(text="red mug").with_found(ViewMask("front", np.eye(4, dtype=bool))).text
        ''
        """
        return replace(self, masks=(*self.masks, mask), text="")


@dataclass(frozen=True, eq=False)
class ViewPrompts:
    """What a prompt says of an object in one view.

    Attributes:
        points: (n, 2) pixels (u, v).
        on: (n,) bool, whether each is on the object.
        box: (u0, v0, u1, v1) about it; None when there is none.
        area: (H, W) bool pixels that are on the object by the points of other views; None in a
            view that was prompted itself.
        spared: (H, W) bool pixels of which a tenth should be off it, where there is a choice.
        mask: (H, W) bool all pixels of the object, to be taken as they are; None when not given.
        elsewhere: prompts of the other prompted views, by their index.
    """

    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    on: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    box: tuple[float, float, float, float] | None = None
    area: NDArray[np.bool_] | None = None
    spared: NDArray[np.bool_] | None = None
    mask: NDArray[np.bool_] | None = None
    elsewhere: Mapping[int, ViewPrompts] = field(default_factory=dict)

    @property
    def positive(self) -> bool:
        """Whether something is on the object: without that, they only say what is off it."""
        return self.box is not None or self.mask is not None or bool(self.on.any())


class ViewMasks(Mapping[str, NDArray[np.bool_]]):
    """Per-view masks of a selection, each computed when it is asked for.

    Args:
        names: of the views.
        leaves: per view (H, W) leaf of each pixel, -1 = none.
        runs: (R, 2) first leaf and the one after the last of each run of the selection.
        sizes: per view (height, width) that its mask is given at; empty = that of its leaves.
    """

    def __init__(
        self,
        names: Sequence[str],
        leaves: Sequence[NDArray[np.int32]],
        runs: NDArray[np.int32],
        sizes: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._names, self._leaves, self._runs = list(names), tuple(leaves), runs
        self._sizes = tuple(sizes)

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        """(H, W) bool mask of the selection in the named view."""
        try:
            view = self._names.index(name)
        except ValueError:
            raise KeyError(f"no view '{name}'; views are {self._names}") from None
        mask = in_runs(self._leaves[view], self._runs)
        return nearest(mask, self._sizes[view]) if self._sizes else mask

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, eq=False)
class Alternative:
    """What a prompt may mean instead of its answer.

    Attributes:
        nodes: of the tree of masks.
        score: expected IoU with what the prompt means, in [0, 1].
        larger: whether it is larger than the answer.
        count: number of its points.
        cut: gives its cloud; see :attr:`cloud`.
    """

    nodes: tuple[int, ...]
    score: float
    larger: bool
    count: int
    cut: Callable[[], ObjectCloud] = field(repr=False)

    @property
    def cloud(self) -> ObjectCloud:
        """Its cloud, cut when it is asked for; it names no alternatives of its own."""
        return self.cut()


AMBIGUOUS = 0.8
"""Ambiguity from which an answer is marked as one of several that the prompt may mean."""


@dataclass(frozen=True, eq=False)
class ObjectCloud:
    """The answer to a prompt.

    Attributes:
        points: (M, 3) float32 metres (scene units if the scene is not metric), in ``frame_id``.
        colors: (M, 3) uint8 RGB.
        confidence: (M,) float32 >= 0.
        view_count: (M,) uint8, number of views that see the point.
        object_ids: ids of the cached objects that the prompt selected; empty where the answer is
            a part of the surface that is no object.
        masks: per-view masks by view name.
        frame_id: frame of the points.
        stamp_ns: time of the newest image that the scene was made from.
        scene_id: the scene that answered.
        nodes: of the tree of masks, that the prompt selected.
        score: expected IoU with what the prompt means, in [0, 1]; NaN where nobody said.
        ambiguity: in [0, 1], how good the best alternative is, relative to the answer; NaN where
            nobody said.
        alternatives: what the prompt may mean instead: the best larger and the best smaller part.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    view_count: NDArray[np.uint8]
    object_ids: tuple[int, ...]
    masks: ViewMasks
    frame_id: str
    stamp_ns: int
    scene_id: str
    nodes: tuple[int, ...] = ()
    score: float = math.nan
    ambiguity: float = math.nan
    alternatives: tuple[Alternative, ...] = ()

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        ids = ", ".join(map(str, self.object_ids))
        what = f"object {ids}" if ids else "a part of the surface"
        score = "" if math.isnan(self.score) else f", score {self.score:.2f}"
        return f"<cloud of {what}: {len(self)} points in '{self.frame_id}'{score}>"

    @property
    def close(self) -> bool:
        """Whether an alternative is nearly as good as the answer."""
        return self.ambiguity > AMBIGUOUS
