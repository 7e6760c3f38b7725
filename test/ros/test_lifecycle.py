"""The managed node: what each state does and says, over the services of `ros2 lifecycle`."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import table
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from listening import PATIENCE, service_of

from wildseg3d_ros.core.errors import Cancelled, ConfigError, ErrorCode, WildSeg3DError

VIEWS = table.make_views()
ON_RED = ("front", *table.pixel_on(VIEWS[0], table.RED))
STREAMS = {"/left/color/image_raw", "/left/color/camera_info", "/tf", "/tf_static"}
CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
SHUTDOWN = Transition.TRANSITION_ACTIVE_SHUTDOWN


class Manager:
    """What a lifecycle manager does, over DDS."""

    def __init__(self, client) -> None:
        self._change, self._get = (
            service_of("wildseg3d", client, kind, f"wildseg3d/{name}")
            for kind, name in ((ChangeState, "change_state"), (GetState, "get_state"))
        )

    def change(self, transition: int) -> bool:
        return self._change(transition=Transition(id=transition)).success

    @property
    def state(self) -> str:
        return self._get().current_state.label


def heard_by(node) -> set[str]:
    return {subscription.topic_name for subscription in node.subscriptions}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def refused(client, *words: str) -> WildSeg3DError:
    with pytest.raises(WildSeg3DError) as error:
        client.segment([ON_RED])
    with pytest.raises(WildSeg3DError) as same:
        client.build()
    assert (error.value.code, str(error.value)) == (same.value.code, str(same.value))
    for word in words:
        assert word in str(error.value)
    return error.value


def test_scene_node_all_transitions(world, capfd):
    """A manager takes it through all states."""
    node = world.scene_node(autostart=False)
    world.replay()
    client = world.client()
    manager = Manager(client)

    assert manager.state == "unconfigured"
    assert node._worker.pid is None
    assert not STREAMS & heard_by(node)
    assert refused(client, "unconfigured", "ros2 lifecycle set /wildseg3d configure").code == (
        ErrorCode.NOT_ACTIVE
    )

    assert manager.change(CONFIGURE)
    assert manager.state == "inactive"
    process = node._worker.pid
    assert alive(process)
    assert not STREAMS & heard_by(node)
    refused(client, "inactive", "ros2 lifecycle set /wildseg3d activate")

    assert manager.change(ACTIVATE)
    assert manager.state == "active"
    assert heard_by(node) >= STREAMS
    first = client.build()
    assert client.segment([ON_RED]).scene_id == first.scene_id

    # The scene outlives a pause; what was heard before it is not used after it.
    assert manager.change(DEACTIVATE)
    assert not STREAMS & heard_by(node)
    refused(client, "inactive")
    assert manager.change(ACTIVATE)
    assert client.segment([ON_RED]).scene_id == first.scene_id
    assert client.build().scene_id != first.scene_id

    assert manager.change(DEACTIVATE)
    assert manager.change(CLEANUP)
    assert manager.state == "unconfigured"
    assert not alive(process)
    assert node._current is None
    assert "scene_cloud" not in {p.topic_name.strip("/") for p in node.publishers}
    assert not manager.change(ACTIVATE), "there is no such transition"

    assert manager.change(CONFIGURE)
    assert manager.change(ACTIVATE)
    with pytest.raises(WildSeg3DError, match="no scene yet"):
        client.segment([ON_RED])
    assert client.build().objects == 2
    assert manager.change(SHUTDOWN)
    assert manager.state == "finalized"
    refused(client, "shut down; start its process again")
    assert not alive(node._worker.pid or process)

    log = "".join(capfd.readouterr())
    for step in ("configure", "activate", "deactivate", "cleanup", "shutdown (active)"):
        assert f"{step}: begins" in log
        assert f"{step}: done in" in log


def test_configure_models_not_loadable(world, capfd):
    """Configuring fails with the reason, which every question is answered with."""
    node = world.scene_node("unloadable_builder")
    world.replay()
    client = world.client()
    node.wait_until_started(lambda: False)
    error = refused(client, "weights are not there; download them", "lifecycle set /wildseg3d")
    assert error.code == ConfigError.code
    assert node.state == "unconfigured"
    assert node._worker.pid is None
    log = "".join(capfd.readouterr())
    assert "configure: failed: BAD_CONFIG: the weights are not there" in log
    assert not Manager(client).change(CONFIGURE)
    assert node.state == "unconfigured"


def test_activate_defect_is_undone(world, monkeypatch, capfd):
    """A defect while activating is undone."""
    node = world.scene_node(autostart=False)
    client = world.client()
    manager = Manager(client)
    assert manager.change(CONFIGURE)
    with monkeypatch.context() as broken:
        broken.setattr(node._transforms, "subscribe", lambda: 1 / 0)
        assert not manager.change(ACTIVATE)
    assert manager.state == "unconfigured"
    assert not STREAMS & heard_by(node)
    refused(client, "defect in 'activate': ZeroDivisionError")
    assert "Traceback" in "".join(capfd.readouterr())
    assert manager.change(CONFIGURE)
    assert manager.change(ACTIVATE)


def test_deactivate_ends_build(world, monkeypatch, tmp_path):
    """Deactivation ends a running build."""
    monkeypatch.setenv("PATIENT_UNTIL", str(tmp_path / "never"))
    world.scene_node("patient_builder")
    world.replay()
    client = world.client()
    manager, waiting, outcome = Manager(client), threading.Event(), []

    def build() -> None:
        try:
            client.build(progress=lambda stage, _: stage == "waiting" and waiting.set())
        except WildSeg3DError as error:
            outcome.append(error)

    builder = threading.Thread(target=build)
    builder.start()
    assert waiting.wait(PATIENCE)
    assert manager.change(DEACTIVATE)
    builder.join(PATIENCE)
    assert isinstance(outcome[0], Cancelled)
    assert "deactivated" in str(outcome[0])
    (tmp_path / "never").touch()
    assert manager.change(ACTIVATE)
    assert client.build().objects == 2
