"""The messages of one camera as image, depth and lens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.lens import Lens, resampled
from wildseg3d_ros.streams.camera_info import lens_from_info
from wildseg3d_ros.streams.compressed import depth_from_compressed, rgb_from_compressed
from wildseg3d_ros.streams.config import CameraConfig
from wildseg3d_ros.streams.frames import FrameSet
from wildseg3d_ros.streams.images import UNNAMED_ORDER, depth_from_image, rgb_from_image
from wildseg3d_ros.streams.messages import CameraInfoMessage, ImageMessage


class CameraDecoder:
    """Decodes what one camera published; the lens is kept while its calibration stays the same.

    Args:
        name: of the camera.
        config: its encodings' units and order.
        info_topic: of its calibration, for error text.
        warn: told of what is taken for granted.
    """

    def __init__(
        self, name: str, config: CameraConfig, info_topic: str, warn: Callable[[str], object]
    ) -> None:
        self.name, self.config = name, config
        self.who = f"camera '{name}'"
        self._topic, self._warn = info_topic, warn
        self._calibration: tuple[Any, Lens] | None = None
        self._told = ""

    def convert(
        self, frames: FrameSet
    ) -> tuple[Lens, NDArray[np.uint8], NDArray[np.float32] | None]:
        """Calibration, image and depth, without lens distortion.

        Raises:
            InputError: messages that cannot be used.
        """
        if not isinstance(frames.image, ImageMessage):
            image = rgb_from_compressed(frames.image, self.who)
        else:
            image = rgb_from_image(frames.image, self.who, self.config.unnamed_order)
        if (assumed := self.assumed(frames)) and assumed != self._told:
            self._told = assumed
            self._warn(assumed)
        calibration = self._calibrate(frames.info, image.shape[:2])
        depth = None
        if frames.depth is not None:
            who = f"{self.who}: depth"
            if not isinstance(frames.depth, ImageMessage):
                depth = depth_from_compressed(frames.depth, who, self.config.depth_scale)
            else:
                depth = depth_from_image(frames.depth, who, self.config.depth_scale)
            # Depth of another size is registered where it says that it is of the same camera.
            if frames.depth.header.frame_id in ("", frames.image.header.frame_id):
                depth = resampled(depth, image.shape[:2])
            if depth.shape == image.shape[:2]:  # else View says what is wrong
                depth = calibration.undistort_labels(depth)
        return calibration, calibration.undistort_color(image), depth

    def lens(self, frames: FrameSet) -> Lens:
        """Calibration of messages; errors as of :meth:`convert`."""
        if frames.size is None:
            return self.convert(frames)[0]
        return self._calibrate(frames.info, frames.size)

    def assumed(self, frames: FrameSet) -> str:
        """What of messages is taken for granted, in a sentence; empty where nothing is."""
        encoding = getattr(frames.image, "encoding", "")  # what is compressed has none
        if encoding.upper() not in UNNAMED_ORDER:
            return ""
        return (
            f"{self.who}: encoding '{encoding}' does not say the order of its channels; it is "
            f"taken as {self.config.unnamed_order}: set '{self.name}.unnamed_order', or let "
            "the driver publish rgb8 or bgr8"
        )

    def _calibrate(self, info: CameraInfoMessage, size: tuple[int, int]) -> Lens:
        """The lens; its maps take longer than an image, so it is kept while nothing changes."""
        roi = info.roi
        key = (
            size,
            (info.height, info.width, info.distortion_model, tuple(info.d)),
            (info.k.tobytes(), info.p.tobytes(), info.binning_x, info.binning_y),
            (roi.x_offset, roi.y_offset, roi.height, roi.width),
        )
        if self._calibration is None or self._calibration[0] != key:
            made = lens_from_info(info, size, self.who, self._topic, self.config.rectified)
            self._calibration = key, made
        return self._calibration[1]
