"""Qualities of service that several parts of the node and its client share."""

from __future__ import annotations

from rclpy.qos import QoSProfile, ReliabilityPolicy

SERVICE_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""Of the service ``segment``. Fast DDS sends every reply to every client of a service, and what is
pushed out of a queue before it is read is lost, reliable or not: of eight busy clients on a loaded
machine, with the usual depth of 10, five lost a reply within a minute. The queue holds as many of
the largest replies in memory, once there were so many."""
