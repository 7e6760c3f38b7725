"""What the commands print."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from wildseg3d_ros.core.errors import shortened
from wildseg3d_ros.core.files.reading import printable, shown
from wildseg3d_ros.core.types import Alignment, CameraVerdict, ObjectCloud
from wildseg3d_ros.core.types.alignment import EXACT
from wildseg3d_ros.evaluation import Evaluation, peak_memory_mb
from wildseg3d_ros.io.formats.choosing import NERFSTUDIO
from wildseg3d_ros.io.pictures import PicturedScene
from wildseg3d_ros.io.recording import Recording
from wildseg3d_ros.rig.aligned import CheckedRig
from wildseg3d_ros.scene.camera_pixels import camera_image, camera_labels
from wildseg3d_ros.scene.scene import Scene

_MOST_WARNINGS = 100
_OTHERS = 4
"""Cameras that a line of the table names."""


def print_recording(recording: Recording) -> None:
    """What the views were read as, where that was found out."""
    if recording.format != NERFSTUDIO:
        print(f"read     {recording.format}, {len(recording.views)} views")


def print_scene(scene: Scene) -> None:
    """What was built, how well the views agree, and what it cost."""
    of = f" of {len(scene.view_names) + len(scene.left_out)}" if scene.left_out else ""
    views = f"{len(scene.view_names)}{of} views"
    print(f"scene    {scene.scene_id}, {views}, frame '{scene.frame_id}'")
    print(f"scale    {scene.alignment.scale_text}")
    print(f"objects  {len(scene.object_ids)} with {len(scene.index)} points")
    print(f"pairs    {_agreement(scene.alignment)} (median)")
    print_cameras(scene.verdicts)
    _print_cost(scene.seconds, peak_memory_mb())
    print_warnings(scene.warnings)


def print_alignment(alignment: Alignment, seconds: Mapping[str, float]) -> None:
    """How well pairs agree, what was left out, and what it cost."""
    known = alignment.view_residual_px[np.isfinite(alignment.view_residual_px)]
    pixels = f"{np.median(known):.2f} pixels" if len(known) else "unknown in pixels"
    print(f"pairs    {_agreement(alignment)}, {pixels} (median)")
    print(f"scale    {alignment.scale_text}")
    print(f"solve    {alignment.stop_reason}; condition {alignment.condition:.2g}")
    _print_cost(seconds, peak_memory_mb())
    print_warnings(alignment.warnings)


def scene_figures(scene: Scene) -> dict[str, Any]:
    """What :func:`print_scene` prints, for programs; NaN becomes None."""
    alignment, residual = scene.alignment, float(scene.alignment.registration_residual)
    return {
        "scene_id": scene.scene_id,
        "frame_id": scene.frame_id,
        "objects": len(scene.object_ids),
        "points": len(scene.index),
        "converged": bool(alignment.converged),
        "scale_sources": list(alignment.scale_sources),
        "scale_factor": float(alignment.scale_factor),
        "registration_residual": None if np.isnan(residual) else residual,
        "cameras": [
            {**camera.to_dict(), "world_from_cam": pose.tolist()}
            for camera, pose in zip(alignment.cameras, scene.world_from_cam, strict=False)
        ]
        + [{**view.verdict.to_dict(), "world_from_cam": None} for view in scene.left_out],
        "seconds": dict(scene.seconds),
        "warnings": list(scene.warnings),
    }


def pictured(scene: Scene) -> PicturedScene:
    """What pictures of a scene are drawn from, at the sizes of its cameras' images."""
    views = range(len(scene.view_names))
    return PicturedScene(
        scene.view_names,
        tuple(camera_image(scene, view) for view in views),
        tuple(camera_labels(scene, view) for view in views),
        scene.world_from_cam,
    )


def print_rig(rig: CheckedRig, doubts: Sequence[str] = ()) -> None:
    """A table with one line per camera, and what is wrong with them and with their images."""
    print_cameras(rig.cameras)
    print(f"rig      {rig.verdict}")
    print_warnings(dict.fromkeys([*rig.warnings, *doubts]))


