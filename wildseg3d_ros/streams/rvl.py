"""RVL, the run-length coding of 16-bit depth that compressedDepth offers beside PNG.

Wilson, "Fast Lossless Depth Image Compression", ISS 2017: in turn a count of pixels without depth,
a count of pixels with depth, and of these the differences to the pixel before (the first one to
0), with the sign in the lowest bit. Every number is of groups of three bits, the lowest first, in
nibbles whose highest bit says that more follow; eight nibbles lie in a little-endian word, the
first one highest.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

_GROUPS = 10
"""Nibbles of the largest number: a count of pixels that an image can have."""


_PART = 1 << 20
"""Bytes that are read at once."""
_BYTES_OF_PIXEL = 4
"""At most: a difference takes six nibbles, and a run of one two more."""
_RUNS = 300_000
"""Of pixels without and with depth, beside one for 16 pixels: each is met on its own."""


def decode_rvl(data: memoryview | bytes, pixels: int) -> NDArray[np.uint16]:
    """(pixels,) depth in the units of the stream, 0 = none.

    Raises:
        ValueError: the stream ends before the last pixel, or says more than there are.
    """
    most = _RUNS + pixels // 16
    numbers = _numbers(data[: _BYTES_OF_PIXEL * pixels + 8], pixels + 2 * most)
    runs = _runs(numbers.data, pixels, most)
    counts = np.frombuffer(runs, np.int64)
    is_measured = np.tile([False, True], len(counts) // 2)
    depth = np.zeros(pixels, np.uint16)
    # The numbers of a run are its two counts and its differences.
    lengths = counts.copy()
    lengths[::2] = 2
    coded = numbers[: lengths.sum()][np.repeat(is_measured, lengths)]
    values = np.cumsum((coded >> 1) ^ -(coded & 1), dtype=np.int64)
    # As the 16-bit numbers of the coder, which wrap.
    depth[np.repeat(is_measured, counts)] = values.astype(np.uint16)
    return depth


def _runs(numbers: memoryview, pixels: int, most: int) -> array[int]:
    """Pixels without and with depth, in turn, up to the last pixel."""
    runs, at, filled = array("q"), 0, 0
    while filled < pixels:
        if at + 2 > len(numbers):
            raise ValueError(f"the stream ends after {filled} of {pixels} pixels")
        empty, measured = numbers[at], numbers[at + 1]
        at += 2 + measured
        filled += empty + measured
        if filled > pixels or at > len(numbers) or not empty + measured:
            raise ValueError(f"a run ends at pixel {filled} of {pixels}")
        if len(runs) > 2 * most:
            raise ValueError(f"it has more than {most} runs of pixels")
        runs.append(empty)
        runs.append(measured)
    return runs


def _numbers(data: memoryview | bytes, most: int) -> NDArray[np.int32]:
    """The first numbers of the stream, and what the last word was filled up with."""
    found, rest, count = [np.zeros(0, np.int32)], np.zeros(0, np.uint8), 0
    # In parts: what leads to a number takes ten times as much memory as the number.
    for at in range(0, len(data), _PART):
        part = data[at : at + _PART]
        words = np.frombuffer(part, np.uint8, len(part) // 4 * 4).reshape(-1, 4)[:, ::-1]
        nibbles = np.stack([words >> 4, words & 0xF], axis=-1).ravel().astype(np.uint8, copy=False)
        numbers, rest = _whole_numbers(np.concatenate([rest, nibbles]))
        found.append(numbers)
        count += len(numbers)
        if count >= most:
            break
    return np.concatenate(found)


def _whole_numbers(nibbles: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The numbers that end in some nibbles, and what is left."""
    ends = np.flatnonzero(nibbles < 8).astype(np.int32)
    count = int(ends[-1]) + 1 if len(ends) else 0
    nibbles, rest = nibbles[:count], nibbles[count:]
    starts = np.concatenate([np.zeros(1, np.int32), ends[:-1] + 1]) if count else ends
    group = np.arange(count, dtype=np.int32) - np.repeat(starts, ends + 1 - starts)
    if max(int(group.max(initial=0)) + 1, len(rest)) > _GROUPS:
        raise ValueError("a number has more than 30 bits")
    if not count:
        return np.zeros(0, np.int32), rest
    return np.add.reduceat((nibbles & 7).astype(np.int32) << (3 * group), starts), rest
