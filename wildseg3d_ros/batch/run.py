"""The whole of a batch: what is left to do, done; then the summary."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Flag, auto
from pathlib import Path
from typing import Any, Protocol

from wildseg3d_ros.batch.jobs import BatchSettings, Job
from wildseg3d_ros.batch.page import PAGE, page_text
from wildseg3d_ros.batch.records import (
    EXPORT,
    PREVIEW,
    RECORD,
    SCENE,
    Record,
    Trace,
    is_settled,
    read_record,
    read_records,
    trace_of_record,
)
from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.core.files.reading import is_folder, is_regular, shown
from wildseg3d_ros.core.files.text import read_json
from wildseg3d_ros.core.files.writing import write_bytes

SUMMARY = "batch.json"
_LOCK = ".batch.lock"
_FORMAT = "wildseg3d-batch"


class Executor(Protocol):
    """Where jobs run."""

    def run(self, jobs: Sequence[Job], settings: BatchSettings) -> Iterator[Record]:
        """Records in the order in which jobs end. A job that never ends, as its process dies over
        it, gives a record, too, that is not yet written.

        Raises:
            FileError: the output cannot be written.
        """
        ...


@dataclass(frozen=True)
class BatchResult:
    """What became of all recordings of a batch.

    Attributes:
        records: of all of them, in the order given.
        made: number of those that this run worked on.
        seconds: that it took.
    """

    records: tuple[Record, ...]
    made: int
    seconds: float

    @property
    def failed(self) -> tuple[Record, ...]:
        """Those without a scene."""
        return tuple(record for record in self.records if record.state == "failed")

    @property
    def unreliable(self) -> tuple[Record, ...]:
        """Scenes whose alignment did not converge."""
        return tuple(record for record in self.records if record.is_unreliable)


class Again(Flag):
    """What is done again although it was done before, beside what changed."""

    NOTHING = 0
    OTHER_SETTINGS = auto()
    """Scenes of other settings or another version are replaced instead of refusing them."""
    FAILED = auto()
    """Recordings that failed, although nothing changed."""


def run_batch(
    jobs: Sequence[Job],
    output: Path,
    executor: Executor,
    settings: BatchSettings,
    again: Again = Again.NOTHING,
    report: Callable[[int, int, Record | None], None] = lambda *_: None,
) -> BatchResult:
    """Builds a scene of each recording; those that are done already are left alone.

    Args:
        jobs: see :func:`wildseg3d_ros.batch.jobs.plan_jobs`.
        output: folder of the batch, as the jobs have it; made where it is missing.
        executor: where jobs run.
        settings: of all scenes.
        again: what is done again.
        report: called with jobs done, all jobs to do, and the newest record.

    Raises:
        ConfigError: another batch works in the folder, or it holds scenes of other settings.
        FileError: the output cannot be written, or what would be replaced is no batch's.
    """
    start = time.monotonic()
    with _locked(output):
        records = {job.name: read_record(Path(job.folder)) for job in jobs}
        new = [job for job in jobs if records[job.name] is None]
        traces = {job.name: trace_of_record(Path(job.folder)) for job in new}
        kept = _refuse_foreign(output, jobs, traces)
        if Again.OTHER_SETTINGS not in again:
            _refuse_others(output, records, traces, settings)
        retry = Again.FAILED in again
        ahead = [job for job in jobs if not is_settled(records[job.name], job, settings, retry)]
        ahead = [job for job in ahead if job.name not in kept]
        for job in new:
            if job.name in kept:
                values = job.name, job.recording, job.key, settings.key
                records[job.name] = Record(*values, "failed", kept[job.name])
        report(0, len(ahead), None)
        for done, record in enumerate(_worked(executor, ahead, settings), start=1):
            records[record.name] = record
            report(done, len(ahead), record)
        found = tuple(record for job in jobs if (record := records[job.name]) is not None)
        result = BatchResult(found, len(ahead), time.monotonic() - start)
        every = [*read_records(output, {record.name: record for record in found}).values()]
        summary = _summary(every)
        write_bytes(output / SUMMARY, (json.dumps(summary, indent=1) + "\n").encode())
        page = page_text(output.resolve().name, every)
        write_bytes(output / PAGE, page.encode())
    return result


def _worked(executor: Executor, jobs: Sequence[Job], settings: BatchSettings) -> Iterator[Record]:
    if not jobs:
        return
    folders = {job.name: Path(job.folder) for job in jobs}
    for record in executor.run(jobs, settings):
        if not record.worker:  # lost: nobody was left to write it
            record.write(folders[record.name])
        yield record


def _refuse_foreign(output: Path, jobs: Sequence[Job], traces: dict[str, Trace]) -> dict[str, str]:
    """Raises FileError where anything would be replaced that no batch wrote.

    Args:
        traces: of the jobs that have no record that can be read.

    Returns:
        Why a scene is left as it is, by its name, where its folder may have been a batch's.
    """
    way_out = "no batch wrote it: move it away, or give another -o"
    # The page is written after the summary, and a summary may be damaged.
    if not _is_summary(output / SUMMARY) and not read_records(output):
        for path in (output / SUMMARY, output / PAGE):
            if os.path.lexists(path):
                raise FileError(f"'{shown(path)}' is there and {way_out}")
    unknown = [job for job in jobs if traces.get(job.name) in (Trace.NOTHING, Trace.DAMAGED)]
    unknown = [job for job in unknown if os.path.lexists(job.folder)]
    if not unknown:
        return {}
    scenes = {Path(job.folder) for job in jobs}
    scenes |= {output.resolve() / name for name in read_records(output)}
    above = {parent for folder in scenes for parent in (folder, *folder.parents)}
    kept = {}
    for job in unknown:
        folder = Path(job.folder)
        if not is_folder(folder):
            raise FileError(f"'{shown(folder)}' is there and {way_out}")
        damaged = traces[job.name] is Trace.DAMAGED
        own = {folder / name for name in (RECORD, SCENE, PREVIEW, EXPORT)} if damaged else set()
        # Of a folder whose work was just begun there may be drafts.
        inside = (each for each in sorted(folder.iterdir()) if not each.name.startswith("."))
        foreign = next((each for each in inside if each not in above | own), None)
        if foreign is None:
            continue
        holds = f"'{shown(folder)}', where a scene would go, holds '{shown(foreign.name)}' and "
        if not damaged:
            raise FileError(f"{holds}has no record of a batch: {way_out}")
        kept[job.name] = f"{holds}a damaged {RECORD}: move away what no batch wrote"
    return kept


def _is_summary(path: Path) -> bool:
    try:
        said = read_json(path, "summary of a batch") if is_regular(path) else None
    except FileError:
        return False
    return isinstance(said, dict) and said.get("format") == _FORMAT


def _refuse_others(
    output: Path,
    records: dict[str, Record | None],
    traces: dict[str, Trace],
    settings: BatchSettings,
) -> None:
    others = [name for name, trace in traces.items() if trace is Trace.OTHER_VERSION]
    others += [
        record.name for record in records.values() if record and record.settings != settings.key
    ]
    if others:
        raise ConfigError(
            f"{len(others)} of {len(records)} scenes in '{output}' were made with other settings "
            f"or by another version, e.g. '{others[0]}': give another -o, or --redo to replace "
            "them"
        )


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Holds the folder for this batch alone.

    Raises:
        FileError: it cannot be made. ConfigError: another batch has it.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / _LOCK).open("a+")
    except OSError as error:
        raise FileError(f"cannot write to '{output}': {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise ConfigError(
                f"another batch works in '{output}' ({lock.read().strip() or 'unknown process'}): "
                "wait for it, or give another -o"
            ) from None
        os.set_inheritable(lock.fileno(), True)  # a worker that is left over holds it, too
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield


def _summary(records: Sequence[Record]) -> dict[str, Any]:
    rows = []
    for record in records:
        row: dict[str, Any] = {"name": record.name, "recording": record.recording}
        row |= {"state": record.state, "seconds": record.seconds}
        if record.state == "failed":
            row["error"] = record.error
        else:
            row["files"], row["bytes"] = len(record.files), sum(record.files.values())
            row |= {key: record.figures.get(key) for key in ("objects", "points", "converged")}
            row["warnings"] = record.figures.get("warnings", [])
        rows.append(row)
    counts = {state: sum(r.state == state for r in records) for state in ("done", "failed")}
    unreliable = sum(record.is_unreliable for record in records)
    return {"format": _FORMAT, **counts, "unreliable": unreliable, "scenes": rows}
