"""Launch files, rig files, RViz: statically always, with the launch system where it is."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.parameter import Parameter
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.settings import walk
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.ros.parameters import Parameters
from wildseg3d_ros.ros.replay_node import camera_names
from wildseg3d_ros.ros.rviz import rig_of, write_rviz_config
from wildseg3d_ros.streams.config import CameraConfig

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RIGS = sorted((ROOT / "config").glob("*.yaml"))
LAUNCHES = sorted((ROOT / "launch").glob("*.launch.py"))


def rig(path: Path) -> dict:
    return yaml.safe_load(path.read_text())["/**"]["ros__parameters"]


def leaves(values: dict, prefix: str = ""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_launch_files_exist():
    """There is something to test."""
    assert {"four_rgbd.yaml", "wrist_rgbd.yaml", "four_rgb.yaml", "demo.yaml"} == {
        path.name for path in RIGS
    }
    assert {"scene.launch.py", "demo.launch.py"} == {path.name for path in LAUNCHES}


@pytest.mark.parametrize("path", RIGS, ids=lambda path: path.name)
def test_config_rigs_read_by_node(path, capfd):
    """As ROS reads them: every value arrives, and none is unknown."""
    context = rclpy.Context()
    rclpy.init(context=context, args=["--ros-args", "--params-file", str(path)])
    node = rclpy.create_node("wildseg3d", context=context)
    try:
        parameters = Parameters(node)
        parameters.scene(), parameters.node()
        for name, value in leaves(rig(path)):
            assert node.get_parameter(name).value == value, name
        assert parameters.camera_names == tuple(rig(path)["cameras"])
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert "unknown parameter" not in "".join(capfd.readouterr())


def test_config_commented_camera():
    """The commented camera of the rig file works too."""
    text = (ROOT / "config/four_rgbd.yaml").read_text()
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "# back:")
    shown = []
    for line in lines[start:]:
        if not line.strip().startswith("#"):
            break
        shown.append(line.strip().removeprefix("# "))
    camera = yaml.safe_load("\n".join(shown))["back"]
    assert set(camera) == set(CameraConfig.__dataclass_fields__)
    context = rclpy.Context()
    rclpy.init(context=context)
    overrides = [Parameter(f"back.{name}", value=value) for name, value in camera.items()]
    overrides.append(Parameter("cameras", value=["back"]))
    node = rclpy.create_node("wildseg3d", context=context, parameter_overrides=overrides)
    try:
        assert Parameters(node).camera("back") == CameraConfig(**camera)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_config_demo_cameras():
    """The demo's cameras are those of its recording."""
    folder = ROOT / "examples/tabletop"
    if not folder.is_dir():
        pytest.skip(f"RECORDING ABSENT: '{folder}' is not there")
    assert tuple(rig(ROOT / "config/demo.yaml")["cameras"]) == camera_names(load_folder(folder))


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.name)
def test_launch_files_imports(path):
    """Launch files import only the launch system, and our package where they ask it."""
    tree = ast.parse(path.read_text())
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").split(".")[0])
    ours = {"ament_index_python", "launch", "launch_ros", "wildseg3d_ros"}
    assert modules <= {"os", "pathlib", "tempfile"} | ours
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "generate_launch_description" in functions


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.name)
def test_launch_files_arguments(path):
    """Arguments are declared described and used."""
    tree = ast.parse(path.read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]

    def named(name):
        return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == name]

    declared = {}
    for call in named("DeclareLaunchArgument"):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        assert "default_value" in keywords
        assert isinstance(call.args[0], ast.Constant)
        declared[call.args[0].value] = ast.literal_eval(keywords["description"])
    reading = [*named("LaunchConfiguration"), *named("text"), *named("flag")]
    names = [call.args[0] for call in reading]
    used = {name.value for name in names if isinstance(name, ast.Constant)}
    assert set(declared) == used
    assert all(len(text) > 10 for text in declared.values())
    # Whatever is started from this package is installed with it.
    executables = (ROOT / "setup.py").read_text()
    for call in named("Node"):
        keywords = {
            k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)
        }
        if keywords.get("package") == "wildseg3d":
            assert f'"{keywords["executable"]} = ' in executables


