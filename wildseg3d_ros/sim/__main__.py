"""Records the simulated cell: ``python -m wildseg3d_ros.sim --out FOLDER``.

With ``--random`` it records a random scene (:mod:`wildseg3d_ros.sim.random_scene`) instead.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.io.folder import Recording
from wildseg3d_ros.sim.random_scene import RandomSceneSpec, write_random_recording
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


def _parser() -> argparse.ArgumentParser:
    cell, scene = RecordingSpec(), RandomSceneSpec()
    parser = argparse.ArgumentParser(
        prog="python -m wildseg3d_ros.sim",
        description="Renders a table with household objects as RGB-D cameras around it see them, "
        "with the noise and pose errors of real ones, and writes a folder that wildseg3d reads: "
        "images, depth, object masks, transforms.json, and the exact truth in truth.json.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    text = (
        "a random scene instead: things, surroundings, light, cameras and noise by the seed; "
        "without truth.json"
    )
    parser.add_argument("--random", action="store_true", help=text)
    text = "another seed, another scene (default 0)"
    parser.add_argument("--seed", type=int, default=cell.seed, help=text)
    text = f"number of cameras (default {cell.views}, random scenes {scene.views})"
    parser.add_argument("--views", type=int, help=text)
    text = (
        f"size of the pictures in pixels (default {cell.width}x{cell.height}, random scenes "
        f"{scene.width}x{scene.height})"
    )
    parser.add_argument("--size", type=_size, metavar="WxH", help=text)
    text = f"number of objects, not of random scenes (default {cell.objects})"
    parser.add_argument("--objects", type=int, help=text)
    text = (
        "passes of light per picture, not of random scenes: more is smoother and slower "
        f"(default {cell.light_samples})"
    )
    parser.add_argument("--light-samples", type=int, help=text)
    text = "no noise and no pose error, not of random scenes"
    parser.add_argument("--perfect", action="store_true", help=text)
    return parser


def _record(options: argparse.Namespace, progress: Progress) -> Recording:
    """Records and writes what the options ask for."""
    given = {"seed": options.seed, "views": options.views}
    if options.size is not None:
        given["width"], given["height"] = options.size
    if options.random:
        spec = RandomSceneSpec(**_not_none(given))
        return write_random_recording(options.out, spec)
    given |= {"objects": options.objects, "light_samples": options.light_samples}
    spec = RecordingSpec(**_not_none(given))
    if options.perfect:
        spec = replace(
            spec, depth_noise=None, translation_sigma=0.0, rotation_sigma=0.0, color_noise=0.0
        )
    return write_recording(options.out, spec, progress)


def _not_none(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    fixed = {"objects": options.objects, "light-samples": options.light_samples}
    named = [f"--{name}" for name, value in fixed.items() if value is not None]
    named += ["--perfect"] * options.perfect
    if options.random and named:
        parser.error(f"{named[0]} is not for --random: the seed decides it; leave one of them out")

    def report(stage: str, fraction: float) -> None:
        if sys.stderr.isatty():
            print(f"\r{stage}: {fraction:4.0%} ", end="", file=sys.stderr, flush=True)

    try:
        recording = _record(options, Progress(report))
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
