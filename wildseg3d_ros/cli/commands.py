"""What the commands do. Imports stay inside them, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import signal
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.core.files.reading import is_folder, is_regular, same_place

if TYPE_CHECKING:
    from wildseg3d_ros.config import SceneConfig
    from wildseg3d_ros.core.types import Alignment
    from wildseg3d_ros.io.folder import Recording
    from wildseg3d_ros.rig.live import LiveRig
    from wildseg3d_ros.scene.scene import Scene


OF_ROS = "needs ROS 2", "source a ROS 2 set-up file, or run `make demo`, which gets one"
"""What is missing without rclpy, and the way out."""


class ExitCode(IntEnum):
    """Beside 0: argparse's code for errors, one for answers and rigs not to be relied on, the
    shell's."""

    ERROR = 2
    UNRELIABLE = 3
    INTERRUPTED = 128 + signal.SIGINT
    BROKEN_PIPE = 128 + signal.SIGPIPE


def build(given: argparse.Namespace) -> int:
    """``wildseg3d build``: a recording becomes a scene file; see :func:`_exit_code`."""
    poses = given.write_poses
    check_targets(given.output, given.picture, given.json, poses)
    if poses and poses.suffix not in (".yaml", ".yml", ".json"):
        raise ConfigError(f"--write-poses must end in .yaml or .json; got '{poses}'")
    if poses and poses.suffix == ".json":
        from wildseg3d_ros.io.folder import check_posed_target

        check_posed_target(given.folder, poses)
    recording = given_recording(given)
    scene = _build(given, recording)

    from wildseg3d_ros.cli.report import print_recording, print_scene, scene_figures
    from wildseg3d_ros.core.files.writing import write_bytes
    from wildseg3d_ros.io.folder import write_posed
    from wildseg3d_ros.scene.file.snapshot import save_scene
    from wildseg3d_ros.scene.static_transforms import about, optical_frames, static_transforms

    save_scene(scene, given.output)
    if given.json:
        write_bytes(given.json, (json.dumps(scene_figures(scene), indent=1) + "\n").encode())
    if poses and poses.suffix == ".json":
        solved = dict(zip(scene.view_names, scene.world_from_cam, strict=True))
        write_posed(given.folder, poses, solved)
    elif poses:
        text = static_transforms(scene.frame_id, optical_frames(scene), about(scene))
        write_bytes(poses, text.encode())
    if given.picture:
        from wildseg3d_ros.cli.report import pictured
        from wildseg3d_ros.io.pictures import write_sheet

        write_sheet(given.picture, pictured(scene))
    if not given.quiet:
        print_recording(recording)
        print_scene(scene)
        print_written(given.output, given.picture, given.json, poses)
    return _exit_code(scene.alignment)


def check(given: argparse.Namespace) -> int:
    """``wildseg3d check``: what a recording's views say about its cameras; 0, or 3 where they
    contradict what is given."""
    if given.live == (given.folder is not None):
        raise ConfigError("check takes either a FOLDER or --live")
    if given.live:
        if given.report:
            raise ConfigError("--report draws a recording: give its FOLDER instead of --live")
        return _check_live(given)

    from wildseg3d_ros.cli.report import print_recording, print_rig
    from wildseg3d_ros.core.progress import Progress
    from wildseg3d_ros.core.progress_bar import ProgressBar
    from wildseg3d_ros.rig.aligned import check_rig, unrelated_by_stereo
    from wildseg3d_ros.rig.page import PAGE, check_folder, write_report

    if given.report:
        check_folder(given.report)
    recording = given_recording(given)
    with ProgressBar(given.quiet) as bar:
        checked = check_rig(recording.views, Progress(bar.report))
        if given.report:
            write_report(given.report, checked, Progress(bar.report))
    doubts = [*checked.report.doubts, *unrelated_by_stereo(recording.views)]
    if given.json:
        print(json.dumps({**checked.to_dict(), "doubts": doubts}, indent=1))
    elif not given.quiet:
        print_recording(recording)
        print_rig(checked, doubts)
        print_written(given.report and given.report / PAGE)
    return ExitCode.UNRELIABLE if checked.verdict == "suspect" else 0


