"""The cameras on the page: what is known of their poses, and a check of them with pictures."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

from nicegui import ui

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.types import CameraVerdict
from wildseg3d_ros.rig.report import SUMMARY
from wildseg3d_ros.viewer.control import warn
from wildseg3d_ros.viewer.server import Server
from wildseg3d_ros.viewer.source import CameraCheck, ShownScene
from wildseg3d_ros.viewer.words import BADGES, motion, sentence


class RigReport:
    """What the build found about each camera."""

    def __init__(self) -> None:
        self._panel = ui.element("div").props("data-testid=rig")

    def show(self, shown: ShownScene) -> None:
        """Shows verdicts and warnings of a scene."""
        self._panel.clear()
        with self._panel:
            if not shown.verdicts:
                ui.label("Nothing is known of the cameras' poses.").classes("ws-faint")
            _draw_verdicts(shown.verdicts)
            for warning in shown.warnings:
                ui.label(sentence(warning)).classes("ws-faint q-mt-sm")


class CheckPanel:
    """Checks the cameras as they are given, and shows it in pictures.

    Args:
        server: serves the source that checks, and the pictures.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        with ui.element("div").classes("q-mt-md"):
            if server.source.no_check:
                ui.label(sentence(server.source.no_check)).classes("ws-faint").props(
                    "data-testid=no-check"
                )
                return
            self._button = ui.button("Check in pictures", on_click=self._check, icon="fact_check")
            self._button.props("dense no-caps unelevated color=grey-9 size=sm data-testid=check")
            text = "Compares what the cameras see, and draws it; changes nothing."
            ui.label(text).classes("ws-faint")

    async def _check(self) -> None:
        self._button.props("loading")
        try:
            key, check = await asyncio.to_thread(self._server.check)
        except (WildSeg3DError, TimeoutError) as error:
            warn(error)
            return
        finally:
            self._button.props(remove="loading")
        if self._button.is_deleted:  # nobody waits any more
            return
        with (
            ui.dialog(value=True).props("maximized") as dialog,
            ui.card().classes("ws-check").props("data-testid=checked"),
        ):
            dialog.on("hide", dialog.delete)
            with ui.element("div").classes("ws-row"):
                ui.label("Cameras").classes("ws-what")
                ui.label(check.verdict).classes(f"ws-badge {BADGES[check.verdict]}")
                close = ui.button(icon="close", on_click=dialog.close).classes("ws-push")
                close.props("flat dense color=grey data-testid=check-close")
            _draw_check(key, check)


def _draw_check(key: str, check: CameraCheck) -> None:
    for text in check.problems or (SUMMARY[check.verdict],):
        ui.label(sentence(text))
    with ui.element("div").classes("ws-verdicts"):
        _draw_verdicts(check.cameras)
    for k, picture in enumerate(check.pictures):
        ui.label(picture.title).classes("ws-faint")
        image = ui.element("img").props("loading=lazy")
        image.props.update({"src": f"/check/{key}/{k}.jpg", "alt": picture.title})


def _draw_verdicts(cameras: Iterable[CameraVerdict]) -> None:
    with ui.element("table").classes("ws-rig"):
        for camera in cameras:
            _draw_verdict(camera)


def _draw_verdict(camera: CameraVerdict) -> None:
    with ui.element("tr"):
        with ui.element("td"):
            ui.label(camera.name)
            ui.label(camera.verdict).classes(f"ws-badge {BADGES[camera.verdict]}")
        with ui.element("td"):
            ui.label(motion(camera))
            if not math.isnan(camera.agreement):
                ui.label(f"agrees {camera.agreement:.0%} with the others").classes("ws-faint")
            if camera.why:
                ui.label(sentence(camera.why)).classes("ws-faint")
