"""What the set-up needs to know of the machine, and how it runs commands on it.

Standard library only, and no syntax newer than Python 3.7: see bootstrap.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON_OF_WHEELS = (3, 14)

_PROBE = """
import importlib.util, json, sys, sysconfig
try:
    from numpy import __version__ as numpy
except ImportError:
    numpy = ""
print(json.dumps({
    "version": list(sys.version_info[:2]),
    "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
    "include": sysconfig.get_path("include"),
    "numpy": numpy,
}))
"""


class SetupError(Exception):
    """Something that the user can put right; the text says how."""


def clean_environment() -> dict[str, str]:
    """The caller's environment without what another Python left in it."""
    # The first name keeps the ROS wheels from setting LD_LIBRARY_PATH for a second environment.
    left_over = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in left_over}


def sourced_ros() -> str | None:
    """Name of the ROS 2 distribution that the shell has sourced, or None."""
    name = os.environ.get("ROS_DISTRO")
    return name if name and os.environ.get("AMENT_PREFIX_PATH") else None


class Python:
    """An interpreter that an environment can be made with."""

    def __init__(self, path: str, facts: Mapping) -> None:
        self.path = path
        self.version: tuple[int, int] = tuple(facts["version"])
        self.minor = ".".join(map(str, self.version))
        self.has_venv: bool = facts["venv"]
        self.header = Path(facts["include"]) / "Python.h"
        self.numpy: str = facts["numpy"]

    @classmethod
    def probe(cls, name: str) -> Python | None:
        """The interpreter called `name`, or None where there is none that runs."""
        path = shutil.which(name)
        if path is None:
            return None
        try:
            answer = subprocess.run(
                [path, "-c", _PROBE],
                env=clean_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=60,
                check=True,
            )
            return cls(path, json.loads(answer.stdout.decode()))
        except (OSError, subprocess.SubprocessError, ValueError):
            return None


def find_python(distro: str | None) -> Python:
    """An interpreter of a version that all dependencies exist for; PYTHON names another choice."""
    if os.environ.get("PYTHON"):
        names = [os.environ["PYTHON"]]
    elif distro:
        # The extension modules of an installed ROS fit the distribution's own Python only.
        names = ["/usr/bin/python3", "python3"]
    else:
        names = ["python3", sys.executable, "/usr/bin/python3"]
        names += ["python3.12", "python3.11", "python3.13", "python3.14"]
    seen = []
    for name in names:
        python = Python.probe(name)
        if python is None:
            continue
        seen.append(f"{python.path} is {python.minor}")
        if python.version < OLDEST_PYTHON:
            continue
        if distro or python.version <= NEWEST_PYTHON_OF_WHEELS:
            return python
    oldest, newest = (
        ".".join(map(str, each)) for each in (OLDEST_PYTHON, NEWEST_PYTHON_OF_WHEELS)
    )
    wanted = f"{oldest} or newer" if distro else f"{oldest} to {newest}"
    found = "; ".join(dict.fromkeys(seen)) or "none"
    raise SetupError(
        f"no suitable Python: needed is {wanted}, found: {found}. Install one (Debian 12, "
        "Ubuntu 24.04 and newer: apt-get install python3) or name one: "
        "make PYTHON=/path/to/python3"
    )


def missing_system_packages(python: Python) -> dict[str, str]:
    """Debian packages that are missing here, with what each one brings."""
    missing = {}
    if not python.has_venv:
        missing[f"python{python.minor}-venv"] = "Python's venv module"
    if not python.header.is_file():
        missing[f"python{python.minor}-dev"] = "Python's headers"
    if not (shutil.which("cc") and shutil.which("c++")):
        missing["g++"] = "a C and C++ compiler"
    return missing


def require_system_packages(python: Python, run: Runner) -> None:
    """Install what is missing when root, else say in one line what to install."""
    missing = missing_system_packages(python)
    if not missing:
        return
    what = " and ".join(missing.values())
    command = "apt-get install -y --no-install-recommends " + " ".join(missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SetupError(f"{what}: missing on this machine. Run: sudo {command}")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    with run.step("system packages " + " ".join(missing)):
        run(["apt-get", "update", "-qq"], environment)
        run(shlex.split(command), environment)
    now = Python.probe(python.path)
    if now is None or missing_system_packages(now):
        raise SetupError(f"{what}: still missing after: {command}")


def has_nvidia_gpu() -> bool:
    """Whether the driver's own tool lists a GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        answer = subprocess.run(
            [program, "-L"],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.returncode == 0 and b"GPU" in answer.stdout


def answers(url: str) -> bool:
    """Whether a web address answers within a few seconds."""
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=5) as reply:
            return reply.status == 200
    except (OSError, ValueError):
        return False


class Runner:
    """Runs commands with their output in a log file, and shows named steps with their times."""

    def __init__(self) -> None:
        self.log = Path(tempfile.gettempdir()) / f"wildseg3d-setup-{os.getpid()}.log"
        self._live = sys.stdout.isatty()

    def __call__(self, command: Sequence[object], environment: Mapping[str, str]) -> None:
        """Run `command`; SetupError with the end of its output when it fails."""
        words = [str(word) for word in command]
        shown = " ".join(map(shlex.quote, words))
        ended = subprocess.run(
            words,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        code, text = ended.returncode, ended.stdout.decode(errors="replace")
        # In one piece, as commands run side by side.
        with self.log.open("a") as log:
            log.write(f"\n$ {shown}\n{text}")
        if code:
            tail = "\n".join("    " + line for line in text.strip().splitlines()[-30:])
            raise SetupError(
                f"this command ended with status {code}:\n    {shown}\n{tail}\n"
                f"(all output: {self.log})"
            )

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show `name` and its time; on a terminal also the seconds while it runs."""
        begin = time.monotonic()
        over = threading.Event()

        def tick() -> None:
            while not over.wait(1.0):
                seconds = time.monotonic() - begin
                print(f"\r  {name} ... {seconds:.0f} s", end="", flush=True)

        print(f"  {name} ...", end="" if self._live else "\n", flush=True)
        ticker = threading.Thread(target=tick, daemon=True)
        if self._live:
            ticker.start()
        outcome = "failed after"
        try:
            yield
            outcome = "done in"
        finally:
            over.set()
            if self._live:
                ticker.join()
            start = "\r" if self._live else ""
            print(f"{start}  {name} {outcome} {time.monotonic() - begin:.1f} s", flush=True)
