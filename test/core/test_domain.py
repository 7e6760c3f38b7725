"""Runs beside each other on one machine do not hear each other."""

from __future__ import annotations

import socket

from wildseg3d_ros.core.domain import free_domain


def test_free_domain_is_one_on_whose_ports_nobody_listens():
    domain = free_domain()
    assert 1 <= domain <= 101
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        # A participant's second port for what it says of itself.
        other.bind(("127.0.0.1", 7400 + 250 * domain + 12))
        assert free_domain() != domain
