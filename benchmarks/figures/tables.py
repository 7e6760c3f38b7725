"""Tables of the pages: what benchmarks measured, in the text that the pages have around it.

A page has ``<!-- table: NAME -->`` before each. A template is the table's text with the names of
figures in braces, such as ``{tabletop / miou_all_pixels:.3f}``: as ``python -m benchmarks`` prints
them, which also says the machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import answers
from benchmarks.figures.built_scenes import ROOT
from benchmarks.figures.sections import SECTIONS

MEASURED = "docs/explanation/measured.md"
ON = "{machine / cores} cores of {machine / cpu}, load {machine / load_1min:.0f}"
"""What was measured on, for the corner of a table."""
TEXTS = Path(__file__).with_name("templates.md")
FIELD = re.compile(r"\{(.+?)(?::([,.\d]*[df]))?\}")


@dataclass(frozen=True)
class Template:
    """A table of what one section measured; without a text, one that the section prints."""

    page: str
    section: str
    text: str

    def lines(self) -> list[str]:
        """The table's lines, as templates."""
        return self.text.strip().replace("{ON}", ON).splitlines()

    def fill(self) -> list[str]:
        """The table's lines; raises OSError or KeyError where a figure was not measured."""
        section = next(each for each in SECTIONS if each.name == self.section)
        if not self.text:
            printed = section.results.with_suffix(".txt").read_text().splitlines()
            return [line for line in printed if line.startswith("|")]
        return self.filled(json.loads(section.results.read_text()))

    def filled(self, found: dict[str, Any]) -> list[str]:
        """The table's lines with these results."""
        machine = found["machine"] | {"cpu": short(found["machine"]["cpu"])}
        found = found | {"machine": machine}
        return [FIELD.sub(lambda m: _value(found, m[1], m[2]), line) for line in self.lines()]

    def shape(self) -> str:
        """A regular expression of the table, whatever its figures."""
        shape, end = "", 0
        text = "\n".join(self.lines())
        for field in FIELD.finditer(text):
            shape += re.escape(text[end : field.start()])
            shape += r"-?[\d,.]+" if field[2] else r"[^|\n]+?"
            end = field.end()
        return shape + re.escape(text[end:])


def _value(found: Any, path: str, form: str | None) -> str:
    """A figure by the name under which it is printed."""
    for key in path.split(" / "):
        found = found[int(key) if isinstance(found, list) else key]
    return format(found, form or "")


def short(cpu: str) -> str:
    """A processor's name without trademarks and the number of its cores."""
    name = re.sub(r"\((?:R|TM)\)|\b(?:Processor|CPU)\b|\d+-Core", "", cpu)
    return " ".join(name.split())


def templates() -> dict[str, Template]:
    """Those of templates.md, by name."""
    parts = re.split(r"<!-- table: (.+); (.+); (.+) -->\n", TEXTS.read_text())[1:]
    grouped = zip(parts[::4], parts[1::4], parts[2::4], parts[3::4], strict=True)
    return {name: Template(page, section, text) for name, page, section, text in grouped}


TEMPLATES = templates()


def commands_table() -> list[list[str]]:
    """A row per section."""
    return [[each.what, each.page, f"`{each.command}`", each.takes] for each in SECTIONS]


ROWS: dict[str, tuple[str, tuple[str, ...], Callable[[], list[list[str]]]]] = {
    "objects": (
        MEASURED,
        ("id", "object", "mean IoU, all pixels", "where depth was measured", "points"),
        answers.objects_table,
    ),
    "commands": (MEASURED, ("what", "where", "command", "takes"), commands_table),
}
"""Page, columns and rows of the tables that this program makes itself."""


def write(name: str) -> str:
    """Replaces a table in its page; says why not, else nothing."""
    if name in ROWS:
        page, columns, rows = ROWS[name]
        cells = [columns, ["---"] * len(columns), *rows()]
        lines: Sequence[str] = ["| " + " | ".join(row) + " |" for row in cells]
    else:
        try:
            page, lines = TEMPLATES[name].page, TEMPLATES[name].fill()
        except (OSError, KeyError, TypeError) as error:
            return f"'{TEMPLATES[name].section}' has not measured {error}"
    text = (ROOT / page).read_text()
    (ROOT / page).write_text(replaced(text, name, lines))
    return ""


def replaced(text: str, name: str, lines: Sequence[Any]) -> str:
    """A page's text with other lines for a table."""
    mark = f"<!-- table: {name} -->\n"
    return re.sub(
        rf"({re.escape(mark)}\n)(?:\|.*\n)+", lambda m: m[1] + "\n".join(lines) + "\n", text
    )