def test_launch_demo_order():
    """It sets the transports, for all that is started after it."""
    tree = ast.parse((ROOT / "launch/demo.launch.py").read_text())
    (description,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LaunchDescription"
    ]
    actions = [action.func.id for action in description.args[0].elts]
    assert actions.index("IncludeLaunchDescription") < actions.index("Node")
    assert "scene.launch.py" in ast.unparse(description)
    # What it passes on are arguments that there are.
    (passed,) = [node for node in ast.walk(description) if isinstance(node, ast.Dict)]
    scene = (ROOT / "launch/scene.launch.py").read_text()
    for name in map(ast.literal_eval, passed.keys):
        assert f'LaunchConfiguration("{name}")' in scene


def test_launch_scene_devices():
    """The launch file sets every setting whose name says that it is a device."""
    devices = {each.name for each in walk(SceneConfig()) if each.name.endswith(".device")}
    assert devices >= {"alignment.device", "masks.sam2.device", "pointmaps.mast3r.device"}


def test_config_rviz_topics(world):
    """Every topic is one of the node's, with a quality of service that fits."""
    cameras = rig(ROOT / "config/four_rgbd.yaml")["cameras"]
    node = world.scene_node(cameras=cameras, autostart=False)
    node.trigger_configure()
    node.trigger_activate()
    published = {p.topic_name: p.qos_profile for p in node.publishers}
    heard = {s.topic_name: s.qos_profile for s in node.subscriptions}
    shown = yaml.safe_load((ROOT / "config/scene.rviz").read_text())["Visualization Manager"]
    displays = {d["Name"]: d for d in shown["Displays"] if "Topic" in d}
    assert set(displays) == {"Scene", "Object", "Box", *(name.capitalize() for name in cameras)}
    for display in displays.values():
        topic = display["Topic"]
        name = node.resolve_topic_name(topic["Value"])
        assert not topic["Value"].startswith("/"), "relative: RViz runs in the node's namespace"
        assert name in published, name
        fits, why = qos_check_compatible(published[name], _profile(topic))
        assert fits != QoSCompatibility.ERROR, why
        assert topic["Durability Policy"] == "Transient Local"
    (tool,) = [tool for tool in shown["Tools"] if tool["Class"].endswith("/PublishPoint")]
    name = node.resolve_topic_name(tool["Topic"]["Value"])
    assert name in heard, name
    fits, why = qos_check_compatible(_profile(tool["Topic"]), heard[name])
    assert fits != QoSCompatibility.ERROR, why
    assert shown["Global Options"]["Fixed Frame"] == "world"


def test_rviz_config_has_the_cameras_and_the_frame(tmp_path):
    """A display for each camera, alike but for names and topics; the rest is the template's."""
    template = ROOT / "config/scene.rviz"
    before = yaml.safe_load(template.read_text())["Visualization Manager"]
    written = tmp_path / "scene.rviz"
    write_rviz_config(written, template, ["wrist", "top"], "base_link")
    after = yaml.safe_load(written.read_text())["Visualization Manager"]
    assert after["Global Options"]["Fixed Frame"] == "base_link"

    def images(manager):
        return [each for each in manager["Displays"] if each["Class"].endswith("/Image")]

    assert [each["Name"] for each in images(after)] == ["wrist", "top"]
    assert [each["Topic"]["Value"] for each in images(after)] == ["wrist/overlay", "top/overlay"]
    assert images(after)[1]["Topic"]["Durability Policy"] == "Transient Local"
    rest = [each for each in before["Displays"] if each not in images(before)]
    assert [each for each in after["Displays"] if each not in images(after)] == rest
    assert after["Tools"] == before["Tools"]
    written.write_text("Panels: []")
    with pytest.raises(FileError, match="no RViz configuration to start from"):
        write_rviz_config(tmp_path / "out", written, ["wrist"], "base_link")


@pytest.mark.parametrize("path", RIGS, ids=lambda path: path.name)
def test_rviz_rig_of_a_shipped_configuration(path):
    """What RViz shows is what the node has."""
    given = rig(path)
    assert rig_of(path) == (given["cameras"], given["world_frame"])


