"""``wildseg3d batch``: many recordings become scenes."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from wildseg3d_ros.batch.jobs import BatchSettings, plan_jobs
from wildseg3d_ros.batch.local import LocalExecutor
from wildseg3d_ros.batch.page import PAGE
from wildseg3d_ros.batch.records import Record
from wildseg3d_ros.batch.run import SUMMARY, Again, BatchResult, Executor, run_batch
from wildseg3d_ros.cli.commands import ExitCode, read_config
from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.files.text import read_yaml

_SHOWN = 10
"""Failures that are printed; all are in the summary."""

_DESCRIPTION = """\
Builds a scene of each recording into a folder of its own: OUT/NAME/scene.ws3d, and
record.json beside it, which is written last. Run the same command again, and what is done
is left alone: after an interruption, with more recordings, or when files of one have
changed. A recording that fails is recorded with its error and never stops the others.
The exit code is 3 when a recording has no scene, or one that is not to be relied on.

examples:
  wildseg3d batch recordings/* -o scenes/
  wildseg3d batch recordings/* -o scenes/ --workers 4 --threads 2 --export coco html
  wildseg3d batch /data/*/* --root /data -o /data/scenes --ray auto --gpus-per-worker 0.25
"""


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; returns the exit code."""
    given = _parser(prog).parse_args(arguments)
    config = read_config(given.config, given.settings)
    rig = read_yaml(given.config, "configuration") if given.config else None
    exports = _known_formats(given.export)
    settings = BatchSettings(config, given.max_views, given.strict, given.format, rig, exports)
    signal.signal(signal.SIGTERM, _interrupt)
    if given.ray is None and given.gpus_per_worker:
        raise ConfigError("--gpus-per-worker is for --ray; workers of this machine share its GPUs")
    with _Bar(given.quiet) as bar:
        if given.ray is None:
            workers, threads = _shares(given.workers, given.threads)
            result = _run(given, settings, LocalExecutor(workers, threads, given.retries), bar)
        else:
            if given.workers is not None:
                raise ConfigError("--workers is for this machine; Ray fills its cluster by itself")
            from wildseg3d_ros.batch.ray_tasks import RayExecutor

            threads, gpus = given.threads or 1, given.gpus_per_worker
            executor = RayExecutor(given.ray, threads, gpus, given.retries)
            try:
                result = _run(given, settings, executor, bar)
            finally:
                executor.close()
    if not given.quiet:
        _print(result, given.output)
    return ExitCode.UNRELIABLE if result.failed or result.unreliable else 0


def _run(
    given: argparse.Namespace, settings: BatchSettings, executor: Executor, bar: _Bar
) -> BatchResult:
    again = Again.OTHER_SETTINGS if given.redo else Again.NOTHING
    if given.retry_failed:
        again |= Again.FAILED
    jobs = plan_jobs(given.recordings, given.output, given.root)
    return run_batch(jobs, given.output, executor, settings, again, bar.report)


def _parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog, description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    text = "what `wildseg3d build` takes"
    option("recordings", metavar="RECORDING", type=Path, nargs="+", help=text)
    option("-o", "--output", metavar="OUT", type=Path, required=True, help="folder of the scenes")
    text = "name scenes by their path below DIR (default: by the recording's own name)"
    option("--root", metavar="DIR", type=Path, help=text)
    text = "processes (default: one for two processors)"
    option("--workers", metavar="N", type=_at_least_one, help=text)
    text = "processors for each worker (default: all of them, shared equally; with --ray: 1)"
    option("--threads", metavar="N", type=_at_least_one, help=text)
    text = "work on a Ray cluster: its address, 'auto' for one that runs here, or 'local'"
    option("--ray", metavar="ADDRESS", help=text)
    text = "with --ray: share of a GPU that a worker takes (default: none)"
    option("--gpus-per-worker", metavar="X", type=_share, default=0.0, help=text)
    text = "further tries of a recording over which a process died (default: %(default)s)"
    option("--retries", metavar="N", type=int, default=2, help=text)
    text = "make scenes of other settings, or of another version, anew instead of refusing"
    option("--redo", action="store_true", help=text)
    text = "try recordings again that failed before, although nothing has changed"
    option("--retry-failed", action="store_true", help=text)
    option("--max-views", metavar="N", type=int, help="use at most N views of each, evenly spread")
    text = "a frame that cannot be read, or a view that has to be left out, fails its recording"
    option("--strict", action="store_true", help=text)
    text = "format of all recordings, where a folder may be of several (see docs)"
    option("--format", metavar="NAME", default="", help=text)
    text = "export each scene, too, as `wildseg3d export --format` does: labels, coco, html ..."
    option("--export", metavar="FORMAT", nargs="+", default=[], help=text)
    option("--config", metavar="YAML", type=Path, help="configuration file, or that of a rig")
    text = "one setting, e.g. masks.backend=sam2; overrides --config; may be repeated"
    option("--set", dest="settings", metavar="KEY=VALUE", action="append", default=[], help=text)
    option("--quiet", action="store_true", help="no progress, no summary")
    return parser


class _Bar:
    """Scenes done, rate and time left; failures as they come."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: tqdm | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def report(self, done: int, jobs: int, record: Record | None) -> None:
        """As :func:`run_batch` has it."""
        if self._quiet or not jobs:
            return
        if self._bar is None:
            self._bar = tqdm(total=jobs, unit="scene", file=sys.stderr, mininterval=0.5)
        self._bar.update(done - self._bar.n)
        if record is not None and record.state == "failed":
            self._bar.write(f"failed   {record.name}: {record.error}", file=sys.stderr)


def _shares(workers: int | None, threads: int | None) -> tuple[int, int]:
    """Processes, and threads of each, for what is not given."""
    cores = len(os.sched_getaffinity(0))
    if workers is None:
        workers = max(cores // (threads or 2), 1)
    return workers, threads or max(cores // workers, 1)


def _print(result: BatchResult, output: Path) -> None:
    count = len(result.records)
    print(f"scenes   {count - len(result.failed)} of {count}; {result.made} worked on in this run")
    if result.made:
        rate = result.made / result.seconds * 3600
        print(f"time     {result.seconds:.1f} s, {rate:.0f} an hour")
    for kind, records in (("failed", result.failed), ("warning", result.unreliable)):
        for record in records[:_SHOWN]:
            print(f"{kind:<8} {record.name}: {record.error or 'its alignment did not converge'}")
        if len(records) > _SHOWN:
            print(f"         and {len(records) - _SHOWN} more")
    print(f"wrote    {output / SUMMARY}, {output / PAGE}")


def _known_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats, each once; raises ConfigError before the first scene for one that is none."""
    if not names:
        return ()
    from wildseg3d_ros.export.formats import checked_formats

    return checked_formats(names)


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 64.0:
        raise argparse.ArgumentTypeError(f"a share of GPUs from 0 to 64; got {text}")
    return value


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1; got {value}")
    return value


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
