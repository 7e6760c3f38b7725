"""Records the simulated cell: ``python -m wildseg3d_ros.sim --out FOLDER``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.sim.record import RecordingSpec, write_recording


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        text = f"expected WIDTHxHEIGHT like 640x480, got '{text}'"
        raise argparse.ArgumentTypeError(text) from None
    if not (16 <= width <= 4096 and 16 <= height <= 4096):
        raise argparse.ArgumentTypeError(f"each side must be 16 to 4096 pixels, got '{text}'")
    return width, height


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    default = RecordingSpec()
    parser = argparse.ArgumentParser(
        prog="python -m wildseg3d_ros.sim",
        description="Renders a table with household objects as RGB-D cameras around it see them, "
        "with the noise and pose errors of real ones, and writes a folder that wildseg3d reads: "
        "images, depth, object masks, transforms.json, and the exact truth in truth.json.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    for name, text in (
        ("seed", "another seed, another scene"),
        ("objects", "number of objects"),
        ("views", "number of cameras"),
        ("light_samples", "passes of light per picture: more is smoother and slower"),
    ):
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=getattr(default, name), help=text)
    size = default.width, default.height
    text = "size of the pictures in pixels"
    parser.add_argument("--size", type=_size, default=size, metavar="WxH", help=text)
    parser.add_argument("--perfect", action="store_true", help="no noise and no pose error")
    options = parser.parse_args(arguments)
    width, height = options.size
    spec = RecordingSpec(
        options.seed, options.objects, options.views, width, height, options.light_samples
    )
    if options.perfect:
        spec = replace(
            spec, depth_noise=None, translation_sigma=0.0, rotation_sigma=0.0, color_noise=0.0
        )

    def report(stage: str, fraction: float) -> None:
        if sys.stderr.isatty():
            print(f"\r{stage}: {fraction:4.0%} ", end="", file=sys.stderr, flush=True)

    try:
        recording = write_recording(options.out, spec, Progress(report))
    except WildSeg3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    files = [path for path in options.out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(
        f"{options.out}: {len(recording.views)} views, {len(recording.object_names)} objects, "
        f"{size:.2f} MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
