"""Every command and code block of README and of the pages: run, or checked as far as it goes.

A comment above a block says how far. ``<!-- run -->`` is run here, on the shipped recording.
``<!-- needs: ... -->`` needs a robot, ROS, weights or time: its commands are given to their
parsers, its requests held against the types, its Python compiled and imported. Every page is held
to that. ``<!-- printed -->`` has to look like what the blocks before it print on a coarse scene;
loosely, where that answers otherwise. ``<!-- printed by: NAME -->`` has to look like what one of
:data:`PRINTERS` prints.
"""

import ast
import contextlib
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from wildseg3d_ros import cli
from wildseg3d_ros.io.folder import load_folder

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GUIDES = [*sorted((DOCS / "tutorials").glob("*.md")), DOCS / "how-to" / "own-recording.md"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
VIEWS = ("cam_1", "cam_3", "cam_4")
"""Enough for the clicks of all blocks, and quicker to build than six."""
BUILT = {"examples/tabletop": "scene.ws3d", "mine": "mine.ws3d"}
"""Scenes that the fixture, or a block before, has built already, by their recording."""
SMALL = 160, 120
"""Images of the recording that stands for a reader's own [px]."""
RUN = [page for page in PAGES if "<!-- run -->" in page.read_text()]

SHELL_WORDS = {".", "cd", "colcon", "cp", "docker", "export", "for", "git", "hf", "ln", "make",
               "pip", "python", "python3", "ray", "ros2", "rosdep", "scene_node", "sed", "sudo",
               "touch", "venv/bin/pip", "venv/bin/python", "wildseg3d"}  # fmt: skip
FENCE = re.compile(
    r"(?:^ *<!-- (?P<mark>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<kind>\S*)[^\n]*\n(?P<text>.*?)"
    r"^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *kinds: str) -> list[tuple[str, str, str]]:
    """(mark, kind, text) of the fenced blocks, all or those of some languages."""
    found = FENCE.finditer(page.read_text())
    return [
        (each["mark"] or "", each["kind"], textwrap.dedent(each["text"]))
        for each in found
        if each["kind"] in kinds or not kinds
    ]


def lines(text: str) -> list[str]:
    """Commands of a block, without continuations, comments and what starts in the background."""
    text = re.sub(r"\\\n\s*", " ", text)
    parts = [part for line in text.splitlines() for part in line.split(" # ")[0].split(" && ")]
    return [part.strip().removesuffix(" &") for part in parts if part.strip()]


def shown(page: Path) -> list[str]:
    """Every command of a page's blocks."""
    return [line for _, _, text in blocks(page, "bash") for line in lines(text)]


def named(page: Path) -> list[str]:
    """Every ``wildseg3d`` command in a page's sentences."""
    return re.findall(r"(?<!`)`(wildseg3d [a-z][^`\n]*)`", FENCE.sub("", page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_say_what_they_are_and_whether_they_run(page):
    text = page.read_text()
    outside = FENCE.sub("", text)
    assert "```" not in outside
    assert re.findall(r"\n\n {4,}\S.*", outside) == [], "code stands between ```"
    for mark, kind, block in blocks(page):
        assert kind, block
        if kind in ("bash", "python"):
            assert mark == "run" or mark.startswith("needs: "), block
        if kind == "text" and page in GUIDES:
            by = mark.removeprefix("printed by: ")
            assert by in (*PRINTERS, "printed", "printed loosely"), block
    words = {line.split()[0] for line in shown(page) if "=" not in line.split()[0]}
    assert words <= SHELL_WORDS


@pytest.mark.parametrize("page", [ROOT / "README.md", *GUIDES], ids=name)
def test_what_commands_write_is_ignored_in_a_clone(page):
    """Else a clone is not clean after the tutorials, and `make lint` reads what they wrote."""
    text = "\n".join(shown(page))
    written = re.findall(
        r"(?: -o| --report| --json|^cp \S+|^sed .* >) ([\w./]+)", text, re.MULTILINE
    )
    written += re.findall(r'\.save\("([^"]+)', page.read_text())
    command = ["git", "-C", str(ROOT), "check-ignore", "--no-index", *written, ".venv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        pytest.skip("no clone")
    assert set(written) - set(done.stdout.splitlines()) == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_understood(parsers, page):
    wrong = []
    for command in [*shown(page), *named(page)]:
        words = shlex.split(re.split(r" [|>]| 2> |; done", command)[0])
        words = words[words.index("do") + 1 :] if "do" in words else words
        if words[0] != "wildseg3d" or "COMMAND" in words or words[1].startswith("-"):
            continue
        parser = parsers.get(words[1])
        if parser is None:
            wrong.append(f"{command}: no such command")
        elif command in named(page):  # may be a part of one: `wildseg3d check --report`
            options = {o for a in parser._actions for o in a.option_strings}
            options |= {"--help"}
            if unknown := [w for w in words if re.match("--[a-z]", w) and w not in options]:
                wrong.append(f"{command}: no option {unknown}")
        else:
            try:
                parser.parse_args(words[2:])
            except SystemExit:
                wrong.append(command)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_programs_and_their_arguments_exist(page):
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    programs = set(re.findall(r'"(\w+) = wildseg3d_ros\S+:main', (ROOT / "setup.py").read_text()))
    assert set(re.findall(r"ros2 run wildseg3d ([a-z]\w+)", text)) <= programs
    for file, arguments in re.findall(r"ros2 launch wildseg3d (\S+)((?: \w+:=\S+)*)", text):
        assert (ROOT / "launch" / file).exists()
        # Each takes those of scene.launch.py, which it includes.
        launch = "".join((ROOT / "launch" / f).read_text() for f in {file, "scene.launch.py"})
        for argument in re.findall(r"(\w+):=", arguments):
            assert re.search(rf'DeclareLaunchArgument\(\s*"{argument}"', launch), argument
    given = [line for line in shown(page) if line.startswith("scene_node ")]
    given += re.findall(r"ros2 param \w+ /wildseg3d (\S+)", text)
    parameters = {key for line in given for key in re.findall(r'-p "?([\w.]+):=', line)}
    assert parameters - {"cameras"} <= parameter_names()


def parameter_names() -> set[str]:
    """Of a scene node."""
    from wildseg3d_ros.config import SceneConfig
    from wildseg3d_ros.core.settings import walk
    from wildseg3d_ros.streams.config import NodeConfig

    return {each.name for config in (SceneConfig(), NodeConfig()) for each in walk(config)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_pages_show_are_what_programs_read(page):
    """YAML is a parameter file, or a piece of one; TOML is TOML."""
    from wildseg3d_ros.config import SceneConfig
    from wildseg3d_ros.streams.rig_file import rig_from

    for _, _, text in blocks(page, "yaml"):
        values = yaml.safe_load(text)
        rig = rig_from(values) or rig_from({"/**": {"ros__parameters": values}})
        SceneConfig.from_values(rig.scene, str(page))
    for _, _, text in blocks(page, "toml"):
        tomllib.loads(text)


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


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_compiles_and_imports(page):
    for _, _, text in blocks(page, "python"):
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
    build = ["build", "three", "-o", "scene.ws3d", "--set", "max_megapixels=0.08"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main(build) == 0
    yield printed.getvalue()
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
    for mark, kind, text in blocks(page):
        if mark == "run" and kind == "python":
            exec(compile(text, str(page), "exec"), {"__name__": "__main__"})
        elif mark == "run":
            for line in lines(text):
                run_line(line, place)
        elif mark in ("printed", "printed loosely"):
            printed = capsys.readouterr()
            assert printed.err.count("error") == 0
            assert unlike(text, printed.out, "loosely" in mark) == [], printed.out
    assert capsys.readouterr().err.count("error") == 0


def run_line(line: str, built: str) -> None:
    """Runs a command; of a scene that is there, prints what its build has printed."""
    words = shlex.split(line)
    if words[0] == "." and words[1] == ".venv/setup.sh":
        return
    if words[0] in ("cp", "sed"):
        subprocess.run(line, shell=True, check=True)
        return
    assert words[0] == "wildseg3d", f"cannot run '{line}'"
    if words[1] == "build" and words[2] in BUILT:
        assert Path(BUILT[words[2]]).exists()
        print(built)
        return
    if words[1] == "check":
        words = ["three" if word == "examples/tabletop" else word for word in words]
        if "--report" in words:
            words = words[: words.index("--report")]  # its pictures have a test of their own
    assert cli.main(words[1:]) == 0, line


def unlike(text: str, printed: str, loosely: bool = False) -> list[str]:
    """Lines of a page that are like no line that was printed: any number is like any other, and
    ``...`` like all. Loosely: what stands before a gap is compared alone."""

    def plain(line: str) -> str:
        line = re.split(r" {2,}", line)[0] if loosely else line
        return " ".join(re.sub(r"\d+(\.\d+)?", "0", line).split())

    there = {plain(line) for line in printed.splitlines()}
    return [
        line
        for line in re.sub(r"\n {4,}", " ", text).splitlines()
        if not any(
            re.fullmatch(re.escape(plain(line)).replace(re.escape("..."), ".*"), each)
            for each in there
        )
    ]


def print_demo() -> None:
    """The table of a demonstration."""
    demo = imported("wildseg3d_ros.demo")
    from wildseg3d_ros.core.types import Click

    demo._print_table([demo.Result(demo.Target("cereal_box", Click("cam_3", 175, 180)), None,
                                   0.96, 0.97, 32.1)])  # fmt: skip


def print_live_check() -> None:
    """The topics of a camera."""
    from wildseg3d_ros.cli.live_report import print_live
    from wildseg3d_ros.rig.live import LiveRig, StreamState

    topics = {"color/image_raw": "rgb8", "aligned_depth_to_color/image_raw": "32FC1",
              "color/camera_info": "plumb_bob"}  # fmt: skip
    streams = [
        StreamState("cam_0", "", f"/cam_0/{topic}", ("replay",), "reliable", "volatile", encoding,
                    640, 480, 2.0, 0.1, 0.029, ())
        for topic, encoding in topics.items()
    ]  # fmt: skip
    print_live(LiveRig("ok", (), "", (), tuple(streams), "world", 0.0))


def print_check_of_opencv_axes() -> None:
    """A recording whose poses have OpenCV's axes where OpenGL's are meant."""
    told = json.loads(Path("three/transforms.json").read_text())
    for frame in told["frames"]:
        pose = np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])
        frame["transform_matrix"] = pose.tolist()
    shutil.copytree("three", "wrong", symlinks=True, dirs_exist_ok=True)
    Path("wrong/transforms.json").write_text(json.dumps(told))
    assert cli.main(["check", "wrong"]) == 3


PRINTERS = {
    "demo": print_demo,
    "check --live": print_live_check,
    "check": print_check_of_opencv_axes,
}
"""What prints that which needs ROS, or a mistake, by its name in a page's mark."""


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_pages_show_what_is_printed(place, page, capsys):
    for mark, _, text in blocks(page, "text"):
        if mark.startswith("printed by: "):
            PRINTERS[mark.removeprefix("printed by: ")]()
            printed = capsys.readouterr().out
            assert unlike(text, printed) == [], printed


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
