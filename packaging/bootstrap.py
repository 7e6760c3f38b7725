"""Make the environment that this project runs in, from nothing or from what is already there.

Usage: ``python3 packaging/bootstrap.py [--with GROUP ...]``; the Makefile calls it. A group is
an extra of the package (bags, da3, mast3r, ray, sam2, sim, train, viewer) or developers' tools
(test, dev, docs).

The environment is a virtual environment that is also a ROS 2 prefix (``share``, ``lib``,
``include``). ROS 2 is the installation that the shell has sourced, else rclpy and Fast DDS from
PyPI wheels. Our interface packages are built into the prefix, and our executables stand where
``ros2 run`` looks for them.

Each step leaves a stamp: a hash of all that the step depends on. A step runs when its stamp
differs, so that a second run ends at once. After an interruption the next run goes on, or starts
over where pip was cut off.

Only the standard library is used, and no syntax newer than Python 3.7, so that a Python that is
too old says so instead of failing with a SyntaxError.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from locking import read_lock
from machine import (
    Python,
    Runner,
    SetupError,
    answers,
    clean_environment,
    find_python,
    has_nvidia_gpu,
    require_system_packages,
    sourced_ros,
)

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "packaging"
REQUIREMENTS = PACKAGING / "requirements"
LOCK = REQUIREMENTS / "lock.txt"
SCRIPTS = tuple(PACKAGING / name for name in ("bootstrap.py", "locking.py", "machine.py"))

GROUPS = (
    "bags", "da3", "mast3r", "ray", "sam2", "sim", "train", "viewer", "test", "dev", "docs",
)  # fmt: skip
"""What the environment may have beside the package itself: names of requirement files."""

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# What the node and the build of our interfaces need of a sourced ROS 2.
NEEDED_OF_ROS = (
    "ament_cmake",
    "diagnostic_msgs",
    "geometry_msgs",
    "rclpy",
    "rosidl_default_generators",
    "sensor_msgs",
    "std_srvs",
    "tf2_msgs",
    "vision_msgs",
    "visualization_msgs",
)

CHECK_INTERFACES = """
import importlib, sys
from rclpy.type_support import check_for_type_support
module = importlib.import_module(sys.argv[1] + ".msg")
for message in vars(module).values():
    if isinstance(message, type):
        check_for_type_support(message)
