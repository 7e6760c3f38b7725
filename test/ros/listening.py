"""What tests wait for, ask of other services, and hear on /diagnostics."""

from __future__ import annotations

import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.srv import ListParameters

from wildseg3d_ros.ros.discovery import ask_until_answered

PATIENCE = 60.0
"""Seconds for what happens at once on an idle machine."""


def wait_for(condition, seconds: float = PATIENCE):
    """Waits until a condition holds; returns what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found


def images_of(node, *cameras: str) -> None:
    """Waits until the node has complete images of cameras that are taken from now on."""
    now_ns = node.get_clock().now().nanoseconds

    def there() -> bool:
        newest = [node.cameras[name].matcher.newest() for name in cameras]
        return all(frames is not None and frames.stamp_ns > now_ns for frames in newest)

    wait_for(there)


def service_of(server: str, client, kind: type, name: str):
    """Calls a service of the node ``server``, which has discovered this client of it."""
    service = client.node.create_client(kind, name)
    known = f"{server}/list_parameters"
    assert ask_until_answered(client.node, ListParameters, known, PATIENCE), f"no node {server}"
    wait_for(service.service_is_ready)
    return lambda **request: client._wait(service.call_async(kind.Request(**request)))


class Listener:
    """The newest diagnostics by the end of their names."""

    def __init__(self, client) -> None:
        self.heard: dict[str, DiagnosticStatus] = {}
        client.node.create_subscription(DiagnosticArray, "/diagnostics", self._take, 10)

    def _take(self, message: DiagnosticArray) -> None:
        assert message.header.stamp.sec > 0
        for status in message.status:
            node, _, name = status.name.partition(": ")
            assert node == status.hardware_id == "wildseg3d"
            self.heard[name] = status

    def level(self, name: str) -> bytes | None:
        status = self.heard.get(name)
        return None if status is None else status.level

    def values(self, name: str) -> dict[str, str]:
        return {pair.key: pair.value for pair in self.heard[name].values}
