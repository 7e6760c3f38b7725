"""RVL, the run-length coding of 16-bit depth that compressedDepth offers beside PNG.

Wilson, "Fast Lossless Depth Image Compression", ISS 2017: in turn a count of pixels without depth,
a count of pixels with depth, and of these the differences to the pixel before (the first one to
0), with the sign in the lowest bit. Every number is of groups of three bits, the lowest first, in
nibbles whose highest bit says that more follow; eight nibbles lie in a little-endian word, the
first one highest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GROUPS = 10
"""Nibbles of the largest number: a count of pixels that an image can have."""


def decode_rvl(data: memoryview | bytes, pixels: int) -> NDArray[np.uint16]:
    """(pixels,) depth in the units of the stream, 0 = none.

    Raises:
        ValueError: the stream ends before the last pixel, or says more than there are.
    """
    numbers = _numbers(data)
    depth = np.zeros(pixels, np.uint16)
    at, filled, last = 0, 0, 0
    while filled < pixels:
        if at + 2 > len(numbers):
            raise ValueError(f"the stream ends after {filled} of {pixels} pixels")
        empty, measured = int(numbers[at]), int(numbers[at + 1])
        coded = numbers[at + 2 : at + 2 + measured]
        filled += empty + measured
        if filled > pixels or len(coded) < measured or not empty + measured:
            raise ValueError(f"a run ends at pixel {filled} of {pixels}")
        if measured:
            values = last + np.cumsum((coded >> 1) ^ -(coded & 1), dtype=np.int64)
            # As the 16-bit numbers of the coder, which wrap.
            depth[filled - measured : filled] = values.astype(np.uint16)
            last = int(values[-1])
        at += 2 + measured
    return depth


def _numbers(data: memoryview | bytes) -> NDArray[np.int32]:
    """All numbers of the stream, and after them what the last word was filled up with."""
    words = np.frombuffer(data, np.uint8, len(data) // 4 * 4).reshape(-1, 4)[:, ::-1]
    nibbles = np.stack([words >> 4, words & 0xF], axis=-1).ravel()
    ends = np.flatnonzero(nibbles < 8).astype(np.int32)
    if not len(ends):
        return np.zeros(0, np.int32)
    nibbles = nibbles[: ends[-1] + 1]
    starts = np.concatenate([np.zeros(1, np.int32), ends[:-1] + 1])
    group = np.arange(len(nibbles), dtype=np.int32) - np.repeat(starts, ends + 1 - starts)
    if int(group.max()) >= _GROUPS:
        raise ValueError("a number has more than 30 bits")
    return np.add.reduceat((nibbles & 7).astype(np.int32) << (3 * group), starts)
