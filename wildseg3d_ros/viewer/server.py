"""Images, clouds and exports by their addresses, and the server about them and the page."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable
from functools import cached_property

import numpy as np
from nicegui import app
from numpy.typing import NDArray
from starlette.responses import PlainTextResponse, Response

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.types import Prompt
from wildseg3d_ros.io.pictures import RGB, jpeg, object_colors
from wildseg3d_ros.viewer.drawing import (
    colored_by_object,
    label_points,
    outlines,
    packed,
    shuffled,
    small,
    thumbnail,
)
from wildseg3d_ros.viewer.export import all_exported, exported
from wildseg3d_ros.viewer.names import Names
from wildseg3d_ros.viewer.session import Sessions
from wildseg3d_ros.viewer.source import CameraCheck, SceneSource, ShownScene

_CHECKS = 4
"""So many checks of the cameras are kept for browsers that still load their pictures."""
_FOR_EVER = {"cache-control": "private, max-age=86400, immutable"}
# What is packed already, or large and on its way to this machine, is not worth compressing.
_AS_IT_IS = {"content-encoding": "identity"}


class Pictures:
    """What is drawn of one scene, once for all browsers; safe in several threads."""

    def __init__(self, source: SceneSource, shown: ShownScene) -> None:
        self.shown, self._source, self._lock = shown, source, threading.Lock()
        self.colors: dict[int, RGB] = object_colors(each.object_id for each in shown.objects)

    @cached_property
    def outlines(self) -> dict[str, list[dict]]:
        """Per camera, see :func:`wildseg3d_ros.viewer.drawing.outlines`."""
        return {camera.name: outlines(camera, self.colors) for camera in self.shown.cameras}

    @cached_property
    def _labels(self) -> NDArray[np.int32]:
        whole = [o.object_id for o in self.shown.objects if o.level == "whole" and o.points]
        clouds = (self._source.ask(Prompt(object_ids=(i,))).cloud.points for i in whole)
        return label_points(self.shown, zip(whole, clouds, strict=True))

    def cloud(self, by_object: bool, hidden: frozenset[int]) -> bytes:
        """The scene's cloud without the hidden objects, packed."""
        points, colors = self.shown.points, self.shown.colors
        if not (by_object or hidden):
            return packed(points, colors)
        with self._lock:
            labels = self._labels
        if by_object:
            colors = colored_by_object(labels, self.colors)
        kept = ~np.isin(labels, list(hidden))
        return packed(points[kept], colors[kept])

    def thumbnail(self, object_id: int) -> bytes | None:
        """A small image of an object as a file; None where no image shows it."""
        for each in self.shown.objects:
            if each.object_id == object_id:
                image = thumbnail(self.shown, each)
                return None if image is None else jpeg(image)
        return None


class Server:
    """Serves a source.

    Args:
        source: answers.
        sessions: of all browsers.
    """

    def __init__(self, source: SceneSource, sessions: Sessions) -> None:
        self.source, self.sessions, self.names = source, sessions, Names()
        self._pictures: Pictures | None = None
        self._checks: dict[str, CameraCheck] = {}
        app.get("/image/{key}/{camera}.jpg")(self._image)
        app.get("/live/{camera}/{stamp}.jpg")(self._live)
        app.get("/captured/{name}.jpg")(self._captured)
        app.get("/check/{key}/{k}.jpg")(self._checked)
        app.get("/thumbnail/{key}/{object_id}.jpg")(self._thumbnail)
        app.get("/cloud/{key}.bin")(self._cloud)
        app.get("/selection/{key}/{version}.bin")(self._selection)
        app.get("/export/{key}/{name}")(self._export)

    def pictures(self) -> Pictures | None:
        """Those of the scene that answers; None while there is none."""
        shown = self.source.shown
        kept = self._pictures
        if shown is None or (kept is not None and kept.shown is shown):
            return kept
        self._pictures = kept = Pictures(self.source, shown)
        self.names.follow(shown)
        return kept

    def check(self) -> tuple[str, CameraCheck]:
        """Checks the cameras; the key is of the pictures' addresses. Raises WildSeg3DError."""
        key, check = secrets.token_urlsafe(12), self.source.check()
        self._checks[key] = check
        for old in list(self._checks)[:-_CHECKS]:
            self._checks.pop(old, None)
        return key, check

    async def _image(self, key: str, camera: str) -> Response:
        shown = self.source.shown
        if shown is None or shown.key != key:
            return _gone()
        image = shown.camera(camera).image
        if image is None:
            return _gone()
        return await _made(lambda: jpeg(image, 90), "image/jpeg")

    async def _live(self, camera: str, stamp: int) -> Response:
        newest = self.source.live_image(camera)
        if newest is None:
            return _gone()
        return await _made(lambda: jpeg(newest.image, 80), "image/jpeg")

    async def _captured(self, name: str) -> Response:
        captures = self.source.captures
        image = None if captures is None else captures.picture(name)
        if image is None:
            return _gone()
        return await _made(lambda: jpeg(small(image), 85), "image/jpeg")

    async def _checked(self, key: str, k: int) -> Response:
        check = self._checks.get(key)
        if check is None or not 0 <= k < len(check.pictures):
            return _gone()
        return await _made(lambda: check.pictures[k].jpeg, "image/jpeg")

    async def _thumbnail(self, key: str, object_id: int) -> Response:
        pictures = self.pictures()
        if pictures is None or pictures.shown.key != key:
            return _gone()
        return await _made(lambda: pictures.thumbnail(object_id), "image/jpeg")

    async def _cloud(self, key: str, by_object: bool = False, hide: str = "") -> Response:
        pictures = self.pictures()
        if pictures is None or pictures.shown.key != key:
            return _gone()
        hidden = frozenset(int(each) for each in hide.split(",") if each.isdecimal())
        return await _made(lambda: pictures.cloud(by_object, hidden), "application/octet-stream")

    async def _selection(self, key: str, version: int) -> Response:
        session = self.sessions.of_key(key)
        cloud = None if session is None else session.cloud
        if session is None or cloud is None or session.version != version:
            return _gone()
        return await _made(
            lambda: shuffled(cloud.points, cloud.colors), "application/octet-stream"
        )

    async def _export(self, key: str, name: str) -> Response:
        """``selected`` or ``all`` with a kind of :mod:`wildseg3d_ros.viewer.export` behind it."""
        session, shown = self.sessions.of_key(key), self.source.shown
        what, dot, kind = name.partition(".")
        if session is None or shown is None:
            return _gone()

        def write() -> bytes | None:
            if what == "all":
                ids = [each.object_id for each in shown.objects if each.points]
                answers = {i: self.source.ask(Prompt(object_ids=(i,))) for i in ids}
                return all_exported(answers, shown, dot + kind, self.names.given)
            answer, cloud = session.answer, session.cloud
            if answer is None or cloud is None:
                return None
            box = answer.box if session.chosen is None else None
            return exported(cloud, box, dot + kind, self.names.given)

        try:
            return await _made(write, "application/octet-stream")
        except WildSeg3DError as error:
            return PlainTextResponse(f"{error}\n", 400)


def _gone() -> Response:
    return PlainTextResponse("another scene answers by now\n", 404)


async def _made(make: Callable[[], bytes | None], kind: str) -> Response:
    """What takes milliseconds to make, made beside the server's loop."""
    data = await asyncio.to_thread(make)
    if data is None:
        return _gone()
    return Response(data, media_type=kind, headers={**_FOR_EVER, **_AS_IT_IS})
