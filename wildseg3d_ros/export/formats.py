"""The formats by name, and the export of a scene in several of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.files.reading import as_path
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.settings import nearest
from wildseg3d_ros.export.bop import bop
from wildseg3d_ros.export.clouds import clouds, labels, summary
from wildseg3d_ros.export.coco import coco
from wildseg3d_ros.export.contents import Contents
from wildseg3d_ros.export.meshes import meshes
from wildseg3d_ros.export.nerfstudio import nerfstudio
from wildseg3d_ros.export.page import page
from wildseg3d_ros.export.target import Plan, Target
from wildseg3d_ros.scene.scene import Scene

FORMATS: dict[str, tuple[Callable[[Contents], Plan], str]] = {
    "ply": (partial(clouds, suffix=".ply"), "a cloud per object, with colours and confidence"),
    "pcd": (partial(clouds, suffix=".pcd"), "a cloud per object, for PCL"),
    "npz": (partial(clouds, suffix=".npz"), "a cloud per object, for NumPy"),
    "labels": (labels, "a 16-bit image per view whose pixels are ids"),
    "coco": (coco, "masks of all views as COCO has them"),
    "bop": (bop, "a dataset of the BOP benchmark with this scene"),
    "nerfstudio": (nerfstudio, "images, poses, depth and masks as nerfstudio reads them"),
    "json": (summary, "cameras, boxes, scores"),
    "mesh": (meshes, "triangles per object, where its cloud is a surface"),
    "html": (page, "one page with pictures, sizes, scores and ambiguities"),
}
"""What makes the plan of a format, and what the format is."""
DEFAULT_FORMATS = ("ply", "json", "html")


def export_scene(
    scene: Scene,
    folder: str | Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    ids: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Writes a scene into a folder of its own.

    Args:
        scene: what is exported.
        folder: new, empty, or that of an earlier export, whose files are replaced.
        formats: of :data:`FORMATS`.
        ids: the objects; None for all, of all levels.
        progress: told of the fraction that is written.

    Returns:
        The files, in the order in which they were written.

    Raises:
        ConfigError: an unknown format, or one that does not fit the scene. PromptError: an unknown
        object. FileError: the folder is not ours, or something cannot be written.
    """
    progress = progress or Progress()
    formats = checked_formats(formats)
    folder = as_path(folder, "folder")
    target = Target(folder)
    contents = Contents(scene, ids)
    with progress.stage("export"):
        plan: Plan = {}
        for name in formats:
            plan |= FORMATS[name][0](contents)
        about = {"scene_id": scene.scene_id, "formats": list(formats)}
        target.write(plan, about, progress.update)
    return tuple(folder / name for name in plan)


def checked_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats of these names, each once.

    Raises:
        ConfigError: an unknown one, or none.
    """
    unknown = [name for name in names if not isinstance(name, str) or name not in FORMATS]
    if unknown or not names:
        what = f"no format '{unknown[0]}'" if unknown else "no format was given"
        hint = nearest(str(unknown[0]), FORMATS) if unknown else ""
        raise ConfigError(f"{what}{hint}; formats are {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(names))
