"""What a training gave: ``report.md``, ``report.json`` and pictures, and the network's card."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros import __version__
from wildseg3d_ros.core.files.writing import write_bytes
from wildseg3d_ros.io.images import write_image
from wildseg3d_ros.masks.learned.inputs import OFFSETS, STEP
from wildseg3d_ros.masks.learned.network import AffinityModel
from wildseg3d_ros.training.evaluation import CONDITIONS, DECILES, Tally
from wildseg3d_ros.training.frames import CATALOGUE, VIEWS, Frame
from wildseg3d_ros.training.pictures import curve_picture, views_picture
from wildseg3d_ros.training.train import CURVE, Schedule

SHOWN = 4
"""Views in the picture."""
NAMED = 12
"""Mesh files that the card names."""


@dataclass(frozen=True)
class Run:
    """What was done.

    Attributes:
        command: that does it again.
        seeds: first and last of the scenes that were learned from.
        held_out: first and last of those that were not.
        views: number of views that were learned from.
        held_out_views: number of views that were not.
        parts: names of the mesh files whose parts were among the things.
        schedule: of the training.
        device: that it ran on, in words.
        seconds: of training, without recording.
        difference: largest one between OpenCV's log-odds and PyTorch's.
        sha256: of the network's file.
        bytes: of the network's file.
    """

    command: str
    seeds: tuple[int, int]
    held_out: tuple[int, int]
    views: int
    held_out_views: int
    parts: tuple[str, ...]
    schedule: Schedule
    device: str
    seconds: float
    difference: float
    sha256: str
    bytes: int


@dataclass(frozen=True, eq=False)
class Curve:
    """Losses over a training.

    Attributes:
        steps: (n,) ascending.
        losses: (n, len(OFFSETS) + 1), means over the steps since the row before.
        seconds: of training, all stretches of it together.
    """

    steps: NDArray[np.int64]
    losses: NDArray[np.float64]
    seconds: float

    @classmethod
    def load(cls, folder: Path) -> Curve:
        """Reads what :func:`~wildseg3d_ros.training.train.train` noted; of a step that was done
        twice, as after a stop, the later row counts."""
        rows: dict[int, dict] = {}
        seconds = last = 0.0
        for line in (folder / CURVE).read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # a line that was cut off
                continue
            seconds += row["seconds"] - (last if row["seconds"] >= last else 0.0)
            last = row["seconds"]
            rows[row["step"]] = row
        steps = sorted(rows)
        losses = np.array([rows[step]["losses"] for step in steps])
        return cls(np.array(steps), losses, seconds)


def write_report(
    folder: Path,
    run: Run,
    tallies: Mapping[str, Tally],
    curve: Curve,
    model: AffinityModel,
    held_out: Sequence[Path],
) -> None:
    """Writes ``report.md``, ``report.json``, ``curve.png`` and ``views.png``.

    Raises:
        FileError: a file cannot be written.
    """
    chosen = np.unique(np.linspace(0, len(held_out) - 1, SHOWN).astype(int))
    frames = [Frame.load(held_out[k]) for k in chosen]
    write_image(folder / "curve.png", curve_picture(curve.steps.tolist(), curve.losses))
    write_image(folder / "views.png", views_picture(model, frames))
    figures = {condition: _figures(tally) for condition, tally in tallies.items()}
    data = {"run": asdict(run), "outputs": output_names(), "held_out": figures}
    write_bytes(folder / "report.json", (json.dumps(data, indent=1) + "\n").encode())
    write_bytes(folder / "report.md", _wrapped(_report_text(run, tallies, curve)).encode())


def write_card(path: Path, run: Run, tallies: Mapping[str, Tally]) -> None:
    """Writes the text that goes with the network's file.

    Raises:
        FileError: it cannot be written.
    """
    write_bytes(path, _wrapped(_card_text(run, tallies)).encode())


def output_names() -> list[str]:
    """What each output speaks of, its offset in pixels of the view (columns, rows)."""
    return [f"({STEP * dc}, {STEP * dr})" for dr, dc in OFFSETS] + ["on an object"]


def _figures(tally: Tally) -> dict[str, Any]:
    values = {
        "log_loss": tally.log_loss(),
        "balanced_accuracy": tally.accuracy(),
        "share_of_yes_by_decile": tally.calibration(),
    }
    # JSON has no NaN.
    return {name: _plain(array.round(4).tolist()) for name, array in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if np.isnan(value) else value


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _number(value: float, digits: int = 3) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def _scores(tallies: Mapping[str, Tally]) -> str:
    head = ["affinity with the pixel at (columns, rows)"]
    for condition in CONDITIONS:
        head += [f"log loss, {condition}", "accuracy"]
    columns = [
        values for c in CONDITIONS for values in (tallies[c].log_loss(), tallies[c].accuracy())
    ]
    rows = [
        [name, *(_number(column[k]) for column in columns)]
        for k, name in enumerate(output_names())
    ]
    return _table(head, rows)


def _calibration(tally: Tally) -> str:
    head = ["probability", *(f"{k / DECILES:.1f}–{(k + 1) / DECILES:.1f}" for k in range(DECILES))]
    rows = [
        [name, *(_number(value, 2) for value in line)]
        for name, line in zip(output_names(), tally.calibration(), strict=True)
    ]
    return _table(head, rows)


def _begun(run: Run) -> str:
    """What the training began with, if not with random weights."""
    return f"It began with the weights in `{run.schedule.start}`." if run.schedule.start else ""


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def _wrapped(text: str) -> str:
    """Paragraphs and list items anew in lines of 99; tables, titles and code as they are."""
    lines = []
    for block in re.split(r"\n(?=\n|- )", text):
        if re.match(r"\n?(\||#| {4}|!)", block):
            lines.append(block)
            continue
        lead = "\n" if block.startswith("\n") else ""
        hang = "  " if block.lstrip("\n").startswith("- ") else ""
        lines.append(lead + textwrap.fill(
            " ".join(block.split()), 99, subsequent_indent=hang, break_long_words=False,
            break_on_hyphens=False,
        ))  # fmt: skip
    return "\n".join(lines).rstrip("\n") + "\n"


def _things(run: Run) -> str:
    if run.parts:
        more = len(run.parts) - NAMED
        named = ", ".join(run.parts[:NAMED]) + (f" and {more} more" if more > 0 else "")
        return (
            f"About half of the things are the parts of {len(run.parts)} mesh files, in their "
            f"true size with random colours: {named}. The others are random shapes."
        )
    return (
        "The things are random shapes with random colours and prints; every "
        f"{CATALOGUE}th scene has household things on a table instead."
    )


def _report_text(run: Run, tallies: Mapping[str, Tally], curve: Curve) -> str:
    calibrations = "\n".join(
        f"{condition.capitalize()}:\n\n{_calibration(tallies[condition])}"
        for condition in CONDITIONS
    )
    return f"""\
