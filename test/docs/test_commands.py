"""Every command and code block of README and of the pages: run, or checked as far as it goes.

A comment above a block says how far: ``<!-- run -->`` is run here, on the shipped recording;
``<!-- needs: ... -->`` needs a robot, ROS, weights or time, and only its options are checked.
"""

import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from wildseg3d_ros import cli
from wildseg3d_ros.io.folder import load_folder

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
VIEWS = ("cam_1", "cam_3", "cam_4")
"""Enough for the clicks of all blocks, and quicker to build than six."""
BUILT = {"examples/tabletop": "scene.ws3d", "mine": "mine.ws3d"}
"""Scenes that the fixture, or a block before, has built already, by their recording."""
SMALL = 160, 120
"""Images of the recording that stands for a reader's own [px]."""
MARKED = [ROOT / "README.md", *TUTORIALS, DOCS / "how-to" / "own-recording.md"]
"""Pages all of whose blocks of commands say whether they run."""
RUN = [page for page in PAGES if "<!-- run -->" in page.read_text()]

SHELL_WORDS = {".", "[", "awk", "cd", "colcon", "cp", "echo", "export", "for", "do", "done", "git",
               "hf", "make", "mkdir", "name=$(basename", "pip", "python", "ros2", "scene_node",
               "sed", "wildseg3d", "apt-get", "sudo", "2>", "docker"}  # fmt: skip
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *kinds: str) -> list[tuple[str | None, str]]:
    """(mark, text) of the fenced blocks of some languages."""
    found = FENCE.finditer(page.read_text())
    return [(each["mark"], each["text"]) for each in found if each["kind"] in kinds]


def lines(text: str) -> list[str]:
    """Commands of a block, without continuations, comments and what starts in the background."""
    text = re.sub(r"\\\n\s*", " ", text)
    return [line.split(" # ")[0].strip().removesuffix(" &") for line in text.splitlines() if line]


def commands(page: Path) -> list[str]:
    """Every ``wildseg3d`` command of a page: of blocks, of indented lines and in sentences."""
    text = page.read_text()
    fenced = [line for _, block in blocks(page, "bash") for line in lines(block)]
    rest = FENCE.sub("", text)
    indented = lines("\n".join(re.findall(r"^(?: {4,}|\t)(wildseg3d .*(?:\\\n.*)*)", rest, re.M)))
    inline = re.findall(r"(?<!`)`(wildseg3d [a-z][^`\n]*)`", rest)
    found = [*fenced, *indented, *inline]
    return [command for command in found if command.startswith("wildseg3d ")]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_of_commands_exist(parsers, page):
    wrong = []
    for command in commands(page):
        words = shlex.split(re.split(r" [|>]| 2> | && ", command)[0])[1:]
        if "COMMAND" in words or words[0].startswith("-"):
            continue
        if words[0] not in parsers:
            wrong.append(f"{command}: no such command")
            continue
        parser = parsers[words[0]]
        if len(words) == 1 or "--help" in words or "..." in words:
            continue  # named, not shown: `wildseg3d check`
        options = {o for a in parser._actions for o in a.option_strings}
        unknown = [w for w in words if w.startswith("--") and w.split("=")[0] not in options]
        if unknown:
            wrong.append(f"{command}: no option {unknown}")
        elif command in [line for _, block in blocks(page, "bash") for line in lines(block)]:
            try:
                parser.parse_args(words[1:])
            except SystemExit:
                wrong.append(command)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_of_commands_exist(page):
    from wildseg3d_ros.config import SceneConfig
    from wildseg3d_ros.core.settings import walk

    known = {each.name for each in walk(SceneConfig())}
    named = set(re.findall(r"--set ([a-z_]+(?:\.[a-z_0-9]+)+)=", page.read_text()))
    theirs = {key for key in named if re.match(r"(pointmaps\.plane|masks\.colors)\.", key)}
    assert named - theirs - known == set()


