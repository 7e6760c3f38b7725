"""The package as colcon, pip and ros2 see it, and the boundary between the core and ROS."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib import metadata
from pathlib import Path

import pytest

import wildseg3d_ros
from packaging.requirements import Requirement
from wildseg3d_ros.core.errors import ErrorCode

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "wildseg3d_ros").rglob("*.py"))


def manifest(folder: str) -> ET.Element:
    return ET.parse(ROOT / folder / "package.xml").getroot()


def colcon(*arguments: str, cwd: Path) -> str:
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    program = shutil.which("colcon", path=here)
    if program is None:
        pytest.fail("colcon is missing; make test installs it")
    answer = subprocess.run(
        [program, "--log-base", "/dev/null", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_packaging_colcon_finds_both_packages_and_their_build_types():
    # Colcon falls back to plain 'python' and 'cmake' without a word where a manifest is not valid.
    packages = {tuple(line.split("\t")) for line in colcon("list", cwd=ROOT).splitlines()}
    assert packages == {
        ("wildseg3d", ".", "(ros.ament_python)"),
        ("wildseg3d_msgs", "wildseg3d_msgs", "(ros.ament_cmake)"),
    }


def test_packaging_colcon_builds_the_interfaces_first():
    order = colcon("list", "--topological-order", "--names-only", cwd=ROOT).split()
    assert order == ["wildseg3d_msgs", "wildseg3d"]


def test_packaging_colcon_never_sees_the_stand_ins():
    for name in ("tf2_msgs", "vision_msgs"):
        assert (ROOT / "packaging" / name / "package.xml").is_file()
    everything = colcon("list", "--names-only", "--base-paths", "packaging", cwd=ROOT)
    assert everything.split() == []


@pytest.mark.parametrize(
    "folder", [".", "wildseg3d_msgs", "packaging/tf2_msgs", "packaging/vision_msgs"]
)
def test_packaging_manifests_are_valid(folder):
    catkin_pkg = pytest.importorskip("catkin_pkg.package")
    warnings: list[str] = []
    package = catkin_pkg.parse_package(str(ROOT / folder), warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []


def test_packaging_versions_agree():
    assert manifest(".").findtext("version") == wildseg3d_ros.__version__
    assert manifest("wildseg3d_msgs").findtext("version") == wildseg3d_ros.__version__
    answer = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split()[-1] == wildseg3d_ros.__version__


def test_setup_built_package_has_its_executables_and_data_files(tmp_path):
    # As colcon's ament_python build does it, in a copy that leaves this folder as it is.
    source = tmp_path / "source"
    names = ("package.xml", "setup.py", "setup.cfg", "pyproject.toml", "resource")
    for name in (*names, "wildseg3d_ros", "fitting", "launch", "config", "examples"):
        path = ROOT / name
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, source / name, symlinks=True, ignore=ignored)
        elif path.is_file():
            source.mkdir(exist_ok=True)
            shutil.copy(path, source / name)
    install = ["install", "--prefix", str(tmp_path / "install"), "--record", str(tmp_path / "r")]
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", *install, "--single-version-externally-managed"],
        cwd=source,
        capture_output=True,
        check=True,
    )
    prefix = tmp_path / "install"
    executables = {path.name for path in (prefix / "lib" / "wildseg3d").iterdir()}
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert {"click", "wrist"} <= examples
    assert executables == {"wildseg3d", "scene_node", "replay_node", "cell", "viewer", *examples}
    share = prefix / "share"
    assert (share / "ament_index/resource_index/packages/wildseg3d").is_file()
    assert (share / "wildseg3d/package.xml").is_file()
    for folder in ("launch", "config", "examples"):
        wanted = {
            path.relative_to(ROOT)
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.parent.name != "__pycache__"
        }
        installed = {
            path.relative_to(share / "wildseg3d")
            for path in (share / "wildseg3d" / folder).rglob("*")
            if path.is_file()
        }
        assert installed == wanted
    modules = {path.relative_to(ROOT) for path in SOURCES}
    library = next(prefix.glob("lib/python3*/site-packages"))
    assert {path.relative_to(library) for path in library.rglob("*.py")} == modules
    assert (library / "wildseg3d_ros/masks/surface/scores.npz").is_file()
    assert not (library / "fitting").exists()


def test_setup_entry_points_name_functions_that_exist():
    text = (ROOT / "setup.py").read_text()
    entries = re.findall(r'"(\w+) = ([\w.]+):(\w+)"', text)
    backends = {"da3", "depth", "mast3r", "stereo", "geometric", "sam2"}
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    names = {"wildseg3d", "scene_node", "replay_node", "cell", "viewer", *backends, *examples}
    assert {name for name, _, _ in entries} == names
    for name, module, function in entries:
        folder = ROOT.joinpath(*module.split("."))
        files = [folder.with_suffix(".py"), folder / "__init__.py"]
        path = next(filter(Path.is_file, files), None)
        assert path is not None, f"entry point {name}: no module {module}"
        assert function in top_level_names(path), f"entry point {name}: no {function} in {module}"


def top_level_names(path: Path) -> set[str]:
    """Functions and classes that a file defines or imports from elsewhere."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def test_pipeline_import_loads_neither_ros_nor_heavy_packages():
    code = (
        "import json, sys\n"
        "before = set(sys.modules)\n"
        "import wildseg3d_ros.editing, wildseg3d_ros.pipeline\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.split(".")[0] for name in json.loads(answer.stdout)}
    assert "wildseg3d_ros" in loaded
    assert "numpy" in loaded
    heavy = {"rclpy", "torch", "viser", "mujoco", "cv_bridge", "transformers", "skimage"}
    heavy |= {"safetensors", "huggingface_hub", "onnx", "trimesh", "nicegui"}
    assert loaded & heavy == set()
    assert {name for name in loaded if name.endswith("_msgs")} == set()


def imported_modules(path: Path) -> set[str]:
    """Top-level names of all imports in a file, also those inside of functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def belongs_to_ros(name: str) -> bool:
    ros = {"rclpy", "cv_bridge", "tf2_ros", "tf2_py", "message_filters", "sensor_msgs_py"}
    ros |= {"launch", "launch_ros", "ament_index_python", "builtin_interfaces", "rcl_interfaces"}
    return name in ros or name.endswith("_msgs") or name == "std_srvs"


def test_ros_layer_alone_imports_ros():
    users = {
        str(path.relative_to(ROOT)): sorted(filter(belongs_to_ros, imported_modules(path)))
        for path in SOURCES
    }
    outside = {
        path: names
        for path, names in users.items()
        if names and not path.startswith(("wildseg3d_ros/ros/", "wildseg3d_ros/examples/"))
    }
    assert outside == {}
    assert any(users.values()), "no file imports ROS at all: this test looks at the wrong place"


def test_manifest_names_the_ros_packages_that_are_imported():
    ours = {"wildseg3d_ros"}
    # Examples name what they need beyond it, when they are run.
    sources = [path for path in SOURCES if path.parent.name != "examples"]
    imported = set().union(*map(imported_modules, sources)) - ours
    needed = {name for name in imported if belongs_to_ros(name)} - {"launch", "launch_ros"}
    # tf2_ros in Python is part of a package of another name, and needed where it is there.
    needed = {"tf2_ros_py" if name == "tf2_ros" else name for name in needed}
    package = manifest(".")
    named = {tag.text for kind in ("depend", "exec_depend") for tag in package.iter(kind)}
    assert needed <= named
    unused = {tag.text for tag in package.iter("depend")} - needed
    assert unused == set()


def test_manifest_names_the_python_packages_that_setup_py_requires():
    """By their rosdep keys; two have none, and a requirement file has them."""
    keys = {
        "numpy": "python3-numpy",
        "opencv-python-headless": "python3-opencv",
        "PyYAML": "python3-yaml",
        "scikit-image": "python3-skimage",
        "scipy": "python3-scipy",
        "tqdm": "python3-tqdm",
    }
    by_pip = {"array-api-compat", "threadpoolctl"}
    text = (ROOT / "setup.py").read_text()
    block = re.search(r"install_requires=\[(.*?)\]", text, re.DOTALL).group(1)
    required = set(re.findall(r'"([A-Za-z-]+)', block)) - {"setuptools"}
    assert required == set(keys) | by_pip
    named = {tag.text for tag in manifest(".").iter("exec_depend")}
    assert set(keys.values()) <= named
    lacking = (ROOT / "packaging/requirements/beside-rosdep.txt").read_text()
    assert by_pip <= set(re.findall(r"^([\w-]+)==", lacking, re.MULTILINE))


def test_colcon_runs_the_tests_with_pytest():
    """It asks this function which program a package is tested with."""
    test = pytest.importorskip("colcon_core.task.python.test")
    extras = re.search(r'"test": \[(.*?)\]', (ROOT / "setup.py").read_text()).group(1)
    setup = {"extras_require": {"test": re.findall(r'"([^"]+)"', extras)}}
    assert test.has_test_dependency(setup, "pytest")


def test_colcon_tests_skip_files_whose_extra_is_missing(tmp_path):
    """One that lacks an optional package is skipped by name; any other that fails is an error."""
    shutil.copy(ROOT / "test/conftest.py", tmp_path)
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('absent', name='torch')")
    (tmp_path / "test_extra.py").write_text("import torch")
    (tmp_path / "test_broken.py").write_text("import no_such_module")
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-rs",
            "-p",
            "no:cacheprovider",
            "-c",
            str(ROOT / "pyproject.toml"),
            ".",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "test_extra.py:1: torch ABSENT" in answer.stdout
    assert "1 skipped, 1 error" in answer.stdout
    assert answer.returncode != 0


def test_error_code_values_are_those_of_the_status_message():
    text = (ROOT / "wildseg3d_msgs" / "msg" / "Status.msg").read_text()
    constants = re.findall(r"^uint16\s+([A-Z_]+)\s*=\s*(\d+)", text, re.MULTILINE)
    assert {name: int(value) for name, value in constants} == {
        code.name: code.value for code in ErrorCode
    }
    assert len(constants) == len(ErrorCode)


def test_docker_steps_name_what_there_is():
    """Paths and files of the Dockerfile exist, and the distribution is chosen in one place."""
    text = (ROOT / "docker" / "Dockerfile").read_text()
    assert "FROM ros:${ROS_DISTRO}-ros-base" in text
    named = re.findall(r"(?<!/)\bsrc/wildseg3d/([\w./-]+)", text)
    assert named, "it installs from the copied tree"
    assert all((ROOT / name).exists() for name in named)
    assert "docker build -f docker/Dockerfile" in text
    skipped = re.search(r'--skip-keys "([^"]+)"', text).group(1).split()
    assert set(skipped) <= {tag.text for tag in manifest(".").iter("exec_depend")}
    steps = text.partition("FROM ")[2]
    assert "jazzy" not in steps and "lyrical" not in steps


def test_packaging_lock_file_has_the_versions_of_the_requirement_files():
    folder = ROOT / "packaging" / "requirements"
    pin = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)$", re.MULTILINE)
    entries = re.findall(
        r"^# of: (.*)\n([\w.-]+)==([^ \n]+).*((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)$",
        (folder / "lock.txt").read_text(),
        re.MULTILINE,
    )
    text = (folder / "lock.txt").read_text()
    assert len(entries) == text.count("# of: ") > 200
    locked = {(name, version): groups.split() for groups, name, version, _ in entries}
    for path in sorted(set(folder.glob("*.txt")) - {folder / "lock.txt"}):
        lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
        for line in filter(None, lines):
            if line.startswith("-r "):
                assert (folder / line[3:]).is_file()
                continue
            match = pin.match(line)
            assert match, f"{path.name}: '{line}' is not pinned exactly"
            name, version = match.groups()
            if name == "torch":  # from an index that the machine decides
                continue
            groups = locked[re.sub(r"[-_.]+", "-", name).lower(), version]
            apart = path.stem in ("torch", "beside-rosdep")  # of no group of their own
            assert path.stem in groups or apart, f"make lock: {path.name}: {name}"


def test_packaging_lock_file_has_all_that_a_group_pulls_in():
    """By the metadata of what is installed: nothing is left to a resolver without hashes."""
    sys.path.insert(0, str(ROOT / "packaging"))
    try:
        locking = importlib.import_module("locking")
    finally:
        sys.path.pop(0)
    entries = locking.read_lock(ROOT / "packaging" / "requirements" / "lock.txt")
    for group in ("runtime", "ros", "viewer", "sam2"):
        groups = {group, "runtime"}  # which every set-up has
        names = {each.name for each in entries if groups & {*each.groups}} | {"numpy", "torch"}
        for name in names if group == "sam2" else names - {"torch"}:
            try:
                needed = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue
            for each in map(Requirement, needed):
                if name == "torch" and re.match("cuda|nvidia|triton", each.name):
                    continue  # what a build with CUDA brings has no hashes: requirements/README.md
                if each.marker is None or each.marker.evaluate({"extra": ""}):
                    assert re.sub(r"[-_.]+", "-", each.name).lower() in names, (group, name)


@pytest.mark.parametrize(
    ("version", "distro", "taken"),
    [
        ((3, 10), None, False),
        ((3, 11), None, True),
        ((3, 14), None, True),
        ((3, 15), None, False),
        ((3, 10), "humble", False),
        ((3, 15), "rolling", True),
    ],
)
def test_setup_takes_the_pythons_that_the_documentation_names(
    version, distro, taken, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(ROOT / "packaging")
    machine = importlib.import_module("machine")
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {each for page in pages for each in re.findall(r"3\.\d+ to 3\.\d+", page.read_text())}
    oldest, newest = (
        f"3.{minor}" for _, minor in (machine.OLDEST_PYTHON, machine.NEWEST_PYTHON_OF_WHEELS)
    )
    assert named == {f"{oldest} to {newest}"}
    program = tmp_path / "python"
    facts = {"version": version, "venv": True, "include": "", "numpy": ""}
    program.write_text(f"#!/bin/sh\necho '{json.dumps(facts)}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(program))
    if taken:
        assert machine.find_python(distro).version == version
    else:
        wanted = f"{oldest} or newer" if distro else f"{oldest} to {newest}"
        with pytest.raises(machine.SetupError, match=f"needed is {wanted}, found: .*is 3"):
            machine.find_python(distro)


def test_packaging_scripts_are_readable_by_an_old_python():
    # It has to run far enough to say that the Python is too old.
    for path in sorted((ROOT / "packaging").glob("*.py")):
        ast.parse(path.read_text(), filename=str(path), feature_version=(3, 7))
        assert "from __future__ import annotations" in path.read_text()


def test_wildseg3d_files_name_no_path_of_a_development_machine():
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/\w")
    offenders = []
    for name in filter(None, answer.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file() or path.suffix in (".png", ".npz", ".jpg"):
            continue
        if pattern.search(path.read_text(errors="ignore")):
            offenders.append(name)
    assert offenders == []
