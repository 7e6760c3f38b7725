"""The tables of docs/reference/formats.md that name the tests that hold them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "formats.md"

_HELD = r"^\|.*\| held by \|\n\|[-|]+\n((?:\|.*\n)+)"


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        section: the heading above it.
        what, how: its first two cells.
        names: what its first cell puts in code type.
        tests: names of the tests that hold it.
    """

    section: str
    what: str
    how: str
    names: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def refused(self) -> bool:
        """Whether it is of what is not read."""
        return self.how.startswith("refused")


def rows_of_page() -> list[Row]:
    """All rows of the tables whose last column is "held by"."""
    found = []
    for part in PAGE.read_text().split("\n## ")[1:]:
        section, _, text = part.partition("\n")
        tables = re.findall(_HELD, text, re.MULTILINE)
        for line in "".join(tables).splitlines():
            what, how, tests = (cell.strip() for cell in line.strip("|").split(" | "))
            named = (tuple(re.findall(r"`([^`]+)`", cell)) for cell in (what, tests))
            found.append(Row(section, what, how, *named))
    return found
