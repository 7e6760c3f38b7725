"""Qualities of service that several parts share."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

SERVICE_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""Of the service ``segment``. Fast DDS sends every reply to every client of a service, and a reply
that is pushed out of a queue before it is read is lost, reliable or not: of eight busy clients on
a loaded machine, with the usual depth of 10, five lost a reply within a minute. Once the queue was
full, it keeps that many of the largest replies in memory."""


def latched(depth: int = 1) -> QoSProfile:
    """Reliable and transient local: the last messages of a topic also reach late subscribers."""
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
