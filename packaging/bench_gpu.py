"""The GPU benchmark on a machine that has PyTorch and nothing of ours but this checkout.

Usage, where there is a network: ``python3 packaging/bench_gpu.py fetch FOLDER``: the wheels that
the benchmark needs beside PyTorch, of lock.txt, checked by their hashes; ``--python 3.12`` for
another Python than the running one. On the machine with the GPU: ``python3 packaging/bench_gpu.py
run FOLDER [ARGUMENT ...]`` unpacks them below out/gpu and runs ``python -m benchmarks.gpu``.

Standard library only, and no syntax newer than Python 3.7: see bootstrap.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from locking import read_lock

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "packaging" / "requirements" / "lock.txt"
GROUPS = {"numpy", "runtime", "sam2"}
"""Groups of the lock file that the benchmark's imports need; torch itself is in none."""


def fetch(folder: Path, python: str, platform: str) -> None:
    """Downloads the wheels for one Python and one kind of machine."""
    wanted = [each for each in read_lock(LOCK) if GROUPS & set(each.groups)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{each.requirement()}\n" for each in wanted))
        file.flush()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--only-binary", ":all:", "--dest", str(folder)]
        command += ["--python-version", python, "--implementation", "cp"]
        # Newest first: a wheel is taken whose platform is one of these.
        for glibc in ("2_28", "2_27", "2_17", "2014"):
            command += [
                "--platform",
                f"manylinux{'' if glibc == '2014' else '_'}{glibc}_{platform}",
            ]
        subprocess.run([*command, "-r", file.name], check=True)
    names = sorted(path.name for path in folder.glob("*.whl"))
    size = sum(path.stat().st_size for path in folder.glob("*.whl")) / 1e6
    print(f"{len(names)} wheels, {size:.0f} MB, in {folder}: for Python {python}, {platform}")


def unpack(folder: Path, target: Path) -> None:
    """The wheels' modules below ``target``; a folder of the same wheels is left as it is."""
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        sys.exit(
            f"no wheels in '{folder}'; make them where there is a network: "
            f"make gpu-wheels WHEELS={folder}"
        )
    stamp, names = target / "wheels.txt", "\n".join(path.name for path in wheels)
    if stamp.is_file() and stamp.read_text() == names:
        return
    target.mkdir(parents=True, exist_ok=True)
    for path in wheels:
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(target)
    stamp.write_text(names)


def run(folder: Path, arguments: list[str]) -> int:
    """The benchmark with the wheels before all that is installed."""
    target = ROOT / "out" / "gpu" / "packages"
    unpack(folder, target)
    there = [str(target), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(there))
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, cwd=str(ROOT), env=environment, check=False).returncode


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="download the wheels")
    fetching.add_argument("folder", type=Path)
    own = "{}.{}".format(*sys.version_info[:2])
    fetching.add_argument("--python", default=own, help=f"version; default: {own}")
    fetching.add_argument("--machine", default="x86_64", choices=["x86_64", "aarch64"])
    running = commands.add_parser("run", help="run the benchmark")
    running.add_argument("folder", type=Path)
    running.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.command == "fetch":
        fetch(options.folder, options.python, options.machine)
        return 0
    return run(options.folder.resolve(), options.arguments)


if __name__ == "__main__":
    sys.exit(main())
