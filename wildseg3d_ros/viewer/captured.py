"""Views of a moving camera that are captured for the next scene, on the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from nicegui import ui

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.viewer.control import warn
from wildseg3d_ros.viewer.source import CapturesViews


class CapturedViews:
    """Captured views with their pictures, and what can be done with them.

    Args:
        source: keeps them.
    """

    def __init__(self, source: CapturesViews) -> None:
        self._source = source
        self._told: tuple = ()
        self._panel = ui.element("div").props("data-testid=captured").classes("q-mt-md")

    def look(self) -> None:
        """Shows what is kept by now."""
        views, cameras = self._source.captured, self._source.cameras
        if (views, cameras) == self._told:
            return
        self._told = views, cameras
        self._panel.clear()
        with self._panel:
            ui.label("Captured views").classes("ws-what")
            text = (
                "A camera on an arm gives a scene of many: move, wait until it stands, capture, "
                "and so on; then build."
            )
            ui.label(text).classes("ws-faint")
            with ui.element("div").classes("ws-row"):
                for camera in cameras:
                    take = partial(self._act, partial(self._source.capture, camera))
                    button = ui.button(f"Capture {camera}", icon="photo_camera", on_click=take)
                    button.props("dense no-caps unelevated color=grey-9 size=sm")
                    button.props(f"data-testid='capture-{camera}'")
            with ui.element("div").classes("ws-row"):
                for view in views:
                    self._draw(view)
            if views:
                drop = partial(self._act, partial(self._source.drop, ()))
                ui.button("Forget all", icon="delete", on_click=drop).props(
                    "dense no-caps flat size=sm data-testid=drop-all"
                )

    def _draw(self, name: str) -> None:
        with ui.element("div").classes("ws-shot").props(f"data-testid='shot-{name}'"):
            if self._source.picture(name) is not None:
                ui.element("img").props(f'src="/captured/{name}.jpg" alt="" width=96')
            with ui.element("div").classes("ws-row"):
                ui.label(name).classes("ws-faint")
                drop = partial(self._act, partial(self._source.drop, (name,)))
                ui.button(icon="close", on_click=drop).props("flat dense size=xs color=grey")

    async def _act(self, act: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(act)
        except (WildSeg3DError, TimeoutError) as error:
            warn(error)