def print_cameras(cameras: Sequence[CameraVerdict]) -> None:
    """A table with one line per camera; columns that nothing is known for are left out."""
    rows = [("camera", "pose", "depth", "agrees", "moved by", "verdict", "with")]
    rows += [(
        camera.name,
        "given" if camera.posed else "none",
        known(camera.median_depth, "{:.3g} m"),
        known(camera.agreement, "{:.0%}"),
        _motion(camera),
        camera.verdict,
        camera.why if camera.verdict == "left out" else _others(camera.overlap) or camera.why,
    ) for camera in cameras]  # fmt: skip
    print_table(rows)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows, the first one the head; columns of nothing but "-" are left out."""
    rows = [[shown(cell) for cell in row] for row in rows]  # names may hold new lines
    columns = [c for c in zip(*rows, strict=True) if set(c[1:]) != {"-"}]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _motion(camera: CameraVerdict) -> str:
    """How far the given pose was off, with the standard deviations where they are known."""
    if np.isnan(camera.translation):
        return "-"
    parts = []
    for value, sigma, unit, factor in (
        (camera.translation, camera.translation_sigma, "mm", 1e3),
        (camera.rotation, camera.rotation_sigma, "deg", np.degrees(1.0)),
    ):
        give_or_take = "" if np.isnan(sigma) else f"+-{sigma * factor:.1f}"
        parts.append(f"{value * factor:.1f}{give_or_take} {unit}")
    return ", ".join(parts)


def _others(overlap: Mapping[str, float]) -> str:
    best = sorted(overlap.items(), key=lambda each: -each[1])
    named = ", ".join(f"{name} {share:.0%}" for name, share in best[:_OTHERS])
    return f"{named} and {len(best) - _OTHERS} more" if len(best) > _OTHERS else named


def known(value: float, form: str) -> str:
    """A figure in a form; "-" for NaN."""
    return "-" if np.isnan(value) else form.format(value)


def print_warnings(warnings: Iterable[str]) -> None:
    """One line each."""
    for line in lines_of(warnings):
        print(f"warning  {line}")


def tell_warnings(warnings: Iterable[str]) -> None:
    """One line each, beside what a command answers."""
    for line in lines_of(warnings):
        print(f"wildseg3d: warning: {line}", file=sys.stderr)


def lines_of(warnings: Iterable[str]) -> Iterator[str]:
    """Each warning in one line of bounded length, and how many more there are."""
    warnings = list(warnings)
    for warning in warnings[:_MOST_WARNINGS]:
        yield printable(shortened(warning))
    if len(warnings) > _MOST_WARNINGS:
        yield f"and {len(warnings) - _MOST_WARNINGS} more"


def print_cloud(cloud: ObjectCloud, seconds: float) -> None:
    """What a prompt was answered with, and how long that took."""
    extent = " x ".join(f"{edge:.3f}" for edge in np.ptp(cloud.points, axis=0))
    ids = ", ".join(map(str, cloud.object_ids))
    print(f"objects  {ids or 'none, but a part of the surface'}{certainty(cloud)}")
    for each in cloud.alternatives:
        size = "larger" if each.larger else "smaller"
        print(f"or else  what is {size}: {each.count} points, score {each.score:.2f}")
    print(f"points   {len(cloud)}, extent {extent}, in frame '{cloud.frame_id}'")
    print(f"took     {seconds * 1e3:.2f} ms")


def certainty(cloud: ObjectCloud) -> str:
    """Score of an answer and a mark if it is ambiguous; nothing where nobody said."""
    if np.isnan(cloud.score):
        return ""
    return f", score {cloud.score:.2f}{', ambiguous' if cloud.close else ''}"


def print_scores(scores: Evaluation, built_here: bool = True) -> None:
    """A table with one line per object and their means; and the memory where this process built
    the scene."""
    width = max([len(shown(score.name)) for score in scores.objects] + [6])
    columns = "IoU    acc    IoU where depth  points    ms    clicked"
    print(f"{'object':{width}}  {columns}")
    for score in scores.objects:
        u, v = score.pixel
        print(
            f"{shown(score.name):{width}}  {_share(score.iou)}  {_share(score.accuracy)}  "
            f"{_share(score.iou_at_depth)}            {score.points:6d}  {score.milliseconds:5.2f}"
            f"  {u},{v}"
        )
        if score.error:
            print(f"{'':{width}}  no answer: {score.error}")
    means = f"{_share(scores.miou)}  {_share(scores.macc)}  {_share(scores.miou_at_depth)}"
    print(f"{'mean':{width}}  {means}")
    also = "scored too" if scores.reference_scored else "not scored"
    print(f"clicked  in view '{scores.reference_view}', whose own masks are {also}")
    _print_cost(scores.seconds, scores.peak_memory_mb if built_here else None)


def _agreement(alignment: Alignment) -> str:
    residual = alignment.typical_residual
    if not residual > EXACT:
        text = "nothing that could differ"
    elif not alignment.metric:
        text = f"{residual:.2g} scene units"
    else:
        millimetres = 1000.0 * residual
        text = f"{millimetres:.2g} mm" if millimetres < 10 else f"{millimetres:.0f} mm"
    used = f"{int(alignment.pair_used.sum())} of {len(alignment.pair_used)} used"
    return f"{used}; pairs agree to {text}"


def _print_cost(seconds: Mapping[str, float], megabytes: float | None) -> None:
    stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())
    print(f"seconds  {sum(seconds.values()):.1f} ({stages})")
    if megabytes is not None:
        print(f"memory   {megabytes:.0f} MB at most")


def _share(value: float | None) -> str:
    return "  -  " if value is None else f"{value:.3f}"
