"""Requests wait until both sides have discovered each other; messages, for who listens."""

from __future__ import annotations

import threading

import pytest
import rclpy
from listening import PATIENCE, wait_for
from rclpy.qos import qos_profile_sensor_data
from std_msgs.msg import String
from std_srvs.srv import Trigger

from wildseg3d_msgs.srv import ListViews, Segment
from wildseg3d_ros.ros.discovery import ask_until_answered, publish_once


def serve(world, node, kind, name, lost=0):
    """Serves what it returns: how often it was asked; the first replies are lost."""
    asked = []

    def take(_, reply):
        asked.append(name)
        return reply

    service = node.create_service(kind, name, take)
    send = service.send_response
    service.send_response = lambda *reply: send(*reply) if len(asked) > lost else None
    return asked


@pytest.fixture
def server(world):
    """A node, and one that asks it, of another participant."""
    return world.add(rclpy.create_node("server", context=world.context), 1)


def test_lost_replies_are_asked_for_again(world, server):
    asked = serve(world, server, Trigger, "ask", lost=2)
    client = world.client()
    assert ask_until_answered(client.node, Trigger, "ask", PATIENCE) is not None
    assert len(asked) >= 3
    assert ask_until_answered(client.node, Trigger, "nobody", 0.1) is None


def test_client_sends_nothing_before_the_node_knows_it(world, server):
    """What changes something is sent once: a lost reply to it would be the caller's loss."""
    known = serve(world, server, ListViews, "list_views", lost=2)
    asked = serve(world, server, Segment, "segment")
    client = world.client()
    client._build.server_is_ready = client._edit.server_is_ready = lambda: True
    client._call(client._segment, Segment.Request())
    assert (len(known) >= 3, len(asked)) == (True, 1)
    asks = len(known)
    client._call(client._segment, Segment.Request())
    assert (len(known), len(asked)) == (asks, 2), "it is known now"


def test_client_names_what_nobody_serves(world):
    with pytest.raises(TimeoutError, match="nobody serves 'segment' after 0.1 s; is the scene"):
        world.client().wait_until_ready(0.1)


def test_publish_once_reaches_who_listens_for_new_messages_alone(world, server):
    heard, told = [], []
    client = world.client()
    publisher = threading.Thread(
        target=lambda: told.append(publish_once(client.node, String(), "said", PATIENCE))
    )
    publisher.start()
    wait_for(lambda: server.count_publishers("said"))
    server.create_subscription(String, "said", heard.append, qos_profile_sensor_data)
    publisher.join(PATIENCE)
    assert told == [("/said", 1)]
    wait_for(lambda: heard)
    assert publish_once(client.node, String(), "to_nobody", 0.1) == ("/to_nobody", 0)
