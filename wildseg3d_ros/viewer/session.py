"""What one browser has pointed at, and what was answered."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.types import (
    NEGATIVE,
    POSITIVE,
    Box,
    Click,
    Level,
    ObjectCloud,
    Point,
    Prompt,
)
from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.viewer.source import Answer

Pointed = Click | Box | Point | str
"""A str is words that name the object."""
_SESSIONS = 200
"""So many browsers are remembered."""


@dataclass(eq=False)
class Session:
    """The selection of one browser tab; it outlives a reload of the page.

    Attributes:
        key: unguessable, names the session in addresses.
        pointed: clicks, boxes, 3D points and words, the oldest first.
        object_ids: selected in the list.
        level: how much of a thing a click means.
        stamps: time [ns] of the live images that were clicked, by camera.
        answer: to these; None before there is one.
        chosen: the alternative that was taken instead, by its place; None for the answer itself.
        error: why there is no answer.
        addable: whether adding an object can still answer.
        refining: the object that the next clicks correct, 0 = none.
        corrections: those clicks.
        hidden: objects that are not shown.
        version: of what is selected, for addresses.
    """

    key: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    pointed: list[Pointed] = field(default_factory=list)
    object_ids: tuple[int, ...] = ()
    level: Level = "whole"
    stamps: dict[str, int] = field(default_factory=dict)
    answer: Answer | None = None
    chosen: int | None = None
    error: str = ""
    addable: bool = False
    refining: int = 0
    corrections: list[Click] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)
    by_object: bool = False
    version: int = 0

    @property
    def cloud(self) -> ObjectCloud | None:
        """What is selected: the answer or an alternative of it."""
        if self.answer is None:
            return None
        if self.chosen is None:
            return self.answer.cloud
        return self.answer.cloud.alternatives[self.chosen].cloud

    @property
    def box(self) -> OrientedBox | None:
        """About what is selected; None where it is not known."""
        return self.answer.box if self.answer is not None and self.chosen is None else None

    @property
    def prompt(self) -> Prompt | None:
        """What was pointed at; None where nothing was.

        Raises:
            PromptError: nothing of it is on an object, or two boxes are in one view.
        """
        if not self.pointed and not self.object_ids:
            return None
        return Prompt(
            clicks=tuple(each for each in self.pointed if isinstance(each, Click)),
            boxes=tuple(each for each in self.pointed if isinstance(each, Box)),
            points=tuple(each for each in self.pointed if isinstance(each, Point)),
            level=self.level,
            object_ids=self.object_ids,
            text=next((each for each in self.pointed if isinstance(each, str)), ""),
        )

    @property
    def correction(self) -> Prompt:
        """The corrections of the object that is being refined.

        Raises:
            PromptError: there are none.
        """
        if not self.corrections:
            raise PromptError("click what is missing, and shift-click what does not belong to it")
        return Prompt(clicks=tuple(self.corrections), object_ids=(self.refining,))

    def point_at(self, pointed: Pointed, further: bool) -> None:
        """Takes a click, a box, a point or words.

        Args:
            pointed: where.
            further: beside what was pointed at before, instead of something new.
        """
        negative = isinstance(pointed, Click) and pointed.label == NEGATIVE
        if self.refining and isinstance(pointed, Click):
            self.corrections.append(pointed)
            return
        if not further and not negative:
            self.clear()
        if isinstance(pointed, Box):  # one per view
            self.pointed = [
                each
                for each in self.pointed
                if not (isinstance(each, Box) and each.view == pointed.view)
            ]
        self.pointed.append(pointed)

    def select(self, object_ids: tuple[int, ...]) -> None:
        """Selects objects by their ids."""
        self.clear()
        self.object_ids = object_ids

    def take_back(self) -> bool:
        """Forgets what was pointed at last; False where nothing was."""
        if self.refining:
            if not self.corrections:
                self.refining = 0
                return True
            self.corrections.pop()
            return True
        if not self.pointed:
            return False
        self.pointed.pop()
        if not any(not isinstance(p, Click) or p.label == POSITIVE for p in self.pointed):
            self.clear()
        return True

    def clear(self) -> None:
        """Selects nothing."""
        self.pointed, self.object_ids, self.stamps = [], (), {}
        self.refining, self.corrections = 0, []
        self.show(None)

    def show(self, answer: Answer | None, error: str = "") -> None:
        """Keeps what was answered."""
        self.answer, self.error, self.chosen, self.addable = answer, error, None, False
        self.version += 1

    def choose(self, alternative: int | None) -> None:
        """Takes an alternative of the answer, or the answer itself again."""
        self.chosen = alternative
        self.version += 1


class Sessions:
    """The sessions of all browsers; the least recently used are forgotten."""

    def __init__(self) -> None:
        self._by_tab: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def of_tab(self, tab: str) -> Session:
        """The session of a browser tab, made when it is new."""
        with self._lock:
            session = self._by_tab.setdefault(tab, Session())
            self._by_tab.move_to_end(tab)
            while len(self._by_tab) > _SESSIONS:
                self._by_tab.popitem(last=False)
            return session

    def of_key(self, key: str) -> Session | None:
        """The session of an address."""
        with self._lock:
            return next((s for s in self._by_tab.values() if s.key == key), None)
