"""The order of the package: imports go down, never up, never sideways and never in a circle."""

from __future__ import annotations

import functools
import graphlib
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLOORS = (
    {"core"},
    {"pairing", "robot"},
    {"streams"},
    {"alignment", "io", "masks", "pointmaps", "scene"},
    {"config", "rig", "sim"},
    {"editing", "evaluation", "grasping", "pipeline"},
    {"export", "protocols", "showing"},
    {"api", "cli", "ros"},
    {"batch", "demo", "examples", "training", "viewer"},
    {"demo_live"},
)
"""Parts of the package, from the ground up. A part imports itself and the floors below it."""

ROS_FLOORS = (
    {"guard", "lifecycle", "memory", "messages", "parameters", "qos", "running"},
    {"discovery"},
    {"rviz", "tf"},
    {"cameras"},
    {"services"},
    {"building"},
    {"monitoring", "topics"},
    {"client", "record_node", "replay_node", "robot_feed", "scene_feed", "scene_node"},
    {"cell_topics"},
    {"cell_node", "live_check"},
)
"""The same within ``ros``."""


@functools.cache
def draw_architecture():
    """The module that draws the picture of the imports."""
    path = ROOT / "docs" / "draw_architecture.py"
    spec = importlib.util.spec_from_file_location("draw_architecture", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imports():
    """(importer, imported) of all modules of the package, also of imports inside functions.

    Names are relative to the package; a folder's ``__init__`` has the folder's name.
    """
    graph = draw_architecture().module_graph()
    return {(name, other) for name, others in graph.items() for other in others}


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
    for graph in (draw_architecture().module_graph(), draw_architecture().part_graph()):
        graphlib.TopologicalSorter(graph).prepare()  # CycleError names the members of a circle


def test_draw_architecture_shows_the_imports_as_they_are():
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    assert draw_architecture().drawing() in page, "run python docs/draw_architecture.py"
