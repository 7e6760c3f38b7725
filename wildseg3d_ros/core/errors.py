"""Errors that say what was wrong, what was expected and the way out.

Every error that a caller can cause derives from :class:`WildSeg3DError` and carries an
:class:`ErrorCode`. The codes are the constants of ``wildseg3d_msgs/msg/Status``; a test keeps the
two lists equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any


class ErrorCode(IntEnum):
    """What went wrong, as it crosses process boundaries."""

    OK = 0
    INTERNAL = 1
    BAD_CONFIG = 2
    BAD_REQUEST = 3
    BUSY = 4
    CANCELLED = 5
    NO_SCENE = 6
    BAD_FILE = 7
    NOT_ACTIVE = 8
    UNKNOWN_CAMERA = 10
    PIXEL_OUTSIDE_IMAGE = 11
    NO_OBJECT_AT_PIXEL = 12
    NO_DEPTH_AT_PIXEL = 13
    CONTRADICTING_CLICKS = 14
    UNKNOWN_FRAME = 15
    UNKNOWN_OBJECT = 16
    POINT_OUTSIDE_SCENE = 17
    OTHER_RIG = 18
    OTHER_SCENE = 19
    NO_IMAGES = 20
    BAD_IMAGE = 21
    BAD_CALIBRATION = 22
    BAD_DEPTH = 23
    MISSING_TF = 24
    CAMERA_MOVES = 25
    TOO_FEW_VIEWS = 30
    DISCONNECTED_VIEWS = 31
    ALIGNMENT_FAILED = 32
    WRONG_RIG = 33


_LONGEST = 2000
"""Characters of an error's text, whatever was given: it goes into logs and replies."""


def shortened(text: str, longest: int = _LONGEST) -> str:
    """A text of bounded length, whose end says the way out."""
    if len(text) <= longest:
        return text
    return f"{text[: longest * 2 // 3]} [...] {text[-(longest // 3) :]}"


class WildSeg3DError(Exception):
    """Base of all errors that this package raises on purpose.

    >>> import wildseg3d_ros as ws
    >>> try:
    ...     ws.load("missing.ws3d")
    ... except ws.WildSeg3DError as error:
    ...     print(error.code.name)
    BAD_FILE
    """

    code: ErrorCode = ErrorCode.INTERNAL

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(shortened(message))
        if code is not None:
            self.code = code


class ConfigError(WildSeg3DError):
    """A configuration key or value that does not exist or does not fit."""

    code = ErrorCode.BAD_CONFIG


class InputError(WildSeg3DError):
    """Images, depth, calibration or poses that cannot be used."""

    code = ErrorCode.BAD_IMAGE


class PromptError(WildSeg3DError):
    """A prompt that the scene cannot answer."""

    code = ErrorCode.BAD_REQUEST


class InvalidScene(WildSeg3DError):
    """A scene or its masks, parts of which are not what they must be or contradict one another."""


class FileError(WildSeg3DError):
    """A file that is missing, truncated, foreign or of another version."""

    code = ErrorCode.BAD_FILE


class AlignmentError(WildSeg3DError):
    """Views that cannot be brought into one world."""

    code = ErrorCode.ALIGNMENT_FAILED


class DisconnectedViews(InputError, AlignmentError):
    """Views that fall into groups which nothing relates to each other.

    Args:
        message: the groups, and the way out.
        groups: indices of the views of each group; together, all that were to be related.
        reason: one clause: why no pair between two groups is of use.
        predictions: of the pairs that are of use, where making them again would be a waste.
    """

    code = ErrorCode.DISCONNECTED_VIEWS

    def __init__(
        self,
        message: str,
        groups: Sequence[Sequence[int]],
        reason: str,
        predictions: Sequence[Any] = (),
    ) -> None:
        super().__init__(message)
        self.groups = tuple(tuple(map(int, group)) for group in groups)
        self.reason = reason
        self.predictions = tuple(predictions)

    def __reduce__(self) -> tuple[type, tuple]:
        # Maps of pairs are of no use to another process.
        return type(self), (str(self), self.groups, self.reason)


class RigError(WildSeg3DError):
    """Poses, intrinsics or depth that what the cameras see contradicts, in a way that is known.

    Args:
        message: the mistake, and the way out.
        cameras: what is known of each: :class:`wildseg3d_ros.core.types.CameraVerdict`.
    """

    code = ErrorCode.WRONG_RIG

    def __init__(self, message: str, cameras: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.cameras = cameras

    def __reduce__(self) -> tuple[type, tuple]:
        return type(self), (str(self), self.cameras)


class Cancelled(WildSeg3DError):
    """The caller asked a long step to stop."""

    code = ErrorCode.CANCELLED