def _check_live(given: argparse.Namespace) -> int:
    """0, or 3 where anything is wrong with what the cameras publish."""
    try:
        live = importlib.import_module("wildseg3d_ros.ros.live_check")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("wildseg3d_ros"):
            raise
        raise FileError(f"check --live {OF_ROS[0]}: {OF_ROS[1]}") from error
    from wildseg3d_ros.cli.live_report import print_live

    report: LiveRig
    if given.config:
        report = live.check_cameras(given.config)
    else:
        report = live.check_running_node(given.namespace)
    if given.json:
        print(json.dumps(report.to_dict(), indent=1))
    elif not given.quiet:
        print_live(report)
    return ExitCode.UNRELIABLE if report.problems else 0


def update(given: argparse.Namespace) -> None:
    """``wildseg3d update``: one camera's image in a scene file is replaced."""
    from wildseg3d_ros.cli.report import print_scene
    from wildseg3d_ros.core.progress import Progress
    from wildseg3d_ros.core.progress_bar import ProgressBar
    from wildseg3d_ros.editing import config_as_built
    from wildseg3d_ros.masks import load_masks_for
    from wildseg3d_ros.pipeline import update_scene
    from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene

    target = given.output or given.scene
    check_targets(target)
    scene = load_scene(given.scene)
    config = read_config(given.config, given.settings, config_as_built(scene))
    masks = load_masks_for(scene.masks, config.masks)
    recording = given_recording(given)
    with ProgressBar(given.quiet) as bar:
        updated = update_scene(
            scene, recording.views, given.view, config, Progress(bar.report), masks=masks
        )
    save_scene(updated, target)
    if not given.quiet:
        print_scene(updated)
        print_written(target)


def scored_scene(given: argparse.Namespace) -> tuple[Recording, Scene]:
    """The recording that `eval` scores, and the scene of it: built, or the one that is given."""
    recording = given_recording(given)
    if given.scene:
        from wildseg3d_ros.scene.file.snapshot import load_scene

        return recording, load_scene(given.scene)
    return recording, _build(given, recording)


def evaluate(given: argparse.Namespace) -> None:
    """``wildseg3d eval``: a recording with label images becomes scores."""
    check_targets(given.json)
    recording, scene = scored_scene(given)

    from wildseg3d_ros import evaluation
    from wildseg3d_ros.cli.report import print_recording, print_scores
    from wildseg3d_ros.core.files.writing import write_bytes

    scores = evaluation.evaluate(recording, scene, given.reference_view, given.include_reference)
    if given.json:
        figures = scores.to_dict()
        if given.scene:  # its seconds are those of another process, whose memory nobody kept
            del figures["peak_memory_mb"]
        write_bytes(given.json, (json.dumps(figures, indent=1) + "\n").encode())
    if not given.quiet:
        print_recording(recording)
        print_scores(scores, built_here=given.scene is None)
        print_written(given.json)


def align(given: argparse.Namespace) -> int:
    """``wildseg3d align``: anybody's pairwise pointmaps become an alignment; see
    :func:`_exit_code`."""
    from wildseg3d_ros.alignment import align as run
    from wildseg3d_ros.alignment import fuse
    from wildseg3d_ros.cli.report import print_alignment
    from wildseg3d_ros.core.progress import Progress
    from wildseg3d_ros.io.pairs_file import load_pairs, save_alignment

    check_targets(given.output)
    if same_place(given.output, given.pairs):
        raise FileError(f"'{given.output}' is what is read; give another output")
    chosen = {name: value for name in ("weighting", "loss") if (value := getattr(given, name))}
    config = dataclasses.replace(read_config(given.config, given.settings).alignment, **chosen)
    progress = Progress()
    with progress.stage("read"):
        pairs = load_pairs(given.pairs, given.metric)
    with progress.stage("align"):
        alignment = run(pairs.predictions, pairs.views, config, pairs.masks)
    with progress.stage("fuse"):
        world = fuse(pairs.predictions, pairs.views, alignment, config)
    save_alignment(given.output, alignment, world, progress.seconds)
    if not given.quiet:
        print_alignment(alignment, progress.seconds)
        print_written(given.output)
    return _exit_code(alignment)


