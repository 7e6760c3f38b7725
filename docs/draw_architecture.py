"""Draws the picture and the table in architecture.md from the imports of the code.

Usage: ``python docs/draw_architecture.py`` writes it; with ``--check`` it only says whether the
page shows the code as it is (exit status 1 if not). A test does the latter.

The picture is a Mermaid flowchart, which code hosts and documentation sites draw: a few boxes that
can be read. The table has all parts. An arrow leads from a part to one that it imports; arrows
that follow from others are left out.
"""

from __future__ import annotations

import argparse
import ast
import functools
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "wildseg3d_ros"
PAGE = ROOT / "docs" / "explanation" / "architecture.md"
BEGIN, END = "<!-- drawn by docs/draw_architecture.py -->\n", "<!-- end of the drawing -->\n"
OPENED = ("alignment", "masks", "pointmaps", "ros")
"""Packages whose parts have rows of their own."""
BOXES = {
    "Programs": (
        "api", "batch", "cli", "demo", "demo_live", "evaluation", "examples", "protocols",
        "showing", "training", "viewer",
    ),
    "The ROS 2 node": ("ros",),
    "The build": ("config", "editing", "pipeline", "rig"),
    "Objects": ("masks",),
    "One world": ("alignment",),
    "Where pixels are": ("pairing", "pointmaps"),
    "Scene and answers": ("export", "grasping", "scene"),
    "Recordings, streams": ("io", "robot", "sim", "streams"),
    "The ground": ("core",),
}  # fmt: skip
"""What is drawn as one, by its title."""


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, less the package's own name."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path
    return found


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Names of the package's modules that a file imports, also inside of functions."""
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _short(name) in known else node.module for name in inner]
        else:
            continue
        yield from (_short(name) for name in names if name.split(".")[0] == PACKAGE)


def _short(name: str) -> str:
    return name.removeprefix(PACKAGE).lstrip(".")


@functools.cache
def module_graph() -> dict[str, set[str]]:
    """The modules that each module imports."""
    known = modules()
    return {name: set(imports(path, known)) - {name} for name, path in known.items()}


def part_of(module: str) -> str:
    """The part of the picture that a module belongs to; empty for the package itself."""
    first, *rest = module.split(".")
    if first not in OPENED:
        return first
    if rest and modules().get(f"{first}.{rest[0]}", Path()).name == "__init__.py":
        return f"{first}.{rest[0]}"
    return f"{first}.{'ground' if module in imported_by_folders(first) else 'top'}"


@functools.cache
def imported_by_folders(package: str) -> set[str]:
    """All modules that the folders of a package need; its files among them are its ground."""
    graph = module_graph()
    inside = [name for name in graph if name.startswith(f"{package}.") and name.count(".") > 1]
    return set().union(*(reachable(graph, name) for name in inside))


@functools.cache
def part_graph() -> dict[str, set[str]]:
    """The parts that each part imports."""
    graph: dict[str, set[str]] = {}
    for module, others in module_graph().items():
        mine = graph.setdefault(part_of(module), set())
        mine |= {part_of(other) for other in others}
    return {
        part: {other for other in others if other and other != part}
        for part, others in graph.items()
        if part
    }


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """All that can be reached from a node by one arrow or more."""
    found: set[str] = set()
    waiting = list(graph.get(start, ()))
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += graph.get(node, ())
    return found


def reduced(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that do not follow from others; those of a circle stay."""
    below = {node: reachable(graph, node) for node in graph}
    return {
        node: {
            other
            for other in others
            if not any(other in below[via] and node not in below[via] for via in others - {other})
        }
        for node, others in graph.items()
    }


def text_of(part: str) -> str:
    """What a part is: the first sentence of its docstring, or the names of its files."""
    if part.endswith((".ground", ".top")):
        names = [name.partition(".")[2] for name in module_graph() if part_of(name) == part]
        return ", ".join(filter(None, names))
    docstring = ast.get_docstring(ast.parse(modules()[part].read_text())) or ""
    sentence = re.split(r"[.;](?:\s|$)", " ".join(docstring.split()))[0]
    return re.sub(r'["`<>]', "", sentence)


def box_graph() -> dict[str, set[str]]:
    """The boxes that each box imports."""
    box_of = {part: title for title, parts in BOXES.items() for part in parts}
    graph: dict[str, set[str]] = {title: set() for title in BOXES}
    for part, others in part_graph().items():
        first = part.split(".")[0]
        if first not in box_of:
            sys.exit(f"{first} is in no box: add it to BOXES in {Path(__file__).name}")
        graph[box_of[first]] |= {box_of[other.split(".")[0]] for other in others}
    return {title: others - {title} for title, others in graph.items()}


def drawing() -> str:
    """The picture as Mermaid text, and the table."""
    lines = ["```mermaid", "flowchart TD"]
    number = {title: f"b{k}" for k, title in enumerate(BOXES)}
    for title, parts in BOXES.items():
        lines.append(f'  {number[title]}["<b>{title}</b><br/>{", ".join(parts)}"]')
    for title, others in reduced(box_graph()).items():
        lines += [f"  {number[title]} --> {number[other]}" for other in BOXES if other in others]
    lines += ["```", "", "| part | what it is | imports |", "|---|---|---|"]
    for part, others in reduced(part_graph()).items():
        imported = ", ".join(map(_title, sorted(others)))
        lines.append(f"| `{_title(part)}` | {text_of(part)} | {imported} |")
    return "\n".join([*lines, ""])


def _title(part: str) -> str:
    """A part's name; its files below its folders and above them."""
    return re.sub(r"\.ground$", " (below)", re.sub(r"\.top$", " (above)", part))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw the picture in architecture.md.")
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    arguments = parser.parse_args()
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    new = before + BEGIN + drawing() + END + rest.split(END)[1]
    if new != page and arguments.check:
        print(f"{PAGE.name} shows other imports: run python docs/draw_architecture.py")
        return 1
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
