"""What a check of cameras that publish finds."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import CameraVerdict, Verdict


@dataclass(frozen=True, eq=False)
class PosedVerdict:
    """What a build or a check found about one camera.

    Attributes:
        verdict: how far its given pose was off, and whether it can be relied on.
        optical_frame: in TF.
        frame_from_optical: (4, 4) solved pose in the frame of the scene; of a check, as given.
    """

    verdict: CameraVerdict
    optical_frame: str
    frame_from_optical: NDArray[np.float64]


@dataclass(frozen=True)
class StreamState:
    """What arrives on one topic of a camera: see wildseg3d_msgs/msg/StreamReport."""

    camera: str
    part: str
    topic: str
    publishers: tuple[str, ...]
    reliability: str
    durability: str
    encoding: str
    width: int
    height: int
    rate: float
    age: float
    latency: float
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; NaN becomes None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()
        }


@dataclass(frozen=True)
class PackedPicture:
    """A picture of a check.

    Attributes:
        title: what it shows.
        jpeg: the file.
    """

    title: str
    jpeg: bytes


@dataclass(frozen=True, eq=False)
class LiveRig:
    """What is wrong with cameras that publish.

    Attributes:
        verdict: ok, suspect or unchecked.
        problems: sentences, the most important first; empty where nothing is wrong.
        mistake: short name of the one that explains it all; empty where none does.
        cameras: those that were compared, with the poses in ``frame_id`` that were given.
        streams: what arrives on their topics.
        frame_id: of the poses.
        stamp_spread: largest difference of the stamps of the images that were compared [s].
        pictures: of all cameras, then of pairs of them; none unless they were asked for.
    """

    verdict: Verdict
    problems: tuple[str, ...]
    mistake: str
    cameras: tuple[PosedVerdict, ...]
    streams: tuple[StreamState, ...]
    frame_id: str
    stamp_spread: float
    pictures: tuple[PackedPicture, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; NaN becomes None."""
        return {
            "verdict": self.verdict,
            "mistake": self.mistake,
            "problems": list(self.problems),
            "frame_id": self.frame_id,
            "stamp_spread": self.stamp_spread,
            "cameras": [
                {**each.verdict.to_dict(), "world_from_cam": each.frame_from_optical.tolist()}
                for each in self.cameras
            ],
            "streams": [stream.to_dict() for stream in self.streams],
        }
