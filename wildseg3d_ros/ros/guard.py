"""No callback may raise: in rclpy that ends the node. Errors become replies or log lines."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.impl.rcutils_logger import RcutilsLogger

from wildseg3d_msgs.msg import Status
from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError


def status_of(error: BaseException, logger: RcutilsLogger) -> Status:
    """Status of a reply: the error's own code and text, or INTERNAL with a logged traceback."""
    if isinstance(error, WildSeg3DError):
        logger.warning(f"{error.code.name}: {error}")
        return Status(code=int(error.code), message=str(error))
    logger.error("".join(traceback.format_exception(error)))
    return Status(
        code=int(ErrorCode.INTERNAL),
        message=f"defect in the node: {type(error).__name__}: {error}; its log has the traceback",
    )


def always_replies(handler: Callable, service: type, logger: RcutilsLogger) -> Callable:
    """The callback of a service, with anything its handler raises as the status of the reply."""

    def guarded(request: Any, _: Any = None) -> Any:
        try:
            return handler(request)
        except Exception as error:  # noqa: BLE001
            return service.Response(status=status_of(error, logger))  # type: ignore[attr-defined]

    return guarded


def never_raises(callback: Callable, logger: RcutilsLogger) -> Callable:
    """The callback of a topic, with anything it raises logged instead; at most every 5 s."""

    @functools.wraps(callback)
    def guarded(*given: Any) -> None:
        try:
            callback(*given)
        except Exception:  # noqa: BLE001
            logger.error(f"message dropped:\n{traceback.format_exc()}", throttle_duration_sec=5.0)

    return guarded
