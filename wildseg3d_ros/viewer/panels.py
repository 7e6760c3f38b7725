"""The parts of the page that list and tell: cameras, objects, the selection."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui

from wildseg3d_ros.core.types import LEVELS, POSITIVE, Box, CameraVerdict, Click
from wildseg3d_ros.grasping.objects import SceneObject
from wildseg3d_ros.viewer.control import Control
from wildseg3d_ros.viewer.elements import CameraImage
from wildseg3d_ros.viewer.export import KINDS
from wildseg3d_ros.viewer.names import LONGEST, Names
from wildseg3d_ros.viewer.server import Pictures
from wildseg3d_ros.viewer.source import LiveImage, ShownCamera, ShownScene
from wildseg3d_ros.viewer.words import BADGES, certainty, sentence, size_text

_LEVEL_NAMES = dict(zip(LEVELS, ("Whole", "Part", "Sub-part"), strict=True))


class CameraCard:
    """A camera's image with what is selected in it.

    Args:
        control: is told of clicks.
        camera: of the scene.
        enlarge, look_through: called with its name by its buttons.

    Attributes:
        live_stamp: time [ns] of the live image that is shown; 0 where it is the scene's own.
        large: whether it takes the width of the column.
    """

    def __init__(
        self,
        control: Control,
        camera: ShownCamera,
        enlarge: Callable[[str], None],
        look_through: Callable[[str], None],
    ) -> None:
        self._session, self.name = control.session, camera.name
        self.live_stamp, self.large = 0, False
        self._still = ""
        with (
            ui.element("div")
            .classes("ws-card")
            .props(f"data-testid='camera-{camera.name}'") as self._card
        ):
            with ui.element("div").classes("ws-title"):
                ui.label(camera.name).classes("name")
                self._badge = ui.label().classes("ws-badge")
                ui.element("div").classes("ws-push")
                for icon, text, action in (
                    ("3d_rotation", "Look through it in 3D", look_through),
                    ("open_in_full", "Large or small", enlarge),
                ):
                    button = ui.button(icon=icon, on_click=partial(action, camera.name))
                    button.props("flat dense size=sm color=grey").tooltip(text)
            self.image = CameraImage()
            for event, act in (("clicked", control.clicked), ("drawn", control.drawn)):
                self.image.on(event, lambda e, act=act: act(camera.name, self.live_stamp, e.args))

    def show_scene(
        self,
        camera: ShownCamera,
        key: str,
        outlines: list[dict],
        verdict: CameraVerdict | None,
    ) -> None:
        """Shows the camera in another scene."""
        height, width = camera.labels.shape
        self._still = "" if camera.image is None else f"/image/{key}/{camera.name}.jpg"
        source = {} if self.live_stamp else {"src": self._still}
        self.image.show(
            name=camera.name, width=width, height=height, objects=outlines, zoomable=self.large,
            **source,
        )  # fmt: skip
        self._badge.text = verdict.verdict if verdict else ""
        self._badge.set_visibility(verdict is not None)
        self._badge.classes(replace=f"ws-badge {BADGES[verdict.verdict] if verdict else ''}")

    def show_selection(self, path: str | None) -> None:
        """Shows outline and prompts; None where nothing is selected."""
        session = self._session
        clicks = [*session.pointed, *session.corrections]
        self.image.show(
            selection=path,
            clicks=[
                {"u": each.u, "v": each.v, "on": each.label == POSITIVE}
                for each in clicks
                if isinstance(each, Click) and each.view == self.name
            ],
            boxes=[
                [each.u0 + 0.5, each.v0 + 0.5, each.u1 + 0.5, each.v1 + 0.5]
                for each in clicks
                if isinstance(each, Box) and each.view == self.name
            ],
        )

    def show_live(self, newest: LiveImage | None) -> None:
        """Shows what the camera sees now."""
        if newest is not None and newest.stamp_ns != self.live_stamp:
            self.live_stamp = newest.stamp_ns
            self.image.show(src=f"/live/{self.name}/{newest.stamp_ns}.jpg")

    def show_still(self) -> None:
        """Shows the scene's own image again."""
        self.live_stamp = 0
        self.image.show(src=self._still)

    def set_large(self, large: bool) -> None:
        """Takes the width of the column, or half of it."""
        self.large = large
        self._card.classes(**{"add" if large else "remove": "large"})
        self.image.show(zoomable=large)


