"""The transform buffer of tf2_ros; imported only where that is installed."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import tf2_ros  # type: ignore[import-not-found]
import yaml
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.time import Time

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.streams.messages import TransformMessage, matrix_from_transform
from wildseg3d_ros.streams.tf.buffer import BUFFER_SECONDS
from wildseg3d_ros.streams.tf.links import Link, frame_names, path, time_of


class Tf2Buffer:
    """:class:`wildseg3d_ros.streams.tf.buffer.TransformBuffer` on tf2's buffer."""

    def __init__(self) -> None:
        self._buffer = tf2_ros.Buffer(cache_time=Duration(seconds=BUFFER_SECONDS))

    def add(self, message: TransformMessage, static: bool = False) -> None:
        """Takes one transform; raises ValueError where its numbers make no pose."""
        matrix_from_transform(message)
        if static:
            self._buffer.set_transform_static(message, "wildseg3d")
        else:
            self._buffer.set_transform(message, "wildseg3d")

    def clear(self) -> None:
        """See :class:`wildseg3d_ros.streams.tf.buffer.TransformBuffer`."""
        self._buffer.clear()

    def drop(self, frames: Collection[str]) -> None:
        """tf2 forgets poses, and no frames."""

    def links(self) -> dict[str, Link]:
        """See :class:`wildseg3d_ros.streams.tf.buffer.TransformBuffer`; times to a microsecond."""
        tree = yaml.safe_load(self._buffer.all_frames_as_yaml()) or {}
        if not isinstance(tree, dict):
            return {}
        links = {}
        for child, entry in tree.items():
            times = (entry["oldest_transform"], entry["most_recent_transform"])
            oldest_ns, newest_ns = (round(float(seconds) * 1e9) for seconds in times)
            # A static transform has no time there.
            links[str(child)] = Link(entry["parent"], newest_ns == 0, oldest_ns, newest_ns)
        return links

    def frames(self) -> list[str]:
        """Names of all known frames, sorted."""
        return frame_names(self.links())

    def lookup(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """See :class:`wildseg3d_ros.streams.tf.buffer.TransformBuffer`."""
        target, source = target.lstrip("/"), source.lstrip("/")
        try:
            found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
        except tf2_ros.TransformException as error:
            links = self.links()
            down, up = path(links, target, source)
            time_of(links, [*down, *up], stamp_ns)
            raise WildSeg3DError(
                f"TF has no transform from '{source}' to '{target}' at {stamp_ns / 1e9:.3f} s: "
                f"{error}",
                ErrorCode.MISSING_TF,
            ) from error
        return matrix_from_transform(found)
