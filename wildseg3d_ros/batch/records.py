"""What is known of a recording that was worked on. That it was begun is written first, so that its
folder is known as a batch's; what became of it last, so that a scene that is done is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, Literal

from wildseg3d_ros.batch.jobs import BatchSettings, Job
from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import is_regular
from wildseg3d_ros.core.files.text import read_json
from wildseg3d_ros.core.files.writing import write_bytes

SCENE = "scene.ws3d"
RECORD = "record.json"
PREVIEW = "preview.jpg"
EXPORT = "export"
"""Folder of what a scene is exported as."""
_FORMAT, _VERSION = "wildseg3d-batch-record", 2

State = Literal["done", "failed"]


@dataclass(frozen=True)
class Record:
    """What became of a recording.

    Attributes:
        name, recording, key: as of :class:`wildseg3d_ros.batch.jobs.Job`.
        settings: :attr:`wildseg3d_ros.batch.jobs.BatchSettings.key`.
        state: whether there is a scene.
        error: one sentence; empty where it is done.
        lasting: whether the same input fails again; otherwise the next run tries anew.
        files: sizes in bytes of what was written, by path below the folder.
        exports: formats that a scene that is done is exported in; else those asked for.
        figures: of the scene, see :func:`wildseg3d_ros.cli.report.scene_figures`.
        seconds: that reading and building took.
        worker: where it was made: host and process.
        peak_memory_mb: of that process by then.
    """

    name: str
    recording: str
    key: str
    settings: str
    state: State
    error: str = ""
    lasting: bool = False
    files: dict[str, int] = field(default_factory=dict)
    exports: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    worker: str = ""
    peak_memory_mb: float = 0.0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Record:
        """The record of values as JSON has them; TypeError where they are none."""
        record = cls(**values)
        return replace(record, exports=tuple(record.exports))

    @property
    def is_unreliable(self) -> bool:
        """Whether the scene's alignment did not converge."""
        return self.state == "done" and not self.figures.get("converged", True)

    def write(self, folder: Path) -> None:
        """Into the scene's folder; replaced as a whole.

        Raises:
            FileError: it cannot be written.
        """
        values = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
        write_bytes(folder / RECORD, (json.dumps(values, indent=1) + "\n").encode())

    def holds(self, folder: Path) -> bool:
        """Whether all files that were written are there, as large as they were."""
        try:
            return all((folder / name).stat().st_size == size for name, size in self.files.items())
        except OSError:
            return False


def read_record(folder: Path) -> Record | None:
    """The record of a scene's folder; None where there is none that can be read."""
    path = folder / RECORD
    try:
        values = read_json(path, "record of a batch")
        if values.pop("format") != _FORMAT or values.pop("version") != _VERSION:
            return None
        return Record.from_dict(values)
    except (FileError, KeyError, TypeError, AttributeError):
        return None


class Trace(Enum):
    """What there is in place of a record that can be read."""

    NOTHING = auto()
    """No file, or one of something else."""
    DAMAGED = auto()
    """Half a file, or a record that lacks something."""
    OTHER_VERSION = auto()


def trace_of_record(folder: Path) -> Trace:
    """See :class:`Trace`; of a folder whose record :func:`read_record` cannot read."""
    if not is_regular(folder / RECORD):
        return Trace.NOTHING
    try:
        values = read_json(folder / RECORD, "record of a batch")
    except FileError:
        return Trace.DAMAGED
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        return Trace.NOTHING
    return Trace.DAMAGED if values.get("version") == _VERSION else Trace.OTHER_VERSION


def read_records(output: Path, known: Mapping[str, Record] = {}) -> dict[str, Record]:
    """All records in a batch's folder, by where their scenes lie below it, in this order; those
    that are known are not read."""
    return dict(sorted({**dict(_found(output, known)), **known}.items()))


def _found(output: Path, known: Mapping[str, Record]) -> Iterator[tuple[str, Record]]:
    for place, folders, files in os.walk(output):
        folders[:] = [each for each in folders if not each.startswith(".")]
        name = os.path.relpath(place, output)
        record = known.get(name) or (read_record(Path(place)) if RECORD in files else None)
        if record is not None:
            folders[:] = [each for each in folders if each != EXPORT]
            yield name, replace(record, name=name)


def is_settled(record: Record | None, job: Job, settings: BatchSettings, retry: bool) -> bool:
    """Whether there is nothing to do: made of this input and these settings, and all there, or
    failed in a way that lasts.

    Args:
        retry: try again whatever failed.
    """
    if record is None or not is_of(record, job, settings):
        return False
    if record.state == "failed" and (retry or not record.lasting):
        return False
    if record.state == "failed" and SCENE not in record.files:
        return True
    exported = set(settings.exports) <= set(record.exports)
    if record.state == "failed":  # what cannot be exported may be left out now
        exported = set(settings.exports) == set(record.exports)
    return exported and record.holds(Path(job.folder))


def is_of(record: Record, job: Job, settings: BatchSettings) -> bool:
    """Whether a record is of the job's input and of these settings."""
    return record.key == job.key and record.settings == settings.key
