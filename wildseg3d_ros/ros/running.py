"""How a node process starts and ends: signals, executor, exit status."""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

import rclpy
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
)
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from wildseg3d_ros.errors import WildSeg3DError

THREADS = 4
"""Of the executor: streams, service, action, and one to spare."""

BAD_START = 2
"""Exit status of a node that could not start with what it was given."""


class Spinner:
    """Serves a node's callbacks from a background thread, whatever they raise.

    EventsExecutor serves nothing with the wheels of rclpy 9.1; MultiThreadedExecutor does.
    """

    def __init__(self, node: Node, threads: int = THREADS) -> None:
        self._node = node
        self._executor: Executor = (
            MultiThreadedExecutor(threads, context=node.context)
            if threads > 1
            else SingleThreadedExecutor(context=node.context)
        )
        self._executor.add_node(node)
        self._stop = Future()
        self._thread = threading.Thread(target=self._spin, name="spin", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops serving and waits for the callbacks that run."""
        if not self._stop.done():
            self._stop.set_result(None)
        self._thread.join()
        # rclpy's own shutdown takes away the guard condition that running callbacks still trigger.
        pool = getattr(self._executor, "_executor", None)
        if pool is not None:
            pool.shutdown(wait=True)
        self._executor.shutdown()

    def _spin(self) -> None:
        while not self._stop.done() and self._node.context.ok():
            try:
                self._executor.spin_until_future_complete(self._stop)
            except ExternalShutdownException:
                return
            except Exception:  # noqa: BLE001
                # Callbacks catch their own errors. What arrives here is the middleware's, such as
                # a reply to a client that is gone: no reason for a node to die.
                self._node.get_logger().error(traceback.format_exc())
                time.sleep(0.1)


def run_node(make: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Runs one node until SIGINT or SIGTERM, as often as they come; returns the exit status.

    Args:
        make: creates the node, which may have a ``close()``; WildSeg3DError of it is one log line.
        args: command line without the program's name; None for the process's own.
    """
    stop = threading.Event()
    # Own handlers instead of rclpy's: under launch the signal comes twice, and the second one must
    # not raise KeyboardInterrupt in the middle of the clean-up.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(
        args=list(sys.argv[1:] if args is None else args),
        signal_handler_options=SignalHandlerOptions.NO,
    )
    try:
        node = make()
    except WildSeg3DError as error:
        get_logger("wildseg3d").fatal(f"{error.code.name}: {error}")
        rclpy.try_shutdown()
        return BAD_START
    spinner = Spinner(node)
    while node.context.ok() and not stop.wait(0.5):
        pass
    close = getattr(node, "close", None)
    if close is not None:
        close()
    spinner.stop()
    node.destroy_node()
    rclpy.try_shutdown()
    return 0
