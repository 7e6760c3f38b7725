"""The page: what one browser sees, and what its clicks do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from nicegui import ui
from nicegui.events import GenericEventArguments, KeyEventArguments, ValueChangeEventArguments

from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.viewer.captured import CapturedViews
from wildseg3d_ros.viewer.control import Control
from wildseg3d_ros.viewer.drawing import outline
from wildseg3d_ros.viewer.elements import CloudPane
from wildseg3d_ros.viewer.export import KINDS
from wildseg3d_ros.viewer.panels import CameraCard, ObjectList, SelectionPanel
from wildseg3d_ros.viewer.rig import CheckPanel, RigReport
from wildseg3d_ros.viewer.server import Server
from wildseg3d_ros.viewer.session import Session
from wildseg3d_ros.viewer.source import ShownScene
from wildseg3d_ros.viewer.words import sentence

_TICK = 0.2
"""Seconds between two looks at the source."""
_LIVE_PERIOD = 0.5
"""Seconds between two live images of a camera, and poses of the robot: they show what is there,
they are no video."""
_CSS = (Path(__file__).parent / "style.css").read_text()


class Page:
    """One browser's page over a session.

    Args:
        server: serves the source that answers.
        session: of the browser.
    """

    def __init__(self, server: Server, session: Session) -> None:
        self.server, self.source, self.session = server, server.source, session
        self.control = Control(server.source, session, server.names, self.show_selection)
        self.cards: dict[str, CameraCard] = {}
        self._told: tuple = ()
        self._named = server.names.version
        self._live, self._next_live = self.source.live, 0.0
        self._robot, self._next_robot = True, 0.0

    # ---- layout

    def draw(self) -> None:
        """Puts everything onto the page."""
        ui.add_css(_CSS)
        ui.colors(primary="#ffb020", dark="#171b21", dark_page="#0f1216")
        ui.keyboard(self._on_key)
        with ui.element("div").classes("ws-page"):
            self._draw_head()
            self.told = ui.element("div").classes("ws-told")
            self.cameras = ui.element("div").classes("ws-cams")
            with ui.element("div").classes("ws-middle"):
                self._draw_pane()
                self.selection = SelectionPanel(self.control)
            with ui.element("div").classes("ws-side"):
                with ui.tabs().props("dense align=left no-caps") as tabs:
                    ui.tab("objects", "Objects")
                    ui.tab("rig", "Cameras")
                    ui.tab("help", "Keys")
                with ui.tab_panels(tabs, value="objects", keep_alive=True):
                    with ui.tab_panel("objects"):
                        self.objects = ObjectList(self.control, self._hide)
                    with ui.tab_panel("rig"):
                        self.rig = RigReport()
                        CheckPanel(self.server)
                        captures = self.source.captures
                        self.captured = None if captures is None else CapturedViews(captures)
                    with ui.tab_panel("help"):
                        _draw_help()
        ui.timer(_TICK, self._tick, immediate=True)

    def _draw_head(self) -> None:
        with ui.element("div").classes("ws-head"):
            ui.html("wildseg<b>3d</b>", sanitize=False).classes("ws-brand")
            self.title = ui.label().classes("ws-faint")
            ui.element("div").classes("ws-push")
            self._draw_name()
            if self.source.live:
                ui.switch("Live", value=True, on_change=self._on_live).props("dense").props(
                    "data-testid=live"
                )
            if self.source.can_build:
                _button("Build", self.control.build, "construction").props("data-testid=build")
            self.undo_edit = _button("Undo edit", self.control.undo_edit, "undo").props(
                "data-testid=undo-edit"
            )
            with _button("Export all", None, "download"), ui.menu().props("auto-close"):
                for kind, text in KINDS.items():
                    ui.menu_item(text, partial(self.control.export, "all", kind))

    def _draw_name(self) -> None:
        """Where an object is named instead of clicked."""
        given = ui.input(placeholder="Name it: red mug").props("dense dark clearable")
        given.classes("w-48").props("data-testid=name-it")
        given.tooltip("What SAM 3 finds by these words; its weights are needed")
        given.on("keydown.enter", lambda: self.control.name(given.value or ""))

    def _draw_pane(self) -> None:
        with ui.element("div").classes("ws-pane"):
            self.cloud = CloudPane()
            self.cloud.on("ray", lambda event: self.control.ray(event.args))
            self.cloud.on("shown", self._on_shown)
            with ui.element("div").classes("ws-tools"):
                _tool("center_focus_strong", "see all", lambda: self.cloud.run_method("lookAtAll"))
                self.by_object = _tool("palette", "colours by object", self._toggle_colors)
                _tool("videocam", "cameras", self._toggle_cameras)
                self.robot = _tool("precision_manufacturing", "robot", self._toggle_robot)
                self.robot.props("data-testid=robot").set_visibility(False)
                modes = {"this": "This", "also": "Also", "not": "Not"}
                mode = ui.toggle(modes, value="this", on_change=self._set_mode).props(
                    "data-testid=mode"
                )
                mode.props("dense no-caps unelevated toggle-color=grey-8 size=sm")
                mode.tooltip("What a click means, where no key can be pressed")
            self.latency = ui.label().classes("ws-latency").props("data-testid=latency")
            with self.latency:
                self.latency_parts = ui.tooltip("")
        self.cloud.show(showcameras=True)

    # ---- what the source says

    async def _tick(self) -> None:
        shown = self.source.shown
        if shown is not None and shown is not self.control.shown:
            await self._on_scene(shown)
        state = self.source.state
        if (state, bool(shown)) != self._told:
            self._told = state, bool(shown)
            self._tell()
        if self.server.names.version != self._named:
            self._named = self.server.names.version
            pictures = self.server.pictures()
            if self.control.shown is not None and pictures is not None:
                self.objects.show(self.control.shown, pictures)
                self.selection.show()
        if self.captured is not None:
            self.captured.look()
        if self._robot and time.monotonic() > self._next_robot:
            self._next_robot = time.monotonic() + _LIVE_PERIOD
            await self._show_robot()
        if self._live and time.monotonic() > self._next_live:
            self._next_live = time.monotonic() + _LIVE_PERIOD
            for name, card in self.cards.items():
                card.show_live(await asyncio.to_thread(self.source.live_image, name))

    async def _show_robot(self) -> None:
        links = await asyncio.to_thread(self.source.robot)
        if links:
            self.robot.set_visibility(True)
        drawn = [
            {
                "kind": link.kind,
                "half": link.half.tolist(),
                "pose": link.pose.round(4).ravel().tolist(),
            }
            for link in links
        ]
        self.cloud.show(robot=drawn if self._robot else [])

    def _tell(self) -> None:
        state = self.source.state
        self.told.clear()
        with self.told:
            for text in filter(None, (state.problem, state.failed)):
                ui.label(sentence(text)).classes("ws-banner bad")
            for text in state.stale:
                ui.label(sentence(text)).classes("ws-banner")
            if state.busy:
                stage, fraction = state.busy
                with ui.element("div").classes("ws-banner work").props("data-testid=progress"):
                    ui.label(f"{stage[:1].upper()}{stage[1:]} … {fraction:.0%}")
                    bar = ui.linear_progress(fraction, show_value=False, size="6px")
                    bar.classes("w-64").props("rounded instant-feedback")
                    if self.source.can_build:
                        _button("Cancel", self.source.cancel, "close").props("data-testid=cancel")

    async def _on_scene(self, shown: ShownScene) -> None:
        """Another scene answers: shows it, and asks it what was asked before."""
        before, self.control.shown = self.control.shown, shown
        pictures = self.server.pictures()
        assert pictures is not None
        drawn = await asyncio.to_thread(lambda: pictures.outlines)
        if before is None or [c.name for c in before.cameras] != [c.name for c in shown.cameras]:
            self._draw_cameras(shown)
        for camera in shown.cameras:
            card = self.cards[camera.name]
            verdict = next((v for v in shown.verdicts if v.name == camera.name), None)
            card.show_scene(camera, shown.key, drawn[camera.name], verdict)
        unit = "" if shown.metric else ", not in metres"
        self.title.text = (
            f"{self.source.name} · {sum(o.level == 'whole' for o in shown.objects)} objects · "
            f"{len(shown.cameras)} cameras · frame {shown.frame_id or '–'}{unit}"
        )
        self.undo_edit.set_enabled(shown.edits > 0)
        self._show_cloud()
        self.cloud.show(
            up=list(shown.up),
            size=max(2.8 * shown.spacing, 1e-6),
            focus=_focus(shown),
            cameras=_frustums(shown),
        )
        self.objects.show(shown, pictures)
        self.rig.show(shown)
        if (
            self.session.answer is not None
            and self.session.answer.cloud.scene_id != shown.scene_id
        ):
            await self.control.ask(quietly=True)
        else:
            await self.show_selection()

    def _draw_cameras(self, shown: ShownScene) -> None:
        self.cameras.clear()
        self.cards = {}
        with self.cameras:
            for camera in shown.cameras:
                self.cards[camera.name] = CameraCard(
                    self.control, camera, self._enlarge, self._look_through
                )

    def _show_cloud(self) -> None:
        shown = self.control.shown
        if shown is None:
            return
        hidden = ",".join(map(str, sorted(self.session.hidden)))
        by_object = str(self.session.by_object).lower()
        address = f"/cloud/{shown.key}.bin?by_object={by_object}&hide={hidden}"
        self.cloud.show(src=address)
        self.by_object.props(f"color={'primary' if self.session.by_object else 'white'}")

    # ---- what is selected

    async def show_selection(self) -> None:
        """Shows what the session has selected, in the cloud first."""
        session, cloud = self.session, self.session.cloud
        box = session.box
        self.cloud.show(
            selected=None if cloud is None else self.control.address,
            box=None if box is None else box.corners().tolist(),
        )
        self.selection.show()
        self.objects.mark_selected()
        if cloud is None:
            self.latency.text = self.latency_parts.text = ""
        masks = {} if cloud is None else cloud.masks
        paths = await asyncio.to_thread(
            lambda: {name: outline(mask) for name, mask in masks.items()}
        )
        if cloud is not session.cloud:
            return
        for name, card in self.cards.items():
            card.show_selection(paths.get(name) if cloud is not None else None)

    def _on_shown(self, event: GenericEventArguments) -> None:
        began, given = self.control.began.pop(event.args["url"], None), event.args
        if began is not None:
            parts = {
                "answer": given["told"] - began,
                "transfer": given["fetched"] - given["told"],
                "drawing": given["ended"] - given["fetched"],
            }
            self.latency.text = f"Shown {given['ended'] - began:.0f} ms after the click"
            self.latency_parts.text = ", ".join(f"{k} {took:.0f} ms" for k, took in parts.items())

    # ---- how it is shown

    async def _hide(self, object_id: int) -> None:
        self.session.hidden ^= {object_id}
        self._show_cloud()
        self.objects.mark_selected()

    def _enlarge(self, name: str) -> None:
        for other, card in self.cards.items():
            card.set_large(other == name and not card.large)

    def _look_through(self, name: str) -> None:
        names = [each["name"] for each in self.cloud.props["cameras"]]
        if name in names:
            self.cloud.run_method("lookThrough", names.index(name))

    def _on_live(self, event: ValueChangeEventArguments) -> None:
        self._live = event.value
        if not self._live:
            for card in self.cards.values():
                card.show_still()

    def _toggle_colors(self) -> None:
        self.session.by_object = not self.session.by_object
        self._show_cloud()

    def _toggle_cameras(self) -> None:
        self.cloud.show(showcameras=not self.cloud.props["showcameras"])

    async def _toggle_robot(self) -> None:
        self._robot = not self._robot
        await self._show_robot()

    def _set_mode(self, event: ValueChangeEventArguments) -> None:
        for element in (self.cloud, *(card.image for card in self.cards.values())):
            element.show(negative=event.value == "not", further=event.value == "also")

    async def _on_key(self, event: KeyEventArguments) -> None:
        if not event.action.keydown or event.action.repeat:
            return
        key, control = event.key.name, event.modifiers.ctrl or event.modifiers.meta
        if key == "Escape":
            await self.control.clear()
        elif key == "Backspace" or (key == "z" and control):
            await self.control.take_back()
        elif control:
            return
        elif key in ("1", "2", "3"):
            await self.control.set_level(LEVELS[int(key) - 1])
        elif key == "a":
            await self.control.add()
        elif key == "r":
            await self.control.refine()
        elif key == "o":
            self._toggle_colors()


def _focus(shown: ShownScene) -> list[float] | None:
    """Middle and half diagonal of the objects; None where there is none."""
    corners = [each.box.corners() for each in shown.objects if each.box is not None]
    if not corners:
        return None
    low, high = (edge(np.concatenate(corners), axis=0) for edge in (np.min, np.max))
    return [*((low + high) / 2).tolist(), float(np.linalg.norm(high - low)) / 2]


def _frustums(shown: ShownScene) -> list[dict]:
    """Pose, opening and size of each camera that stands somewhere, as the 3D pane takes them."""
    drawn = []
    for camera in shown.cameras:
        if camera.world_from_cam is None or camera.K is None:
            continue
        height, width = camera.labels.shape
        drawn.append(
            {
                "name": camera.name,
                "pose": camera.world_from_cam.ravel().tolist(),
                "right": width / 2 / camera.K[0, 0],
                "bottom": height / 2 / camera.K[1, 1],
                "depth": max(30 * shown.spacing, 1e-3),
                "color": 0x8D97A5,
            }
        )
    return drawn


def _button(text: str, action: Callable | None, icon: str) -> ui.button:
    return ui.button(text, on_click=action, icon=icon).props("flat dense no-caps color=white")


def _tool(icon: str, text: str, action: Callable) -> ui.button:
    button = ui.button(icon=icon, on_click=action).props("flat dense color=white")
    return button.tooltip(text[:1].upper() + text[1:])


def _draw_help() -> None:
    rows = (
        ("click", "this object, in an image or in the cloud"),
        ("shift- or right-click", "not this"),
        ("Ctrl-click", "this, too"),
        ("drag in an image", "the object in this box"),
        ("wheel", "zoom an enlarged image; with Ctrl any"),
        ("Alt-drag", "move a zoomed image"),
        ("drag, wheel in the cloud", "turn it, zoom it; right drag moves it"),
        ("1, 2, 3", "whole thing, part, part of a part"),
        ("Backspace, Ctrl-Z", "forget the last click"),
        ("Esc", "select nothing"),
        ("A", "add what was clicked as an object"),
        ("R", "refine the selected object; again: apply"),
        ("O", "colours by object"),
    )
    with ui.element("div").classes("ws-keys"):
        for keys, text in rows:
            ui.html(f"<b>{keys}</b>: {text}", sanitize=False)
