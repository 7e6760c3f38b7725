"""``python -m benchmarks.evaluation``: measures what is not measured yet, then draws."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.evaluation.experiments import EXPERIMENTS, Results, measure
from benchmarks.evaluation.plots import draw
from benchmarks.recordings import ROOT

OUT = ROOT / "out" / "evaluation"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXPERIMENTS)}")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    parser.add_argument("--draw", action="store_true", help="draw what was measured, no more")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - set(EXPERIMENTS):
        parser.error(f"no experiment {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")
    for name in given.names or EXPERIMENTS if not given.draw else ():
        run(name, given.out, given.anew)
    for path in draw(given.out):
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def run(name: str, out: Path, anew: bool = False) -> None:
    """Measures the cases of an experiment that are missing."""
    if anew:
        (out / f"{name}.jsonl").unlink(missing_ok=True)
    results = Results(out)
    cases = list(EXPERIMENTS[name]())
    missing = [case for case in cases if results.get(case) is None]
    if missing:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.machine.json").write_text(json.dumps(machine.describe()) + "\n")
    for k, case in enumerate(sorted(missing, key=lambda c: (c.seed, c.kind != "catalogue"))):
        results.add(case, measure(case))
        print(f"{name}: {k + 1} of {len(missing)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
