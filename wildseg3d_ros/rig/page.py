"""One page about a rig: the verdict, a table of the cameras, and pictures."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import CameraVerdict, View
from wildseg3d_ros.io.html import document
from wildseg3d_ros.io.images import write_bytes, write_image
from wildseg3d_ros.rig.aligned import CheckedRig
from wildseg3d_ros.rig.check_pictures import Picture, draw_check
from wildseg3d_ros.rig.pictures import fitted
from wildseg3d_ros.rig.report import SUMMARY, percent

PAGE = "index.html"
"""Of the files of a report."""

_THUMBNAIL = 112, 84  # width and height [px]

_ORDER = ("suspect", "left out", "moved", "unchecked", "ok")


class _File(NamedTuple):
    """A picture beside the page, and what it shows."""

    name: str
    what: str


def check_folder(folder: Path) -> None:
    """Raises FileError unless a report can be written into a folder, there or not."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise FileError(f"cannot write a report into '{folder}': '{there}' is a file")
    if not os.access(there, os.W_OK):
        raise FileError(f"cannot write a report into '{folder}': '{there}' is read-only")


def write_report(folder: Path, checked: CheckedRig, progress: Progress | None = None) -> None:
    """Writes ``index.html`` and its pictures; that an alignment failed is said on the page.

    Args:
        folder: made if it is not there; files of an earlier report are replaced.
        checked: the verdict.

    Raises:
        FileError: something cannot be written. Cancelled: the caller asked to stop.
    """
    for kind in ("cameras_[1-3]", "pair_[01][0-9]", "view_[0-9][0-9]"):
        for stale in folder.glob(f"{kind}.png"):
            stale.unlink()
    thumbnails = [
        Picture(f"Image of {view.name}", fitted(view.image, _THUMBNAIL)[0])
        for view in checked.views
    ]
    drawn = draw_check(checked, progress)
    text = page(
        checked,
        _written(folder, "view_{:02d}.png", thumbnails),
        _written(folder, "cameras_{}.png", drawn.overviews),
        _written(folder, "pair_{:02d}.png", drawn.pairs),
    )
    write_bytes(folder / PAGE, text.encode())


def _written(folder: Path, name: str, pictures: Sequence[Picture]) -> list[_File]:
    files = [_File(name.format(k + 1), each.title) for k, each in enumerate(pictures)]
    for file, picture in zip(files, pictures, strict=True):
        write_image(folder / file.name, picture.image)
    return files


# ---- the page --------------------------------------------------------------------------------


def page(
    checked: CheckedRig,
    thumbnails: Sequence[_File],
    overviews: Sequence[_File],
    pairs: Sequence[_File],
) -> str:
    """The text of the page; see :func:`write_report`."""
    aligned, cameras, views = checked.aligned, checked.cameras, checked.views
    worst_first = sorted(range(len(views)), key=lambda v: _ORDER.index(cameras[v].verdict))
    rows = "\n".join(_row(cameras[v], views[v], thumbnails[v]) for v in worst_first)
    said = checked.warnings or [SUMMARY[checked.verdict]]
    notes = [_sentence(text) for text in checked.report.doubts]
    notes += [_sentence(f"not aligned: {aligned.reason}")] if aligned.cameras is None else []
    if aligned.cameras is not None:
        notes += [
            _sentence(f"camera '{name}' took no part in the alignment: {why}")
            for name, why in aligned.left_out.items()
        ]
    if aligned.cameras is not None and not aligned.in_given_frame:
        notes.append(
            "After alignment the world is the frame of the first camera that took part: "
            "the given poses do not fix another."
        )
    no_pairs = "<p>No two cameras with known poses see anything in common.</p>"
    body = _BODY.format(
        verdict=checked.verdict,
        sentences="".join(f"<p>{html.escape(_sentence(text))}</p>" for text in said),
        notes="".join(f"<p>{html.escape(text)}</p>" for text in notes),
        rows=rows,
        overviews="".join(map(_figure, overviews)) or "<p>No pose is known.</p>",
        pairs="".join(map(_figure, pairs)) or no_pairs,
    )
    return document(f"Cameras: {checked.verdict}", body, _STYLE)


def _row(camera: CameraVerdict, view: View, thumbnail: _File) -> str:
    best = sorted(camera.overlap.items(), key=lambda each: -each[1])
    with_others = ", ".join(f"<i>{html.escape(n)} {percent(share)}</i>" for n, share in best)
    cells = (
        f'<img src="{thumbnail.name}" alt="{html.escape(thumbnail.what)}">',
        html.escape(camera.name),
        f'<b class="{camera.verdict}">{camera.verdict}</b> {html.escape(camera.why)}',
        "-" if np.isnan(camera.agreement) else percent(camera.agreement),
        with_others or "-",
        _depth(camera),
        f"{view.size[1]} x {view.size[0]}",
        "given" if camera.posed else "none",
        _moved(camera),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _depth(camera: CameraVerdict) -> str:
    if np.isnan(camera.median_depth):
        return "-"
    return f"{camera.median_depth:.3g} m, {camera.depth_share:.0%}"


def _moved(camera: CameraVerdict) -> str:
    """By how much, with standard deviations where they are known."""
    if np.isnan(camera.translation):
        return "-"
    moved = f"{1e3 * camera.translation:.1f}", f"{np.degrees(camera.rotation):.2f}"
    if np.isfinite(camera.translation_sigma):
        sigmas = 1e3 * camera.translation_sigma, np.degrees(camera.rotation_sigma)
        moved = f"{moved[0]} &plusmn; {sigmas[0]:.1f}", f"{moved[1]} &plusmn; {sigmas[1]:.2f}"
    return f"<i>{moved[0]} mm, {moved[1]}&deg;</i>"


def _figure(picture: _File) -> str:
    image = f'<img src="{picture.name}" alt="{html.escape(picture.what)}">'
    return f'<a href="{picture.name}">{image}</a>\n'


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?')) else '.'}"


_STYLE = """\
td:nth-child(2) { font-weight: 600; overflow-wrap: anywhere; min-width: 6rem }
td:nth-child(6), td:nth-child(7) { white-space: nowrap }
h1 .ok::before, b.ok::before { content: "\\2713\\a0" }
h1 .suspect::before, b.suspect::before, b.left::before { content: "\\2717\\a0" }
h1 .moved::before, b.moved::before { content: "\\2192\\a0" }
h1 .unchecked::before, b.unchecked::before { content: "?\\a0" }
"""
_BODY = """\
<h1>Cameras: <span class="{verdict}">{verdict}</span></h1>
{sentences}
<div class="notes">{notes}</div>
<h2>Each camera</h2>
<table>
<tr><th></th><th>camera</th><th>verdict</th><th>agrees</th><th>with</th><th>depth</th>
<th>image</th><th>pose</th><th>moved by alignment</th></tr>
{rows}
</table>
<p class="notes">agrees: share of what a camera has in common with others, points of measured
depth or matched features, that lies where the others see it. depth: its median, and the share of
pixels that have any.</p>
<h2>All cameras</h2>
<p class="notes">Points in their colours; those of cameras that are not ok, among others that
are, are tinted with the colour of the verdict. The thin axes at the origin are the world's.</p>
{overviews}
<h2>Pairs of cameras</h2>
<p class="notes">Left the one camera's image, then the other's with what the first one sees
carried into it. Pairs that agree least come first, at most twelve are shown. Orange crosses along
the edges of things are common; all over they are not.</p>
{pairs}
"""
