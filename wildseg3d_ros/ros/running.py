"""How a node process starts and ends: signals, executor, exit status."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import rclpy
from rclpy._rclpy_pybind11 import (
    InvalidHandle,
    RCLError,
    RCLInvalidROSArgsError,
    UnknownROSArgsError,
)
from rclpy.callback_groups import CallbackGroup
from rclpy.context import Context
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
)
from rclpy.impl.logging_severity import LoggingSeverity
from rclpy.logging import get_logger, get_logger_effective_level, set_logger_level
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rclpy.utilities import remove_ros_args

from wildseg3d_ros.core.errors import ConfigError, ErrorCode, FileError, WildSeg3DError
from wildseg3d_ros.core.files.reading import shown
from wildseg3d_ros.core.files.text import read_yaml
from wildseg3d_ros.streams.rig_file import PARAMETERS

BAD_START = 2
"""Exit status of a node that could not start with what it was given."""


class _Rest(MultiThreadedExecutor):
    """Serves all of a node but some groups, and tells their executors of the node's changes."""

    def __init__(self, apart: Sequence[_Group], threads: int, context: Context) -> None:
        super().__init__(threads, context=context)
        self._apart = apart
        self._groups = {each.group for each in apart}

    def wake(self) -> None:
        # The node knows this executor only, and tells it of new subscriptions.
        super().wake()
        for each in self._apart:
            each.wake()

    def can_execute(self, entity: Any) -> bool:
        return entity.callback_group not in self._groups and super().can_execute(entity)


class _Group(SingleThreadedExecutor):
    """Serves one callback group of a node that belongs to another executor."""

    def __init__(self, node: Node, group: CallbackGroup) -> None:
        super().__init__(context=node.context)
        self._node, self.group = node, group

    def get_nodes(self) -> list[Node]:
        return [self._node]

    def can_execute(self, entity: Any) -> bool:
        return entity.callback_group is self.group and super().can_execute(entity)


