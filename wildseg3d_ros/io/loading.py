"""Recordings of any kind: folders, and bags."""

from __future__ import annotations

from pathlib import Path

from wildseg3d_ros.core.files.reading import as_path
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.io.bags.loading import load_bag
from wildseg3d_ros.io.bags.reading import is_bag
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.io.frames import check_max_views
from wildseg3d_ros.io.recording import Recording
from wildseg3d_ros.streams.rig_file import RigFile

BAG = "bag"


def load_recording(
    path: str | Path,
    max_views: int | None = None,
    progress: Progress | None = None,
    strict: bool = False,
    format_name: str = "",
    rig: RigFile | None = None,
) -> Recording:
    """Reads a folder, see :func:`load_folder`, or a bag, see :func:`load_bag`.

    Args:
        path: what holds it.
        max_views, progress, strict: as of :func:`load_folder`; a bag's frames are not left out.
        format_name: as there, or "bag".
        rig: says which topics of a bag are the cameras'.

    Raises:
        FileError, InputError, ConfigError: as of these.
    """
    path = as_path(path, "recording")
    if format_name == BAG or (not format_name and is_bag(path)):
        check_max_views(max_views)
        return load_bag(path, rig, max_views, progress)
    return load_folder(path, max_views, progress, strict, format_name)
