"""The transform buffer of tf2_ros; imported only where that is installed."""

from __future__ import annotations

import numpy as np
import tf2_ros  # type: ignore[import-not-found]
import yaml
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.time import Time

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.ros.messages.conversions import matrix_from_transform
from wildseg3d_ros.ros.tf.buffer import BUFFER_SECONDS
from wildseg3d_ros.ros.tf.errors import TooEarly, not_connected, unknown_frame


class Tf2Buffer:
    """:class:`wildseg3d_ros.ros.tf.buffer.TransformBuffer` on tf2's buffer."""

    def __init__(self) -> None:
        self._buffer = tf2_ros.Buffer(cache_time=Duration(seconds=BUFFER_SECONDS))

    def add(self, message: TransformStamped, static: bool = False) -> None:
        """Takes one transform; raises ValueError where its numbers make no pose."""
        matrix_from_transform(message)
        if static:
            self._buffer.set_transform_static(message, "wildseg3d")
        else:
            self._buffer.set_transform(message, "wildseg3d")

    def clear(self) -> None:
        """See :class:`wildseg3d_ros.ros.tf.buffer.TransformBuffer`."""
        self._buffer.clear()

    def frames(self) -> list[str]:
        """Names of all known frames, sorted."""
        tree = yaml.safe_load(self._buffer.all_frames_as_yaml()) or {}
        if not isinstance(tree, dict):
            return []
        return sorted({*tree, *(entry["parent"] for entry in tree.values())} - {"NO_PARENT"})

    def lookup(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """See :class:`wildseg3d_ros.ros.tf.buffer.TransformBuffer`."""
        target, source = target.lstrip("/"), source.lstrip("/")
        known = self.frames()
        for frame in (target, source):
            if frame not in known:
                raise unknown_frame(frame, known)
        try:
            found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
        except tf2_ros.ConnectivityException as error:
            raise not_connected(target, source, known) from error
        except tf2_ros.TransformException as error:
            text = (
                f"TF has no transform from '{source}' to '{target}' at {stamp_ns / 1e9:.3f} s: "
                f"{error}; are the clocks of the publishers in step?"
            )
            if "into the past" in str(error):  # tf2 tells the two extrapolations apart so only
                raise TooEarly(text) from error
            raise WildSeg3DError(text, ErrorCode.MISSING_TF) from error
        return matrix_from_transform(found)