class ObjectList:
    """All objects: thumbnail, colour, size, views, score.

    Args:
        control: is told what is selected.
        hide: called with the id of an object that is to be hidden or shown.
    """

    def __init__(self, control: Control, hide: Callable[[int], Awaitable[None]]) -> None:
        self._control, self._hide = control, hide
        self._rows: dict[int, ui.element] = {}
        self._list = ui.element("div").props("data-testid=objects")

    def show(self, shown: ShownScene, pictures: Pictures) -> None:
        """Lists the objects of a scene, parts under what they are part of."""
        self._list.clear()
        self._rows = {}
        parts: dict[int, list[SceneObject]] = {}
        for each in shown.objects:
            parts.setdefault(each.parent, []).append(each)
        with self._list:
            if not shown.scene_id:
                ui.label("There is no scene yet.").classes("ws-faint q-pa-sm")
            elif not shown.objects:
                text = "No object was found. Click one in an image, and add it."
                ui.label(text).classes("ws-faint q-pa-sm")
            for each in shown.objects:
                if each.parent == 0:
                    self._draw(each, shown, pictures)
                    for part in parts.get(each.object_id, ()):
                        self._draw(part, shown, pictures)
        self.mark_selected()

    def _draw(self, each: SceneObject, shown: ShownScene, pictures: Pictures) -> None:
        score, ambiguous = certainty(each.score, each.ambiguity)
        color = "#{:02x}{:02x}{:02x}".format(*pictures.colors[each.object_id])
        row = ui.element("div").classes("ws-object" + (" part" if each.parent else ""))
        row.on("click", lambda: self._control.select((each.object_id,)))
        row.props(f"data-testid='object-{each.object_id}'")
        self._rows[each.object_id] = row
        with row:
            ui.element("img").props(
                f'src="/thumbnail/{shown.key}/{each.object_id}.jpg" loading=lazy alt=""'
            )
            with ui.element("div"):
                with ui.element("div").classes("title"):
                    ui.element("div").classes("ws-dot").style(f"background: {color}")
                    ui.label(self._control.names.title(each))
                    if ambiguous:
                        ui.label("ambiguous").classes("ws-badge warn")
                with ui.element("div").classes("lines"):
                    ui.label(size_text(each.box, shown.metric))
                    coverage = math.nan if each.box is None else each.box.coverage
                    seen = "" if math.isnan(coverage) else f" · {coverage:.0%} seen"
                    ui.label(f"{len(each.cameras)} views · {score}{seen}")
            button = ui.button(icon="visibility").props("flat dense size=sm color=grey")
            button.on("click.stop", lambda: self._hide(each.object_id))
            button.tooltip("Hide or show")

    def mark_selected(self) -> None:
        """Marks what is selected and what is hidden."""
        session = self._control.session
        selected = session.cloud.object_ids if session.cloud is not None else ()
        for object_id, row in self._rows.items():
            for name, wanted in (
                ("selected", object_id in selected),
                ("hidden", object_id in session.hidden),
            ):
                row.classes(**{"add" if wanted else "remove": name})