# Training of the affinity network

    {run.command}

{run.schedule.steps} steps of {run.schedule.batch} views on {run.device}, {_minutes(run.seconds)}
of training. OpenCV's log-odds of the exported file differ from PyTorch's by {run.difference:.1g}
at most.

![Loss](curve.png)

Loss: cross-entropy [nats], yes and no weighted alike, on the varied views of training. The last
value, at step {curve.steps[-1]}: {curve.losses[-1].mean():.3f}.

## On held-out simulated views

{run.held_out_views} views of the scenes with seeds {run.held_out[0]} to {run.held_out[1]}, none of
which was learned from, by the exported file with OpenCV. Yes and no are weighted alike: guessing
gives a log loss of 0.693 and an accuracy of 0.5. "Without depth" and "without colour" are the same
views with all of it taken away.

{_scores(tallies)}
![Held-out views](views.png)

## Calibration

Share of yes among the pixels of each decile of probability, yes and no weighted alike; "–" where
there is no pixel.

{calibrations}"""


def _card_text(run: Run, tallies: Mapping[str, Tally]) -> str:
    rows = []
    for condition in CONDITIONS:
        tally = tallies[condition]
        figures = (tally.log_loss().mean(), tally.accuracy().mean())
        rows.append([condition, *(_number(value) for value in figures)])
    licence = "Apache-2.0. Everything that it learned from"
    if run.parts:
        licence = "yours to choose, as far as the rights to the meshes allow. Everything else"
    return f"""\
# Affinity network

Log-odds that two pixels of one view are of one thing, at {len(OFFSETS)} offsets, and that a pixel
is on an object. The geometric masks of wildseg3d read it. It is a small U-Net (Ronneberger et al.,
2015; affinities at several distances after Gao et al., SSAP, 2019), run by OpenCV on the CPU.

- **Input**: one view of about 320x240 pixels: CIE Lab colour, inverse depth, normals and relief of
  the depth, where there is any. Colour or depth may be missing.
- **Learned from**: {run.views} views, {VIEWS} of each random simulated scene: tables, bins and
  shelves, seeds {run.seeds[0]} to {run.seeds[1]}. {_things(run)}
  No real image, no label by hand.
- **Held out**: {run.held_out_views} views of other scenes, seeds {run.held_out[0]} to
  {run.held_out[1]}.
- **Training**: {run.schedule.steps} steps of {run.schedule.batch} views, AdamW, largest rate
  {run.schedule.rate:g}, seed {run.schedule.seed}; {_minutes(run.seconds)} on {run.device}.
  {_begun(run)} Views vary in scale, light, hue, by a quarter turn and a mirror; some have no
  colour, no depth, or gaps in it.
- **Made by**: wildseg3d {__version__}, `{run.command}`
- **File**: {run.bytes / 1e6:.2f} MB, weights in half precision, sha256
  `{run.sha256}`
- **Licence**: {licence}
  is simulated by this package (Apache-2.0); prints of things use photographs that scikit-image
  ships.

## Figures

On the held-out views, the mean over all outputs; yes and no weighted alike, so that guessing gives
0.693 and 0.5:

{_table(["", "log loss [nats]", "balanced accuracy"], rows)}
## Limits

- All figures are of simulated views; they say nothing about real ones.
- Simulated are rigid, opaque things with the noise of a stereo depth camera: no cloth, no glass,
  no mirrors, no people.
- Affinities reach {STEP * max(max(offset) for offset in OFFSETS)} pixels of a view of 320x240.
  Things of a few pixels are hardly seen.
- Where two things look alike and touch, a view may show no border; the network then guesses.
"""