def imported(module: str):
    """The module; without what it needs (ROS, an extra) the test is skipped, but not for a name
    that is wrong."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("wildseg3d"):
            raise
        pytest.skip(f"'{error.name}' is absent")


def misfits(message, value) -> list[str]:
    """Keys of a YAML value that a message does not have."""
    fields, wrong = message.get_fields_and_field_types(), []
    for key, inner in value.items():
        if key not in fields:
            wrong.append(f"{message.__name__} has no '{key}'")
        elif "/" in fields[key]:
            package, kind = fields[key].removeprefix("sequence<").removesuffix(">").split("/")
            of = getattr(importlib.import_module(f"{package}.msg"), kind)
            for each in inner if isinstance(inner, list) else [inner]:
                wrong += misfits(of, each)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_requests_have_the_fields_of_their_types(page):
    imported("rclpy")
    text = re.sub(r"\s*\\\n\s*", " ", page.read_text())
    called = re.findall(
        r"ros2 (?:service call|action send_goal)(?: --feedback)? /(\w+) (\w+)/(\w+)/(\w+) "
        r"\\?\"(\{[^\"]*\})",
        text,
    )
    for service, package, kind, type_name, value in called:
        found = getattr(importlib.import_module(f"{package}.{kind}"), type_name)
        request = found.Goal if kind == "action" else found.Request
        assert misfits(request, yaml.safe_load(value)) == [], service


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    text = page.read_text()
    named = {*re.findall(r"`make ([a-z-]+)", text), *re.findall(r"^ *make ([a-z-]+)", text, re.M)}
    assert {t for t in named if not re.search(rf"^{t}:.*##", makefile, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", MARKED, ids=name)
def test_blocks_of_commands_say_whether_they_run(page):
    for mark, text in blocks(page, "bash"):
        assert mark == "run" or (mark or "").startswith("needs: "), text
        for line in lines(text):
            word = line.split()[0].split("=")[0] if "=" in line.split()[0] else line.split()[0]
            assert word in SHELL_WORDS or "=" in line.split()[0], f"what is '{line}'?"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_compiles_and_imports(page):
    for _, text in blocks(page, "python"):
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ImportFrom | ast.Import):
                continue
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            if module.split(".")[0] in ("wildseg3d_plane",):
                continue  # the package that extending.md writes
            found = imported(module)
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    assert hasattr(found, alias.name) or importlib.import_module(
                        f"{module}.{alias.name}"
                    ), f"{module} has no {alias.name}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder like a clone, and in it the scene of three of the shipped recording's six views,
    worked on at a quarter of their pixels: clicks are in the cameras' own."""
    folder = tmp_path_factory.mktemp("clone")
    for each in ("examples", "config"):
        (folder / each).symlink_to(ROOT / each)
    source, three = ROOT / "examples" / "tabletop", folder / "three"
    three.mkdir()
    for each in ("images", "depth", "masks"):
        (three / each).symlink_to(source / each)
    recording = json.loads((source / "transforms.json").read_text())
    recording["frames"] = [f for f in recording["frames"] if Path(f["file_path"]).stem in VIEWS]
    (three / "transforms.json").write_text(json.dumps(recording))
    write_own_files(folder / "mine", three)
    before = Path.cwd()
    os.chdir(folder)
    build = ["build", "three", "-o", "scene.ws3d", "--quiet", "--set", "max_megapixels=0.08"]
    assert cli.main(build) == 0
    yield folder
    os.chdir(before)


def write_own_files(folder: Path, recording: Path) -> None:
    """Small copies of a recording's views as own-recording.md has a reader's files."""
    views = load_folder(recording).views
    K = np.diag([SMALL[0] / views[0].size[1]] * 2 + [1.0]) @ views[0].K
    for each in ("rgb", "depth"):
        (folder / each).mkdir(parents=True)
    np.savetxt(folder / "K.txt", [[K[0, 0], K[1, 1], K[0, 2], K[1, 2]]])
    np.save(folder / "poses.npy", [view.world_from_cam_prior for view in views])
    for k, view in enumerate(views):
        colour = cv2.resize(view.image[..., ::-1], SMALL, interpolation=cv2.INTER_AREA)
        depth = cv2.resize(1000 * view.depth, SMALL, interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / "rgb" / f"{k:03d}.png"), colour)
        cv2.imwrite(str(folder / "depth" / f"{k:03d}.png"), depth.astype(np.uint16))


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name)
def test_blocks_run(place, page, capsys):
    """One small scene stands for those of all builds of the shipped recording."""
    for mark, text in blocks(page, "bash", "python"):
        if mark != "run":
            continue
        try:
            tree = ast.parse(text)
        except SyntaxError:
            for line in lines(text):
                run_line(line)
        else:
            exec(compile(tree, str(page), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().err.count("error") == 0


def run_line(line: str) -> None:
    words = shlex.split(line)
    if words[0] == "." and words[1] == ".venv/setup.sh":
        return
    if words[0] in ("cp", "sed"):
        subprocess.run(line, shell=True, check=True)
        return
    assert words[0] == "wildseg3d", f"cannot run '{line}'"
    if words[1] == "build" and words[2] in BUILT:
        assert Path(BUILT[words[2]]).exists()
        return
    if words[1] == "check":
        words = ["three" if word == "examples/tabletop" else word for word in words]
        if "--report" in words:
            words = words[: words.index("--report")]  # its pictures have a test of their own
    assert cli.main([*words[1:], "--quiet"]) == 0, line


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
