"""Jobs on a Ray cluster, one task each.

A task's process is used again for the next one, so back ends are loaded once in each; nodes that
join later take tasks, too. Ray tries tasks again whose process or node was lost; errors of a
recording are values, not exceptions, and are not tried again.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from wildseg3d_ros import __version__
from wildseg3d_ros.batch.jobs import BatchSettings, Job
from wildseg3d_ros.batch.local import lost, thread_limits
from wildseg3d_ros.batch.records import Record
from wildseg3d_ros.core.errors import ConfigError, FileError

_PATIENCE = 5.0
"""Seconds that a cluster's head may take to take a connection."""
_LOCAL = "try again when it is less busy, or leave --ray out to work without Ray"
_START = "start one by `ray start --head`, or leave --ray out to work on this machine alone"
_TOKEN = (
    "copy ~/.ray/auth_token of its head to this machine and set RAY_AUTH_MODE=token "
    "(docs/how-to/batch.md)"
)
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How HTTP/2 begins, which Ray speaks: a magic line, and a frame of settings that has none (RFC
9113, 3.4). The answer begins with a frame of settings."""


class RayExecutor:
    """Runs jobs as Ray tasks.

    Args:
        address: of the cluster; "local" starts one on this machine for the batch.
        threads: processors that a task takes.
        gpus: share of a GPU that a task takes; 0 = none.
        retries: further tries of a task whose process or node was lost.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers there.
    """

    def __init__(self, address: str, threads: int, gpus: float, retries: int) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise ConfigError(
                "--ray needs the extra 'ray': `make setup EXTRAS=ray` in a clone, else "
                "`pip install 'wildseg3d[ray]'`"
            ) from None
        self._ray, self._threads, self._gpus, self._retries = ray, threads, gpus, retries
        self._mine = not ray.is_initialized()
        if self._mine:
            self._connect(address)

    def run(self, jobs: Sequence[Job], settings: BatchSettings) -> Iterator[Record]:
        """Records as they come; in a lost job's place one that says so, which the caller writes.

        Raises:
            FileError: the output cannot be written. ConfigError: the cluster's machines do not
                have this version of the package, or not what a task needs.
        """
        ray = self._ray
        self._check_resources()
        task = ray.remote(
            num_cpus=self._threads,
            num_gpus=self._gpus,
            max_retries=self._retries,
            retry_exceptions=False,
            runtime_env={"env_vars": thread_limits(self._threads)},
        )(_work)
        shared = ray.put((__version__, settings.to_dict()))
        waiting = {task.remote(asdict(job), shared): job for job in jobs}
        try:
            while waiting:
                (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
                yield self._record(ready, waiting.pop(ready), settings)
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leaves the cluster, or ends the one that was started for the batch."""
        if self._mine:
            self._ray.shutdown()

    def _connect(self, address: str) -> None:
        """Raises ConfigError where that cannot be done."""
        with _kept_stderr() as said:
            try:
                _reach(address)
                self._ray.init(
                    address=None if address == "local" else address,
                    include_dashboard=False if address == "local" else None,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=False,
                )
            except Exception as error:  # what does not start in time is a bare one
                self._ray.shutdown()  # parts of it may run
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                what, way_out = f"no Ray cluster answers at '{address}'", _START
                if "AuthToken" in said() or "authentication token" in reason:
                    what, way_out = f"the Ray cluster at '{address}' wants its token", _TOKEN
                elif address == "local":
                    what, way_out = "Ray does not start on this machine", _LOCAL
                raise ConfigError(f"{what} ({reason}); {way_out}") from error

    def _check_resources(self) -> None:
        """Raises ConfigError where a task would wait for ever."""
        has = self._ray.cluster_resources()
        for kind, wanted in (("CPU", self._threads), ("GPU", self._gpus)):
            if has.get(kind, 0) < wanted:
                raise ConfigError(
                    f"a task takes {wanted:g} {kind}, and the cluster has {has.get(kind, 0):g}; "
                    f"give --{'threads' if kind == 'CPU' else 'gpus-per-worker'} another value"
                )

    def _record(self, reference: Any, job: Job, settings: BatchSettings) -> Record:
        from ray.exceptions import RayTaskError, WorkerCrashedError

        try:
            values = self._ray.get(reference)
        except RayTaskError as error:
            cause = str(error.cause).splitlines()[0] if str(error.cause) else repr(error.cause)
            raise ConfigError(
                f"a machine of the cluster cannot work: {cause}; install wildseg3d {__version__} "
                "on all of them, in the environment of Ray"
            ) from error
        except (WorkerCrashedError, self._ray.exceptions.RayError) as error:
            how = f"its Ray task was lost ({type(error).__name__})"
            return lost(job, settings, how, self._retries + 1)
        if "unwritable" in values:
            raise FileError(values["unwritable"])
        return Record(**values)


def _reach(address: str) -> None:
    """Raises OSError at once where nobody listens, or something else: Ray itself tries for
    minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    with socket.create_connection((host, int(port)), timeout=_PATIENCE) as connection:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        connection.sendall(_HELLO)
        answer = connection.makefile("rb").read(4)
        if answer[3:] != _HELLO[-6:-5]:
            raise OSError("what listens there is no Ray")


@contextmanager
def _kept_stderr() -> Iterator[Callable[[], str]]:
    """Keeps what is written to stderr meanwhile, by libraries past Python, too; gives what it is
    so far."""
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield lambda: os.pread(kept.fileno(), 1 << 20, 0).decode(errors="replace")
        finally:
            os.dup2(before, 2)
            os.close(before)


def _work(job: dict[str, Any], shared: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """What a task does, on whichever machine."""
    from wildseg3d_ros import __version__ as here
    from wildseg3d_ros.batch.jobs import BatchSettings, Job
    from wildseg3d_ros.batch.work import run_job
    from wildseg3d_ros.core.errors import WildSeg3DError

    version, settings = shared
    if here != version:
        raise RuntimeError(f"it has wildseg3d {here}, the batch was started by {version}")
    try:
        return asdict(run_job(Job(**job), BatchSettings.from_dict(settings)))
    except WildSeg3DError as error:
        return {"unwritable": str(error)}
