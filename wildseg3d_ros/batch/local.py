"""Jobs on processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import wildseg3d_ros
from wildseg3d_ros.batch.jobs import BatchSettings, Job
from wildseg3d_ros.batch.records import Record
from wildseg3d_ros.core.errors import FileError


class _Worker:
    """A process, and the job that it has. It leads a session of its own, so that whatever it
    started ends with it."""

    def __init__(self, settings: BatchSettings, threads: int) -> None:
        package = str(Path(wildseg3d_ros.__file__).resolve().parent.parent)
        given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        path = os.pathsep.join([package, *filter(None, given)])
        self.process = subprocess.Popen(
            # -P: what lies in the working directory is not imported.
            [sys.executable, "-P", "-m", "wildseg3d_ros.batch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **thread_limits(threads)},
            close_fds=False,  # the lock of the folder goes with it, and lasts as long
            start_new_session=True,
            text=True,
        )
        assert self.process.stdout is not None
        self.answers = self.process.stdout
        self._send(settings.to_dict())

    def begin(self, job: Job) -> None:
        self.job = job
        self._send(asdict(job))

    def answer(self) -> Record | None:
        """What became of the job; None when the process died over it.

        Raises:
            FileError: the output cannot be written.
        """
        line = self.answers.readline()
        if not line.endswith("\n"):
            return None
        values = json.loads(line)
        if "unwritable" in values:
            raise FileError(values["unwritable"])
        return Record.from_dict(values)

    def end(self) -> str:
        """Ends the process; returns how it ended, if that was before."""
        code = self.process.poll()
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError), self.process:
            pass  # closes the pipes
        code = self.process.returncode if code is None else code
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _send(self, values: object) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(values) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; reading the answer finds out


class LocalExecutor:
    """Runs jobs on processes of this machine, each of which loads the back ends once.

    Args:
        workers: processes.
        threads: of each.
        retries: further tries of a job over which its process died.
    """

    def __init__(self, workers: int, threads: int, retries: int) -> None:
        self._count, self._threads, self._retries = workers, threads, retries

    def run(self, jobs: Sequence[Job], settings: BatchSettings) -> Iterator[Record]:
        """Records as they come; in a lost job's place one that says so, which the caller writes.

        Raises:
            FileError: the output cannot be written.
        """
        waiting, tries = deque(jobs), Counter[str]()
        workers: set[_Worker] = set()
        with selectors.DefaultSelector() as selector:
            try:
                while waiting or workers:
                    while waiting and len(workers) < self._count:
                        worker = _Worker(settings, self._threads)
                        selector.register(worker.answers, selectors.EVENT_READ, worker)
                        workers.add(worker)
                        worker.begin(waiting.popleft())
                    for worker in [key.data for key, _ in selector.select()]:
                        job, record = worker.job, worker.answer()
                        how = ""
                        if record is not None and waiting:
                            worker.begin(waiting.popleft())
                        else:
                            selector.unregister(worker.answers)
                            workers.discard(worker)
                            how = worker.end()
                        if record is None:
                            tries[job.name] += 1
                            record = self._again(job, waiting, tries[job.name], how, settings)
                        if record is not None:
                            yield record
            finally:
                for worker in workers:
                    worker.end()

    def _again(
        self, job: Job, waiting: deque[Job], tries: int, how: str, settings: BatchSettings
    ) -> Record | None:
        """Puts a lost job first again or, after all tries, says what became of it."""
        if tries > self._retries:
            return lost(job, settings, f"its process died ({how})", tries)
        waiting.appendleft(job)
        return None


def lost(job: Job, settings: BatchSettings, how: str, tries: int) -> Record:
    """The record of a job that never came to an end."""
    error = f"{how} in each of {tries} tries; out of memory? Fewer workers or --max-views help"
    return Record(job.name, job.recording, job.key, settings.key, "failed", error)


def thread_limits(threads: int) -> dict[str, str]:
    """Environment of a process that is to use so many threads."""
    names = ("WILDSEG3D_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), "OPENCV_FOR_THREADS_NUM": str(threads)}
