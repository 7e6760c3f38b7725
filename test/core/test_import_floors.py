"""The order of the package: imports go down, never up, never sideways and never in a circle."""

from __future__ import annotations

import ast
import functools
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "wildseg3d_ros"

FLOORS = (
    {"core"},
    {"pairing"},
    {"alignment", "io", "masks", "pointmaps", "scene"},
    {"config"},
    {"editing", "evaluation", "grasping", "pipeline"},
    {"cli", "ros", "sim"},
    {"demo"},
)
"""Parts of the package, from the ground up. A part imports itself and the floors below it."""

ROS_FLOORS = (
    {"guard", "lifecycle", "messages", "parameters", "qos", "running"},
    {"tf"},
    {"cameras"},
    {"services"},
    {"building"},
    {"monitoring", "topics"},
    {"client", "replay_node", "scene_node"},
)
"""The same within ``ros``."""


@functools.cache
def imports() -> frozenset[tuple[str, str]]:
    """(importer, imported) of all modules of the package, also of imports inside functions.

    Names are relative to the package; a folder's ``__init__`` has the folder's name.
    """
    paths = sorted((ROOT / PACKAGE).rglob("*.py"))
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }
    edges = set()
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                found = [each if each in names else node.module for each in inner]
            else:
                continue
            edges |= {(name, each) for each in found if each in names and each != name}
    short = {name: name.removeprefix(PACKAGE).lstrip(".") for name in names}
    return frozenset((short[a], short[b]) for a, b in edges)


def test_wildseg3d_ros_imports_are_found():
    found = imports()
    assert ("ros.scene_node", "ros.cameras.rig") in found
    assert ("ros.building.worker", "") in found, "the package itself"
    assert len(found) > 500


@pytest.mark.parametrize(
    ("floors", "prefix"), [(FLOORS, ""), (ROS_FLOORS, "ros.")], ids=["package", "ros"]
)
def test_wildseg3d_ros_imports_go_down(floors, prefix):
    floor = {part: number for number, parts in enumerate(floors) for part in parts}
    inside = [
        (importer, imported)
        for importer, imported in imports()
        if importer.startswith(prefix) and imported.startswith(prefix) and importer and imported
    ]
    wrong = []
    for importer, imported in inside:
        upper, lower = (name.removeprefix(prefix).split(".")[0] for name in (importer, imported))
        assert {upper, lower} <= set(floor), f"{upper} or {lower} is on no floor: name it"
        if upper != lower and floor[lower] >= floor[upper]:
            wrong.append(f"{importer} -> {imported}")
    assert sorted(wrong) == []


def test_wildseg3d_ros_imports_make_no_circle():
    graph: dict[str, set[str]] = {}
    for importer, imported in imports():
        graph.setdefault(importer, set()).add(imported)
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules of a circle
