"""A ROS domain that nobody else on this machine is in."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_FIRST_PORT, _PORTS = 7400, 250
"""DDS gives each domain so many ports, from the first on."""
_DOMAINS = range(1, 102)
"""Ports of later ones are among those that Linux hands out."""


def free_domain() -> int:
    """A domain on whose ports nobody listens; by the process's number, so that two who ask at one
    time get different ones."""
    taken = {(port - _FIRST_PORT) // _PORTS for port in _udp_ports()}
    start = os.getpid() % len(_DOMAINS)
    order = [*_DOMAINS[start:], *_DOMAINS[:start]]
    return next((domain for domain in order if domain not in taken), order[0])


def _udp_ports() -> Iterable[int]:
    """Ports of this machine that somebody listens on; none where the system does not say."""
    table = Path("/proc/net/udp")
    lines = table.read_text().splitlines()[1:] if table.is_file() else []
    return [int(line.split()[1].rpartition(":")[2], 16) for line in lines]
