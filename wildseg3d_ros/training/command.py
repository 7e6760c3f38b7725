"""``wildseg3d train-masks``: from nothing, or from where it was stopped, to a network's file.

Imports of PyTorch, MuJoCo and ONNX stay inside functions: ``--help`` answers without them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wildseg3d_ros.core.errors import ConfigError, FileError, InputError
from wildseg3d_ros.core.files.writing import write_bytes
from wildseg3d_ros.core.progress_bar import ProgressBar

if TYPE_CHECKING:
    from wildseg3d_ros.sim.cad_shapes import CadShapes

FIRST_SEED, FIRST_HELD_OUT = 100_000, 99_000
"""Seeds of the scenes that are learned from, and of those that are not: the next ones follow."""

NETWORK_FILE = "affinities.onnx"
_ROOM = 200_000_000
"""Bytes of checkpoints, network and report, with a reserve."""
_EPILOG = """\
It may be stopped at any moment: the same command goes on where it was. FOLDER keeps the
scenes, the checkpoint, curve.jsonl and the report (report.md, report.json, curve.png,
views.png); OUT has a card beside it, with .md instead of .onnx.

With --meshes half of the things in all scenes are your own parts. Use the result with
`--set masks.geometric.weights=OUT`.

examples:
  wildseg3d train-masks
  wildseg3d train-masks parts.onnx --meshes cad/ --mesh-unit mm --folder out/parts
"""


def main(arguments: Sequence[str], prog: str = "wildseg3d train-masks") -> int:
    """Runs the command; returns the exit code.

    Raises:
        WildSeg3DError: with what was wrong, what was expected and the way out.
    """
    given = _parser(prog).parse_args(list(arguments))
    if given.out is None:
        given.out = given.folder / NETWORK_FILE
    command = shlex.join([*prog.split(), *arguments])
    try:
        with _alone_in(given.folder):
            _check_output(given.out)
            return _run(given, command)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(
            f"cannot work in '{given.folder}' or write '{given.out}': {error}; what is done "
            "so far is kept: make room or get the right to write, then repeat the command"
        ) from error


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train the network that the geometric masks learn from, on simulated scenes.",
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=26, width=90
        ),
    )
    option = parser.add_argument
    text = "ONNX file to write (default: affinities.onnx in FOLDER)"
    option("out", metavar="OUT", type=Path, nargs="?", help=text)
    text = "of scenes, checkpoint and report (default: %(default)s)"
    option("--folder", metavar="FOLDER", type=Path, default=Path("out/training"), help=text)
    text = "folder of your own OBJ, PLY or STL parts; may be repeated"
    option("--meshes", metavar="FOLDER", type=Path, action="append", default=[], help=text)
    text = "unit of the mesh files (default: %(default)s)"
    option("--mesh-unit", choices=("m", "mm"), default="m", help=text)
    text = f"scenes to learn from, seeds from {FIRST_SEED} on (default: %(default)s)"
    option("--scenes", metavar="N", type=_whole(1, 1_000_000), default=2400, help=text)
    text = f"scenes to judge by, seeds from {FIRST_HELD_OUT} on (default: %(default)s)"
    limit = FIRST_SEED - FIRST_HELD_OUT
    option("--held-out", metavar="N", type=_whole(1, limit), default=60, help=text)
    text = "steps of training (default: %(default)s)"
    option("--steps", metavar="N", type=_whole(1, 10_000_000), default=10_000, help=text)
    text = "views in each step (default: %(default)s)"
    option("--batch", metavar="N", type=_whole(1, 1024), default=8, help=text)
    text = "of weights and variation, not of the scenes (default: %(default)s)"
    option("--seed", metavar="N", type=_whole(0, 2**31 - 1), default=0, help=text)
    text = "largest learning rate (default: %(default)s)"
    option("--rate", metavar="RATE", type=_rate, default=2e-3, help=text)
    text = "checkpoint.pt of another training to begin with, at a tenth to a quarter of its rate"
    option("--start", metavar="FILE", type=Path, help=text)
    text = "where to train (default: cuda where there is one)"
    option("--device", choices=("cpu", "cuda"), help=text)
    cores = len(os.sched_getaffinity(0))
    text = "processes that record, and load views (default: one for each core, here %(default)s)"
    option("--workers", metavar="N", type=_whole(1, 256), default=min(cores, 256), help=text)
    return parser


def _rate(text: str) -> float:
    """The type of an option: a learning rate."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, to 1, got '{text}'")
    return value


