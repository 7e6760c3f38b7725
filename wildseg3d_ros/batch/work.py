"""One job, from the recording's files to the scene's, in the process that calls."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from wildseg3d_ros.batch.jobs import BatchSettings, Job
from wildseg3d_ros.batch.records import EXPORT, PREVIEW, SCENE, Record, is_of, read_record
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ErrorCode, FileError, WildSeg3DError
from wildseg3d_ros.core.files.writing import write_bytes
from wildseg3d_ros.export.target import MANIFEST, exported_formats
from wildseg3d_ros.scene.scene import Scene

_PASSING = {ErrorCode.INTERNAL, ErrorCode.CANCELLED}
"""Codes of errors that another try may not meet."""

Done = Callable[[Job, BatchSettings], Record]
"""What executors call, in a process of their own."""


def run_job(job: Job, settings: BatchSettings) -> Record:
    """Builds one scene and writes it, what it is exported as, and its record.

    A scene that is there and of the same input and settings is only exported.

    An error of the recording or of its export is in the record. Back ends are loaded once in a
    process.

    Raises:
        FileError: the scene or its record cannot be written: no other job's could be, either.
    """
    start = time.perf_counter()
    record = Record(job.name, job.recording, job.key, settings.key, "failed", worker=worker_name())
    record = replace(record, exports=settings.exports)
    folder = Path(job.folder)
    known = read_record(folder)
    if known is None:  # what is written from here on is known as a batch's
        replace(record, error="it was begun, and its process ended").write(folder)
    before = _made_before(known, job, settings)
    try:
        scene = before or _built(job, settings)
    except WildSeg3DError as error:
        record = replace(record, error=str(error), lasting=error.code not in _PASSING)
    except MemoryError:
        text = f"out of memory ({_memory()}); fewer workers or --max-views help"
        record = replace(record, error=text)
    except Exception as error:  # noqa: BLE001  a defect: the batch goes on, the record says where
        record = replace(record, error=_traced(error))
    else:
        record = _written(scene, record, known, folder, made=before is None)
    seconds = time.perf_counter() - start
    record = replace(record, seconds=round(seconds, 3), peak_memory_mb=_peak_memory_mb())
    record.write(folder)
    return record


def worker_name() -> str:
    """Host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _built(job: Job, settings: BatchSettings) -> Scene:
    from wildseg3d_ros.io.loading import load_recording
    from wildseg3d_ros.pipeline import build_scene
    from wildseg3d_ros.streams.rig_file import rig_from

    rig = rig_from(settings.rig)
    recording = load_recording(
        job.recording, settings.max_views, None, settings.strict, settings.format_name, rig
    )
    pointmaps, masks = _back_ends(settings.config)
    config = settings.config.of_all_views() if settings.strict else settings.config
    world = recording.world_frame or "world"
    scene = build_scene(
        recording.views, config, pointmaps=pointmaps, masks=masks, world_frame=world
    )
    # Named by what it is made of, and without times: the same input gives the same file.
    name = f"{job.key[:6]}{settings.key[:6]}"
    warnings = (*recording.warnings, *scene.warnings)
    return replace(scene, scene_id=name, seconds={}, warnings=warnings)


@lru_cache(maxsize=1)
def _back_ends(config: SceneConfig) -> tuple[Any, Any]:
    from wildseg3d_ros.masks import load_masks
    from wildseg3d_ros.pointmaps import load_ahead

    return load_ahead(config.pointmaps), load_masks(config.masks)


def _made_before(record: Record | None, job: Job, settings: BatchSettings) -> Scene | None:
    """The scene of a record, where it is there and of the same input and settings."""
    from wildseg3d_ros.scene.file.snapshot import load_scene

    folder = Path(job.folder)
    if record is None or not is_of(record, job, settings):
        return None
    kept = _scene_files(record)
    if len(kept) < 2 or not replace(record, files=kept).holds(folder):
        return None
    try:
        return load_scene(folder / SCENE)
    except FileError:
        return None


def _scene_files(record: Record) -> dict[str, int]:
    return {name: record.files[name] for name in (SCENE, PREVIEW) if name in record.files}


def _written(
    scene: Scene, record: Record, before: Record | None, folder: Path, made: bool
) -> Record:
    """Writes a scene, its picture and what it is exported as; returns its record.

    Args:
        record: so far.
        before: that the folder has; the scene is exported in its formats, too.
        made: whether the scene is new, and not that of the record of before.
    """
    from wildseg3d_ros.cli.report import scene_figures
    from wildseg3d_ros.export.page import preview
    from wildseg3d_ros.scene.file.snapshot import save_scene

    if made or before is None:
        save_scene(scene, folder / SCENE)
        write_bytes(folder / PREVIEW, preview(scene))
        files = {name: (folder / name).stat().st_size for name in (SCENE, PREVIEW)}
        record = replace(record, files=files, figures=scene_figures(scene))
    else:
        record = replace(record, files=_scene_files(before), figures=before.figures)
    return _with_exports(record, before, scene, folder)


def _with_exports(record: Record, before: Record | None, scene: Scene, folder: Path) -> Record:
    """The record of a scene that is written; failed where it cannot be exported so."""
    from wildseg3d_ros.export.formats import export_scene

    target = folder / EXPORT
    try:
        # Where an export failed, the files there are those of the one before it.
        done = before if before and before.state == "done" else None
        had = done.exports if done else exported_formats(target)
        formats = tuple(dict.fromkeys((*had, *record.exports)))
        paths = (*export_scene(scene, target, formats), target / MANIFEST) if formats else ()
    except WildSeg3DError as error:
        text = f"the scene is built, and cannot be exported so: {error}"
        # What keeps files from being written may be gone the next time.
        return replace(record, error=text, lasting=not isinstance(error, FileError))
    files = {str(path.relative_to(folder)): path.stat().st_size for path in paths}
    files = {**record.files, **files}
    return replace(record, state="done", files=files, exports=formats)


def _traced(error: Exception) -> str:
    import traceback

    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"defect: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"


def _memory() -> str:
    from wildseg3d_ros.core.devices import available_memory

    free = available_memory()
    return "unknown what is free" if free is None else f"{free / 1e9:.1f} GB are free"


def _peak_memory_mb() -> float:
    from wildseg3d_ros.evaluation import peak_memory_mb

    return round(peak_memory_mb(), 1)
