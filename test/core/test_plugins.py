"""Back ends of other packages: found, configured, left out, and the errors about them."""

from __future__ import annotations

import dataclasses
import logging
import pickle
import subprocess
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from wildseg3d_ros import cli
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.plugins import BackendSection, Registry
from wildseg3d_ros.core.settings import from_mapping, setting, walk
from wildseg3d_ros.io.folder import write_folder
from wildseg3d_ros.masks.config import MaskConfig
from wildseg3d_ros.masks.geometric.config import GeometricMaskConfig
from wildseg3d_ros.pointmaps.config import PointmapConfig
from wildseg3d_ros.pointmaps.depth.config import DepthPointmapConfig
from wildseg3d_testing.mask_contract import MaskContract
from wildseg3d_testing.plane_package import GREEN, SQUARES, recording
from wildseg3d_testing.pointmap_contract import Case, PointmapContract
from wildseg3d_testing.scenes import construct_scene

# ---- the package of docs/how-to/extending.md ---------------------------------------------------


@pytest.fixture
def case(plane_package):
    config = SceneConfig.from_mapping({"pointmaps": {"backend": "plane"}})
    truth = construct_scene(3, 160, 120, 5, with_depth=False)
    last = truth.views[2]
    views = (*truth.views[:2], dataclasses.replace(last, image=last.image[:100]))
    unposed = dataclasses.replace(views[0], world_from_cam_prior=None)
    return Case(config.pointmaps.load(), views, unposed, "needs intrinsics and a pose")


@pytest.fixture
def backend(plane_package):
    return MaskConfig("colors").load()


class TestPlanePointmaps(PointmapContract):
    pass


class TestColorMasks(MaskContract):
    pass


