"""What the images of a recording take, held against the bytes of their files.

An image has a bound of its own, but a file of kilobytes can be one of 85 megapixels, and a
recording may name it a thousand times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from wildseg3d_ros.core.files.reading import MIB

_ANYWAY = 256 * MIB
"""Bytes of decoded images whatever their files have: one of the largest."""
_RATIO = 100
"""Bytes beside, for each of the files: photographs have 10 to 30, simulated images about 50."""


class _Taken:
    def __init__(self, ratio: int) -> None:
        self.ratio, self.bytes, self.held = ratio, 0, 0
        self.files: set[tuple[int, int]] = set()


_recording: ContextVar[_Taken | None] = ContextVar("_recording", default=None)


@contextmanager
def one_recording(ratio: int = _RATIO) -> Iterator[None]:
    """What is decoded in this block, in this thread, are images of one recording, which may have
    ``ratio`` bytes for each of the files'."""
    token = _recording.set(_recording.get() or _Taken(ratio))
    try:
        yield
    finally:
        _recording.reset(token)


def take(size: int, held: int, file: tuple[int, int] | None = None) -> None:
    """Notes an image that is to be decoded, if it is one of a recording.

    Args:
        size: bytes that it becomes.
        held: bytes that it is made of.
        file: device and inode that these are in; they count once.

    Raises:
        ValueError: the images are out of proportion to what they are made of.
    """
    taken = _recording.get()
    if taken is None:
        return
    if file is None or file not in taken.files:
        taken.held += held
    if file is not None:
        taken.files.add(file)
    if taken.bytes + size > _ANYWAY + taken.ratio * taken.held:
        raise ValueError(
            f"with it, the images of this recording have {(taken.bytes + size) / 1e6:.0f} MB in "
            f"{taken.held / 1e6:.3g} MB of files (one that is named twice counts once), which is "
            "out of proportion; save them as JPEG or at a smaller size, or read fewer (max_views)"
        )
    taken.bytes += size
