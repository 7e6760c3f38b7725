"""`eval` by the protocols of papers, and by our own for wide baselines."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from wildseg3d_ros.cli import commands
from wildseg3d_ros.cli.commands import ExitCode, check_targets, print_written, read_config
from wildseg3d_ros.core.errors import AlignmentError, ConfigError, FileError, InputError, RigError

if TYPE_CHECKING:
    from wildseg3d_ros.protocols.cases import CaseScore, Labelled
    from wildseg3d_ros.protocols.published import Row


PROTOCOLS = "clicks", "nvos", "spin-nerf", "wide"
"""Of `eval`; the first is its default."""


def evaluate(given: argparse.Namespace) -> int | None:
    """``wildseg3d eval`` by the protocol that is asked for."""
    check_targets(given.json)
    run = {"clicks": commands.evaluate, "wide": evaluate_wide_baselines}
    return run.get(given.protocol, evaluate_benchmark)(given)


def evaluate_benchmark(given: argparse.Namespace) -> int:
    """``wildseg3d eval --protocol nvos|spin-nerf``: a benchmark's folder becomes its table.

    A scene that cannot be built counts as one of empty masks, one that cannot be read in no mean;
    the error is said, and the exit code is 3.
    """
    from wildseg3d_ros.core.files.writing import write_bytes
    from wildseg3d_ros.protocols import nvos, published, spin_nerf
    from wildseg3d_ros.protocols.cases import means

    if given.scene or given.reference_view or given.include_reference:
        raise ConfigError(
            f"--protocol {given.protocol} builds each scene and takes its own views: leave out "
            "--scene, --reference-view and --include-reference"
        )
    read_config(given.config, given.settings)  # what is wrong with it is said before the work
    protocol, rows = {
        "nvos": (nvos, published.NVOS),
        "spin-nerf": (spin_nerf, published.SPIN_NERF),
    }[given.protocol]
    found = protocol.find(given.folder)
    unknown = [name for name in given.only if name not in {scene.name for scene in found}]
    if unknown:
        there = ", ".join(scene.name for scene in found)
        raise ConfigError(f"there is no scene '{unknown[0]}' in it; there are {there}")
    scores = []
    for scene in found:
        if given.only and scene.name not in given.only:
            continue
        start = time.perf_counter()
        scores.append(_score(given, protocol, scene))
        if not given.quiet:
            _print_case(scores[-1], time.perf_counter() - start)
    miou, macc = means(scores)
    if given.json:
        figures = {
            "protocol": given.protocol,
            "miou": miou,
            "macc": macc,
            "scenes": [score.to_dict() for score in scores],
        }
        write_bytes(given.json, (json.dumps(figures, indent=1) + "\n").encode())
    if not given.quiet:
        _print_table(rows, protocol, scores, (miou, macc))
        print_written(given.json)
    return ExitCode.UNRELIABLE if any(score.failed for score in scores) else 0


def evaluate_wide_baselines(given: argparse.Namespace) -> None:
    """``wildseg3d eval --protocol wide``: what :mod:`wildseg3d_ros.protocols.wide` finds."""
    from wildseg3d_ros.cli.report import print_table
    from wildseg3d_ros.core.files.writing import write_bytes
    from wildseg3d_ros.protocols.wide import CLICKS, evaluate_wide

    found = evaluate_wide(*commands.scored_scene(given))
    if given.json:
        write_bytes(given.json, (json.dumps(found.to_dict(), indent=1) + "\n").encode())
    if given.quiet:
        return
    rows = [("angle", "pairs", "mean IoU")]
    rows += [(f"{b.low}-{b.high} deg", str(b.pairs), _share(b.miou)) for b in found.bins]
    print_table(rows)
    print(
        f"clicks   {_share(found.best)} at the most interior pixel, {_share(found.random)} at "
        f"random inside, {_share(found.worst)} at the worst of {CLICKS}"
    )
    print_written(given.json)


def _score(given: argparse.Namespace, protocol: ModuleType, found: Labelled) -> CaseScore:
    from wildseg3d_ros.core.progress import Progress
    from wildseg3d_ros.core.progress_bar import ProgressBar
    from wildseg3d_ros.pipeline import build_scene
    from wildseg3d_ros.protocols.cases import CaseScore, reason, score

    config = read_config(given.config, given.settings)
    try:
        case = protocol.load(found, given.max_views)
    except (FileError, InputError) as error:
        return CaseScore(found.name, {}, None, None, reason(error), failed=True)
    try:
        with ProgressBar(given.quiet) as bar:
            scene = build_scene(case.views, config, Progress(bar.report))
    except (AlignmentError, InputError, RigError) as error:
        # What is wrong with the settings or the installation is no fault of the scene.
        return score(case, None, reason(error))
    return score(case, scene)


def _print_case(score: CaseScore, seconds: float) -> None:
    views = f"{len(score.views)} view{'s' * (len(score.views) != 1)}"
    print(
        f"{score.name}: IoU {_share(score.iou)}, accuracy {_share(score.accuracy)}, {views}, "
        f"{seconds:.1f} s"
    )
    if score.error:
        print(f"  no answer: {score.error}")
    for warning in score.warnings:
        print(f"  warning: {warning}")


def _print_table(
    published: Sequence[Row],
    protocol: ModuleType,
    scores: Sequence[CaseScore],
    ours: tuple[float | None, float | None],
) -> None:
    """The papers' table and our row, in percent."""
    from wildseg3d_ros.cli.report import print_table

    rows = [("method", "trained per scene", "mIoU", "mAcc")]
    rows += [
        (
            row.method,
            "yes" if row.trained else "no",
            f"{row.miou:.1f}",
            "?" if row.macc is None else f"{row.macc:.1f}",
        )
        for row in published
    ]
    read = sum(bool(score.views) for score in scores)
    mine = f"this run, {read} of {protocol.SCENES} scenes"
    miou, macc = (None if value is None else 100 * value for value in ours)
    rows.append((mine, "no", _share(miou, 1), _share(macc, 1)))
    print_table(rows)


def _share(value: float | None, digits: int = 3) -> str:
    return "?" if value is None else f"{value:.{digits}f}"
