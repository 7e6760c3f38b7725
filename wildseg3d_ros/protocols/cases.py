"""What a benchmark asks of one scene, and how an answer is scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError, PromptError, WildSeg3DError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import POSITIVE, ObjectCloud, Prompt, View
from wildseg3d_ros.core.types.working import resized as resized_view
from wildseg3d_ros.evaluation import MaskScore, compare, mean
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.io.frames import evenly_spaced
from wildseg3d_ros.io.images import SUFFIXES, ImageFile
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_ros.scene.scene import Scene

LONGEST = 1008
"""Edge that larger images are reduced to [px]: a quarter of LLFF's, which the papers use."""
MAX_VIEWS = 8
"""Views that a scene is built from, where no more are scored."""
_IMAGES = ("images_4", "images", "images_2", "images_8", "train/rgb", "rgb")
"""Folders of a scene's images, the preferred first; the last two are of NSVF's layout."""


_SCENES = ("", "nerf_llff_data", "scenes", "llff", "images")
"""Folders of a benchmark's that its scenes may lie in."""


@dataclass(frozen=True)
class Labelled:
    """A scene of a benchmark that has labels; what else it has is looked for when it is read.

    Attributes:
        name: of the scene.
        root: the benchmark's folder.
        masks: the folder of its masks.
    """

    name: str
    root: Path
    masks: Path

    def images(self, *others: str) -> Path:
        """The folder of the scene's images or, where it has none of its own, of another's.

        Raises:
            FileError: there is none.
        """
        places = [self.root / each / name for each in _SCENES for name in (self.name, *others)]
        found = [place for place in places if place.is_dir() and place != self.masks]
        if not found:
            raise self.lacks(f"the images of {self.name}, as {self.name}/images_4")
        return found[0]

    def lacks(self, *what: str) -> FileError:
        """The error that says so."""
        return FileError(f"scene '{self.name}' of '{self.root}' lacks {', '.join(what)}")


def labelled(root: Path, masks: Path) -> list[Labelled]:
    """The scenes that the folder of all masks has a folder for.

    Raises:
        FileError: there is none.
    """
    folders = sorted(path for path in masks.iterdir() if path.is_dir())
    if not folders:
        raise FileError(f"'{root}' has no scene in '{masks}'")
    return [Labelled(folder.name, root, folder) for folder in folders]


@dataclass(frozen=True, eq=False)
class Case:
    """A scene of a benchmark.

    Attributes:
        name: of the scene.
        views: what it is built from; those of ``targets`` and the prompted one are among them.
        prompt: what is given.
        targets: truth (h, w) bool by view, at its own size.
    """

    name: str
    views: tuple[View, ...]
    prompt: Prompt
    targets: Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class CaseScore:
    """How a scene's answer compares.

    Attributes:
        name: of the scene.
        views: score by view.
        iou, accuracy: means over these views.
        error: why there is no answer, which counts as empty masks; empty when there is one.
        failed: whether the scene could not be read or built. One that could not be read has no
            views, and counts in no mean.
        warnings: of the scene.
    """

    name: str
    views: dict[str, MaskScore]
    iou: float | None
    accuracy: float | None
    error: str = ""
    failed: bool = False
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)


def ask(scene: Scene, prompt: Prompt) -> ObjectCloud:
    """The answer to a prompt of a benchmark.

    Its positive clicks were drawn without a scene in mind: those that show nothing are left out.
    Negative ones are left out where the scene holds what they exclude as one with what is clicked.

    Raises:
        PromptError: nothing is left.
    """
    kept = []
    for click in prompt.clicks:
        try:
            if click.label == POSITIVE:
                answer(scene, Prompt((click,)))
            kept.append(click)
        except PromptError:
            continue
    negative = [click for click in kept if click.label != POSITIVE]
    if len(negative) == len(kept) and prompt.clicks:
        return answer(scene, prompt)  # which says what is wrong with it
    try:
        return answer(scene, dataclasses.replace(prompt, clicks=tuple(kept)))
    except PromptError as error:
        if error.code != ErrorCode.CONTRADICTING_CLICKS:
            raise
    positive = tuple(click for click in kept if click.label == POSITIVE)
    return answer(scene, dataclasses.replace(prompt, clicks=positive))