class SelectionPanel:
    """What is selected: figures, alternatives, and what can be done with it."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._panel = ui.element("div").classes("ws-selection").props("data-testid=selection")
        self.show()

    def show(self) -> None:
        """Shows the session's selection, or why there is none."""
        session = self._control.session
        self._panel.clear()
        with self._panel:
            if session.refining:
                self._draw_refining()
            elif session.error:
                self._draw_error()
            elif session.cloud is None:
                ui.label("Click an object, in an image or in the cloud.").classes("ws-what")
                text = "Shift- or right-click: not this. Ctrl-click: this, too. Drag: a box."
                ui.label(text).classes("ws-faint")
            else:
                self._draw_selection()

    def _draw_selection(self) -> None:
        control, session = self._control, self._control.session
        cloud, shown = session.cloud, control.shown
        assert cloud is not None
        score, ambiguous = certainty(cloud.score, cloud.ambiguity)
        with ui.element("div").classes("ws-row"):
            name = control.names.of(*cloud.object_ids)
            ui.label(name).classes("ws-what").props("data-testid=selected-name")
            if ambiguous:
                ui.label("ambiguous: look at the alternatives").classes("ws-badge warn")
            self._draw_chips()
            level = ui.toggle(_LEVEL_NAMES, value=session.level)
            level.props("dense no-caps unelevated toggle-color=grey-8 size=sm").classes("ws-push")
            level.on_value_change(lambda event: control.set_level(event.value))
        seen = sum(bool(mask.any()) for mask in cloud.masks.values())
        figures = {
            "size": size_text(session.box, shown is None or shown.metric),
            "points": f"{len(cloud):,}",
            "views": str(seen or "–"),
            "score": score.removeprefix("score "),
            "ambiguity": "–" if math.isnan(cloud.ambiguity) else f"{cloud.ambiguity:.2f}",
            "box seen": "–" if session.box is None else f"{session.box.coverage:.0%}",
        }
        with ui.element("div").classes("ws-figures"):
            for name, text in figures.items():
                with ui.element("div"):
                    ui.html(f"<span>{name}</span>", sanitize=False)
                    ui.html(f"<b>{text}</b>", sanitize=False).props(f"data-testid='figure-{name}'")
        for warning in session.answer.warnings if session.answer else ():
            ui.label(sentence(warning)).classes("ws-faint")
        with ui.element("div").classes("ws-row"):
            self._draw_buttons(cloud.object_ids)

    def _draw_chips(self) -> None:
        control, session = self._control, self._control.session
        answer = session.answer
        if answer is None or not answer.cloud.alternatives:
            return
        texts: dict[int | None, str] = {None: f"this {_share(answer.cloud.score)}"}
        for k, each in enumerate(answer.cloud.alternatives):
            size = "larger" if each.larger else "smaller"
            texts[k] = f"{size} {_share(each.score)}"
        for k, text in texts.items():
            chosen = session.chosen == k
            chip = ui.chip(text, on_click=partial(control.choose, k)).props(
                f"data-testid='alternative-{k}'"
            )
            chip.props(f"dense {'color=primary text-color=black' if chosen else 'outline'}")

    def _draw_buttons(self, object_ids: tuple[int, ...]) -> None:
        control = self._control
        if control.busy:
            ui.spinner(size="sm")
            ui.label("The scene is being changed …").classes("ws-faint")
            return
        _action("Undo click", control.take_back, "undo").props("data-testid=undo-click")
        _action("Clear", control.clear, "close").props("data-testid=clear")
        if len(object_ids) > 1:
            _action("Merge", control.merge, "join_full").props("data-testid=merge")
        elif object_ids:
            _action("Refine", control.refine, "tune").props("data-testid=refine")
            rename = partial(_ask_for_name, control.names, object_ids[0])
            _action("Rename", rename, "edit").props("data-testid=rename")
        else:
            _action("Add as object", control.add, "add_circle").props("data-testid=add")
        with (
            _action("Export", None, "download").props("data-testid=export"),
            ui.menu().props("auto-close"),
        ):
            for kind, text in KINDS.items():
                item = ui.menu_item(text, partial(control.export, "selected", kind))
                item.props(f"data-testid='export{kind}'")

    def _draw_error(self) -> None:
        control = self._control
        ui.label(control.session.error).classes("ws-error").props("data-testid=error")
        with ui.element("div").classes("ws-row"):
            if control.busy:
                ui.spinner(size="sm")
                return
            _action("Undo click", control.take_back, "undo").props("data-testid=undo-click")
            _action("Clear", control.clear, "close").props("data-testid=clear")
            if control.session.addable:
                _action("Add as object", control.add, "add_circle").props("data-testid=add")

    def _draw_refining(self) -> None:
        control, session = self._control, self._control.session
        ui.label(f"Refining object {session.refining}").classes("ws-what")
        ui.label(
            "Click what is missing, and shift- or right-click what does not belong to it; then "
            f"apply. {len(session.corrections)} so far."
        ).classes("ws-faint")
        with ui.element("div").classes("ws-row"):
            if control.busy:
                ui.spinner(size="sm")
                return
            _action("Apply", control.refine, "check").props("data-testid=apply")
            _action("Undo click", control.take_back, "undo")
            _action("Cancel", control.clear, "close")


def _action(text: str, action: object, icon: str) -> ui.button:
    button = ui.button(text, on_click=action, icon=icon)  # type: ignore[arg-type]
    return button.props("dense no-caps unelevated color=grey-9 size=sm padding='4px 10px'")


def _ask_for_name(names: Names, object_id: int) -> None:
    with ui.dialog(value=True) as dialog, ui.card():
        ui.label(f"Name of object {object_id}")
        given = ui.input(value=names.given(object_id)).props(f"maxlength={LONGEST} autofocus")

        def take() -> None:
            names.rename(object_id, given.value or "")
            dialog.close()

        given.on("keydown.enter", take).props("data-testid=name")
        with ui.element("div").classes("ws-row"):
            _action("Rename", take, "check").props("data-testid=rename-apply")
            _action("Cancel", dialog.close, "close")


def _share(score: float) -> str:
    return "" if math.isnan(score) else f"{score:.2f}"
