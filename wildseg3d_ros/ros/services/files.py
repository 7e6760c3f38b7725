"""Files that clients name: inside one folder, and never over what is something else."""

from __future__ import annotations

import zipfile
from pathlib import Path

from wildseg3d_ros.core.errors import FileError


def path_inside(folder: str, text: str, what: str) -> Path:
    """The absolute path of a file that a client names, inside the node's folder of scenes.

    Whoever is on the node's DDS domain can ask it to write files as the node's user: what leads
    out of the folder is refused, by whatever way, links included.

    Args:
        folder: the parameter ``scene_folder``; ~ is the home of the node's user.
        text: a name inside of it, or an absolute path that lies there.
        what: is to be done, for the text of an error: "save to".

    Raises:
        FileError: no name, one of a folder, or one that leads out.
    """
    if not text or not text.isprintable():
        raise FileError(f"a path is needed to {what}, of printable characters; got {text!r}")
    try:
        root = Path(folder).expanduser().resolve()
        path = (root / Path(text).expanduser()).absolute()
        real, is_folder = path.resolve(), path.is_dir()
    except (RuntimeError, OSError) as error:
        raise FileError(f"cannot {what} '{text}': {error}") from error
    if not real.is_relative_to(root):
        raise FileError(
            f"cannot {what} '{text}': it is outside of '{root}', the parameter scene_folder; give "
            "a name inside of it, or start the node with another folder"
        )
    if is_folder:
        raise FileError(f"cannot {what} '{path}': it is a folder; name a file in it")
    return path


def check_replaces(path: Path, is_same_kind: bool, kind: str) -> None:
    """Raises FileError where a file is there that is something else than what would replace it."""
    if path.exists() and not is_same_kind:
        raise FileError(
            f"'{path}' is there and no {kind}: it is not written over; choose another name"
        )


def is_scene(path: Path) -> bool:
    """Whether a file looks like a scene's: a zip file with its header."""
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return "wildseg3d-scene.json" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
