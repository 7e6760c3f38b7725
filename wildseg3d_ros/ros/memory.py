"""Memory that was freed goes back to the system once requests have ended.

glibc keeps what is freed between blocks that are in use: after eight clients with large replies, a
node held 100 MB more than before they came, 90 of which were free. What stays is Fast DDS's: it
keeps the room of the largest request that each service has had.
"""

from __future__ import annotations

import ctypes

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

_PERIOD = 10.0
"""Seconds between looks; a release takes some milliseconds."""


def release_memory() -> None:
    """Gives back what the C library holds and nobody uses; nothing without glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class MemoryRelease:
    """Releases memory a while after requests, when no more have come.

    Args:
        node: whose requests they are.
        period: seconds.
    """

    def __init__(self, node: Node, period: float = _PERIOD) -> None:
        self._before = self._now = self._released = 0
        group = MutuallyExclusiveCallbackGroup()
        clock = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        node.create_timer(period, self._look, callback_group=group, clock=clock)

    def note(self) -> None:
        """There was a request, or a new scene."""
        self._now += 1

    def _look(self) -> None:
        if self._now == self._before and self._released != self._now:
            self._released = self._now
            release_memory()
        self._before = self._now
