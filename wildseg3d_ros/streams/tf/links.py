"""Transforms that a buffer has, from frame to frame, and why they do not lead to a pose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wildseg3d_ros.streams.tf.errors import (
    in_a_loop,
    not_at_that_time,
    not_connected,
    unknown_frame,
)


class Link(NamedTuple):
    """The transform of one frame in its parent, known between two times.

    Attributes:
        parent: name of the frame that it refers to.
        static: it holds at any time.
        oldest_ns, newest_ns: of one that moves.
    """

    parent: str
    static: bool
    oldest_ns: int
    newest_ns: int


def frame_names(links: Mapping[str, Link]) -> list[str]:
    """Names of all frames in links by child frame, sorted."""
    return sorted({*links, *(link.parent for link in links.values())})


def chain(links: Mapping[str, Link], frame: str) -> list[str]:
    """The frame and its ancestors; a loop in the tree ends the chain."""
    frames = {frame: None}  # in order, and found at once in a chain of any length
    while (link := links.get(frame)) is not None and link.parent not in frames:
        frame = link.parent
        frames[frame] = None
    return list(frames)


def branches(links: Mapping[str, Link], target: str, source: str) -> tuple[list[str], list[str]]:
    """The frames from the target, and from the source, up to their common ancestor, without it;
    without a common one, up to both roots."""
    down, up = chain(links, target), chain(links, source)
    below = set(down)
    common = next((frame for frame in up if frame in below), None)
    if common is None:
        return down, up
    return down[: down.index(common)], up[: up.index(common)]


def path(links: Mapping[str, Link], target: str, source: str) -> tuple[list[str], list[str]]:
    """The :func:`branches` of frames that are connected.

    Raises:
        WildSeg3DError: UNKNOWN_FRAME when no link names the target or the source; MISSING_TF when
            they are not connected.
    """
    link = links.get(source)
    if link is not None and link.parent == target:  # whatever lies above
        return [], [source]
    down, up = chain(links, target), chain(links, source)
    for frames in (down, up):
        if frames[-1] in links:
            raise in_a_loop(target, source, frames)
    if down[-1] != up[-1] or target == source:
        known = frame_names(links)
        for frame in (target, source):
            if frame not in known:
                raise unknown_frame(frame, known)
        if down[-1] != up[-1]:
            raise not_connected(target, source, known)
    return branches(links, target, source)


def time_of(links: Mapping[str, Link], frames: Sequence[str], stamp_ns: int) -> int:
    """The time at which the frames' transforms are known; for 0 it is the newest of all.

    Raises:
        WildSeg3DError: one of them is not known then (MISSING_TF).
    """
    moving = {frame: links[frame] for frame in frames if not links[frame].static}
    if stamp_ns == 0:
        stamp_ns = min((link.newest_ns for link in moving.values()), default=0)
    for frame, link in moving.items():
        if not link.oldest_ns <= stamp_ns <= link.newest_ns:
            raise not_at_that_time(link.parent, frame, stamp_ns, link.oldest_ns, link.newest_ns)
    return stamp_ns
