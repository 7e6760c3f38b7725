"""``python -m benchmarks.figures``: makes what the pages show, or goes on with it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.figures import tables
from benchmarks.figures.sections import OUT, SECTIONS


def steps() -> dict[str, Callable[[], str]]:
    """What makes each section, and then each table; it says why not, else nothing."""
    made = {each.name: each.make for each in SECTIONS}
    names = [*tables.ROWS, *tables.TEMPLATES]
    return made | {f"table:{name}": lambda name=name: tables.write(name) for name in names}


class Progress:
    """What is done of the run that goes on, and how long each step took last.

    Args:
        path: a file of JSON that remembers it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        known = json.loads(path.read_text()) if path.exists() else {}
        self.done: list[str] = known.get("done", [])
        self.took: dict[str, float] = known.get("took", {})

    def finish(self, name: str, seconds: float) -> None:
        """Notes that a step is done."""
        self.took[name] = round(seconds, 1)
        self.done.append(name)
        self._write()

    def begin_anew(self) -> None:
        """The next run makes everything again."""
        self.done = []
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps({"done": self.done, "took": self.took}, indent=1) + "\n")


def run(
    makers: Mapping[str, Callable[[], str]], names: Sequence[str], progress: Progress, whole: bool
) -> dict[str, str]:
    """Takes the steps one by one; of a whole run, not those that are done. Why some were not."""
    failed = {}
    usual = {each.name: each.takes for each in SECTIONS}
    for number, name in enumerate(names, 1):
        head = f"{number} of {len(names)}: {name}"
        if whole and name in progress.done:
            print(f"{head}: done before", flush=True)
            continue
        last = progress.took.get(name)
        said = f"took {last:.0f} s last" if last else f"usually {usual.get(name, 'seconds')}"
        print(f"{head}: {said}", flush=True)
        start = time.monotonic()
        if why := makers[name]():
            failed[name] = why
            print(f"  not made: {why}", flush=True)
        else:
            progress.finish(name, time.monotonic() - start)
    if whole:
        progress.begin_anew()
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=__doc__)
    makers = steps()
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(makers)}")
    parser.add_argument("--anew", action="store_true", help="forget what a stopped run has made")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - set(makers):
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {', '.join(makers)}")
    OUT.mkdir(parents=True, exist_ok=True)
    progress = Progress(OUT / "progress.json")
    if given.anew:
        progress.begin_anew()
    failed = run(makers, given.names or list(makers), progress, not given.names)
    for name, why in failed.items():
        print(f"not made: {name}: {why}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
