"""What tests wait for, and hear on /diagnostics."""

from __future__ import annotations

import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus


def wait_for(condition, seconds: float = 20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


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
