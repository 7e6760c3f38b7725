"""Fixtures of the ROS tests: a domain of one's own, nodes in this process, real processes."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

# Without ROS nothing here can be imported; test_presence.py then says so.
HERE = Path(__file__).resolve().parent
if importlib.util.find_spec("rclpy") is None:
    collect_ignore = [p.name for p in HERE.glob("test_*.py") if p.name != "test_presence.py"]

# Before rclpy reads it.
os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
# Builders of the tests are named `table:...`, here and in the build process.
sys.path.insert(0, str(HERE))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
)


class World:
    """Nodes of this process on the test's domain, ended together."""

    def __init__(self) -> None:
        import rclpy

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self._spinners: list = []
        self._nodes: list = []
        self._clients: list = []

    def add(self, node, threads: int = 4):
        from wildseg3d_ros.ros.running import Spinner

        self._nodes.append(node)
        self._spinners.append(Spinner(node, threads))
        return node

    def scene_node(self, builder: str = "color_builder", namespace: str = "", **parameters):
        """The node under test; parameter names with __ for a dot.

        A builder without a module is one of table.py's.
        """
        from listening import PATIENCE
        from rclpy.parameter import Parameter

        from wildseg3d_ros.ros.scene_node import SceneNode

        values = {
            "cameras": ["front", "left", "right"],
            "image_timeout": PATIENCE,
            "scene_folder": "/",
            **parameters,
        }
        overrides = [Parameter(k.replace("__", "."), value=v) for k, v in values.items()]
        return self.add(
            SceneNode(
                builder if ":" in builder else f"table:{builder}",
                context=self.context,
                namespace=namespace,
                parameter_overrides=overrides,
            )
        )

    def replay(self, recording=None, prepare=lambda node: None, **options):
        """Live cameras: the table, unless another recording is given.

        ``prepare`` is called with the node before it publishes anything.
        """
        import table

        from wildseg3d_ros.ros.replay_node import ReplayNode

        recording = table.make_recording() if recording is None else recording
        node = ReplayNode(recording, **{"rate": 10.0, "context": self.context, **options})
        prepare(node)
        return self.add(node, threads=1)

    def client(self, namespace: str = "", timeout: float = 0.0):
        """A client of the node under test."""
        from listening import PATIENCE

        from wildseg3d_ros.ros.client import SceneClient

        self._clients.append(SceneClient(namespace, timeout=timeout or PATIENCE))
        return self._clients[-1]

    @property
    def size(self) -> tuple[int, int]:
        """How many nodes and clients there are."""
        return len(self._nodes), len(self._clients)

    def shrink(self, nodes: int, clients: int) -> None:
        """Ends those that came after the first so many, in the order that a user would."""
        for client in self._clients[clients:]:
            client.close()
        for node in self._nodes[nodes:]:
            if hasattr(node, "close"):
                node.close()
        for spinner in self._spinners[nodes:]:
            spinner.stop()
        for node in self._nodes[nodes:]:
            node.destroy_node()
        del self._clients[clients:], self._nodes[nodes:], self._spinners[nodes:]

    def end(self) -> None:
        """Ends everything; a test may do so before its fixture."""
        import rclpy

        self.shrink(0, 0)
        rclpy.try_shutdown(context=self.context)


_shared: list[tuple] = []
"""What :func:`live` gives, while it is there."""


def _end_shared() -> None:
    while _shared:
        _shared.pop()[0].end()


@pytest.fixture(scope="module", autouse=True)
def _shared_by_one_module():
    yield
    _end_shared()


@pytest.fixture
def world():
    """A domain without any node."""
    _end_shared()
    made = World()
    yield made
    made.end()


def make_live(world: World) -> tuple:
    """Cameras, the node and a client, with a scene built."""
    node = world.scene_node()
    world.replay()
    client = world.client()
    client.build()
    return world, node, client


@pytest.fixture
def live():
    """Cameras, the node and a client, with a scene built; shared by tests that follow each other.

    Such a test asks, and may build or load scenes of the same cameras, and add nodes and clients;
    what else it changes is its own affair to undo.
    """
    if not _shared:
        _shared.append(make_live(World()))
    world = _shared[0][0]
    size = world.size
    yield _shared[0]
    world.shrink(*size)


@pytest.fixture
def fresh(world):
    """The same for one test alone."""
    return make_live(world)
