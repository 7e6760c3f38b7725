"""What `check --live` prints."""

from __future__ import annotations

import math
from typing import Any

from wildseg3d_ros.cli.report import known, print_cameras, print_table, print_warnings
from wildseg3d_ros.ros.messages.replies import RigCheckReport


def print_live(report: RigCheckReport) -> None:
    """Tables of the topics and of the cameras, and what is wrong with them."""
    rows = [("topic", "what", "rate", "late by", "publisher", "quality of service")]
    rows += [(
        stream.topic,
        _what(stream.encoding, stream.width, stream.height),
        known(stream.rate, "{:.1f} Hz"),
        known(stream.latency, "{:.3f} s"),
        ", ".join(stream.publishers) or "-",
        f"{stream.reliability}, {stream.durability}".strip(", ") or "-",
    ) for stream in report.streams]  # fmt: skip
    print_table(rows)
    print()
    print_cameras([camera.verdict for camera in report.cameras])
    print(f"rig      {report.verdict}, poses in '{report.frame_id}'")
    print_warnings(report.problems)


def live_figures(report: RigCheckReport) -> dict[str, Any]:
    """The same for programs; NaN becomes None."""
    return {
        "verdict": report.verdict,
        "mistake": report.mistake,
        "problems": list(report.problems),
        "frame_id": report.frame_id,
        "stamp_spread": report.stamp_spread,
        "cameras": [
            {**camera.verdict.to_dict(), "world_from_cam": camera.frame_from_optical.tolist()}
            for camera in report.cameras
        ],
        "streams": [
            {name: _plain(getattr(stream, name)) for name in stream.get_fields_and_field_types()}
            for stream in report.streams
        ],
    }


def _what(encoding: str, width: int, height: int) -> str:
    size = f"{width}x{height}" if width and height else ""
    return " ".join(filter(None, [size, encoding])) or "-"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return value if isinstance(value, (str, int)) else list(value)
