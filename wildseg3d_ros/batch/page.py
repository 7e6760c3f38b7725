"""One page about a batch: pictures, objects and warnings of its scenes, and what failed.

Pictures and pages of the scenes are linked, not embedded: a page of thousands opens at once.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from urllib.parse import quote

from wildseg3d_ros.batch.records import EXPORT, PREVIEW, SCENE, Record
from wildseg3d_ros.io.html import document

PAGE = "index.html"
_WIDTH = 200
"""Of the pictures [px]."""

_STYLE = f"""\
td {{ vertical-align: middle }}
td img {{ width: {_WIDTH}px; margin: 0 }}
td:nth-child(n+3):nth-child(-n+5) {{ white-space: nowrap; font-variant-numeric: tabular-nums }}
a {{ color: #7fb8ff }}
"""


def page_text(name: str, records: Sequence[Record]) -> str:
    """The text of the page of a batch of that name: first what failed, then the scenes."""
    failed = [record for record in records if record.state == "failed"]
    done = [record for record in records if record.state == "done"]
    unconverged = sum(record.is_unreliable for record in done)
    objects = sum(record.figures.get("objects", 0) for record in done)
    said = f"{_counted(len(done), 'scene')} with {_counted(objects, 'object')}"
    said += f"; {_counted(len(failed), 'recording')} failed"
    body = f"<h1>{html.escape(name)}</h1>\n<p>{said}; {unconverged} did not converge.</p>\n"
    if failed:
        rows = "".join(_failure(record) for record in failed)
        body += (
            f"<h2>Failed</h2>\n<table>\n<tr><th>recording</th><th>why</th></tr>\n{rows}</table>\n"
        )
    if done:
        rows = "".join(_row(record) for record in done)
        body += (
            "<h2>Scenes</h2>\n<table>\n<tr><th></th><th>scene</th><th>objects</th>"
            f"<th>points</th><th>time</th><th>warnings</th></tr>\n{rows}</table>\n"
        )
    return document(f"Batch {name}", body, _STYLE)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"


def _failure(record: Record) -> str:
    cells = html.escape(record.name), f'<span class="suspect">{html.escape(record.error)}</span>'
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"


def _row(record: Record) -> str:
    figures, picture = record.figures, ""
    page = f"{EXPORT}/index.html"
    target = page if page in record.files else SCENE
    name = f'<a href="{_link(record, target)}">{html.escape(record.name)}</a>'
    if PREVIEW in record.files:
        said = html.escape(f"objects of {record.name}")
        picture = f'<img loading="lazy" src="{_link(record, PREVIEW)}" alt="{said}">'
    warnings = [html.escape(text) for text in figures.get("warnings", [])]
    if not figures.get("converged", True):
        warnings.insert(0, '<span class="suspect">its alignment did not converge</span>')
    cells = (
        picture,
        name,
        str(figures.get("objects", "-")),
        f"{figures.get('points', 0):,}",
        f"{record.seconds:.1f} s",
        "<br>".join(warnings),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"


def _link(record: Record, file: str) -> str:
    return quote(f"{record.name}/{file}")