"""


def requirement_files(name: str) -> list[Path]:
    """A requirement file and those that it names."""
    path = REQUIREMENTS / name
    named = re.findall(r"^-r (\S+)", path.read_text(), re.MULTILINE)
    return [path, *(file for each in named for file in requirement_files(each))]


def shared_files() -> list[Path]:
    """What ``share/wildseg3d`` has beside the manifest, as paths from ROOT."""
    folders = ("launch", "config", "examples")
    files = [path for name in folders for path in (ROOT / name).rglob("*") if path.is_file()]
    return sorted(path.relative_to(ROOT) for path in files if path.parent.name != "__pycache__")


class Environment:
    """The folder of the virtual environment, and what earlier runs noted in it."""

    def __init__(self, venv: Path, distro: str | None) -> None:
        self.venv = venv
        self.distro = distro
        self.bin = venv / "bin"
        self.python = self.bin / "python"
        self.folder = venv / ".setup"
        self.running = self.folder / "running"
        self._state_file = self.folder / "state.json"
        self.state: dict = {}
        with contextlib.suppress(OSError, ValueError):
            self.state = dict(json.loads(self._state_file.read_text()))

    def write_state(self) -> None:
        """Replace the notes in one step: a crash leaves the old ones or the new ones."""
        with tempfile.NamedTemporaryFile("w", dir=self.folder, delete=False) as file:
            json.dump(self.state, file, indent=1, sort_keys=True)
        os.replace(file.name, self._state_file)

    def identity(self, python: str) -> dict[str, str]:
        """What an environment is made for and cannot be changed to afterwards."""
        return {"path": str(self.venv), "ros": self.distro or "wheels", "python": python}

    def reason_to_start_over(self, python: str) -> str | None:
        """Why the folder that is there cannot be used with Python `python` ("3.11")."""
        if not self.venv.exists():
            return None
        config = self.venv / "pyvenv.cfg"
        if self.running.exists():
            return "an earlier set-up was interrupted"
        if not config.is_file() or not self.python.exists():
            return "the environment is incomplete, or its Python is gone"
        wanted = self.identity(python)
        made = self.state.get("identity") or self._identity_of_foreign(config.read_text())
        for key, value in wanted.items():
            if made[key] != value:
                return f"the environment was made for another {key}: {made[key]}, now {value}"
        return None

    def _identity_of_foreign(self, config: str) -> dict[str, str]:
        """The same for a virtual environment that something else made, from its pyvenv.cfg."""
        settings = dict(re.findall(r"^(\S+) = (.*)$", config, re.MULTILINE))
        shares = settings.get("include-system-site-packages") == "true"
        return {
            "path": settings.get("command", str(self.venv)).split()[-1],
            "ros": (self.distro or "an installed one") if shares else "wheels",
            "python": ".".join(settings.get("version", "").split(".")[:2]),
        }

    def variables(self) -> dict[str, str]:
        """Environment variables for programs that build into the prefix or run from it."""
        variables = clean_environment()
        variables["PATH"] = f"{self.bin}:{variables.get('PATH', os.defpath)}"
        prefixes = [str(self.venv)]
        if self.distro:
            prefixes += variables["AMENT_PREFIX_PATH"].split(os.pathsep)
            libraries = [str(self.venv / "lib"), variables.get("LD_LIBRARY_PATH", "")]
            variables["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
        else:
            variables.pop("PYTHONPATH", None)
        variables["AMENT_PREFIX_PATH"] = os.pathsep.join(filter(None, prefixes))
        variables["CMAKE_PREFIX_PATH"] = variables["AMENT_PREFIX_PATH"]
        variables["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        return variables

    def ask(self, code: str) -> list[str]:
        """The lines that `code` prints in the environment's Python."""
        return subprocess.run(
            [str(self.python), "-c", code],
            env=self.variables(),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.splitlines()

    def site_packages(self) -> str:
        """Folder that pip installs into."""
        return self.ask("import sysconfig; print(sysconfig.get_path('purelib'))")[0]

    def tool(self, name: str) -> str | None:
        """Path of a program of the environment or of the machine."""
        return shutil.which(name, path=self.variables()["PATH"])


class Step:
    """One part of the set-up: what it does and the files that it depends on."""

    def __init__(
        self,
        name: str,
        action: Callable[[], None],
        files: Sequence[Path],
        listed: Sequence[Path] = (),
    ) -> None:
        """``listed`` are files of which only the names matter."""
        self.name = name
        self.action = action
        value = hashlib.sha256("\n".join(map(str, listed)).encode())
        for path in (*SCRIPTS, *files):
            data = path.read_bytes()
            value.update(f"{path.relative_to(ROOT)}:{len(data)}:".encode() + data)
        self.stamp = value.hexdigest()


class Setup:
    """The whole set-up: which steps there are, which ones to run, and what each one does."""

    def __init__(self, venv: Path, groups: Sequence[str]) -> None:
        self.distro = sourced_ros()
        self.env = Environment(venv, self.distro)
        self.groups = groups
        self.run = Runner()
        # With a sourced ROS its Python decides: messages built for NumPy 1 do not load with 2.
        self.found = find_python(self.distro) if self.distro else None
        old = self.found is not None and self.found.numpy.startswith("1.")
        self.numpy = REQUIREMENTS / ("numpy1.txt" if old else "numpy.txt")

    def steps(self) -> list[Step]:
        """All steps in the order they run."""

        def pins(name: str) -> list[Path]:
            return [*requirement_files(name), LOCK, self.numpy]

        steps = [Step("Python packages", self.install_runtime, pins("runtime.txt"))]
        # Each group is made of those before it.
        interfaces = [[ROOT / "wildseg3d_msgs"]]
        if self.distro:
            steps.append(Step(f"check of ROS 2 {self.distro}", self.check_ros, []))
        else:
            steps.append(Step("ROS 2 from wheels", self.install_ros, pins("ros.txt")))
            interfaces.insert(0, [PACKAGING / "tf2_msgs", PACKAGING / "vision_msgs"])
        folders = [folder for group in interfaces for folder in group]
        sources = sorted(path for each in folders for path in each.rglob("*") if path.is_file())
        steps.append(
            Step(
                f"build of {', '.join(each.name for each in folders)}",
                lambda: self.build_interfaces(interfaces),
                [*sources, *pins("build.txt"), PACKAGING / "unity.cmake"],
            )
        )
        ours = [ROOT / name for name in ("setup.py", "setup.cfg", "pyproject.toml", "package.xml")]
        steps.append(Step("package wildseg3d", self.install_package, ours, shared_files()))
        steps += [
            Step(
                f"packages for {group}",
                lambda group=group: self.install_group(group),
                pins(f"{group}.txt"),
            )
            for group in self.groups
        ]
        return steps

    def main(self) -> None:
        """Run the steps whose stamps differ."""
        begin = time.monotonic()
        made_with = self.env.state.get("identity", {}).get("python")
        if made_with is None or self.env.reason_to_start_over(made_with):
            self.found = self.found or find_python(self.distro)
        version = self.found.minor if self.found else made_with
        reason = self.env.reason_to_start_over(version)
        steps = self.steps()
        if not reason:
            steps = [step for step in steps if self.env.state.get(step.name) != step.stamp]
        if not steps:
            return
        python = self.found or find_python(self.distro)
        where = os.path.relpath(self.env.venv)
        print(f"Setting up {where} with {self.taken(version)}:", flush=True)
        require_system_packages(python, self.run)
        if reason:
            print(f"  starting over: {reason}", flush=True)
            # Out of the way at once: half a folder must never pass for an environment.
            old = self.env.venv.with_name(self.env.venv.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(self.env.venv, old)
            shutil.rmtree(old)
            self.env.state = {}
        self.make_venv(python)
        for step in steps:
            with self.run.step(step.name):
                step.action()
            self.env.state[step.name] = step.stamp
            self.env.write_state()
        self.write_setup_script()
        print(f"Ready after {time.monotonic() - begin:.0f} s.", flush=True)

    def taken(self, python: str) -> str:
        """What differs between distributions: ROS 2, Python and the NumPy that fits both."""
        ros = f"the sourced ROS 2 {self.distro}" if self.distro else "ROS 2 from PyPI wheels"
        (numpy,) = re.findall(r"^numpy==\S+", self.numpy.read_text(), re.MULTILINE)
        return f"{ros}, Python {python} and {numpy}"

    def make_venv(self, python: Python) -> None:
        """The virtual environment itself, where there is none."""
        fresh = not self.env.venv.exists()
        self.env.folder.mkdir(parents=True, exist_ok=True)
        self.run.log = self.env.folder / "setup.log"
        self.run.log.write_text("")
        if fresh:
            self.env.running.touch()
            options = ["--system-site-packages"] if self.distro else []
            variables = clean_environment()
            variables.pop("PYTHONPATH", None)
            with self.run.step(f"virtual environment with Python {python.minor}"):
                self.run([python.path, "-m", "venv", *options, self.env.venv], variables)
            self.env.running.unlink()
        self.env.state["identity"] = self.env.identity(python.minor)
        self.env.write_state()

    def pip(self, *arguments: object) -> None:
        """`pip install` in the environment, from the indexes that pip is configured for."""
        command = [self.env.python, "-m", "pip", "install", "--quiet", "--no-input"]
        # Compiling every module takes longer than installing it; Python compiles those it imports.
        command.append("--no-compile")
        # A package that was cut off while it was written can look installed ever after. Where pip
        # ends by itself, also with an error, what it leaves is whole.
        self.env.running.touch()
        try:
            self.run([*command, *arguments], self.env.variables())
        except SetupError:
            self.env.running.unlink()
            raise
        self.env.running.unlink()

    def install(self, *groups: str) -> None:
        """Install what groups of the lock file need: those versions, of files with those hashes.

        All is in the lock file, so that pip has nothing to resolve. It builds what has no wheel
        with the setuptools that is installed, since it checks no hash of what it would fetch.
        """
        wanted = [each for each in read_lock(LOCK) if set(groups) & set(each.groups)]
        file = self.env.folder / "requirements.txt"
        file.write_text("".join(f"{each.requirement()}\n" for each in wanted))
        self.pip("--no-deps", "--require-hashes", "--no-build-isolation", "-r", file)

    def install_runtime(self) -> None:
        """What the package itself imports."""
        self.install(self.numpy.stem, "runtime")

    def install_group(self, group: str) -> None:
        """An extra or tools; PyTorch without the gigabytes of CUDA where there is no NVIDIA GPU.

        TORCH_INDEX names another index below https://download.pytorch.org/whl, or nothing for
        PyPI's build. The index is added to those that pip is configured for: its builds have a
        local version such as +cpu, which pip prefers to the plain one. So the lock file has no
        hash of it, but of all that the CPU build needs.
        """
        self.install(group)
        if REQUIREMENTS / "torch.txt" not in requirement_files(f"{group}.txt"):
            return
        index = os.environ.get("TORCH_INDEX")
        if index is None and not has_nvidia_gpu() and answers(TORCH_CPU_INDEX + "/torch/"):
            index = TORCH_CPU_INDEX
        more = ["--extra-index-url", index] if index else []
        self.pip(*more, "-r", REQUIREMENTS / "torch.txt")

    def install_ros(self) -> None:
        """rclpy and Fast DDS from wheels, with CMake files that fit this machine.

        The targets that the wheels export name two include folders that only their builders had,
        and CMake's generate step fails of it. Repaired, its exit status means what it says.
        """
        self.install("ros")
        include, numpy = self.env.ask(
            "import numpy, sysconfig\n"
            "print(sysconfig.get_path('include'))\n"
            "print(numpy.get_include())"
        )
        for file in (self.env.venv / "share").glob("*/cmake/*Export.cmake"):
            text = file.read_text()
            fixed = re.sub(r'/opt/python/[^;"]*/numpy/_core/include', numpy, text)
            fixed = re.sub(r'/opt/python/[^;"/]*/include/python3\.\d+', include, fixed)
            if fixed != text:
                file.write_text(fixed)

    def check_ros(self) -> None:
        """The sourced ROS 2 has what is needed, and its rclpy runs in the environment."""
        indexes = [
            Path(prefix) / "share/ament_index/resource_index/packages"
            for prefix in os.environ["AMENT_PREFIX_PATH"].split(os.pathsep)
        ]
        missing = [
            name for name in NEEDED_OF_ROS if not any((index / name).exists() for index in indexes)
        ]
        if missing:
            debian = " ".join(f"ros-{self.distro}-{name.replace('_', '-')}" for name in missing)
            raise SetupError(
                f"the sourced ROS 2 {self.distro} lacks {', '.join(missing)}. Run: sudo apt-get "
                f"install {debian} (or use a shell where no ROS is sourced: ROS 2 then comes from "
                "PyPI wheels)"
            )
        self.run([self.env.python, "-c", "import rclpy"], self.env.variables())

    def build_interfaces(self, groups: Sequence[Sequence[Path]]) -> None:
        """Build groups of interface packages, each of the ones before it. Those of a group are
        built side by side: generating code takes one core only."""
        if not self.env.tool("cmake") or not (self.env.tool("ninja") or self.env.tool("make")):
            self.install("build")
        for group in groups:
            with ThreadPoolExecutor(len(group)) as pool:
                list(pool.map(self.build_interface, group))

    def build_interface(self, source: Path) -> None:
        """Build an interface package into the prefix, and load its type support once."""
        cmake = self.env.tool("cmake")
        variables = self.env.variables()
        build = self.env.folder / "build" / source.name
        shutil.rmtree(build, ignore_errors=True)
        python_folder = os.path.relpath(self.env.site_packages(), self.env.venv)
        settings = {
            "BUILD_TESTING": "OFF",
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_INSTALL_PREFIX": self.env.venv,
            "Python3_EXECUTABLE": self.env.python,
            # ament would choose dist-packages for the Python of some distributions.
            "PYTHON_INSTALL_DIR": python_folder,
            "CMAKE_PROJECT_INCLUDE": PACKAGING / "unity.cmake",
        }
        options = [f"-D{name}={value}" for name, value in settings.items()]
        generator = ["-G", "Ninja"] if self.env.tool("ninja") else []
        jobs = max(1, min(os.cpu_count() or 1, 8))
        self.run([cmake, "-S", source, "-B", build, *generator, *options], variables)
        self.run([cmake, "--build", build, "--parallel", jobs], variables)
        self.run([cmake, "--install", build], variables)
        shutil.rmtree(build)
        self.run([self.env.python, "-c", CHECK_INTERFACES, source.name], variables)

    def install_package(self) -> None:
        """This package, so that edits of Python, launch and config files need no reinstall."""
        self.pip("--no-deps", "--no-build-isolation", "--editable", ROOT)
        # pip leaves out data files of editable packages; ros2 finds a package by them.
        share = self.env.venv / "share" / "wildseg3d"
        shutil.rmtree(share, ignore_errors=True)
        share.mkdir(parents=True)
        for name in ("package.xml", *shared_files()):
            # Files, and not their folders: ros2 launch does not look behind a link to a folder.
            (share / name).parent.mkdir(parents=True, exist_ok=True)
            (share / name).symlink_to(ROOT / name)
        index = self.env.venv / "share" / "ament_index" / "resource_index" / "packages"
        index.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "resource" / "wildseg3d", index)
        # ros2 run looks in lib/<package>, pip writes to bin.
        executables = self.env.venv / "lib" / "wildseg3d"
        shutil.rmtree(executables, ignore_errors=True)
        executables.mkdir(parents=True)
        names = self.env.ask(
            "from importlib.metadata import distribution\n"
            "points = distribution('wildseg3d').entry_points.select(group='console_scripts')\n"
            "print(*(point.name for point in points), sep='\\n')"
        )
        for name in names:
            (executables / name).symlink_to(Path("..", "..", "bin", name))

    def write_setup_script(self) -> None:
        """A script to source, so that ros2, CMake and the dynamic linker find the prefix."""
        prefix = shlex.quote(str(self.env.venv))

        def prepend(variable: str, path: str) -> str:
            return f'export {variable}={path}"${{{variable}:+:${variable}}}"'

        lines = [
            "# Written by packaging/bootstrap.py. Use: . .venv/setup.sh",
            "unset _ROS_WHEELS_BOOTSTRAP_COMPLETE PYTHONHOME",
            prepend("PATH", f"{prefix}/bin"),
            prepend("AMENT_PREFIX_PATH", prefix),
            prepend("CMAKE_PREFIX_PATH", prefix),
        ]
        if self.distro:
            # With wheels the environment's Python sees to both by itself.
            lines.append(prepend("LD_LIBRARY_PATH", f"{prefix}/lib"))
            lines.append(prepend("PYTHONPATH", shlex.quote(self.env.site_packages())))
        (self.env.venv / "setup.sh").write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let two set-ups that were started at once follow each other."""
    with Path(__file__).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up is running; waiting for it ...", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Exit status: 0 ready, 1 with one clear text, 130 interrupted."""
    parser = argparse.ArgumentParser(description="Make the environment that wildseg3d runs in.")
    parser.add_argument(
        "--with",
        dest="groups",
        action="append",
        default=[],
        choices=GROUPS,
        help="also install what this group needs; may be repeated",
    )
    parser.add_argument(
        "--venv", type=Path, default=ROOT / ".venv", help="folder of the environment"
    )
    arguments = parser.parse_args()
    try:
        with one_at_a_time():
            venv = Path(os.path.abspath(arguments.venv))
            Setup(venv, list(dict.fromkeys(arguments.groups))).main()
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: interrupted; the next run continues or starts over", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
