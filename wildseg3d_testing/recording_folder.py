"""A small good recording on disk, for tests that spoil it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.io.folder import Recording, load_folder

SIZE = (48, 64)
"""Height and width of its images."""


def write_png(path: Path, pixels: NDArray) -> None:
    """Writes an image of the format of its suffix; channels are in OpenCV's order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def rotated_jpeg(image: NDArray, orientation: int) -> bytes:
    """A JPEG with an EXIF orientation, as phones write it."""
    data = cv2.imencode(".jpg", image)[1].tobytes()
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01"
    exif = b"Exif\x00\x00" + tiff + bytes([0, orientation, 0, 0, 0, 0, 0, 0])
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


class RecordingFolder:
    """A good recording of two views, to be spoilt by a test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rng = np.random.default_rng(0)
        self.bgr = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(2)]
        self.depth = [rng.integers(0, 3000, SIZE).astype(np.uint16) for _ in range(2)]
        self.mask = [rng.integers(0, 4, SIZE).astype(np.uint8) for _ in range(2)]
        frames: list[dict[str, Any]] = []
        for i, name in enumerate(("left", "right")):
            write_png(path / f"images/{name}.png", self.bgr[i])
            write_png(path / f"depth/{name}.png", self.depth[i])
            write_png(path / f"masks/{name}.png", self.mask[i])
            frames.append(
                {
                    "file_path": f"images/{name}.png",
                    "depth_file_path": f"depth/{name}.png",
                    "object_mask_path": f"./masks/{name}.png",
                    "transform_matrix": np.eye(4).tolist(),
                }
            )
        self.meta: dict[str, Any] = {
            "camera_model": "OPENCV",
            "fl_x": 70.0,
            "fl_y": 71.0,
            "cx": 31.0,
            "cy": 23.5,
            "w": SIZE[1],
            "h": SIZE[0],
            "object_names": {"1": "mug", "3": "box"},
            "frames": frames,
        }

    @property
    def frame(self) -> dict[str, Any]:
        """The description of the view 'right'."""
        return self.meta["frames"][1]

    def load(self, **arguments: Any) -> Recording:
        """Reads what is there, by the description that there is now."""
        (self.path / "transforms.json").write_text(json.dumps(self.meta))
        return load_folder(self.path, **arguments)
