"""Plots and tables of what was measured, for docs/explanation/evaluation.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evaluation.experiments import (
    CAMERAS,
    EXPERIMENTS,
    EXTRINSICS,
    NOISE,
    Case,
    Results,
)
from benchmarks.evaluation.scoring import summarise
from benchmarks.recordings import ROOT

PAGE = ROOT / "docs" / "explanation" / "evaluation.md"
IMAGES = ROOT / "docs" / "images"
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
"""Of Okabe and Ito (2008): readers who are colour-blind can tell them apart."""
KEPT = 0.75
"""IoU with itself in another build from which an object is the same."""
COLUMNS = {
    "builds": ("builds", 1.0, "{:.0f}"),
    "objects": ("objects", 1.0, "{:.0f}"),
    "mean IoU": ("miou", 1.0, "{:.3f}"),
    "clicks right": ("clicks_right", 1.0, "{:.3f}"),
    "accuracy [mm]": ("accuracy", 1e3, "{:.2f}"),
    "90 % [mm]": ("accuracy_90", 1e3, "{:.1f}"),
    "completeness": ("completeness", 1.0, "{:.3f}"),
    "box centre [mm]": ("box_centre", 1e3, "{:.1f}"),
    "box size [mm]": ("box_size", 1e3, "{:.1f}"),
}
"""Heading of each column, its figure, unit and format."""


class Measured:
    """The results, chosen by what varies."""

    def __init__(self, folder: Path) -> None:
        self._results = Results(folder)

    def of(self, experiment: str, chosen: Callable[[Case], bool]) -> list[dict[str, Any]]:
        """Results of the cases that are measured."""
        cases = [case for case in EXPERIMENTS[experiment]() if chosen(case)]
        return [found for case in cases if (found := self._results.get(case)) is not None]

    def figures(self, experiment: str, chosen: Callable[[Case], bool]) -> dict[str, Any]:
        """Their summary, and that of each build."""
        found = self.of(experiment, chosen)
        return summarise(found) | {"each": [summarise([build]) for build in found]}

    def rows(self, experiment: str) -> list[tuple[str, dict[str, Any]]]:
        """(what, figures) of an experiment's groups, in their order."""
        return [(name, self.figures(experiment, chosen)) for name, chosen in GROUPS[experiment]]


def _is(**fields: Any) -> Callable[[Case], bool]:
    """Cases in which these fields, of the case or of its sensing, have these values."""

    def chosen(case: Case) -> bool:
        return all(
            getattr(case if hasattr(case, name) else case.sensing, name) == value
            for name, value in fields.items()
        )

    return chosen


def _extrinsics(aligned: bool) -> Iterable[tuple[str, Callable[[Case], bool]]]:
    for millimetres, degrees in EXTRINSICS:
        how = "aligned" if aligned else "as given"
        name = f"{millimetres:g} mm, {degrees:g}°, {how}"
        yield name, _is(millimetres=millimetres, aligned=aligned)


GROUPS: dict[str, list[tuple[str, Callable[[Case], bool]]]] = {
    "accuracy": [
        ("depth, things of the catalogue", _is(kind="catalogue", pointmaps="depth")),
        ("depth, random scenes", _is(kind="random", pointmaps="depth")),
        ("stereo, neighbours 12° apart", _is(kind="narrow", pointmaps="stereo")),
        ("stereo, neighbours 62° apart", _is(kind="catalogue", pointmaps="stereo")),
        ("stereo, random scenes", _is(kind="random", pointmaps="stereo")),
    ],
    "extrinsics": [*_extrinsics(True), *_extrinsics(False)],
    "views": [(f"{n} cameras", _is(cameras=CAMERAS[n])) for n in CAMERAS],
    "noise": [(f"noise x {factor:g}", _is(noise=factor)) for factor in NOISE],
    "arm": [
        ("no arm", _is(posture="")),
        ("arm over the things", _is(posture="over", filtered=False)),
        ("arm, left out by its URDF", _is(posture="over", filtered=True)),
    ],
}
"""What the rows of each table are."""


def draw(folder: Path) -> list[Path]:
    """Writes tables into the page and plots beside it; the plots' files."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    plt.rcParams.update({"axes.grid": True, "grid.alpha": 0.3, "font.size": 10})
    measured = Measured(folder)
    write_tables(measured)
    written = []
    for name, figure in PLOTS.items():
        made = figure(plt, measured)
        if made is None:
            continue
        path = IMAGES / f"{name}.jpg"
        made.savefig(path, dpi=110, pil_kwargs={"quality": 82})
        written.append(path)
    return written


def write_tables(measured: Measured) -> None:
    """Puts the tables at their marks in the page: ``<!-- table: evaluation NAME -->``."""
    text = PAGE.read_text()
    for name in GROUPS:
        text = put_table(text, name, table(measured.rows(name)))
    text = put_table(text, "identity", identity_table(measured))
    PAGE.write_text(text)


def put_table(text: str, name: str, lines: Sequence[str]) -> str:
    """The page's text with a table replaced."""
    mark = f"<!-- table: evaluation {name} -->\n"
    if len(lines) <= 2:
        lines = [f"Not measured yet: `make evaluation ARGS={name}`."]
    body = mark + "\n" + "\n".join(lines) + "\n"
    # A table, or the line that says that there is none.
    before = rf"{re.escape(mark)}(?:\n(?:\|.*\n|Not measured.*\n)+)?"
    return re.sub(before, lambda _: body, text)


