"""Qualities of service that several parts of the node and its client share."""

from __future__ import annotations

from rclpy.qos import QoSProfile, ReliabilityPolicy

SERVICE_QOS = QoSProfile(depth=32, reliability=ReliabilityPolicy.RELIABLE)
"""Of the service ``segment``. Fast DDS sends every reply to every client of a service, and what is
pushed out of a queue before it is read is lost, reliable or not: with the usual depth of 10 and
eight busy clients, one reply in a thousand."""