def score(case: Case, scene: Scene | None, error: str = "") -> CaseScore:
    """Compares the masks of a scene's answer with the truth, at the truth's size.

    Args:
        case: what is asked.
        scene: built from its views; None where that failed.
        error: why.
    """
    masks: Mapping[str, NDArray[np.bool_]] = {}
    if scene is not None:
        try:
            masks = ask(scene, case.prompt).masks
        except PromptError as failure:
            error = str(failure)
    views = {}
    for name, truth in case.targets.items():
        mask = resized(masks[name], truth.shape) if name in masks else np.zeros_like(truth)
        views[name] = compare(mask, truth, np.ones_like(truth))
    return CaseScore(
        case.name,
        views,
        mean(each.iou for each in views.values()),
        mean(each.accuracy for each in views.values()),
        error,
        scene is None,
        () if scene is None else scene.warnings,
    )


def resized(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask at another (height, width), by the nearest pixel."""
    if mask.shape == shape:
        return mask
    size = (int(shape[1]), int(shape[0]))
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def read_mask(path: Path) -> NDArray[np.bool_]:
    """(h, w) bool: the pixels of a mask image that are brighter than half of its range.

    Masks of 0 and 1 are of that range. Of colour images any channel counts.

    Raises:
        FileError: missing or no image.
    """
    image = ImageFile.read(path).pixels(cv2.IMREAD_UNCHANGED)
    if image.ndim == 3:
        image = image[..., :3].max(axis=2)
    highest = 1 if image.max(initial=0) <= 1 else np.iinfo(image.dtype).max
    return image > highest / 2


def load_views(
    folder: Path,
    needed: Callable[[Sequence[str]], Sequence[str]],
    max_views: int | None,
    progress: Progress | None = None,
) -> tuple[View, ...]:
    """The views that a scene of a benchmark is built from, reduced to :data:`LONGEST`.

    Args:
        folder: of the scene: a recording, or with a folder of images.
        needed: gives, of the names of all views, that of the prompted one and, after it, those of
            the ones that are scored.
        max_views: at most so many; the prompted view is always among them. None: all that are
            needed, and others, evenly spread, up to :data:`MAX_VIEWS`.
        progress: told of the fraction that is read.

    Raises:
        FileError: no images, or a needed view is not among them.
    """
    try:
        recording = load_folder(folder, progress=progress)
    except FileError as error:
        if error.code != ErrorCode.NO_IMAGES:
            raise
        recording = load_folder(images_of(folder), progress=progress)
    by_name = {view.name: view for view in recording.views}
    wanted = list(dict.fromkeys(needed(list(by_name))))
    missing = [name for name in wanted if name not in by_name]
    if missing:
        raise FileError(
            f"'{folder}' has no image {missing[0]}; it has {', '.join(list(by_name)[:5])}, ..."
        )
    if max_views is not None and len(wanted) > max_views:
        scored = wanted[1:]
        wanted = [wanted[0], *(scored[i] for i in evenly_spaced(len(scored), max_views - 1))]
    others = [name for name in by_name if name not in wanted]
    room = max((MAX_VIEWS if max_views is None else max_views) - len(wanted), 0)
    wanted += [others[i] for i in evenly_spaced(len(others), room)] if room else []
    return tuple(reduced(view) for view in recording.views if view.name in wanted)


def reduced(view: View, longest: int = LONGEST) -> View:
    """A view whose longer edge has at most so many pixels."""
    height, width = view.size
    if max(height, width) <= longest:
        return view
    factor = longest / max(height, width)
    size = (max(1, round(factor * height)), max(1, round(factor * width)))
    # Scribbles and masks are compared at this size: it is the image of the benchmark.
    return dataclasses.replace(resized_view(view, size), camera_size=None)


def images_of(folder: Path) -> Path:
    """The folder of a scene's images.

    Raises:
        FileError: there is none; the text says where it was looked for.
    """
    for name in _IMAGES:
        if (folder / name).is_dir():
            return folder / name
    raise FileError(
        f"'{folder}' has no images; expected them in one of {', '.join(_IMAGES)}",
        ErrorCode.NO_IMAGES,
    )


def pictures_in(folder: Path) -> list[Path]:
    """Its image files, sorted by name; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def means(scores: Iterable[CaseScore]) -> tuple[float | None, float | None]:
    """mIoU and mAcc: means over the scenes."""
    scores = list(scores)
    return mean(each.iou for each in scores), mean(each.accuracy for each in scores)


def reason(error: WildSeg3DError) -> str:
    """Why a scene could not be built, in one line."""
    return " ".join(str(error).split())
