"""A scene in Python, without ROS: ``import wildseg3d_ros as ws``.

>>> import wildseg3d_ros as ws
>>> scene = ws.load("scene.ws3d")
>>> scene
<scene ...: 4 objects in 3 views, frame 'base'>
>>> scene.segment(("cam_0", 75, 66))
<cloud of object ...: ... points in 'base'...>
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import InputError, PromptError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.settings import from_mapping, nested
from wildseg3d_ros.core.types import (
    NEGATIVE,
    POSITIVE,
    Box,
    Click,
    Level,
    ObjectCloud,
    Point,
    Prompt,
    View,
    ViewMask,
)
from wildseg3d_ros.core.types.prompts import check_text
from wildseg3d_ros.editing import (
    add_object,
    config_as_built,
    load_editing_masks,
    refine_object,
    undo,
)
from wildseg3d_ros.grasping.graspable import GraspableScene
from wildseg3d_ros.grasping.objects import SceneObject, scene_objects
from wildseg3d_ros.io.loading import load_recording
from wildseg3d_ros.io.recording import Recording
from wildseg3d_ros.masks.text.config import TextConfig
from wildseg3d_ros.pipeline import build_scene
from wildseg3d_ros.scene.camera_pixels import camera_image, camera_labels, mask_at_camera
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_ros.scene.scene import Scene as Snapshot

if TYPE_CHECKING:
    from wildseg3d_ros.showing import Shown

Where: TypeAlias = tuple | list | int | SceneObject | Click | Box | Point | ViewMask
"""What can be pointed at: see :meth:`Scene.segment`."""

_EXPECTED = (
    "expected (camera, u, v) with column u and row v of a pixel, (camera, u0, v0, u1, v1) for a "
    "box, the id of an object, or a list of these"
)


_SCALARS = str, int, float, np.number


def load(path: str | Path) -> Scene:
    """A scene from its file.

    >>> load("scene.ws3d").views
    ('cam_0', 'cam_1', 'cam_2')

    Raises:
        FileError: missing, damaged, no scene, or of another version.
    """
    return Scene(load_scene(path), Path(path))


def build(
    source: str | Path | Recording | Iterable[View],
    *,
    max_views: int | None = None,
    progress: bool = False,
    **settings: Any,
) -> Scene:
    """Builds a scene, in seconds.

    >>> scene = build("recording", max_views=2, index={"click_radius": 4})
    >>> scene.views
    ('cam_0', 'cam_2')

    Args:
        source: a recording: a folder or a bag, or views.
        max_views: of a folder, use at most so many, evenly spread.
        progress: show a bar for each stage.
        settings: as in configuration files, by group: ``masks={"backend": "sam2"}``, or with
            dotted names: ``**{"masks.backend": "sam2"}``.

    Raises:
        ConfigError: an unknown setting. Others: as of
            :func:`wildseg3d_ros.pipeline.build_scene` and
            :func:`wildseg3d_ros.io.loading.load_recording`.
    """
    from wildseg3d_ros.core.progress_bar import ProgressBar

    config = SceneConfig.from_mapping(nested(settings))
    with ProgressBar(quiet=not progress) as bar:
        told = Progress(bar.report)
        if isinstance(source, str | Path):
            with told.stage("load"):
                source = load_recording(source, max_views, told)
        recording = source if isinstance(source, Recording) else Recording(_views(source))
        world = recording.world_frame or "world"
        snapshot = build_scene(recording.views, config, told, world_frame=world)
    said = (*recording.warnings, *snapshot.warnings)
    return Scene(dataclasses.replace(snapshot, warnings=said))


class Scene:
    """A scene to ask. It does not change: edits give another one.

    Args:
        snapshot: what was built, or loaded.
        path: its file, if it has one.
    """

    def __init__(self, snapshot: Snapshot, path: Path | None = None) -> None:
        self._snapshot, self._path = snapshot, path

    def __repr__(self) -> str:
        return repr(self._snapshot)

    @property
    def snapshot(self) -> Snapshot:
        """All that is known of it, as the rest of the package takes it.

        >>> load("scene.ws3d").snapshot.alignment.metric
        True
        """
        return self._snapshot

    @property
    def views(self) -> tuple[str, ...]:
        """Names of its cameras.

        >>> load("scene.ws3d").views
        ('cam_0', 'cam_1', 'cam_2')
        """
        return self._snapshot.view_names

    @property
    def frame_id(self) -> str:
        """Name of the frame of all points.

        >>> load("scene.ws3d").frame_id
        'base'
        """
        return self._snapshot.frame_id

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its user should know, one sentence each.

        >>> load("scene.ws3d").warnings
        ()
        """
        return self._snapshot.warnings

    @cached_property
    def objects(self) -> tuple[SceneObject, ...]:
        """Its objects by id, those of all levels.

        >>> load("scene.ws3d").objects[0]
        <object 1: 0.0... x 0.0... x 0.0..., ... points, 3 views>
        """
        return tuple(scene_objects(GraspableScene(self._snapshot)))

    def image(self, view: str) -> NDArray[np.uint8]:
        """(H, W, 3) RGB image of a camera.

        >>> load("scene.ws3d").image("cam_0").shape
        (120, 160, 3)

        Raises:
            PromptError: there is no such camera.
        """
        return camera_image(self._snapshot, self._snapshot.view_index(view))

    def labels(self, view: str) -> NDArray[np.int32]:
        """(H, W) ids of whole objects in a camera's image, 0 = none; errors as of image.

        >>> load("scene.ws3d").labels("cam_0").max()
        np.int32(4)
        """
        return camera_labels(self._snapshot, self._snapshot.view_index(view))

    def segment(
        self, *where: Where, without: Sequence[Where] = (), level: Level = "whole"
    ) -> ObjectCloud:
        """The cloud of what is pointed at; several things are united.

        >>> scene = load("scene.ws3d")
        >>> cloud = scene.segment(("cam_0", 75, 66))
        >>> cloud.points.shape == (len(cloud), 3)
        True
        >>> sorted(cloud.masks)
        ['cam_0', 'cam_1', 'cam_2']
        >>> scene.segment(1, 2).object_ids
        (1, 2)
        >>> scene.segment(("cam_0", 75, 700))
        Traceback (most recent call last):
        ...
        wildseg3d_ros.core.errors.PromptError: pixel (75, 700) is outside the image of camera ...

        Args:
            where: pixels ``(camera, u, v)``, boxes ``(camera, u0, v0, u1, v1)``, ids of objects,
                entries of :attr:`objects`, or :class:`Click`, :class:`Box`, :class:`Point` and
                :class:`ViewMask`; lists of these.
            without: pixels that are not on it.
            level: whether a pixel means the "whole" thing there, its "part" or "sub_part".

        Raises:
            PromptError: what is given points at nothing; the text says what would.
        """
        return answer(self._snapshot, _prompt(where, without, level))

    def add(self, *where: Where, without: Sequence[Where] = ()) -> tuple[Scene, ObjectCloud]:
        """The scene with one more object, and its cloud; this scene stays as it is.

        >>> scene, cloud = load("scene.ws3d").add(("cam_0", 75, 66))
        >>> cloud.object_ids  # it was an object
        (1,)

        Args:
            where, without: as of :meth:`segment`.

        Raises:
            PromptError: there is nothing; the text says what would be.
        """
        return self._edited(add_object, _prompt(where, without))

    def refine(
        self, object_id: int | SceneObject, *where: Where, without: Sequence[Where] = ()
    ) -> tuple[Scene, ObjectCloud]:
        """The scene with one object corrected, and its cloud; this scene stays as it is.

        >>> scene = load("scene.ws3d")
        >>> more, cloud = scene.refine(1, ("cam_1", 74, 81))
        >>> len(cloud) > len(scene.segment(1))
        True

        Args:
            object_id: or an entry of :attr:`objects`.
            where: pixels and points that are on it: what is there is added.
            without: pixels that are not: what is there is taken away.

        Raises:
            PromptError: no such object, or clicks that contradict each other.
        """
        return self._edited(refine_object, _prompt((object_id, *where), without))

    def undo(self) -> Scene:
        """The scene before the newest :meth:`add` or :meth:`refine` since it was built or loaded.

        >>> scene = load("scene.ws3d")
        >>> more, _ = scene.refine(1, ("cam_1", 74, 81))
        >>> len(more.undo().segment(1)) == len(scene.segment(1))
        True

        Raises:
            PromptError: there was none.
        """
        config = config_as_built(self._snapshot)
        masks = load_editing_masks(self._snapshot, config, prompted=False)
        return Scene(undo(self._snapshot, config, masks)[0])

    def _edited(
        self, edit: Callable[..., tuple[Snapshot, ObjectCloud]], prompt: Prompt
    ) -> tuple[Scene, ObjectCloud]:
        config = config_as_built(self._snapshot)
        masks = load_editing_masks(self._snapshot, config)
        snapshot, cloud = edit(self._snapshot, prompt, config, masks)
        return Scene(snapshot), cloud

    def find(self, text: str, weights: str = TextConfig.weights, device: str = "auto") -> ViewMask:
        """What a text names ("the red mug"), by SAM 3, for :meth:`segment`.

        Each call loads the weights: :class:`wildseg3d_ros.masks.text.sam3.TextFinder` keeps them,
        and has all that is found.

        >>> scene = load("scene.ws3d")
        >>> scene.segment(scene.find("the red mug"))  # doctest: +SKIP
        <cloud of object 3: 54084 points in 'base', score 0.97>
        >>> scene.find("")
        Traceback (most recent call last):
        ...
        wildseg3d_ros.core.errors.PromptError: the text is empty; name ...

        Args:
            weights: hub name of a downloaded model, or its folder.
            device: auto, cpu, cuda or cuda:N.

        Raises:
            PromptError: no text, or nothing that is seen has that name. FileError: there are no
            weights. ConfigError: the extra ``sam2`` is not installed.
        """
        check_text(text)  # before seconds are spent on weights
        given = {"weights": weights, "device": device}
        named = from_mapping(TextConfig(), given).load().find(self._snapshot.images, text)[0]
        return mask_at_camera(self._snapshot, named.view, named.mask)

    def save(self, path: str | Path) -> None:
        """Writes it to a file, which :func:`load` reads.

        >>> scene = load("scene.ws3d")
        >>> scene.save("copy.ws3d")
        >>> load("copy.ws3d")
        <scene ...: 4 objects in 3 views, frame 'base'>

        Raises:
            FileError: it cannot be written.
        """
        save_scene(self._snapshot, path)
        self._path = Path(path)

    def export(self, folder: str | Path, *formats: str) -> tuple[Path, ...]:
        """Writes it in formats of other tools (docs/how-to/export.md); returns the files.

        >>> [path.name for path in load("scene.ws3d").export("out", "json", "html")]
        ['scene.json', 'index.html']

        Raises:
            ConfigError: an unknown format. FileError: the folder is not ours.
        """
        from wildseg3d_ros.export.formats import DEFAULT_FORMATS, export_scene

        return export_scene(self._snapshot, folder, formats or DEFAULT_FORMATS)

    def show(self, port: int = 8080, browser: bool = True) -> Shown:
        """Opens the page to click in (extra ``viewer``), served by a process of its own.

        In a notebook what is returned shows the page. The process ends with this one, by
        ``close()``, or when what is returned is forgotten.

        >>> with load("scene.ws3d").show(browser=False) as page:  # doctest: +SKIP
        ...     print(page.address)
        http://localhost:8080

        Args:
            port: or the next free one.
            browser: whether a browser is told to open it.

        Raises:
            FileError: the extra is missing, or the page cannot be served.
        """
        from wildseg3d_ros.showing import Shown

        return Shown(self._snapshot, self._path, port, browser)