def test_cli_other_package(plane_package, tmp_path):
    """It builds by the names and the settings of a package that nothing of ours knows."""
    folder, scene, cloud = (tmp_path / name for name in ("recording", "scene.ws3d", "cloud.npz"))
    given = recording()
    write_folder(folder, given)
    words = ["build", folder, "-o", scene, "--set", "pointmaps.backend=plane", "--set",
             "pointmaps.plane.depth=0.8", "--set", "masks.backend=colors"]  # fmt: skip
    command = [sys.executable, "-m", "wildseg3d_ros.cli"]
    done = subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "objects  2 with" in done.stdout
    v, u = np.argwhere(given.object_masks[0] == GREEN)[0]
    words = ["segment", str(scene), "--view", "cam_0", "--pixel", str(u), str(v), "-o", str(cloud)]
    assert cli.main(words) == 0
    with np.load(cloud) as found:
        offset = np.abs(found["points"] - [*SQUARES[GREEN], 0.0])
    assert len(offset) > 300
    assert offset.max(axis=0) == pytest.approx([0.06, 0.06, 0.0], abs=0.007)


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("pointmaps.plane.dept=1", "'pointmaps.plane.dept' (did you mean 'pointmaps.plane.depth'"),
        ("pointmaps.plane.depth=0", "'pointmaps.plane.depth' must lie in [0.05, 100.0]"),
        ("pointmaps.plan.depth=1", "'pointmaps.plan' (did you mean 'pointmaps.plane'?)"),
        (
            "pointmaps.backend=plan",
            "one of auto, da3, depth, mast3r, plane, stereo; got 'plan' (did you mean",
        ),
        ("masks.backend=geometry", "geometric, sam2; got 'geometry' (did you mean 'geometric'?)"),
    ],
)
def test_cli_wrong_setting(plane_package, tmp_path, capsys, setting, error):
    write_folder(tmp_path / "recording", recording())
    assert cli.main(["build", str(tmp_path / "recording"), "--set", setting, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert error in said
    assert len(said.splitlines()) == 1


def test_backend_section_other_package(plane_package, tmp_path):
    """Its settings are read, replaced, compared and pickled as ours are."""
    from wildseg3d_plane.plane import PlaneConfig

    (tmp_path / "plane.yaml").write_text("pointmaps: {backend: plane, plane: {depth: 2}}\n")
    config = SceneConfig.from_yaml(tmp_path / "plane.yaml")
    assert config.pointmaps == PointmapConfig("plane", plane=PlaneConfig(depth=2.0))
    assert config.pointmaps.plane.depth == 2.0
    assert pickle.loads(pickle.dumps(config)) == config
    assert "pointmaps.plane.depth" in [each.name for each in walk(config)]
    assert config.pointmaps.load().predict([], [], None) == []


# ---- sections ----------------------------------------------------------------------------------


def test_backend_section_is_a_value():
    """It is compared, hashed, pickled and replaced as any frozen dataclass is."""
    changed = PointmapConfig(backend="depth", depth=DepthPointmapConfig(max_depth=1.5))
    assert changed == from_mapping(
        PointmapConfig(), {"backend": "depth", "depth": {"max_depth": 1.5}}
    )
    assert changed != PointmapConfig()
    assert PointmapConfig(depth=DepthPointmapConfig()) == PointmapConfig("auto")
    assert changed.depth.max_depth == 1.5
    assert changed.stereo == PointmapConfig().stereo
    assert len({changed, PointmapConfig(), PointmapConfig("auto")}) == 2
    again = pickle.loads(pickle.dumps(SceneConfig(pointmaps=changed)))
    assert again.pointmaps == changed
    assert hash(again) == hash(SceneConfig(pointmaps=changed))
    stereo = dataclasses.replace(changed, backend="stereo")
    assert (stereo.backend, stereo.depth.max_depth) == ("stereo", 1.5)
    default = dataclasses.replace(stereo, backend="auto", depth=DepthPointmapConfig())
    assert default == PointmapConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        changed.backend = "stereo"
    with pytest.raises(TypeError, match="no back end 'dpeth'"):
        PointmapConfig(dpeth=DepthPointmapConfig())
    with pytest.raises(AttributeError, match="no back end 'dpeth'"):
        _ = changed.dpeth


def test_backend_section_import_looks_for_nothing():
    code = (
        "import sys, wildseg3d_ros.config as c; c.SceneConfig(); before = set(sys.modules);"
        "assert 'entries' not in vars(c.PointmapConfig.registry);"
        "c.SceneConfig.from_mapping({'masks': {'geometric': {'voxel_size': 0.01}}});"
        "assert 'wildseg3d_ros.masks.sam2.config' in set(sys.modules) - before;"
        "assert 'wildseg3d_ros.masks.sam2.backend' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- registries --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class GoodConfig:
    size: int = setting(3, "how large", 1, 9)

    def load(self):
        return self.size


class MissingModule(GoodConfig):
    def load(self):
        import wildseg3d_no_such_module  # noqa: F401


class GoneModule(GoodConfig):
    def load(self):
        import wildseg3d_ros.gone.away  # noqa: F401


class MissingExtra(MissingModule):
    extra: ClassVar[str] = "clouds"


class MissingOwnModule(GoodConfig):
    def load(self):
        raise ModuleNotFoundError("defect", name=__name__ + ".gone")


@dataclasses.dataclass
class NotFrozen:
    def load(self):
        return None


@dataclasses.dataclass(frozen=True)
class NoLoad:
    size: int = setting(3, "how large", 1, 9)


@dataclasses.dataclass(frozen=True)
class NoText(GoodConfig):
    color: str = "red"


@dataclasses.dataclass(frozen=True)
class DefaultOutOfRange(GoodConfig):
    size: int = setting(30, "how large", 1, 9)


def entry(name: str, value: str, package: str = "others") -> EntryPoint:
    if ":" not in value:
        value = f"test_plugins_here:{value}"
    made = EntryPoint(name, value, "wildseg3d.tests")
    object.__setattr__(made, "dist", None)
    vars(made).update(dist=SimpleNamespace(name=package))
    return made


@pytest.fixture
def section(monkeypatch):
    """A section of the configuration whose back ends are those of the given entry points."""
    monkeypatch.setitem(sys.modules, "test_plugins_here", sys.modules[__name__])

    def make(*entries: EntryPoint) -> BackendSection:
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: entries)

        @dataclasses.dataclass(frozen=True, init=False)
        class Section(BackendSection):
            registry = Registry("wildseg3d.tests")
            backend: str = registry.setting("good", "which")

        return Section()

    return make


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("bad", "wildseg3d_no_such_module:Config", "No module named 'wildseg3d_no_such_module'"),
        ("bad", "NoSuchClass", "has no attribute 'NoSuchClass'"),
        ("bad", "NotFrozen", "is no frozen dataclass with a method load"),
        ("bad", "NoLoad", "is no frozen dataclass with a method load"),
        ("bad", "NoText", "'bad.color' is no setting(): it has no description"),
        ("bad", "DefaultOutOfRange", "'bad.size' must lie in [1, 9]; got 30"),
        ("backend", "GoodConfig", "'backend' cannot be the name of a group"),
        ("registry", "GoodConfig", "'registry' cannot be the name of a group"),
        ("my-own", "GoodConfig", "'my-own' cannot be the name of a group"),
    ],
)
def test_registry_leaves_out(section, caplog, name, value, cause):
    """What cannot be used is a warning, and an error only for who chooses it."""
    made = section(entry("good", "GoodConfig"), entry(name, value, "their-package"))
    assert [each.name for each in walk(made)] == ["backend", "good.size"]
    assert made.load() == 3
    (warning,) = caplog.messages
    assert f"'{name}' of the package 'their-package' is left out, it cannot be used" in warning
    assert cause in warning
    with pytest.raises(ConfigError) as refused:
        from_mapping(made, {"backend": name}, "tests.")
    told = str(refused.value)
    assert f"'tests.backend' is one of good; got '{name}', which cannot be used" in told
    assert cause in told
    with pytest.raises(ConfigError, match="which cannot be used"):
        dataclasses.replace(made, backend=name).load()


