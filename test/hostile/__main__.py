"""Reads thousands of hostile files, each in a process of its own: python test/hostile --help."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).parent))
from hostile_files import (
    KINDS,
    NETWORKS,
    Case,
    checkpoint_words,
    make_case,
    make_good,
    network_words,
    tensors,
)

from wildseg3d_ros.cli import main as wildseg3d

CPU_SECONDS, WALL_SECONDS = 20, 600
"""What takes longer hangs: at work, or waiting for what never comes, on however busy a machine."""
LARGEST_MB = 700
"""Beside what is loaded before: the interpreter and its packages take 100 alone, and 300 with
PyTorch."""
STORAGES = ("mcap", "sqlite3")
_DEFECT = 70
_BESIDE = (
    "wildseg3d: warning",
    "SAM 2 weights",
    "SAM 3 weights",
    "libpng ",
    "[ WARN:",
    "Corrupt JPEG",
)
"""Lines beside that of an error: warnings, and what image libraries write by themselves."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        name: of what was read.
        fault: what was wrong with how it went; empty where nothing was.
        seconds: of a processor.
        peak_mb: of the process, beside what it had when it was forked.
        text: the end of what it printed.
    """

    name: str
    fault: str
    seconds: float
    peak_mb: float
    text: str

    @property
    def file(self) -> tuple[str, int]:
        """Kind and number of what was read."""
        kind, number = self.name.partition(":")[0].split()
        return kind, int(number)


def run(case: Case, log: Path) -> Outcome:
    """Runs a command line in a process of its own: 0, 2 with one line, or 3, and in time."""
    loaded_mb = _resident_mb(os.getpid())
    child = os.fork()
    if child == 0:
        _command(case, log)
    deadline, too_large = time.monotonic() + WALL_SECONDS, False
    pid, status, usage = os.wait4(child, os.WNOHANG)
    while not pid:
        time.sleep(0.002)
        # Stopped in time, lest it take the memory of everything else.
        too_large = _resident_mb(child) > loaded_mb + 2 * LARGEST_MB
        if too_large or time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        pid, status, usage = os.wait4(child, 0 if too_large else os.WNOHANG)
    text = log.read_text(errors="replace")
    seconds = usage.ru_utime + usage.ru_stime
    peak_mb = max(usage.ru_maxrss / 1024 - loaded_mb, 0.0)
    fault = "memory" if peak_mb > LARGEST_MB else _fault(status, text)
    return Outcome(case.name, fault, seconds, peak_mb, text[-300:])


def _resident_mb(pid: int) -> float:
    """Memory of a process, without files that are mapped, which a fork has only once it reads
    them."""
    try:
        _, pages, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except (OSError, ValueError):
        return 0.0
    return (pages - shared) * resource.getpagesize() / (1 << 20)


def _command(case: Case, log: Path) -> None:
    """The child's part, which never returns."""
    code = _DEFECT
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", errors="backslashreplace")
        code = wildseg3d(case.words)
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else _DEFECT)


def _fault(status: int, text: str) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "hang"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    if "Traceback" in text or code not in (0, 2, 3):
        return f"traceback, exit code {code}"
    errors = [x for x in text.splitlines() if x and not x.startswith(_BESIDE)]
    if code == 2 and len(errors) != 1:
        return f"{len(errors)} lines for an error"
    return ""


def outcomes_in(log: Path) -> list[Outcome]:
    """The outcomes that an interrupted run has noted."""
    lines = log.read_text().splitlines() if log.is_file() else []
    return [Outcome(**json.loads(line)) for line in lines if line.endswith("}")]


def run_all(
    numbers: range, kinds: tuple[str, ...], jobs: int, log: Path | None = None
) -> list[Outcome]:
    """The outcomes of files of some kinds, by their numbers; those in a log are not made anew."""
    cv2.setNumThreads(1)
    chosen = [(kind, number) for number in numbers for kind in kinds]
    outcomes = [o for o in outcomes_in(log) if o.file in set(chosen)] if log else []
    known, total = {o.file for o in outcomes}, len(chosen)
    chosen = [file for file in chosen if file not in known]
    if not chosen:
        return outcomes
    with tempfile.TemporaryDirectory() as place:
        good = Path(place) / "good"
        good.mkdir()
        make_good(good)
        _load(good, kinds)
        # The workers are forks, which have all that is loaded, and fork for each file again.
        with (
            multiprocessing.get_context("fork").Pool(jobs) as pool,
            (log or Path(os.devnull)).open("a", buffering=1) as noted,
            contextlib.suppress(KeyboardInterrupt),  # what was read until then is reported
        ):
            for outcome in pool.imap_unordered(partial(_outcome, good), chosen):
                outcomes.append(outcome)
                noted.write(json.dumps(asdict(outcome)) + "\n")
                if outcome.fault:
                    print(f"{outcome.name}: {outcome.fault}\n{outcome.text}", flush=True)
                if len(outcomes) % 500 == 0:
                    print(f"{len(outcomes)} of {total}", file=sys.stderr, flush=True)
    return outcomes


