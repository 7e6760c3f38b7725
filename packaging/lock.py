"""Writes packaging/requirements/lock.txt: ``make lock``, in the environment of ``make dev``.

uv resolves the requirement files together, for Python 3.11 and newer, and takes the hashes of all
files of each version from PyPI. Versions that the lock file has stay, but for ``--upgrade``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bootstrap import GROUPS, REQUIREMENTS, requirement_files
from locking import Locked, parse_entries, read_lock, write_lock

LOCK = REQUIREMENTS / "lock.txt"
FILES = ("build", "runtime", "ros", *GROUPS)
APART = ("numpy", "torch")
"""numpy: which version is installed depends on the ROS 2. torch: which index it comes from depends
on the machine, and so its hash; the rest of torch.txt is what it needs."""


def pins(file: str) -> list[str]:
    """What a requirement file and those that it names ask for, without PyTorch."""
    texts = [path.read_text() for path in requirement_files(f"{file}.txt")]
    lines = [line.partition("#")[0].strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(("-r ", "torch=="))]


def resolve(asked: list[str], constraints: list[str]) -> list[Locked]:
    """All that requirements pull in, of versions that the constraints allow, from PyPI alone."""
    variables = {name: value for name, value in os.environ.items() if name[:3] != "UV_"}
    if "PIP_CERT" in os.environ:
        variables["SSL_CERT_FILE"] = os.environ["PIP_CERT"]
    with tempfile.TemporaryDirectory() as folder:
        wanted, bounds = Path(folder) / "wanted.txt", Path(folder) / "bounds.txt"
        wanted.write_text("\n".join(asked))
        bounds.write_text("\n".join(constraints))
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config"]
        command += ["--universal", "--python-version", "3.11", "--generate-hashes"]
        command += ["--no-annotate", "--no-header", "--index-url", "https://pypi.org/simple"]
        command += ["--constraints", str(bounds), str(wanted)]
        out = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE)
    return parse_entries(out.stdout.decode())


def main() -> int:
    """Writes the lock file; exit code 0, or uv's error."""
    parser = argparse.ArgumentParser(prog="make lock", description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="move to the newest versions")
    old = [] if parser.parse_args().upgrade else read_lock(LOCK)
    numpy = pins("numpy")
    every = resolve(
        [*numpy, *(pin for file in FILES for pin in pins(file))],
        [each.pin for each in old if each.name not in APART],
    )
    entries = {each.pin: each for each in every}
    fixed = [each.requirement().partition(" \\")[0] for each in every]
    for file in FILES:
        for each in resolve(pins(file), fixed):
            if each.name not in APART:
                held = entries[each.pin]
                held.groups = sorted({*held.groups, file})
    for file in ("numpy", "numpy1"):
        (each,) = resolve(pins(file), [])
        each.groups = [file]
        entries[each.pin] = each
    write_lock(LOCK, [each for each in entries.values() if each.groups])
    print(f"{len(entries)} packages in {LOCK}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