def table(rows: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Lines of Markdown; a row without a build is left out."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, figures in rows:
        if figures["builds"]:
            cells = (_cell(figures[key], unit, form) for key, unit, form in COLUMNS.values())
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(value: float | None, unit: float, form: str) -> str:
    return "" if value is None else form.format(unit * value)


def kept_by_object(results: Sequence[dict[str, Any]]) -> dict[int, list[float]]:
    """IoU with itself in every other build, by object of the first one."""
    found: dict[int, list[float]] = {}
    for result in results[1:]:
        for row in result.get("kept", []):
            found.setdefault(row["id"], []).append(row["iou"])
    return found


def identity_table(measured: Measured) -> list[str]:
    """A row per scene."""
    lines = [
        "| | builds | objects | kept in a build, mean | kept in all builds |",
        "|---" * 5 + "|",
    ]
    for kind in ("catalogue", "random"):
        results = measured.of("identity", _is(kind=kind))
        kept = kept_by_object(results)
        if kept:
            share = np.mean([iou >= KEPT for ious in kept.values() for iou in ious])
            always = sum(min(ious) >= KEPT for ious in kept.values())
            cells = (f"{kind} scene", len(results), len(kept), f"{share:.1%}", always)
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _sweeps(plt: Any, measured: Measured) -> Any:
    """Four plots: cloud error by extrinsics, views and noise, and IoU by all of them."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    millimetres = [error[0] for error in EXTRINSICS]
    for aligned, color, name in ((True, BLUE, "aligned"), (False, ORANGE, "as given")):
        found = [
            measured.figures("extrinsics", _is(millimetres=m, aligned=aligned))
            for m in millimetres
        ]
        _line(axes[0, 0], millimetres, found, "accuracy", 1e3, color, name)
        _line(axes[0, 1], millimetres, found, "miou", 1.0, color, name)
    axes[0, 0].set(title="Clouds, by the error of given poses", ylabel="distance to surface [mm]")
    axes[0, 1].set(title="One click, by the error of given poses", ylabel="mean IoU")
    for axis in axes[0]:
        axis.set(xlabel="error of all poses [mm; 0.1° per mm]", ylim=(0, None))
        axis.legend()
    views = [measured.figures("views", _is(cameras=CAMERAS[n])) for n in CAMERAS]
    _line(axes[1, 0], list(CAMERAS), views, "miou", 1.0, BLUE, "mean IoU")
    _line(axes[1, 0], list(CAMERAS), views, "completeness", 1.0, GREEN, "completeness")
    axes[1, 0].set(title="By the number of cameras", xlabel="cameras", ylim=(0, 1))
    axes[1, 0].legend()
    noisy = [measured.figures("noise", _is(noise=factor)) for factor in NOISE]
    _line(axes[1, 1], NOISE, noisy, "accuracy", 1e3, BLUE, "median")
    _line(axes[1, 1], NOISE, noisy, "accuracy_90", 1e3, ORANGE, "90 %")
    axes[1, 1].set(title="Clouds, by the sensor's noise", xlabel="factor of the noise")
    axes[1, 1].set(ylabel="distance to surface [mm]", ylim=(0, None))
    axes[1, 1].legend()
    return figure


def _line(
    axis: Any,
    at: Sequence[float],
    figures: Sequence[dict[str, Any]],
    key: str,
    unit: float,
    color: str,
    label: str,
) -> None:
    """A line through the figures of all builds, and a dot for each build by itself."""
    known = [(x, unit * f[key]) for x, f in zip(at, figures, strict=True) if f[key] is not None]
    if known:
        axis.plot(*zip(*known, strict=True), "o-", color=color, label=label)
    for x, whole in zip(at, figures, strict=True):
        each = [build[key] for build in whole["each"] if build[key] is not None]
        axis.plot([x] * len(each), [unit * value for value in each], ".", color=color, alpha=0.5)


def _identity(plt: Any, measured: Measured) -> Any:
    """A dot per object and build: how much of it is the same object as in the first build."""
    found = {kind: measured.of("identity", _is(kind=kind)) for kind in ("catalogue", "random")}
    found = {kind: results for kind, results in found.items() if results[1:]}
    if not found:
        return None
    size = {"figsize": (5.0 * len(found), 3.4), "layout": "constrained"}
    figure, (axes,) = plt.subplots(1, len(found), sharey=True, squeeze=False, **size)
    for axis, (kind, results) in zip(axes, found.items(), strict=True):
        kept = kept_by_object(results)
        for at, ious in enumerate(kept.values()):
            shift = np.linspace(-0.3, 0.3, len(ious)) if len(ious) > 1 else [0.0]
            axis.plot(at + np.asarray(shift), ious, ".", color=BLUE, alpha=0.7)
        axis.axhline(KEPT, color=ORANGE, lw=1, label=f"the same from {KEPT} on")
        axis.set(title=f"{kind} scene, {len(results)} times", ylim=(-0.02, 1.02))
        axis.set_xticks(range(len(kept)), [str(name) for name in kept])
        axis.set_xlabel("object of the first build")
    axes[0].set_ylabel("IoU with the first build")
    axes[0].legend(loc="lower left")
    return figure


PLOTS = {"evaluation_sweeps": _sweeps, "evaluation_identity": _identity}
"""What makes each picture of docs/images."""
