"""No callback may raise: in rclpy that ends the node. Errors become replies or log lines."""

from __future__ import annotations

import contextlib
import functools
import traceback
from array import array
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from rclpy._rclpy_pybind11 import InvalidHandle
from rclpy.impl.rcutils_logger import RcutilsLogger

from wildseg3d_msgs.msg import Status
from wildseg3d_ros.core.errors import ErrorCode, PromptError, WildSeg3DError, shortened


def status_of(error: BaseException, logger: RcutilsLogger) -> Status:
    """Status of a reply: the error's own code and text, or INTERNAL with a logged traceback."""
    if isinstance(error, WildSeg3DError):
        logger.warning(f"{error.code.name}: {error}")
        return Status(code=int(error.code), message=str(error))
    logger.error(shortened("".join(traceback.format_exception(error)), _LONGEST_TRACEBACK))
    said = shortened(f"{type(error).__name__}: {error}")
    return Status(
        code=int(ErrorCode.INTERNAL),
        message=f"defect in the node: {said}; its log has the traceback",
    )


LONGEST = 1000
"""Entries of a list in a request; each may cost a millisecond, in which nobody else is served."""
LONGEST_TEXT = 4096
"""Characters of a text in a request: of a path; names have fewer."""
_LONGEST_TRACEBACK = 20_000


def check_lengths(message: Any) -> None:
    """Raises PromptError where a request, or what it lists, has a list or a text longer than any
    in earnest. Bytes of images are as many as their sizes say, which is looked at there."""
    for name in message.get_fields_and_field_types():
        value: Any = getattr(message, name)
        is_text = isinstance(value, str)
        if hasattr(value, "get_fields_and_field_types"):
            check_lengths(value)
        elif isinstance(value, Collection) and not _is_bytes(value):
            most = LONGEST_TEXT if is_text else LONGEST
            if len(value) > most:
                what = "characters" if is_text else "entries"
                raise PromptError(f"'{name}' has {len(value)} {what}; at most {most} are taken")
            for each in () if is_text else value:
                if hasattr(each, "get_fields_and_field_types"):
                    check_lengths(each)
                elif isinstance(each, str) and len(each) > LONGEST_TEXT:
                    raise PromptError(
                        f"'{name}' has a text of {len(each)} characters; at most {LONGEST_TEXT} "
                        "are taken"
                    )


def _is_bytes(value: object) -> bool:
    return isinstance(value, bytes) or (isinstance(value, array) and value.typecode in "bB")


def always_replies(handler: Callable, service: type, logger: RcutilsLogger) -> Callable:
    """The callback of a service, with anything its handler raises as the status of the reply."""

    def guarded(request: Any, _: Any = None) -> Any:
        try:
            check_lengths(request)
            return handler(request)
        except Exception as error:  # noqa: BLE001
            return service.Response(status=status_of(error, logger))  # type: ignore[attr-defined]

    return guarded


def answer_apart(server: Any, slow: Callable[[Any], bool]) -> None:
    """Lets a service answer slow requests from a thread of its own: others are not behind them.

    A callback of rclpy that waits for something, a coroutine too, keeps its executor busy.

    Args:
        server: of the service, whose callback never raises.
        slow: whether a request takes long.
    """
    quick, send, pool = server.callback, server.send_response, ThreadPoolExecutor(1)

    def callback(request: Any, response: Any) -> Any:
        if not slow(request):
            return quick(request, response)
        return pool.submit(quick, request, response)

    def send_late(done: Future, header: Any) -> None:
        with contextlib.suppress(InvalidHandle):  # the node has left meanwhile
            send(done.result(), header)

    def send_response(response: Any, header: Any) -> None:
        if isinstance(response, Future):
            response.add_done_callback(functools.partial(send_late, header=header))
        else:
            send(response, header)

    server.callback, server.send_response = callback, send_response


def never_raises(callback: Callable, logger: RcutilsLogger) -> Callable:
    """The callback of a topic, with anything it raises logged instead; at most every 5 s."""

    @functools.wraps(callback)
    def guarded(*given: Any) -> None:
        try:
            callback(*given)
        except Exception:  # noqa: BLE001
            said = shortened(traceback.format_exc(), _LONGEST_TRACEBACK)
            logger.error(f"message dropped:\n{said}", throttle_duration_sec=5.0)

    return guarded
