"""Who has discovered whom: DDS drops what one sends whom the other does not know, without a word.

That we have discovered a service does not mean that it has discovered us. What one participant
makes is heard of by the others in that order: whoever answers the client that we made last knows
all that we made before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future

from wildseg3d_ros.ros.qos import latched

_POLL_SECONDS = 0.02
_AGAIN_SECONDS = 0.1, 2.0
"""After so long without an answer it is asked again; from the one to the other, doubled."""


def when_done(future: Future) -> threading.Event:
    """Set once the future is done."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    return done


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits until a condition is met; returns whether it is."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def ask_until_answered(
    node: Node, service: type, name: str, seconds: float, request: Any = None
) -> Any:
    """Asks until there is an answer: the node that gives it knows all that ``node`` has made.

    Args:
        node: that asks; served by another thread.
        service: type of the service, which changes nothing, as it may be asked several times.
        name: of the service.
        seconds: to wait for the service, and for its answer.
        request: the question; None for an empty one.

    Returns:
        The reply; None where the service did not come or did not answer.
    """
    request = service.Request() if request is None else request  # type: ignore[attr-defined]
    client = node.create_client(service, name)
    answers: list[Any] = []
    answered = threading.Event()

    def take(future: Future) -> None:
        answers.append(future.result())
        answered.set()

    try:
        end, (again, longest) = time.monotonic() + seconds, _AGAIN_SECONDS
        if not wait_for(client.service_is_ready, seconds):
            return None
        while not answers and time.monotonic() < end:
            client.call_async(request).add_done_callback(take)
            answered.wait(min(again, max(end - time.monotonic(), 0.0)))
            again = min(2 * again, longest)
        return answers[0] if answers else None
    finally:
        node.destroy_client(client)


def publish_once(node: Node, message: Any, topic: str, seconds: float) -> tuple[str, int]:
    """Publishes a message to those who listen, and waits until it has arrived.

    Args:
        node: that publishes.
        seconds: to wait for somebody who listens, and for the message to arrive.

    Returns:
        The topic's whole name, and how many listen to it.
    """
    publisher = node.create_publisher(type(message), topic, latched())
    # Who does not ask for latched messages gets those alone that come after the two have met.
    wait_for(lambda: publisher.get_subscription_count() > 0, seconds)
    publisher.publish(message)
    publisher.wait_for_all_acked(Duration(seconds=min(seconds, 60.0)))
    return publisher.topic_name, publisher.get_subscription_count()
