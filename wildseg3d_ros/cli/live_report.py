"""What `check --live` prints."""

from __future__ import annotations

from wildseg3d_ros.cli.report import known, print_cameras, print_table, print_warnings
from wildseg3d_ros.rig.live import LiveRig


def print_live(report: LiveRig) -> None:
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
    if report.cameras:
        print()
        print_cameras([camera.verdict for camera in report.cameras])
    many = len(report.problems)
    about = f", and {many} problem{'s' if many > 1 else ''}:" if many else ""
    print(f"rig      {report.verdict}, poses in '{report.frame_id}'{about}")
    print_warnings(report.problems)


def _what(encoding: str, width: int, height: int) -> str:
    size = f"{width}x{height}" if width and height else ""
    return " ".join(filter(None, [size, encoding])) or "-"
