"""Writes the pages of docs/reference that follow from the code.

Usage: ``python docs/generate_reference.py`` writes them; with ``--check`` it only says which of
them differ from the code (exit status 1 if any). A test does the latter.

=====================  ====================================================================
page                   made from
=====================  ====================================================================
``command-line.md``    the parsers of ``wildseg3d`` and of its commands
``parameters.md``      the dataclasses of settings: their defaults, ranges and descriptions
``messages.md``        the files of ``wildseg3d_msgs`` with their comments
``errors.md``          the codes, the comments of ``Status.msg``, and the ways out below
=====================  ====================================================================
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from wildseg3d_ros.cli.arguments import DELEGATES, make_parser
from wildseg3d_ros.cli.commands import ExitCode
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ErrorCode
from wildseg3d_ros.core.settings import Setting, walk

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
INTERFACES = ROOT / "wildseg3d_msgs"
_MADE = "<!-- made by docs/generate_reference.py; do not edit -->\n"

WAYS_OUT = {
    ErrorCode.OK: "",
    ErrorCode.INTERNAL: "Report it with the log, and `wildseg3d check --report` of the recording.",
    ErrorCode.BAD_CONFIG: "The text names the nearest valid key, or the range: "
    "[parameters](parameters.md).",
    ErrorCode.BAD_REQUEST: "The text says which field: [messages](messages.md).",
    ErrorCode.BUSY: "Send the request again when the build has ended.",
    ErrorCode.CANCELLED: "Nothing was changed. Ask again when you want it.",
    ErrorCode.NO_SCENE: "`ros2 action send_goal /build_scene wildseg3d_msgs/action/BuildScene "
    '"{}"`, or `load_scene`.',
    ErrorCode.BAD_FILE: "The text names the file, what was expected, and the command that makes "
    "it anew: [scene files](scenes.md), [what is read](formats.md).",
    ErrorCode.NOT_ACTIVE: "`ros2 lifecycle set /wildseg3d activate`, or `autostart: true`.",
    ErrorCode.UNKNOWN_CAMERA: "The text lists the scene's cameras.",
    ErrorCode.PIXEL_OUTSIDE_IMAGE: "Pixels are column and row, from 0. The text has the size.",
    ErrorCode.NO_OBJECT_AT_PIXEL: "Click nearer to the middle of the thing, or make it an object "
    "with `edit_object`.",
    ErrorCode.NO_DEPTH_AT_PIXEL: "Click beside it or in another camera: "
    "[transparent things](../how-to/transparent-things.md).",
    ErrorCode.CONTRADICTING_CLICKS: "Leave out the negative click, or correct the object with "
    "`edit_object`.",
    ErrorCode.UNKNOWN_FRAME: "Publish the frame on TF, ask for the scene's own frame, or set "
    "`target_now`.",
    ErrorCode.UNKNOWN_OBJECT: "`list_objects` has the ids. Ids are never given twice. Name what "
    "is meant by what is seen of it, or click it.",
    ErrorCode.POINT_OUTSIDE_SCENE: "Check the point's frame and its unit, metres.",
    ErrorCode.OTHER_RIG: "Load it into a node whose `cameras` are those of the scene.",
    ErrorCode.OTHER_SCENE: "Look at the newest images and ask again with the `scene_id` of now.",
    ErrorCode.NO_IMAGES: "`wildseg3d check --live` says what arrives on each topic, and how far "
    "stamps lie apart. Synchronise the clocks of the cameras, or raise `camera_slop`: "
    "[checking cameras](../how-to/rig.md).",
    ErrorCode.BAD_IMAGE: "The text lists what is read: [formats](formats.md).",
    ErrorCode.BAD_CALIBRATION: "`wildseg3d check --live`. For rectified images set "
    "`<camera>.rectified`.",
    ErrorCode.BAD_DEPTH: "Let the driver register depth to colour, and check `depth_scale`.",
    ErrorCode.MISSING_TF: "The text says who publishes what: "
    "[poses from TF](../how-to/rig.md#poses-from-tf-in-the-node).",
    ErrorCode.CAMERA_MOVES: "Wait until the arm stands, then call `capture_views` again.",
    ErrorCode.TOO_FEW_VIEWS: "Give two views at the least: name more in `cameras`, move a wrist "
    "camera on and `capture_views` again, or add images to the recording.",
    ErrorCode.DISCONNECTED_VIEWS: "Bring cameras closer together, give poses, or leave out the "
    "views that the text names.",
    ErrorCode.ALIGNMENT_FAILED: "`wildseg3d check --report`: see "
    "[checking cameras](../how-to/rig.md).",
    ErrorCode.WRONG_RIG: "The text names the mistake: [checking cameras](../how-to/rig.md).",
}
"""What to do about each code."""


class _Found(BaseException):
    """A parser was about to parse."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command of ``wildseg3d``, by the command's name.

    Commands with a module of their own make their parser when they run: they are started and
    stopped where they begin to parse.
    """
    top = make_parser()
    parsers: dict[str, argparse.ArgumentParser] = {}
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            parsers |= action.choices
    return {name: _own(name) if name in DELEGATES else each for name, each in parsers.items()}


def _own(command: str) -> argparse.ArgumentParser:
    def found(self: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise _Found(self)

    module = importlib.import_module(DELEGATES[command].module)
    with mock.patch.object(argparse.ArgumentParser, "parse_args", found):
        try:
            module.main([], prog=f"wildseg3d {command}")
        except _Found as caught:
            return caught.parser
    raise AssertionError(f"'{command}' does not parse its arguments")


def command_line() -> str:
    """The page of all commands."""
    lines = [
        "# Command line",
        "",
        "`wildseg3d COMMAND --help` prints the same. Exit codes:",
        "",
        "| code | when |",
        "|---|---|",
        "| 0 | it is done |",
        f"| {ExitCode.ERROR.value} | an error: one line says what was wrong and the way out |",
        f"| {ExitCode.UNRELIABLE.value} | not to be relied on, or the rig is refused |",
        f"| {ExitCode.INTERRUPTED.value} | interrupted by Ctrl-C |",
        "",
    ]
    helps = {name: each.help for name, each in DELEGATES.items()}
    for name, parser in command_parsers().items():
        text = parser.description or f"{helps[name][0].upper()}{helps[name][1:]}."
        lines += [f"## wildseg3d {name}", "", " ".join(text.split()), ""]
        lines += _options(parser)
        if parser.epilog:
            lines += ["", "```text", *parser.epilog.strip("\n").splitlines(), "```"]
        lines.append("")
    return "\n".join(lines)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    formatter = parser._get_formatter()
    yield "| argument | what |"
    yield "|---|---|"
    for action in parser._actions:
        if action.help is argparse.SUPPRESS or "--help" in action.option_strings:
            continue
        value = ""
        if action.nargs != 0:
            default = action.dest.upper() if action.option_strings else action.dest
            value = formatter._format_args(action, default)
        names = ", ".join(action.option_strings)
        text = formatter._expand_help(action) if action.help else ""
        yield f"| {_code(f'{names} {value}'.strip())} | {_cell(text)} |"


def parameters() -> str:
    """The page of all settings."""
    from wildseg3d_ros.ros.parameters import CameraConfig, NodeConfig

    lines = [
        "# Parameters",
        "",
        "What a scene is built with. The same names hold in a YAML file (`--config`), with",
        "`--set NAME=VALUE`, and as parameters of the node.",
        "",
    ]
    groups: dict[str, list[Setting]] = {}
    for each in walk(SceneConfig()):
        groups.setdefault(each.name.rpartition(".")[0], []).append(each)
    for group, settings in groups.items():
        lines += [f"## {group}", "", *_settings(settings), ""]
    lines += [
        "## The node",
        "",
        "Parameters of `scene_node` beside those above and `cameras`, the",
    ]
    lines += ["list of the cameras' names.", "", *_settings(walk(NodeConfig())), ""]
    lines += ["## Each camera", "", "Named `<camera>.<parameter>`; `{name}` is the camera's name."]
    lines += ["", *_settings(walk(CameraConfig())), ""]
    return "\n".join(lines)


def _settings(settings: Any) -> Iterator[str]:
    yield "| name | default | range | what |"
    yield "|---|---|---|---|"
    for each in settings:
        low, high = each.spec.metadata.get("low"), each.spec.metadata.get("high")
        if typing.get_origin(each.hint) is typing.Literal:
            valid = ", ".join(_code(str(choice)) for choice in typing.get_args(each.hint))
        elif low is None and high is None:
            valid = each.hint.__name__
        else:
            valid = f"{'' if low is None else f'{low:g}'} to {'' if high is None else f'{high:g}'}"
        value = str(each.value).lower() if isinstance(each.value, bool) else each.value
        value = _code(str(value)) if value != "" else "empty"
        yield f"| {_code(each.name)} | {value} | {valid} | {_cell(each.spec.metadata['text'])} |"


def messages() -> str:
    """The page of all interfaces."""
    lines = [
        "# Messages",
        "",
        "The package `wildseg3d_msgs`, as its files say. Which name has which type:",
        "[the node](node.md).",
        "",
    ]
    for kind, title in (("action", "Actions"), ("srv", "Services"), ("msg", "Messages")):
        lines += [f"## {title}", ""]
        for path in sorted((INTERFACES / kind).glob(f"*.{kind}")):
            head, body = _opening(path.read_text().strip("\n").splitlines())
            lines += [f"### {path.stem}", "", *head, "", "```text", *body, "```", ""]
    return "\n".join(lines)


def _opening(lines: Sequence[str]) -> tuple[list[str], Sequence[str]]:
    """The comment that a file begins with, as text, and the rest."""
    count = next((k for k, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if count < len(lines) and lines[count].strip():
        return [], lines  # the comment belongs to the first field
    rest = list(lines[count:])
    while rest and not rest[0].strip():
        rest.pop(0)
    return [line.removeprefix("#").strip() for line in lines[:count]], rest or ["# nothing"]


def errors() -> str:
    """The page of all codes."""
    status = (INTERFACES / "msg" / "Status.msg").read_text()
    causes = dict(re.findall(r"^uint16 (\w+)=\d+\s*# (.+)$", status, re.MULTILINE))
    lines = [
        "# Error codes",
        "",
        "Every reply of the node has a code to act on and a text to read. In Python it is",
        "`WildSeg3DError.code`. The command line prints the text and ends with exit code 2, or 3",
        "for `WRONG_RIG`. The text says what was wrong, what was expected, what was given and the",
        "way out.",
        "",
        "| code | name | cause | way out |",
        "|---:|---|---|---|",
    ]
    for code in ErrorCode:
        cells = (code.value, _code(code.name), _cell(causes[code.name]), WAYS_OUT[code])
        lines.append("| {} | {} | {} | {} |".format(*cells))
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"(?<!`)(<[^>`]+>)(?!`)", r"`\1`", text)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {
    "command-line.md": command_line,
    "parameters.md": parameters,
    "messages.md": messages,
    "errors.md": errors,
}


def page(name: str) -> str:
    """The text that a page must have."""
    return _MADE + PAGES[name]().rstrip("\n") + "\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the reference pages made from the code.")
    parser.add_argument("--check", action="store_true", help="only say which are out of date")
    arguments = parser.parse_args()
    old = [name for name in PAGES if not _is_current(name)]
    for name in old:
        if arguments.check:
            print(f"docs/reference/{name} differs: run python docs/generate_reference.py")
        else:
            (FOLDER / name).write_text(page(name))
            print(f"wrote docs/reference/{name}")
    return 1 if old and arguments.check else 0


def _is_current(name: str) -> bool:
    path = FOLDER / name
    return path.exists() and path.read_text() == page(name)


if __name__ == "__main__":
    sys.exit(main())
