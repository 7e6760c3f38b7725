"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from wildseg3d_ros.core.domain import free_domain

pytest.register_assert_rewrite("wildseg3d_testing")

# Tests must not meet the nodes of a robot, nor those of another run on this machine.
os.environ["ROS_DOMAIN_ID"] = str(free_domain())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.pop("ROS_LOCALHOST_ONLY", None)

ROOT = Path(__file__).resolve().parent.parent
if sys.dont_write_bytecode:
    # Hundreds of processes start in these tests: each would compile NumPy, SciPy and ROS anew.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(ROOT / "out" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_configure(config):
    """Workers take files in the order of :func:`pytest_collection_modifyitems`."""
    if config.pluginmanager.hasplugin("xdist"):
        config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """What takes longest comes first, so that all workers end at about one time."""
    if config.pluginmanager.hasplugin("xdist"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (not in_ros_layer(item), item.path not in slow))


def in_ros_layer(item) -> bool:
    """Whether nodes run in a test, and wait for each other."""
    return item.path.parent.name == "ros"


def pytest_runtest_setup(item):
    """What only computes gives way to nodes beside it: else it would be their build processes
    that do, which have a niceness of 10, and all that waits for them."""
    if "PYTEST_XDIST_WORKER" in os.environ and item.path.parent.name in ("core", "docs"):
        os.nice(max(15 - os.nice(0), 0))


OPTIONAL = {
    "array_api_strict",
    "huggingface_hub",
    "mujoco",
    "nicegui",
    "onnx",
    "playwright",
    "safetensors",
    "torch",
    "transformers",
    "trimesh",
}
"""Modules of the extras and of the tests, which a colcon workspace need not have."""


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    """Skips a file that needs an optional package, instead of ending the whole run there."""
    report = (yield).get_result()
    raised = report.call.excinfo
    cause = raised.value.__cause__ if raised is not None else None
    if isinstance(cause, ModuleNotFoundError) and str(cause.name).split(".")[0] in OPTIONAL:
        reason = f"Skipped: {cause.name} ABSENT: install the extra that needs it"
        report.outcome, report.result = "skipped", []
        report.longrepr = (str(collector.path), 1, reason)


REAL_DATA = Path(os.environ.get("WILDSEG3D_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data():
    """Folder of real recordings; `real_data('apc_shelf')` skips the test when it is absent."""

    def find(name: str) -> Path:
        folder = REAL_DATA / name
        if not folder.is_dir():
            pytest.skip(
                f"REAL FRAMES ABSENT: '{folder}' is not there; set WILDSEG3D_DATA to the folder "
                f"that holds '{name}' to run this test"
            )
        return folder

    return find


@pytest.fixture(scope="session")
def small_sam2(tmp_path_factory) -> Path:
    """Folder with the weights of a small random SAM 2."""
    pytest.importorskip("transformers")
    from wildseg3d_testing.sam2_weights import write_small_sam2

    return write_small_sam2(tmp_path_factory.mktemp("sam2") / "weights")


@pytest.fixture(scope="module")
def one_thread():
    """Small tensors on a busy machine: threads wait for each other longer than they work."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def plane_site(tmp_path_factory) -> Path:
    """Folder for the path, where the package that docs/how-to/extending.md shows is installed."""
    from wildseg3d_testing.plane_package import install

    return install(tmp_path_factory.mktemp("plane"))


@pytest.fixture
def plane_package(plane_site, monkeypatch) -> None:
    """That package is found, in this process and in those that it starts."""
    from wildseg3d_ros.core.plugins import Registry
    from wildseg3d_ros.masks.config import MaskConfig
    from wildseg3d_ros.pointmaps.config import PointmapConfig

    monkeypatch.syspath_prepend(plane_site)
    monkeypatch.setenv("PYTHONPATH", str(plane_site), prepend=os.pathsep)
    for section in (PointmapConfig, MaskConfig):
        monkeypatch.setattr(section, "registry", Registry(section.registry.group))
