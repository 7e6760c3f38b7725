"""lock.txt: the exact versions and hashes of all that the requirement files pull in.

Standard library only, and no syntax newer than Python 3.7: see bootstrap.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

HEAD = """\
# Written by `make lock`: what the requirement files pull in, by the files that need it, with the
# hashes of PyPI's files for all machines and Pythons.
"""


class Locked:
    """One package of the lock file.

    Args:
        pin: name and version as pip has them: "name==1.2".
        marker: where it is needed; empty for everywhere.
        hashes: of the files that may be installed: "sha256:...".
        groups: names of the requirement files that need it, without suffix.
    """

    def __init__(
        self, pin: str, marker: str, hashes: Iterable[str], groups: Iterable[str] = ()
    ) -> None:
        self.pin, self.marker = pin, marker
        self.name, _, self.version = pin.partition("==")
        self.hashes, self.groups = list(hashes), list(groups)

    def requirement(self) -> str:
        """The entry as pip reads it."""
        first = f"{self.pin} ; {self.marker}" if self.marker else self.pin
        return " \\\n".join([first, *(f"    --hash={each}" for each in self.hashes)])


def parse_entries(text: str) -> list[Locked]:
    """The packages of a requirement file with hashes."""
    entries = []
    for groups, entry in re.findall(r"(?:^# of: (.*)\n)?^(\w(?:.*\\\n)*.*)$", text, re.MULTILINE):
        pin, _, marker = entry.split("\n")[0].rstrip("\\ ").partition(" ; ")
        entries.append(Locked(pin, marker, re.findall(r"--hash=(\S+)", entry), groups.split()))
    return entries


def read_lock(path: Path) -> list[Locked]:
    """All packages of a lock file."""
    return parse_entries(path.read_text())


def write_lock(path: Path, packages: Iterable[Locked]) -> None:
    """Writes a lock file, sorted by name and version."""
    entries = sorted((each.pin, each.groups, each.requirement()) for each in packages)
    texts = [f"# of: {' '.join(groups)}\n{text}\n" for _, groups, text in entries]
    path.write_text("".join([HEAD, *texts]))