def _views(given: Any) -> tuple[View, ...]:
    """Views, or an error that says what else was given."""
    form = 'View("front", image, K=K, depth=depth, world_from_cam_prior=pose)'
    if isinstance(given, View) or not isinstance(given, Iterable):
        raise InputError(
            f"a scene is built from a folder or from two or more views, got {_short(given)}"
        )
    views = tuple(given)
    for each in views:
        if not isinstance(each, View):
            raise InputError(f"a scene is built from views, got {_short(each)}; make them: {form}")
    return views


def _prompt(where: Sequence[Where], without: Sequence[Where], level: Level = "whole") -> Prompt:
    """What is pointed at and what is excluded, as the rest of the package takes it."""
    clicks = [_negative(each) for each in _each(without)]
    boxes: list[Box] = []
    masks: list[ViewMask] = []
    points: list[Point] = []
    ids: list[int] = []
    kinds = {Click: clicks, Box: boxes, ViewMask: masks, Point: points, int: ids}
    # A pixel without its brackets is one, too: segment("front", 320, 240).
    given = where if where and isinstance(where[0], str) else list(where)
    found = list(_each(given))
    if not found:
        raise PromptError(f"nothing is pointed at; {_EXPECTED}")
    for each in found:
        kinds[type(each)].append(each)
    return Prompt(tuple(clicks), level, tuple(boxes), tuple(masks), tuple(points), tuple(ids))


