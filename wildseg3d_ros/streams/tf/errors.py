"""Why TF has no pose: errors that both implementations word alike."""

from __future__ import annotations

from collections.abc import Sequence

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError


class TransformFault(WildSeg3DError):
    """Something is wrong with the transforms that are published; not that there are none."""

    code = ErrorCode.MISSING_TF


class Extrapolation(TransformFault):
    """A transform is known at other times."""


class TooEarly(Extrapolation):
    """A transform is known from a later time on only: waiting for it is in vain."""


_NAMED = 50
"""Frames that an error lists."""


def _listed(frames: Sequence[str]) -> str:
    rest = f" and {len(frames) - _NAMED} more" if len(frames) > _NAMED else ""
    return ", ".join(frames[:_NAMED]) + rest


def unknown_frame(frame: str, known: list[str]) -> WildSeg3DError:
    """No transform names the frame."""
    there = f"known frames are {_listed(known)}" if known else "/tf and /tf_static are silent"
    return WildSeg3DError(
        f"TF does not know the frame '{frame}'; {there}", ErrorCode.UNKNOWN_FRAME
    )


def not_connected(target: str, source: str, known: list[str]) -> WildSeg3DError:
    """Both frames are known, but no chain of transforms joins them."""
    return WildSeg3DError(
        f"TF does not connect '{source}' with '{target}'; publish the transform that joins their "
        f"trees; known frames are {_listed(known)}",
        ErrorCode.MISSING_TF,
    )


def in_a_loop(target: str, source: str, frames: Sequence[str]) -> TransformFault:
    """A frame is its own ancestor."""
    return TransformFault(
        f"TF does not connect '{source}' with '{target}': the transforms of "
        f"{_listed(frames)} form a loop"
    )


def not_at_that_time(
    parent: str, child: str, stamp_ns: int, oldest_ns: int, newest_ns: int
) -> Extrapolation:
    """A transform on the way is not known at the asked time."""
    is_early = stamp_ns < oldest_ns
    off_ns = oldest_ns - stamp_ns if is_early else stamp_ns - newest_ns
    which, than = ("oldest", "newer") if is_early else ("newest", "older")
    text = (
        f"extrapolation: the {which} TF of '{parent}' -> '{child}' is {off_ns / 1e9:.3f} s {than} "
        f"than asked for, {stamp_ns / 1e9:.3f} s; does it lag, or are the publishers' clocks not "
        "in step?"
    )
    return (TooEarly if is_early else Extrapolation)(text)
