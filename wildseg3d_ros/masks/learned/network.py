"""The affinity network, run by OpenCV."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import MIB, read_bytes
from wildseg3d_ros.masks.learned.inputs import (
    CHANNELS,
    MULTIPLE,
    OFFSETS,
    PIXELS,
    STEP,
    network_input,
)

NETWORK_FILE = "affinities.onnx"
"""Beside this module; ``wildseg3d train-masks`` makes such a file."""
LIMIT = 6.0
"""Of all log-odds: nothing that was learned is more certain."""


@dataclass(frozen=True, eq=False)
class PixelAffinities:
    """What the network says of a view, at every second pixel of what it read.

    Attributes:
        log_odds: (len(OFFSETS), H, W) of each pixel and the one at the offset being of one thing.
        on_object: (H, W) log-odds of being on an object.
        step: (rows, columns) of the view per pixel of these: (i, j) stands for the view's pixel
            at (i * rows, j * columns).
    """

    log_odds: NDArray[np.float32]
    on_object: NDArray[np.float32]
    step: tuple[float, float]

    def of_view(self, values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """(h, w) values (H, W) at the pixels of the view."""
        (rows, columns), (height, width) = self.step, size
        x = np.arange(width, dtype=np.float32) / np.float32(columns)
        y = np.arange(height, dtype=np.float32) / np.float32(rows)
        x, y = (np.ascontiguousarray(a) for a in np.meshgrid(x, y))
        near = cv2.BORDER_REPLICATE
        return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=near), np.float32)


def resized_depth(depth: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """(h, w) depth at another size: of the nearest pixel, or where that has none, of the nearest
    surface in the pixels that it stands for. Small depth images that were registered to larger
    colour images have depth at a few pixels of each block alone."""
    block = [
        max(1, 2 * (old // (2 * new)) + 1) for old, new in zip(depth.shape, size, strict=True)
    ]
    nothing = np.finfo(np.float32).max  # as beyond the borders, for OpenCV
    far = np.where(depth > 0, depth, nothing).astype(np.float32)
    near = np.asarray(cv2.erode(far, np.ones(block, np.uint8)), np.float32)
    filled = np.where(depth > 0, depth, np.where(near < nothing, near, np.float32(0.0)))
    shape = size[::-1]
    return np.asarray(cv2.resize(filled, shape, interpolation=cv2.INTER_NEAREST), np.float32)


class AffinityModel:
    """Log-odds of pixels of a view belonging to one thing.

    Runs on the CPU; one view at a time, whoever calls.

    Args:
        path: of an ONNX file that ``wildseg3d train-masks`` wrote.

    Raises:
        FileError: there is no such network.
    """

    def __init__(self, path: Path) -> None:
        data = read_bytes(path, "affinity network", 512 * MIB)
        try:
            self._net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
        except cv2.error as error:
            raise FileError(
                f"'{path}' is no affinity network that OpenCV reads ({error.err}); "
                "`wildseg3d train-masks` makes one"
            ) from error
        self._check(path)
        self.hash = hashlib.sha256(data).hexdigest()
        self._lock = threading.Lock()

    def _check(self, path: Path) -> None:
        """Raises FileError for a network of other inputs or outputs."""
        rng = np.random.default_rng(0)
        view = rng.normal(size=(1, len(CHANNELS), MULTIPLE, MULTIPLE)).astype(np.float32)
        expected = (1, len(OFFSETS) + 1, MULTIPLE // STEP, MULTIPLE // STEP)
        try:
            self._net.setInput(view)
            out = self._net.forward()
            got = f"{out.shape}" if np.isfinite(out).all() else "numbers that are not finite"
        except cv2.error as error:
            got = error.err
        if got != f"{expected}":
            raise FileError(
                f"'{path}' is no affinity network: for a view {view.shape} it must give "
                f"{expected}, got {got}; `wildseg3d train-masks` makes one"
            )

    def __call__(
        self, lab: NDArray[np.float32], depth: NDArray[np.float32], K: NDArray[np.float64]
    ) -> PixelAffinities:
        """Runs on a view.

        Args:
            lab: (h, w, 3) CIE Lab, L in 0..100, of any size.
            depth: (h, w) along the optical axis, 0 = none.
            K: (3, 3).
        """
        height, width = depth.shape
        scale = float(np.sqrt(PIXELS / (height * width)))
        size = max(round(height * scale), 1), max(round(width * scale), 1)
        if size != (height, width):
            shape = size[::-1]
            lab = np.asarray(cv2.resize(lab, shape, interpolation=cv2.INTER_AREA), np.float32)
            depth = resized_depth(depth, size)
        ratio = size[0] / height, size[1] / width
        K = np.diag([ratio[1], ratio[0], 1.0]) @ K
        data = network_input(lab, depth, K)
        with self._lock:
            self._net.setInput(data[None])
            out = self._net.forward()[0]
        rows, columns = -(-size[0] // STEP), -(-size[1] // STEP)
        out = np.clip(out[:, :rows, :columns], -LIMIT, LIMIT)
        return PixelAffinities(out[:-1], out[-1], (STEP / ratio[0], STEP / ratio[1]))


@cache
def default_network() -> AffinityModel:
    """The network of the package, read once.

    Raises:
        FileError: it is not there.
    """
    return AffinityModel(Path(__file__).with_name(NETWORK_FILE))
