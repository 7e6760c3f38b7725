"""What the images of a recording take, held against the bytes of their files.

An image has a bound of its own, but a file of kilobytes can be one of 85 megapixels, and a
recording may name it a thousand times.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ANYWAY = 550_000_000
"""Bytes of images in memory whatever their files have, those that are kept and the one that is
decoded: with all that is imported, less than 700 MB."""
_RATIO = 100
"""Bytes beside, for each of the files: photographs have 10 to 30, simulated images about 50, drawn
ones of few colours 400."""
_TIMES, _DEFLATED = 6, 1040
"""As much may be decoded: times what may be kept anyway, and bytes for each byte of the files. It
takes time alone, and Deflate packs by at most 1032."""
ALLOWED = "WILDSEG3D_IMAGES_MB"
"""Environment variable with what may be kept anyway, for recordings that are trusted."""


class _Taken:
    def __init__(self, ratio: int) -> None:
        given = os.environ.get(ALLOWED, "")
        self.anyway = int(given) * 1_000_000 if given.isdecimal() else _ANYWAY
        self.ratio, self.kept, self.decoded, self.held = ratio, 0, 0, 0
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


def take(decoded: int, kept: int, held: int, file: tuple[int, int] | None = None) -> None:
    """Notes an image that is to be decoded, if it is one of a recording.

    Args:
        decoded: bytes that it becomes, which OpenCV has twice while it hands them over.
        kept: bytes that stay in memory of it, with the recording.
        held: bytes that it is made of.
        file: device and inode that these are in; they count once.

    Raises:
        ValueError: the images are out of proportion to what they are made of.
    """
    taken = _recording.get()
    if taken is None:
        return
    known = held + taken.held if file not in taken.files else taken.held
    for size, what, most in (
        (taken.kept + kept + decoded, "kept", taken.anyway + taken.ratio * known),
        (taken.decoded + decoded, "decoded", _TIMES * taken.anyway + _DEFLATED * known),
    ):
        if size > most:
            raise ValueError(
                f"with it, the images of this recording have {size / 1e6:.0f} MB, {what}, in "
                f"{known / 1e6:.3g} MB of files (one that is named twice counts once), which "
                "is out of proportion; read fewer (max_views), or, where they are trusted, set "
                f"the environment variable {ALLOWED} to the megabytes that they may have (now "
                f"{taken.anyway / 1e6:.0f})"
            )
    # What is refused allows nothing to those that follow.
    taken.held, taken.kept, taken.decoded = known, taken.kept + kept, taken.decoded + decoded
    if file is not None:
        taken.files.add(file)
