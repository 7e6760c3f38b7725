"""What a scene file gives out: `segment`, `list`, `export`. Imports stay inside the functions."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wildseg3d_ros.cli.commands import (
    check_targets,
    print_written,
    read_config,
)
from wildseg3d_ros.core.errors import ConfigError

if TYPE_CHECKING:
    from wildseg3d_ros.config import SceneConfig
    from wildseg3d_ros.core.types import ObjectCloud, Prompt, ViewMask
    from wildseg3d_ros.grasping.objects import SceneObject
    from wildseg3d_ros.scene.scene import Scene


def segment(given: argparse.Namespace) -> None:
    """``wildseg3d segment``: clicks in a scene file, or ids of its objects, become a cloud."""
    from wildseg3d_ros.cli.report import pictured, print_cloud, print_warnings
    from wildseg3d_ros.editing import config_as_built
    from wildseg3d_ros.io.clouds import FORMATS, write_cloud
    from wildseg3d_ros.io.images import write_image
    from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
    from wildseg3d_ros.scene.voxels import voxel_downsample

    if given.output and given.output.suffix not in FORMATS:
        raise ConfigError(f"--output must end in {', '.join(FORMATS)}; got '{given.output}'")
    if given.save and not given.add and given.refine is None:
        raise ConfigError(
            "--save writes the scene that --add or --refine changed: give one of them, too"
        )
    check_targets(given.output, given.picture, given.save)
    _check_selection(given)
    scene = load_scene(given.scene)
    config = read_config(given.config, given.settings, config_as_built(scene))
    prompt = _prompt(given, scene)
    if prompt.text:
        prompt = prompt.with_found(_named(given, scene, config))
    start = time.perf_counter()
    before = len(scene.warnings)
    scene, cloud = _answer(scene, prompt, config, given)
    if given.alternative:
        cloud = _alternative(cloud, given.alternative)
    seconds = time.perf_counter() - start
    cloud = voxel_downsample(cloud, given.voxel_size)
    if given.output:
        write_cloud(given.output, cloud)
    if given.masks:
        for name, mask in cloud.masks.items():
            write_image(given.masks / f"{name}.png", mask.astype("uint8") * 255)
    if given.picture:
        from wildseg3d_ros.io.pictures import write_sheet

        write_sheet(given.picture, pictured(scene), prompt.clicks, cloud)
    if given.save:
        save_scene(scene, given.save)
    if given.json:
        print(json.dumps(_cloud_figures(scene, cloud, seconds), indent=1))
    elif not given.quiet:
        print_cloud(cloud, seconds)
        print_warnings(scene.warnings[before:])
        print_written(given.output, given.masks, given.picture, given.save)


def list_objects(given: argparse.Namespace) -> None:
    """``wildseg3d list``: a line, or an entry, for each object of a scene file."""
    from wildseg3d_ros.cli.report import print_table, print_warnings
    from wildseg3d_ros.grasping.graspable import GraspableScene
    from wildseg3d_ros.grasping.objects import scene_objects
    from wildseg3d_ros.scene.file.snapshot import load_scene

    scene = load_scene(given.scene)
    objects = list(scene_objects(GraspableScene(scene)))
    metric = bool(scene.alignment.metric)
    if given.json:
        about = {"scene_id": scene.scene_id, "frame_id": scene.frame_id, "metric": metric}
        figures = {**about, "objects": [each.to_dict() for each in objects]}
        print(json.dumps(figures, indent=1))
        return
    if not objects:
        print_warnings(scene.warnings or ["the scene has no object"])
        return
    print_table(_table(objects, metric))


def export(given: argparse.Namespace) -> None:
    """``wildseg3d export``: a scene file becomes a folder of other formats."""
    from wildseg3d_ros.core.progress import Progress
    from wildseg3d_ros.core.progress_bar import ProgressBar
    from wildseg3d_ros.export.formats import DEFAULT_FORMATS, export_scene
    from wildseg3d_ros.scene.file.snapshot import load_scene

    formats = given.formats or DEFAULT_FORMATS
    scene = load_scene(given.scene)
    with ProgressBar(given.quiet) as bar:
        files = export_scene(scene, given.output, formats, given.ids or None, Progress(bar.report))
    if not given.quiet:
        size = sum(file.stat().st_size for file in files) / 1e6
        print(f"wrote    {given.output} ({len(files)} files, {size:.1f} MB)")


def _table(objects: Sequence[SceneObject], metric: bool) -> list[Sequence[str]]:
    """The rows of `list`, the head first."""
    from wildseg3d_ros.cli.report import known

    factor, unit = (1000.0, "mm") if metric else (1.0, "units")
    rows: list[Sequence[str]] = [
        ("id", "part of", f"size [{unit}]", "points", "views", "score", "ambiguity")
    ]
    rows += [
        (
            str(each.object_id),
            str(each.parent or "-"),
            "-" if each.box is None else " x ".join(f"{factor * e:.3g}" for e in each.box.size),
            str(each.points),
            str(len(each.cameras)),
            known(each.score, "{:.2f}"),
            known(each.ambiguity, "{:.2f}"),
        )
        for each in objects
    ]
    return rows


def _cloud_figures(scene: Scene, cloud: ObjectCloud, seconds: float) -> dict[str, Any]:
    """What :func:`wildseg3d_ros.cli.report.print_cloud` prints, for programs."""
    import numpy as np

    from wildseg3d_ros.grasping.graspable import GraspableScene
    from wildseg3d_ros.grasping.objects import known, scene_objects

    chosen = set(cloud.object_ids)
    found = scene_objects(GraspableScene(scene), chosen) if chosen else ()
    return {
        "scene_id": cloud.scene_id,
        "frame_id": cloud.frame_id,
        "stamp_ns": cloud.stamp_ns,
        "object_ids": list(cloud.object_ids),
        "points": len(cloud),
        "extent": np.ptp(cloud.points, axis=0).tolist(),
        "score": known(cloud.score),
        "ambiguity": known(cloud.ambiguity),
        "ambiguous": cloud.close,
        "alternatives": [
            {"larger": each.larger, "points": each.count, "score": each.score}
            for each in cloud.alternatives
        ],
        "objects": [each.to_dict() for each in found],
        "milliseconds": 1e3 * seconds,
    }


def _answer(
    scene: Scene, prompt: Prompt, config: SceneConfig, given: argparse.Namespace
) -> tuple[Scene, ObjectCloud]:
    """The cloud of a cached object or, if that is wished, of one that is corrected or found
    anew."""
    from wildseg3d_ros.core.errors import PromptError
    from wildseg3d_ros.scene.prompting import NOT_CACHED, answer, selected_by

    if given.refine is None:
        try:
            cloud = answer(scene, prompt)
            if not given.add or selected_by(scene, cloud) == cloud.object_ids:
                return scene, cloud
        except PromptError as error:
            if not given.add or error.code not in NOT_CACHED:
                raise
    from wildseg3d_ros.editing import add_object, load_editing_masks, refine_object

    edit = add_object if given.refine is None else refine_object
    return edit(scene, prompt, config, load_editing_masks(scene, config))


def _alternative(cloud: ObjectCloud, which: str) -> ObjectCloud:
    from wildseg3d_ros.core.errors import PromptError

    for each in cloud.alternatives:
        if each.larger == (which == "larger"):
            return each.cloud
    raise PromptError(f"the answer has no {which} alternative: click elsewhere, or draw a --box")


def _check_selection(given: argparse.Namespace) -> None:
    """Says before a scene is loaded what is wrong with what is asked for."""
    pointed = bool(given.clicks or given.boxes or given.text)
    others = given.boxes or given.text or given.ids or given.all or given.add
    if given.refine is not None and (others or not given.clicks):
        raise ConfigError(
            "--refine N corrects object N by --pixel (on it) and --negative (off it), and by "
            "nothing else: give --view V and one or more of these"
        )
    if not (pointed or given.ids or given.all):
        raise ConfigError(
            "nothing was clicked: give --view V --pixel U V, or --view V --box ..., or --text "
            "WORDS, or --id N, or --all (`wildseg3d list SCENE` has the ids)"
        )
    if given.all and (pointed or given.ids):
        raise ConfigError("--all selects every object: leave out clicks, boxes, text and ids")
    if given.alternative and (given.add or given.refine is not None):
        raise ConfigError(
            "--alternative is of an answer, which --add and --refine change: give one of them"
        )
    if given.add and not pointed:
        raise ConfigError(
            "--add makes an object of what is clicked: give a click, a box or a text"
        )
    for what, prompts in (("pixel", given.clicks), ("box", given.boxes)):
        for view, u, v, *_ in prompts:
            if (view or given.view) is None:
                raise ConfigError(
                    f"in which camera is {what} {u:g} {v:g}? give --view V before it"
                )


def _prompt(given: argparse.Namespace, scene: Scene) -> Prompt:
    from wildseg3d_ros.core.errors import ErrorCode, PromptError
    from wildseg3d_ros.core.types import Box, Click, Prompt

    if given.all:
        if not scene.object_ids:
            raise PromptError("the scene has no object", ErrorCode.UNKNOWN_OBJECT)
        return Prompt(object_ids=scene.object_ids)
    # `--pixel 1 2 --view left` means the same as the other order while there is one view.
    clicks = tuple(Click(view or given.view, *rest) for view, *rest in given.clicks)
    boxes = tuple(Box(view or given.view, *corners) for view, *corners in given.boxes)
    ids = given.ids if given.refine is None else [given.refine]
    return Prompt(clicks, given.level, boxes, object_ids=tuple(ids), text=given.text or "")


def _named(given: argparse.Namespace, scene: Scene, config: SceneConfig) -> ViewMask:
    """The mask, in one view, of what is meant by ``--text``."""
    from wildseg3d_ros.scene.camera_pixels import mask_at_camera

    # One view's mask is enough: ids hold over all views, and the best of two views may be two
    # things of one name.
    best = config.text.load().find(scene.images, given.text)[0]
    if not given.quiet and not given.json:
        view = scene.view_names[best.view]
        print(f"found    '{given.text}' in camera '{view}', score {best.score:.2f}")
    return mask_at_camera(scene, best.view, best.mask)
