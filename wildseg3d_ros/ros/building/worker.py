"""Builds in a process of their own, so that neither the interpreter lock nor BLAS slows an answer.

A NumPy-heavy thread in the node's process multiplies the latency of every service call; another
process hardly changes it. A build that crashes or is killed for its memory is an error reply, the
node and its scene live on, and the next build gets a fresh process.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import wildseg3d_ros
from wildseg3d_ros.core.errors import Cancelled, ErrorCode, WildSeg3DError
from wildseg3d_ros.core.types import Prompt, View, ViewMask
from wildseg3d_ros.ros.building.ipc import Channel
from wildseg3d_ros.ros.building.process import Built, Extended, Settings
from wildseg3d_ros.scene.camera_pixels import mask_at_camera
from wildseg3d_ros.scene.scene import Scene

CANCEL_SECONDS = 3.0
"""How long a cancelled build may take to notice before its process is ended."""

# Not `-m`: what the module defines would be pickled as defined in `__main__`.
_START = "from wildseg3d_ros.ros.building.process import main; main()"


class BuildWorker:
    """The node's side of the build process, whose defects are logged. One build at a time."""

    def __init__(self, settings: Settings, log: Callable[[str], None]) -> None:
        self._settings, self._log = settings, log
        self._process: subprocess.Popen | None = None
        self._channel: Channel | None = None
        self._jobs = itertools.count(1)
        self._lock = threading.Lock()
        self._loaded = self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the running build process."""
        return self._process.pid if self._process is not None else None

    def load(self) -> None:
        """Starts the process and waits until it has loaded the back ends.

        Raises:
            WildSeg3DError: as the back ends, with its code; INTERNAL when the process died.
        """
        with self._lock:
            try:
                channel = self._connect()
                while not self._loaded:
                    kind, *content = channel.receive()
                    if kind == "unloadable":
                        self._raise(*content)
                    if kind == "ready":
                        self._loaded = True
            except (EOFError, OSError) as error:
                raise self._explain(error, sent=True) from error

    def configure(self, settings: Settings) -> None:
        """Settings of the next build; other ones than before take a fresh process."""
        with self._lock:
            if settings != self._settings:
                self._settings = settings
                self._end()

    def build(
        self,
        views: Sequence[View],
        world_frame: str,
        report: Callable[[str, float], None],
        cancelled: Callable[[], bool],
        update: tuple[Scene, Sequence[str]] | None = None,
    ) -> Built:
        """Builds a scene and waits for it.

        Args:
            views: see :func:`wildseg3d_ros.pipeline.build_scene`.
            world_frame: name of the frame of the views' poses.
            report: called in this thread with stage and fraction.
            cancelled: polled about twenty times a second.
            update: a scene of the same views, and the cameras whose views alone are renewed in it.

        Raises:
            WildSeg3DError: as the pipeline, with its code; INTERNAL when the process died, or when
                images or scene could not be transferred (no memory or descriptors left).
            Cancelled: within :data:`CANCEL_SECONDS` of the request.
        """
        return self._work("build", (tuple(views), world_frame, update), report, cancelled)

    def extend(
        self,
        scene: Scene,
        prompt: Prompt,
        refine: bool,
        report: Callable[[str, float], None],
        cancelled: Callable[[], bool],
    ) -> Extended:
        """Adds an object to a scene, which stays as it is, or corrects one, and waits for it.

        The last two, and what is raised, are as of :meth:`build`, ``prompt`` is as of
        :func:`wildseg3d_ros.editing.add_object` or, with ``refine``, of ``refine_object``.
        """
        return self._work("extend", (scene, prompt, refine), report, cancelled)

    def undo(self, scene: Scene, cancelled: Callable[[], bool]) -> Extended:
        """Takes the newest change of a scene by a prompt back; otherwise as :meth:`extend`."""
        return self._work("undo", (scene,), lambda *_: None, cancelled)

    def find(self, scene: Scene, text: str, cancelled: Callable[[], bool]) -> ViewMask:
        """What a text names in a scene, as SAM 3 says, which is loaded for the first one.

        Raises:
            PromptError: nothing has that name. FileError, ConfigError: SAM 3 is not there.
            WildSeg3DError: the process is at another work (BUSY); or as of :meth:`build`.
        """
        if self._lock.locked():
            raise WildSeg3DError(
                f"the process that finds what '{text}' names is building or changing a scene; ask "
                "again when that is done, or click the object",
                ErrorCode.BUSY,
            )
        view, mask = self._work("find", (scene.images, text), lambda *_: None, cancelled)
        return mask_at_camera(scene, view, mask)

    def _work(
        self,
        kind: str,
        content: tuple,
        report: Callable[[str, float], None],
        cancelled: Callable[[], bool],
    ) -> Any:
        with self._lock:
            job, sent = next(self._jobs), False
            try:
                self._connect().send((kind, job, *content))
                sent = True
                return self._wait(job, report, cancelled)
            except (EOFError, OSError) as error:
                raise self._explain(error, sent) from error

    def stop(self) -> None:
        """Ends the process and frees its models; the next load or build starts a fresh one."""
        process = self._process
        if process is not None:
            process.kill()
        # Who waits for the process in another thread sees it die and leaves.
        with self._lock:
            self._end()

    def close(self) -> None:
        """Ends the process for good; a build in another thread is answered with an error."""
        self._closed = True
        self.stop()

    def _wait(
        self, job: int, report: Callable[[str, float], None], cancelled: Callable[[], bool]
    ) -> Any:
        assert self._channel is not None
        asked_at = None
        while True:
            if asked_at is None and cancelled():
                asked_at = time.monotonic()
                self._channel.send(("cancel", job))
            if asked_at is not None and time.monotonic() - asked_at > CANCEL_SECONDS:
                self._end()
                raise Cancelled("cancelled by the caller; the build process was ended")
            if not select.select([self._channel], [], [], 0.05)[0]:
                continue
            kind, *content = self._channel.receive()
            if kind == "ready":
                self._loaded = True
            elif kind == "unloadable" or content[0] != job:
                continue  # a build that needs what is not there says so itself
            elif kind == "progress":
                report(*content[1:])
            elif kind == "done":
                if asked_at is not None:
                    raise Cancelled("cancelled by the caller when the build was just done")
                return content[1]
            elif kind == "failed":
                self._raise(*content[1:])

    def _raise(self, error: WildSeg3DError, trace: str) -> NoReturn:
        if trace:
            self._log(trace)
        raise error

    def _connect(self) -> Channel:
        if self._closed:
            raise WildSeg3DError("the node is shutting down", ErrorCode.CANCELLED)
        if self._process is not None and _has_died(self._process):
            self._end()
        if self._channel is None:
            self._end()
            ours, theirs = Channel.pair()
            # The package may have been found through the start directory or sys.path.
            package_parent = str(Path(wildseg3d_ros.__file__).resolve().parent.parent)
            given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
            path = os.pathsep.join([package_parent, *filter(None, given)])
            try:
                self._process = subprocess.Popen(
                    # -P, and no empty path: what lies in the working directory is not imported.
                    [sys.executable, "-P", "-c", _START, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "PYTHONPATH": path},
                )
                theirs.close()
                ours.send(self._settings)
            except BaseException:
                ours.close()
                theirs.close()
                raise
            self._channel = ours
        return self._channel

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._channel is not None:
            self._channel.close()
        self._process = self._channel = None
        self._loaded = False

    def _explain(self, error: EOFError | OSError, sent: bool) -> WildSeg3DError:
        """The error of a failed transfer; ends the process unless it can take the next one."""
        if self._closed:
            return Cancelled("the node is shutting down; the build was ended")
        hung_up = isinstance(error, EOFError | ConnectionError)
        dead = self._process is not None and self._process.poll() is not None
        if hung_up or dead:
            return WildSeg3DError(
                f"the build process died ({self._cause_of_death()}); a fresh one takes the next "
                "build"
            )
        if not sent:
            # Memory and descriptors are taken before the first byte goes out: it heard nothing.
            return WildSeg3DError(
                f"the images could not be sent to the build process: {error}; use fewer views "
                "or smaller images"
            )
        self._end()
        return WildSeg3DError(f"the scene could not be received from the build process: {error}")

    def _cause_of_death(self) -> str:
        status = 0
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(timeout=5.0)
        self._end()
        if status >= 0:
            return f"exit status {status}"
        cause = f"ended by {signal.Signals(-status).name}"
        if -status == signal.SIGKILL:
            cause += ", most likely for lack of memory: use fewer views or smaller images"
        return cause


def _has_died(process: subprocess.Popen) -> bool:
    """Whether a process is dead, or dying: while threads of it end it cannot be waited for."""
    if process.poll() is not None:
        return True
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
    except OSError:  # no such files on this system
        return False
    return stat.rsplit(")", 1)[1].split()[0] in "ZX"