def _outcome(good: Path, chosen: tuple[str, int]) -> Outcome:
    with tempfile.TemporaryDirectory(dir=good.parent) as folder:
        (Path(folder) / "read").mkdir()
        case = make_case(*chosen, good, Path(folder) / "read")
        return run(case, Path(folder) / "log")


def _load(good: Path, kinds: tuple[str, ...]) -> None:
    """Loads in this process, once, what the others need; the good files have to be good."""
    quiet = ("--quiet",)
    (good / "config.yaml").write_text("index: {click_radius: 2}")
    scene, click = str(good / "scene.ws3d"), ("--view", "cam_0", "--pixel", "40", "40")
    out = str(good / "out")
    ran = [
        ["segment", scene, *click, "--config", str(good / "config.yaml"), *quiet],
        ["check", str(good / "recording"), *quiet],
        ["align", str(good / "pairs.npz"), "-o", out, *quiet],
        *(["check", str(good / name), *quiet] for name in ("tum",) if "dataset" in kinds),
        *(["check", str(good / "bags" / x), *quiet] for x in STORAGES if "bag" in kinds),
    ]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert all(wildseg3d(words) in (0, 3) for words in ran), said.getvalue()
        importlib.import_module("wildseg3d_ros.pipeline")
        if {"checkpoint", "pickle"} & set(kinds):
            weights = good / "no.safetensors"
            weights.write_bytes(tensors(random.Random(0), {"a": [8]}))
            none = checkpoint_words(good / "recording", weights, good / "out")
            assert wildseg3d(list(map(str, none))) == 2, said.getvalue()
        for kind in [kind for kind in ("network", *NETWORKS) if kind in kinds]:
            write_network(kind, good / kind)
            words = network_words(good / "recording", good / kind, good / "out", kind)
            code = wildseg3d(list(map(str, words)))
            # What random weights see has no scale.
            fits = (
                "nothing tells the scale" in said.getvalue() if kind == "da3" else code in (0, 3)
            )
            assert fits, (kind, said.getvalue())


def write_network(kind: str, folder: Path) -> None:
    """Small weights of a network, random or by a rule."""
    if kind == "network":
        from wildseg3d_testing.sam2_weights import write_small_sam2 as write
    elif kind == "sam3":
        from wildseg3d_testing.sam3_weights import write_small_sam3_video as write
    elif kind == "da3":
        from wildseg3d_testing.da3_weights import write_checkpoint as write
    else:
        from wildseg3d_testing.matcher_weights import write_small_matcher as write
    write(folder)


def report(outcomes: list[Outcome]) -> str:
    """How many faults, and the ten worst by memory and by time."""
    lines = [f"{len(outcomes)} files, {sum(bool(o.fault) for o in outcomes)} faults"]
    for title, key in (("peak memory", "peak_mb"), ("processor time", "seconds")):
        lines.append(f"\nworst ten by {title}:")
        worst = sorted(outcomes, key=lambda o, key=key: -getattr(o, key))[:10]
        lines += [f"{o.peak_mb:7.0f} MB {o.seconds:6.2f} s  {o.name}" for o in worst]
    return "\n".join(lines)


def main() -> int:
    """Runs all files and prints the report; exit code 1 where anything was wrong."""
    parser = argparse.ArgumentParser(prog="python test/hostile", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="first number (%(default)s)")
    parser.add_argument("--count", type=int, default=1000, help="of each kind (%(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--jobs", type=int, default=1, help="files at a time (%(default)s)")
    parser.add_argument(
        "--log", type=Path, help="notes each outcome here; what it has already is not read again"
    )
    given = parser.parse_args()
    numbers = range(given.first, given.first + given.count)
    outcomes = run_all(numbers, tuple(given.kinds), given.jobs, given.log)
    print(report(outcomes))
    return int(any(o.fault for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