def test_registry_same_name_twice(section, caplog):
    """Ours wins, whatever the order."""
    made = section(entry("good", "NoText", "a-package"), entry("good", "GoodConfig", "wildseg3d"))
    assert made.good == GoodConfig()
    assert "'good' of the package 'a-package' is left out: 'wildseg3d' has one" in caplog.text


def test_registry_warning_is_one_line(section, capfd):
    """Without logging set up, it is on standard error."""
    made = section(entry("good", "GoodConfig"), entry("bad", "NoSuchClass"))
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        list(walk(made))
    finally:
        root.handlers = handlers
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_registry_nothing_installed(section):
    with pytest.raises(ConfigError, match="not even wildseg3d itself: `make setup`"):
        section().load()


@pytest.mark.parametrize(
    ("value", "package", "command"),
    [
        ("MissingModule", "their-package", "`pip install their-package`"),
        ("MissingExtra", "their-package", "`pip install their-package`"),
        ("MissingModule", "wildseg3d", "`pip install wildseg3d`"),
        (
            "MissingExtra",
            "wildseg3d",
            "`make setup EXTRAS=clouds` in a clone, else `pip install 'wildseg3d[clouds]'`",
        ),
    ],
)
def test_load_missing_module(section, value, package, command):
    """The error names the back end, the module and the one command."""
    with pytest.raises(ConfigError) as error:
        section(entry("good", value, package)).load()
    told = str(error.value)
    assert "tests.backend=good needs the Python module 'wildseg3d_no_such_module'" in told
    assert command in told
    assert "\n" not in told


def test_load_made_for_another_version(section):
    """A module of ours that is gone is no missing package."""
    with pytest.raises(ConfigError, match="does not fit what is installed here: .*gone"):
        section(entry("good", "GoneModule")).load()


def test_section_takes_the_back_ends_own_settings(section):
    made = section(entry("good", "GoodConfig"))
    with pytest.raises(TypeError, match="'good' takes a GoodConfig, got 3"):
        type(made)(good=3)


def test_load_defect_in_the_back_ends_own_package(section):
    with pytest.raises(ModuleNotFoundError, match="defect"):
        section(entry("good", "MissingOwnModule")).load()


@pytest.mark.parametrize(
    ("kind", "name"), [("pointmaps", "da3"), ("pointmaps", "mast3r"), ("masks", "sam2")]
)
def test_load_without_torch(monkeypatch, kind, name):
    """The extra that has to be installed is the back end's own."""
    of_back_end = [m for m in sys.modules if m.startswith(f"wildseg3d_ros.{kind}.{name}.")]
    for module in of_back_end:
        if not module.endswith(".config"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)
    config = SceneConfig.from_mapping({kind: {"backend": name}})
    with pytest.raises(ConfigError, match=f"'torch'.*make setup EXTRAS={name}"):
        getattr(config, kind).load()


def test_configs_of_ours_are_light():
    """They import nothing that computes."""
    assert set(MaskConfig.registry.configs) >= {"geometric", "sam2"}
    assert MaskConfig.registry.find("geometric") is GeometricMaskConfig
    code = (
        "import sys; from wildseg3d_ros.config import SceneConfig; before = set(sys.modules);"
        "from wildseg3d_ros.core.settings import walk; list(walk(SceneConfig()));"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "assert not new & {'torch', 'cv2', 'scipy', 'transformers', 'skimage'}, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
