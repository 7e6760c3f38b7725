"""What there is to do: one job per recording, and what tells whether it was done before."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wildseg3d_ros import __version__
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.core.settings import nested, walk
from wildseg3d_ros.scene.file.snapshot import VERSION as SCENE_VERSION


@dataclass(frozen=True)
class BatchSettings:
    """What every scene of a batch is made with.

    Attributes:
        config: of the builds.
        max_views: views of a recording, evenly spread; None = all.
        strict: whether a recording with a frame that cannot be read, or a view that nothing
            relates to the others, fails.
        format_name: of all recordings; empty where each tells its own.
        rig: values of a rig's parameter file, which says what the topics of bags are.
        exports: formats that each scene is exported in, see
            :data:`wildseg3d_ros.export.formats.FORMATS`.
    """

    config: SceneConfig = SceneConfig()
    max_views: int | None = None
    strict: bool = False
    format_name: str = ""
    rig: dict[str, Any] | None = None
    exports: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as :meth:`from_dict` reads them."""
        config = {each.name: each.value for each in walk(self.config)}
        return {**vars(self), "config": config}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BatchSettings:
        """The settings of :meth:`to_dict`."""
        config = SceneConfig.from_mapping(nested(values["config"]))
        return cls(**{**values, "config": config, "exports": tuple(values["exports"])})

    @property
    def key(self) -> str:
        """Tells scenes of other settings, or of another version of this package, apart. Exports
        are made from a scene that is there: they do not count."""
        of_scene = {k: v for k, v in self.to_dict().items() if k != "exports"}
        return _digest([__version__, SCENE_VERSION, of_scene])


@dataclass(frozen=True)
class Job:
    """One recording to build.

    Attributes:
        name: of the scene, and of its folder in the output; may hold "/".
        recording: the folder or file to read.
        folder: where the scene and its record go.
        key: of the input, see :func:`fingerprint`.
    """

    name: str
    recording: str
    folder: str
    key: str


def plan_jobs(recordings: Sequence[Path], output: Path, root: Path | None = None) -> list[Job]:
    """A job for each recording, in the order given.

    Args:
        recordings: folders or files.
        output: the batch's folder.
        root: scenes are named by their path below it; None: by the last part of their path.

    Raises:
        FileError: a recording that is not there or not below ``root``. ConfigError: two of one
            name, none at all, or the output within one.
    """
    if not recordings:
        raise ConfigError("no recording is given: `wildseg3d batch RECORDING... -o OUT`")
    named = [(_name(recording, root), recording.resolve()) for recording in recordings]
    twice = [name for name, count in Counter(name for name, _ in named).items() if count > 1]
    if twice:
        raise ConfigError(
            f"{len(twice)} name(s) belong to more than one recording, e.g. '{twice[0]}': give "
            "--root DIR, and scenes are named by their path below it"
        )
    around = [path for _, path in named if output.resolve().is_relative_to(path)]
    if around:
        raise ConfigError(
            f"scenes would be written into the recording '{around[0]}', which changes it: give "
            "another -o"
        )
    return [
        Job(name, str(path), str(output.resolve() / name), fingerprint(path))
        for name, path in named
    ]


def fingerprint(recording: Path) -> str:
    """Changes when a file of the recording comes, goes, or is written: names, sizes and times of
    modification, so that thousands of recordings are looked through in seconds."""
    if not recording.is_dir():
        stat = recording.stat()
        return _digest([recording.name, stat.st_size, stat.st_mtime_ns])
    return _digest(sorted(_files(recording)))


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            try:
                stat = path.stat()
            except OSError:  # a link that leads nowhere is the reader's to complain about
                yield os.path.relpath(path, folder), -1, -1
            else:
                yield os.path.relpath(path, folder), stat.st_size, stat.st_mtime_ns


def _name(recording: Path, root: Path | None) -> str:
    path = Path.cwd() / recording  # not resolved: a link's own name, not of what it leads to
    if not path.exists():
        raise FileError(
            f"no recording '{recording}': expected folders of images, or bags (.mcap, .db3)"
        )
    if root is None:
        return path.stem if path.is_file() else path.name
    try:
        return str(path.relative_to(Path.cwd() / root))
    except ValueError:
        raise FileError(f"'{recording}' does not lie below --root '{root}'") from None


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:20]