def _exit_code(alignment: Alignment) -> int:
    """0, or 3 where what was written is not to be relied on: the alignment did not converge, its
    pairs have no world in common, or most cameras contradict each other."""
    if alignment.converged:
        return 0
    print(f"wildseg3d: not to be relied on: {alignment.stop_reason}", file=sys.stderr)
    return ExitCode.UNRELIABLE


def read_config(
    path: Path | None, settings: Sequence[str], base: SceneConfig | None = None
) -> SceneConfig:
    """Configuration from a YAML file and ``group.key=value`` settings, which win.

    Args:
        path: of the file, if there is one; of a rig's parameter file, too.
        settings: as the command line has them.
        base: what neither says is as in it; None: the defaults.

    Raises:
        FileError, ConfigError: as :class:`SceneConfig` has them, or a setting without "=".
    """
    from wildseg3d_ros.config import SceneConfig
    from wildseg3d_ros.core.files.text import parse_yaml, read_yaml
    from wildseg3d_ros.core.settings import nested
    from wildseg3d_ros.streams.rig_file import rig_from

    config = base or SceneConfig()
    if path is not None:
        found = read_yaml(path, "configuration")
        rig = rig_from(found)
        config = SceneConfig.from_values(found if rig is None else rig.scene, str(path), config)
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set takes KEY=VALUE, e.g. index.click_radius=4; got '{setting}'")
        try:
            values[key.strip()] = parse_yaml(text)
        except ValueError as error:
            raise ConfigError(f"--set {setting}: the value is not readable: {error}") from error
    return SceneConfig.from_mapping(nested(values), config)


def given_recording(given: argparse.Namespace) -> Recording:
    """The recording that the command line names, whose warnings are printed."""
    from wildseg3d_ros.core.progress import Progress
    from wildseg3d_ros.core.progress_bar import ProgressBar
    from wildseg3d_ros.io.loading import load_recording
    from wildseg3d_ros.streams.rig_file import rig_from

    rig = None
    if given.config is not None:
        from wildseg3d_ros.core.files.text import read_yaml

        rig = rig_from(read_yaml(given.config, "configuration"))
    with ProgressBar(given.quiet) as bar, Progress(bar.report).stage("load") as progress:
        recording = load_recording(
            given.folder, given.max_views, progress, given.strict, given.format, rig
        )
    from wildseg3d_ros.cli.report import tell_warnings

    tell_warnings(recording.warnings)
    return recording


def _build(given: argparse.Namespace, recording: Recording) -> Scene:
    from wildseg3d_ros.core.progress import Progress
    from wildseg3d_ros.core.progress_bar import ProgressBar
    from wildseg3d_ros.pipeline import build_scene

    config = read_config(given.config, given.settings)
    if given.strict:
        config = config.of_all_views()
    with ProgressBar(given.quiet) as bar:
        world = recording.world_frame or "world"
        return build_scene(recording.views, config, Progress(bar.report), world_frame=world)


def check_targets(*paths: Path | None) -> None:
    """Says before the work, not after it, what is wrong with where the results should go."""
    for path in paths:
        if path is not None and is_folder(path):
            raise FileError(f"cannot write '{path}': it is a folder; give a file name")


def print_written(*paths: Path | None) -> None:
    """A line for each file that was written."""
    for path in paths:
        if path is not None:
            size = f" ({path.stat().st_size / 1e6:.1f} MB)" if is_regular(path) else ""
            print(f"wrote    {path}{size}")
