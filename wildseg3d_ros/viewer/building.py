"""Builds a recording in a process of its own, so that the page answers meanwhile."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import Cancelled, WildSeg3DError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.io.loading import load_recording
from wildseg3d_ros.pipeline import build_scene
from wildseg3d_ros.scene.scene import Scene

_POLL_SECONDS = 0.1


def build_folder(
    folder: Path,
    config: SceneConfig,
    report: Callable[[str, float], None],
    cancelled: Callable[[], bool],
) -> Scene:
    """The scene of a recording.

    Args:
        report: told of stage and fraction.
        cancelled: polled ten times a second; True stops the build.

    Raises:
        WildSeg3DError: as of the build. Cancelled: the caller asked to stop.
    """
    # Forked, it would inherit the locks of the server's threads.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_build, args=(folder, config, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            if cancelled():
                raise Cancelled("the build was cancelled; the scene before goes on answering")
            if not ours.poll(_POLL_SECONDS):
                continue
            try:
                said = ours.recv()
            except EOFError:
                raise WildSeg3DError(
                    "the build process ended without a word; was memory short?"
                ) from None
            if isinstance(said, Scene):
                return said
            if isinstance(said, Exception):
                raise said
            report(*said)
    finally:
        # Not terminate(): where this process ignores SIGTERM, so does that one.
        process.kill()
        process.join()


def _build(folder: Path, config: SceneConfig, results: Connection) -> None:
    progress = Progress(lambda stage, fraction: results.send((stage, fraction)))
    try:
        with progress.stage("load"):
            views = load_recording(folder, None, progress).views
        results.send(build_scene(views, config, progress))
    except WildSeg3DError as error:
        results.send(error)
    except Exception as error:  # noqa: BLE001  what the page shows is all that anybody sees
        results.send(WildSeg3DError(f"the build failed: {type(error).__name__}: {error}"))