@pytest.mark.parametrize(
    "text",
    [
        "/cell/wildseg3d: {ros__parameters: {cameras: [a, b], world_frame: base}}",
        "cell: {wildseg3d: {ros__parameters: {cameras: [a, b], world_frame: base}}}",
        """
/**: {ros__parameters: {cameras: [a, b]}}
other: {ros__parameters: {cameras: [c], world_frame: map}}
/**/wildseg3d: {ros__parameters: {world_frame: base}}
""",
    ],
)
def test_rviz_rig_of_sections(tmp_path, text):
    """Sections by name, by pattern and nested; those of other nodes do not count."""
    path = tmp_path / "rig.yaml"
    path.write_text(text)
    assert rig_of(path) == (["a", "b"], "base")
    path.write_text("nothing: here")
    assert rig_of(path) == ([], "world")


def _profile(topic: dict) -> QoSProfile:
    return QoSProfile(
        depth=topic["Depth"],
        reliability=ReliabilityPolicy[topic["Reliability Policy"].replace(" ", "_").upper()],
        durability=DurabilityPolicy[topic["Durability Policy"].replace(" ", "_").upper()],
    )


TALKER = """
import rclpy
from std_msgs.msg import String
rclpy.init()
publisher = rclpy.create_node("talker").create_publisher(String, "talk", 1)
print("ready", flush=True)
input()
"""


@pytest.mark.skipif(
    not Path("/dev/shm").is_dir() or shutil.disk_usage("/dev/shm").free < 2**27,
    reason="/dev/shm HAS NO ROOM: the profile of Fast DDS is not tested",
)
def test_config_fastdds_segment_size():
    """The profile of fast DDS gives its processes room for images."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FASTDDS_", "FASTRTPS_"))
    }
    environment["FASTDDS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config/fastdds.xml")
    with subprocess.Popen(
        [sys.executable, "-c", TALKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as talker:
        assert talker.stdin is not None
        assert talker.stdout is not None
        assert talker.stdout.readline() == "ready\n"
        mapped = Path(f"/proc/{talker.pid}/maps").read_text().split()
        sizes = [Path(name).stat().st_size for name in mapped if name.startswith("/dev/shm/fast")]
        talker.stdin.write("\n")
    assert max(sizes) > 16 * 2**20


# ---- with the real launch system ---------------------------------------------------------------

NEEDS_LAUNCH = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None,
    reason="launch_ros ABSENT: launch files are checked statically only; source an apt ROS",
)


@NEEDS_LAUNCH
def test_launch_scene_transports(monkeypatch):
    """Transports are set unless the user chose some."""
    import launch

    def variables() -> set[str]:
        path = ROOT / "launch/scene.launch.py"
        spec = importlib.util.spec_from_file_location("launch_file", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        description = module.generate_launch_description()
        return {
            launch.utilities.perform_substitutions(launch.LaunchContext(), action.name)
            for action in description.entities
            if isinstance(action, launch.actions.SetEnvironmentVariable)
        }

    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS", raising=False)
    for distro, name in (("jazzy", "FASTRTPS"), ("kilted", "FASTDDS")):
        monkeypatch.setenv("ROS_DISTRO", distro)
        files = f"{name}_DEFAULT_PROFILES_FILE"
        assert variables() == {"FASTDDS_BUILTIN_TRANSPORTS", files}
        with monkeypatch.context() as chosen:
            chosen.setenv(files, "mine.xml")
            assert variables() == set()
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "DEFAULT")
    assert variables() == set()


@NEEDS_LAUNCH
@pytest.mark.skipif(
    importlib.util.find_spec("launch_testing") is None,
    reason="launch_testing ABSENT: the launched nodes are not tested; source an apt ROS",
)
def test_launch_demo_launched():
    """launch_testing runs demo.launch.py and its own checks on it."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix("wildseg3d")
    except PackageNotFoundError:
        pytest.skip("wildseg3d is not in AMENT_PREFIX_PATH: source its install/setup.bash")
    done = subprocess.run(
        [sys.executable, "-m", "launch_testing.launch_test", HERE / "launched_demo.py"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        # The launch file is to set the transports itself.
        env={k: v for k, v in os.environ.items() if k != "FASTDDS_BUILTIN_TRANSPORTS"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("... ok") == 3


@NEEDS_LAUNCH
@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.name)
def test_launch_files_show_args(path):
    """Ros2 launch shows the arguments."""
    pytest.importorskip("ros2launch", reason="ros2launch ABSENT: source an apt ROS")
    shown = subprocess.run(
        ["ros2", "launch", str(path), "--show-args"], capture_output=True, text=True, check=True
    )
    assert "'config'" in shown.stdout
