"""Figures as a table for the documentation, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.gpu.measuring import Figure

HEAD = (
    "| what | measured | floor | times the floor | work | peak memory |\n|---|---|---|---|---|---|"
)


def markdown(figures: Sequence[Figure]) -> str:
    """A row for each figure."""
    rows = [
        f"| {f.name} | {_seconds(f.seconds)} | {_seconds(f.floor)} | {_times(f)} | {f.work} | "
        f"{'-' if f.peak is None else f'{f.peak:.2f} GB'} |"
        for f in figures
    ]
    return "\n".join([HEAD, *rows])


def as_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """With the ratio to the floor, where there is one."""
    return [
        asdict(f) | {"times the floor": f.seconds / f.floor if f.floor else None} for f in figures
    ]


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def _times(figure: Figure) -> str:
    return f"{figure.seconds / figure.floor:.1f}" if figure.floor else "-"
