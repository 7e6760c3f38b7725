"""Why TF has no pose: errors that both implementations word alike."""

from __future__ import annotations

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError


class TooEarly(WildSeg3DError):
    """A transform is known from a later time on only: waiting for it is in vain."""

    code = ErrorCode.MISSING_TF


def unknown_frame(frame: str, known: list[str]) -> WildSeg3DError:
    """No transform names the frame."""
    there = f"known frames are {', '.join(known)}" if known else "/tf and /tf_static are silent"
    return WildSeg3DError(
        f"TF does not know the frame '{frame}'; {there}", ErrorCode.UNKNOWN_FRAME
    )


def not_connected(target: str, source: str, known: list[str]) -> WildSeg3DError:
    """Both frames are known, but no chain of transforms joins them."""
    return WildSeg3DError(
        f"TF does not connect '{source}' with '{target}'; publish the transform that joins their "
        f"trees; known frames are {', '.join(known)}",
        ErrorCode.MISSING_TF,
    )


def not_at_that_time(
    parent: str, child: str, stamp_ns: int, oldest_ns: int, newest_ns: int
) -> WildSeg3DError:
    """A transform on the way is not known at the asked time."""
    is_early = stamp_ns < oldest_ns
    off = oldest_ns - stamp_ns if is_early else stamp_ns - newest_ns
    text = (
        f"TF has '{parent}' -> '{child}' from {oldest_ns / 1e9:.3f} to {newest_ns / 1e9:.3f} s, "
        f"but it is needed at {stamp_ns / 1e9:.3f} s, {off / 1e9:.3f} s "
        f"{'before the oldest' if is_early else 'after the newest'}; are the publishers' clocks "
        "in step?"
    )
    return TooEarly(text) if is_early else WildSeg3DError(text, ErrorCode.MISSING_TF)