def _each(given: Any) -> Iterator[Any]:
    """Clicks, boxes, masks, points and ids of what a caller passes."""
    if isinstance(given, Click | Box | Point | ViewMask):
        yield given
    elif isinstance(given, SceneObject):
        yield given.object_id
    elif isinstance(given, int | np.integer) and not isinstance(given, bool):
        yield int(given)
    elif isinstance(given, tuple | list) and given and isinstance(given[0], str):
        yield _pixels(given)
    elif isinstance(given, list) or (
        isinstance(given, tuple) and not any(isinstance(each, _SCALARS) for each in given)
    ):
        for each in given:
            yield from _each(each)
    else:
        raise PromptError(f"cannot tell what {_short(given)} points at; {_EXPECTED}")


def _pixels(given: Sequence[Any]) -> Click | Box:
    """(camera, u, v) or (camera, u0, v0, u1, v1)."""
    camera, *numbers = given
    numbers = [n.item() if isinstance(n, np.ndarray) and n.ndim == 0 else n for n in numbers]
    if len(numbers) not in (2, 4) or not all(
        isinstance(each, int | float | np.number) and not isinstance(each, bool)
        for each in numbers
    ):
        raise PromptError(f"cannot tell what {_short(given)} points at; {_EXPECTED}")
    values = [float(each) for each in numbers]
    return Click(camera, *values, label=POSITIVE) if len(values) == 2 else Box(camera, *values)


def _negative(each: Any) -> Click:
    if not isinstance(each, Click):
        raise PromptError(f"'without' takes pixels (camera, u, v), got {_short(each)}")
    return dataclasses.replace(each, label=NEGATIVE)


def _short(value: Any) -> str:
    """What was given, for error text."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