class Spinner:
    """Serves a node's callbacks from background threads, whatever they raise.

    An executor builds its wait set anew for every message, of all that it serves. Where a node has
    an attribute ``apart``, each of these callback groups gets an executor of its own: what arrives
    hundreds of times a second, so that a request is not behind images, and what is to be answered
    at once. EventsExecutor, which would not need this, serves nothing with rclpy 9.1 from wheels.

    Args:
        node: to serve.
        threads: for requests: service, build, its cancellation, and one to spare.
    """

    def __init__(self, node: Node, threads: int = 4) -> None:
        self._node, self._stop = node, Future()
        self._executors: list[Executor] = []
        if threads > 1:
            apart = [_Group(node, group) for group in getattr(node, "apart", ())]
            self._executors += [_Rest(apart, threads, node.context), *apart]
        else:
            self._executors.append(SingleThreadedExecutor(context=node.context))
        self._executors[0].add_node(node)
        self._threads = [
            threading.Thread(target=self._spin, args=(executor,), name="spin", daemon=True)
            for executor in self._executors
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stops serving and waits for the callbacks that run."""
        if not self._stop.done():
            self._stop.set_result(None)
        for thread in self._threads:
            thread.join()
        for executor in self._executors:
            # rclpy's own shutdown takes away the guard condition that running callbacks trigger.
            pool = getattr(executor, "_executor", None)
            if pool is not None:
                pool.shutdown(wait=True)
            executor.shutdown()

    def _spin(self, executor: Executor) -> None:
        while not self._stop.done() and self._node.context.ok():
            try:
                executor.spin_until_future_complete(self._stop)
            except ExternalShutdownException:
                return
            except InvalidHandle:
                time.sleep(0.01)  # what was ended while the wait set was built leaves the node
            except Exception:  # noqa: BLE001
                # Callbacks catch their own errors. What arrives here is the middleware's, such as
                # a reply to a client that is gone: no reason for a node to die.
                self._node.get_logger().error(traceback.format_exc())
                time.sleep(0.1)


def check_parameter_files(words: Sequence[str]) -> None:
    """Raises FileError for a ``--params-file`` that rcl would wait for, read for ever, or refuse
    in words that say nothing of nodes."""
    for option, path in itertools.pairwise(words):
        if option == "--params-file":
            values = read_yaml(path, "parameter file")
            names = values if isinstance(values, Mapping) else {"it": values}
            for name, section in names.items() if values is not None else ():
                if not _has_parameters(section):
                    raise FileError(
                        f"parameter file '{shown(path)}': {shown(name)} has no '{PARAMETERS}'; "
                        f"expected /**: {{{PARAMETERS}: {{cameras: [left, right]}}}}"
                    )


def _has_parameters(section: Any) -> bool:
    """Whether a node has parameters, or each node of a namespace."""
    if not isinstance(section, Mapping) or not section:
        return False
    if PARAMETERS in section:
        return isinstance(section[PARAMETERS], Mapping)
    return all(map(_has_parameters, section.values()))


def _init(words: Sequence[str]) -> None:
    """Starts rclpy. What rcl says of a mistake is in its error: it is not logged as well."""
    set_logger_level("rcl", LoggingSeverity.FATAL)
    try:
        rclpy.init(args=list(words), signal_handler_options=SignalHandlerOptions.NO)
    finally:
        if get_logger_effective_level("rcl") == LoggingSeverity.FATAL:
            set_logger_level("rcl", LoggingSeverity.UNSET)


def run_node(make: Callable[[], Node], args: Sequence[str] | None = None, about: str = "") -> int:
    """Runs one node until SIGINT or SIGTERM, as often as they come; returns the exit status.

    Args:
        make: creates the node, which may have a ``close()``; WildSeg3DError of it is one log line.
        args: command line without the program's name; None for the process's own.
        about: what ``--help`` prints, where the caller has not read the command line.
    """
    words = list(sys.argv[1:] if args is None else args)
    if about and {"-h", "--help"} & set(words):
        print(about)
        return 0
    # Own handlers instead of rclpy's: under launch the signal comes twice, and the second one must
    # not raise KeyboardInterrupt in the middle of the clean-up. A handler can interrupt another or
    # the wait itself: put() of this queue is reentrant, set() of an Event would wait for itself.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: signals.put(received))
    try:
        check_parameter_files(words)
        _init(words)
        # rclpy says nothing of what it does not know.
        if about and (unknown := remove_ros_args(words)):
            raise ConfigError(
                f"unknown arguments: {shown(' '.join(unknown))}; parameters are given as "
                "--ros-args -p NAME:=VALUE, or --ros-args --params-file FILE (see --help)"
            )
        node = make()
    except WildSeg3DError as error:
        get_logger("wildseg3d").fatal(f"{error.code.name}: {error}")
        rclpy.try_shutdown()
        return BAD_START
    # What rcl says of arguments and parameter files that it cannot read, over several lines.
    except (RCLError, RCLInvalidROSArgsError, UnknownROSArgsError) as error:
        said = re.sub(r" ?, at /\S+:\d+", "", " ".join(str(error).split()))
        said = said or type(error).__name__
        get_logger("wildseg3d").fatal(f"{ErrorCode.BAD_CONFIG.name}: {said}")
        rclpy.try_shutdown()
        return BAD_START
    spinner = Spinner(node)
    while node.context.ok():
        with contextlib.suppress(Empty):
            signals.get(timeout=0.5)
            break
    close = getattr(node, "close", None)
    if close is not None:
        close()
    spinner.stop()
    node.destroy_node()
    rclpy.try_shutdown()
    # Python takes its handlers away before the process ends: one more signal would kill it.
    # Ignored from here on, signals would be ignored by what the caller starts afterwards, too.
    atexit.register(_ignore_signals)
    return 0


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