def _whole(low: int, high: int) -> Callable[[str], int]:
    """The type of an option: a whole number within bounds."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            expected = f"expected a whole number from {low} to {high}, got '{text}'"
            raise argparse.ArgumentTypeError(expected)
        return value

    return convert


def _run(given: argparse.Namespace, command: str) -> int:
    # All of them now: what is missing shows before hours of work.
    import torch

    from wildseg3d_ros.masks.learned.network import AffinityModel
    from wildseg3d_ros.training.evaluation import evaluate
    from wildseg3d_ros.training.export import check_export, export
    from wildseg3d_ros.training.network import AffinityNetwork
    from wildseg3d_ros.training.report import Curve, Run, write_card, write_report
    from wildseg3d_ros.training.samples import Samples
    from wildseg3d_ros.training.train import Schedule, begin_with, train

    device = _device(given.device)
    start = str(given.start) if given.start else ""
    schedule = Schedule(given.steps, given.batch, given.rate, given.seed, start=start)
    shapes = _shapes(given)
    _check_same_run(given)
    if start:
        begin_with(given.start, AffinityNetwork(), "cpu")
    paths, held_out = _recorded(given, shapes)
    print(f"training on {_in_words(device)}: {len(paths)} views, {schedule.steps} steps")
    # A processor that trains has no time for more.
    loaders = min(given.workers, 8) if device == "cuda" else 1
    try:
        network = train(paths, schedule, given.folder, device, loaders)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the GPU has too little memory for steps of {schedule.batch} views: take a smaller "
            "--batch and another --folder, or --device cpu"
        ) from error

    trial = given.folder / "export.onnx"
    export(network, trial)
    inputs = Samples(held_out, 1, min(len(held_out), 5), schedule.seed, variation=None)
    difference = check_export(network, trial, (views[0] for views, _ in inputs))
    shutil.move(trial, given.out)
    model, curve = AffinityModel(given.out), Curve.load(given.folder)
    with ProgressBar() as bar:
        tallies = evaluate(model, held_out, lambda fraction: bar.report("judging", fraction))
    data = given.out.read_bytes()
    run = Run(
        command,
        (FIRST_SEED, FIRST_SEED + given.scenes - 1),
        (FIRST_HELD_OUT, FIRST_HELD_OUT + given.held_out - 1),
        len(paths),
        len(held_out),
        _part_names(given.meshes),
        schedule,
        _in_words(device),
        curve.seconds,
        difference,
        hashlib.sha256(data).hexdigest(),
        len(data),
    )
    write_report(given.folder, run, tallies, curve, model, held_out)
    card = given.out.with_suffix(".md")
    write_card(card, run, tallies)
    print(f"wrote {given.out}, {card} and {given.folder / 'report.md'}")
    return 0


# ---- what is checked before hours of work ----------------------------------------------------


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """The folder, made where it is missing, with no other run at work in it."""
    if folder.exists() and not folder.is_dir():
        raise FileError(f"--folder expects a folder; '{folder}' is a file: give another one")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            # Of this process alone, and gone with it: those that it forks do not keep it.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileError(
                f"another run is at work in '{folder}': wait for its end, or take another --folder"
            ) from error
        yield


def _check_output(out: Path) -> None:
    """Raises FileError where the file could not be written in the end."""
    if out.suffix != ".onnx":
        raise FileError(f"OUT must end in .onnx; got '{out}'")
    if out.is_dir():
        raise FileError(f"'{out}' is a folder: give the file to write")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=out.parent):
        pass


def _device(chosen: str | None) -> str:
    import torch

    there = torch.cuda.is_available()
    if chosen == "cuda" and not there:
        raise ConfigError(
            f"--device cuda: PyTorch {torch.__version__} finds no NVIDIA GPU; check `nvidia-smi` "
            "and that PyTorch is a build with CUDA (TORCH_INDEX of `make setup`), or train on the "
            "processor: --device cpu"
        )
    return chosen or ("cuda" if there else "cpu")


def _in_words(device: str) -> str:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"a processor (threads: {torch.get_num_threads()})"


def _shapes(given: argparse.Namespace) -> CadShapes | None:
    if not given.meshes:
        return None
    from wildseg3d_ros.sim.cad_shapes import read_cad_shapes

    shapes = read_cad_shapes(given.meshes, given.mesh_unit)
    print(f"{len(shapes.parts)} parts of your own are among the things")
    return shapes


def _part_names(folders: Sequence[Path]) -> tuple[str, ...]:
    if not folders:
        return ()
    from wildseg3d_ros.sim.cad_shapes import mesh_files

    return tuple(path.name for folder in folders for path in mesh_files(folder))


def _recorded(
    given: argparse.Namespace, shapes: CadShapes | None
) -> tuple[list[Path], list[Path]]:
    """The frames to learn from, and those to judge by."""
    from wildseg3d_ros.sim.random_shapes import random_shape
    from wildseg3d_ros.training.frames import SCENE_BYTES, record_frames, unrecorded

    folder = given.folder / "frames"
    held_out = range(FIRST_HELD_OUT, FIRST_HELD_OUT + given.held_out)
    learned = range(FIRST_SEED, FIRST_SEED + given.scenes)
    _check_same_things(folder, shapes)
    missing = len(unrecorded(folder, [*held_out, *learned]))
    needed, free = missing * SCENE_BYTES + _ROOM, shutil.disk_usage(given.folder).free
    if free < needed:
        raise FileError(
            f"{missing} scenes are still to be recorded in '{folder}', which takes "
            f"{needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free: make room, take a --folder on "
            "another disk, or fewer --scenes"
        )
    found = []
    with ProgressBar() as bar:
        for stage, seeds in (("held-out scenes", held_out), ("scenes", learned)):
            paths = record_frames(
                folder,
                seeds,
                shapes or random_shape,
                given.workers,
                lambda fraction, stage=stage: bar.report(stage, fraction),
            )
            if not paths:
                raise InputError(
                    f"none of the {len(seeds)} scenes from seed {seeds[0]} on came to rest: take "
                    "more --scenes and --held-out, and look at the size of your parts"
                )
            found.append(paths)
    return found[1], found[0]


def _check_same_things(folder: Path, shapes: CadShapes | None) -> None:
    """Raises FileError where the recorded scenes are of other parts."""
    note, digest = folder / "things.json", shapes.digest if shapes else None
    recorded = next(folder.glob("*.npz"), None) is not None
    if recorded and _noted(note).get("meshes") != digest:
        raise FileError(
            f"the scenes in '{folder}' were recorded with other --meshes, another --mesh-unit, or "
            "without any: give the same to go on, or take another --folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(note, (json.dumps({"meshes": digest}) + "\n").encode())


def _check_same_run(given: argparse.Namespace) -> None:
    """Raises FileError where the folder's checkpoint is of a run with other numbers."""
    from wildseg3d_ros.training.train import CHECKPOINT, CURVE

    note = given.folder / "run.json"
    wanted = {name: getattr(given, name) for name in ("scenes", "steps", "batch", "seed")}
    known = wanted | _noted(note)
    other = [name for name in wanted if known[name] != wanted[name]]
    if other and (given.folder / CHECKPOINT).exists():
        before, now = (
            " ".join(f"--{name} {numbers[name]}" for name in other) for numbers in (known, wanted)
        )
        raise FileError(
            f"'{given.folder}' holds a training with {before}, this is one with {now}: repeat "
            f"the former to go on, take another --folder, or remove '{CHECKPOINT}' and '{CURVE}' "
            "in it to begin anew with the recorded scenes"
        )
    write_bytes(note, (json.dumps(wanted) + "\n").encode())


def _noted(note: Path) -> dict[str, object]:
    """What an earlier run noted; nothing where it was stopped while it wrote."""
    try:
        return json.loads(note.read_text())
    except (FileNotFoundError, ValueError):
        return {}
