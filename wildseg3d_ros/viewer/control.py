"""What the clicks of one browser do: they change its session, and ask the source."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from nicegui import ui

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.types import NEGATIVE, POSITIVE, Box, Click, Level, Prompt
from wildseg3d_ros.io.clouds import FORMATS
from wildseg3d_ros.viewer.merging import merging
from wildseg3d_ros.viewer.names import Names
from wildseg3d_ros.viewer.session import Pointed, Session
from wildseg3d_ros.viewer.source import Answer, SceneSource, ShownScene
from wildseg3d_ros.viewer.words import sentence

_ADDABLE = (
    ErrorCode.NO_OBJECT_AT_PIXEL,
    ErrorCode.NO_DEPTH_AT_PIXEL,
    ErrorCode.CONTRADICTING_CLICKS,
)
"""Errors of prompts that adding an object can still answer."""


class Control:
    """Carries out what one browser wants.

    Args:
        source: answers.
        session: of the browser.
        names: of the objects.
        refresh: shows the session's selection.

    Attributes:
        shown: the scene that the browser shows.
        busy: whether a change of the scene is being made for it.
        began: browser's time [ms] of the click that a selection answers, by the selection's
            address.
    """

    def __init__(
        self,
        source: SceneSource,
        session: Session,
        names: Names,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self.source, self.session, self._refresh = source, session, refresh
        self.names = names
        self.shown: ShownScene | None = None
        self.busy = False
        self.began: dict[str, float] = {}
        self._lock = asyncio.Lock()

    @property
    def address(self) -> str:
        """Of the selected cloud."""
        return f"/selection/{self.session.key}/{self.session.version}.bin"

    async def clicked(self, camera: str, stamp_ns: int, given: dict[str, Any]) -> None:
        """A pixel was clicked, of an image of this time; 0 = the scene's own."""
        label = POSITIVE if given["on"] else NEGATIVE
        click = Click(camera, float(given["u"]), float(given["v"]), label)
        await self._point_at(click, given, {camera: stamp_ns})

    async def drawn(self, camera: str, stamp_ns: int, given: dict[str, Any]) -> None:
        """A rectangle was drawn in such an image."""
        u0, v0, u1, v1 = (float(edge) - 0.5 for edge in given["box"])
        if u1 - u0 >= 1 and v1 - v0 >= 1:
            await self._point_at(Box(camera, u0, v0, u1, v1), given, {camera: stamp_ns})

    async def name(self, text: str) -> None:
        """The object was named instead of clicked."""
        if text.strip():
            self.session.clear()
            await self._point_at(text.strip(), {"further": False, "began": None}, {})

    async def ray(self, given: dict[str, Any]) -> None:
        """The cloud was clicked."""
        shown = self.shown
        if shown is None:
            return
        ray = np.array(given["origin"]), np.array(given["direction"])
        try:
            point = await asyncio.to_thread(shown.along, *ray, given["slope"])
            pointed: Pointed = point
            if not given["on"] or self.session.refining:
                click = await asyncio.to_thread(self.source.click_at, point)
                label = POSITIVE if given["on"] else NEGATIVE
                pointed = Click(click.view, click.u, click.v, label)
        except (WildSeg3DError, TimeoutError) as error:
            warn(error)
            return
        await self._point_at(pointed, given, {})

    async def _point_at(
        self, pointed: Pointed, given: dict[str, Any], stamps: dict[str, int]
    ) -> None:
        self.session.point_at(pointed, given["further"])
        self.session.stamps.update({camera: stamp for camera, stamp in stamps.items() if stamp})
        await self.ask(given["began"])

    async def ask(self, began: float | None = None, quietly: bool = False) -> None:
        """Asks the source for what the session points at.

        Args:
            began: browser's time [ms] of the click.
            quietly: after a change of the scene, that nobody clicked for; what cannot be answered
                any more is forgotten.
        """
        session = self.session
        if session.refining:
            await self._refresh()
            return
        async with self._lock:
            try:
                prompt = session.prompt
                if prompt is None:
                    session.show(None)
                else:
                    stamps = dict(session.stamps)
                    session.show(await asyncio.to_thread(self.source.ask, prompt, stamps))
            except (WildSeg3DError, TimeoutError) as error:
                if quietly:
                    session.clear()
                else:
                    session.show(None, sentence(error))
                    session.addable = getattr(error, "code", None) in _ADDABLE
        if began is not None:
            self.began = {self.address: began}
        await self._refresh()

    async def choose(self, alternative: int | None) -> None:
        """Takes an alternative of the answer."""
        self.session.choose(alternative)
        await self._refresh()

    async def select(self, object_ids: tuple[int, ...]) -> None:
        """Selects objects of the list."""
        self.session.select(object_ids)
        await self.ask()

    async def set_level(self, level: Level) -> None:
        """Means the whole thing, a part or a part of that from now on."""
        self.session.level = level
        await self.ask()

    async def take_back(self) -> None:
        """Forgets the last click."""
        if self.session.take_back():
            await self.ask()

    async def clear(self) -> None:
        """Selects nothing."""
        self.session.clear()
        await self._refresh()

    async def add(self) -> None:
        """Makes what was pointed at an object."""
        await self._change(self.source.add, lambda: self.session.prompt)

    async def refine(self) -> None:
        """Begins to correct the selected object, or applies the corrections."""
        session, cloud = self.session, self.session.cloud
        if session.refining:
            await self._change(self.source.refine, lambda: session.correction)
        elif cloud is not None and len(cloud.object_ids) == 1:
            session.refining, session.corrections = cloud.object_ids[0], []
            await self._refresh()

    async def merge(self) -> None:
        """Makes the selected objects one."""
        cloud = self.session.cloud
        if cloud is not None and len(cloud.object_ids) > 1:
            ids = cloud.object_ids
            await self._change(
                lambda _: self.source.refine(merging(self.source, ids)),
                lambda: self.session.prompt,
            )

    async def _change(
        self, change: Callable[[Prompt], Answer], prompt: Callable[[], Prompt | None]
    ) -> None:
        if self.busy:
            return
        self.busy = True
        try:
            given = prompt()
            if given is None:
                return
            await self._refresh()
            answer = await asyncio.to_thread(change, given)
            self.session.select(answer.cloud.object_ids)
            self.session.show(answer)
        except (WildSeg3DError, TimeoutError) as error:
            warn(error)
        finally:
            self.busy = False
            await self._refresh()

    async def undo_edit(self) -> None:
        """Takes the newest change of the scene back."""
        try:
            await asyncio.to_thread(self.source.undo)
        except (WildSeg3DError, TimeoutError) as error:
            warn(error)

    async def build(self) -> None:
        """Builds a scene, unless one is being built."""
        if self.source.state.busy is None:
            await asyncio.to_thread(self.source.build)

    def export(self, what: str, kind: str) -> None:
        """Downloads ``selected`` or ``all``, as a kind of :mod:`wildseg3d_ros.viewer.export`."""
        name = f"object{kind}" if what == "selected" else f"objects{kind}"
        if what == "all" and kind in FORMATS:
            name += ".zip"
        ui.download.from_url(f"/export/{self.session.key}/{what}{kind}", name)


def warn(error: Exception) -> None:
    """Says an error at the lower edge of the page."""
    ui.notify(sentence(error), position="bottom", type="warning", multi_line=True, timeout=8000)
