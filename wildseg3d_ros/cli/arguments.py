"""The options of each command."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wildseg3d_ros import __version__
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.cli import benchmarks, commands, inspect_masks, outputs
from wildseg3d_ros.core.types import LEVELS, NEGATIVE, POSITIVE


@dataclass(frozen=True)
class Delegate:
    """A command with a module and a parser of its own.

    Attributes:
        module: has ``main(arguments, prog) -> int``.
        help: one line.
        need, way_out: texts for a module that is not installed: what the command needs, and where
            that comes from.
    """

    module: str
    help: str
    need: str
    way_out: str


DELEGATES = {
    "replay": Delegate(
        "wildseg3d_ros.ros.replay_node",
        "publish a recording as live ROS 2 cameras",
        *commands.OF_ROS,
    ),
    "record": Delegate(
        "wildseg3d_ros.ros.record_node",
        "write what the cameras publish to a ROS 2 bag",
        *commands.OF_ROS,
    ),
    "demo": Delegate(
        "wildseg3d_ros.demo", "build, click and score a small scene over ROS 2", *commands.OF_ROS
    ),
    "cell": Delegate(
        "wildseg3d_ros.ros.cell_node",
        "a simulated robot cell that publishes as real cameras do",
        "needs ROS 2 and the extra 'sim'",
        "`make setup EXTRAS=sim` in a clone, which gets both",
    ),
    "demo-live": Delegate(
        "wildseg3d_ros.demo_live",
        "a simulated cell, a scene node and the page to click in",
        "needs ROS 2 and the extras 'sim' and 'viewer'",
        "`make demo-live` in a clone, which gets all of them",
    ),
    "batch": Delegate(
        "wildseg3d_ros.batch.command",
        "build scenes of many recordings, on this machine or on Ray; resumable",
        "needs",
        "install wildseg3d again",
    ),
    "train-masks": Delegate(
        "wildseg3d_ros.training.command",
        "train the network of the geometric masks, on parts of your own too",
        "needs the extra 'train'",
        "`make setup EXTRAS=train` in a clone, else `pip install 'wildseg3d[train]'`",
    ),
    "view": Delegate(
        "wildseg3d_ros.viewer.command",
        "click objects in a web page, of a scene's file or a running node",
        "needs the extra 'viewer'",
        "`make setup EXTRAS=viewer` in a clone, else `pip install 'wildseg3d[viewer]'`",
    ),
}

_DESCRIPTION = """\
Click an object in one camera, get its point cloud from all of them.

Build a scene once, in seconds; then every click is answered from it in milliseconds.
"""
_EPILOG = """\
examples:
  wildseg3d build recording/ -o scene.ws3d
  wildseg3d segment scene.ws3d --view left --pixel 320 240 -o mug.ply
  wildseg3d eval recording/ --json scores.json

A recording is a folder with transforms.json as nerfstudio writes it (images, intrinsics,
poses, depth), one of another format (COLMAP, BOP, ...), or a ROS 2 bag; all of them are in
docs/reference/formats.md.
`wildseg3d COMMAND --help` says more about a command.
"""
_BUILD = """\
FOLDER holds transforms.json in nerfstudio's convention: intrinsics, and per frame
file_path, transform_matrix (camera-to-world, OpenGL axes), depth_file_path (16-bit PNG).
The exit code is 3 when the scene was written but its alignment did not converge, or its
pairs contradict each other throughout: do not rely on it. It is 3, too, when no scene was
written because poses, intrinsics or depth are wrong in a known way: see `wildseg3d check`.

example:
  wildseg3d build recording/ -o scene.ws3d --set index.click_radius=4 --picture scene.png
  wildseg3d build recording/ --write-poses repaired/transforms.json
"""
_CHECK = """\
The first thing to run on new cameras. Points of each view are carried into the others by
the given poses, intrinsics and depth, and compared with what is seen there; then again as
if a usual mistake had been made: inverse matrices, OpenGL's axes, link frames, a scale,
a unit of depth, intrinsics of another resolution, a view turned or mirrored, two swapped.

agrees is the share of the points that lie on the other views' surfaces, of those that do
or that these views see through. The exit code is 3 when something contradicts.

--live does the same with cameras that publish, and says for each topic what arrives, how
often, how late, and what is wrong with it. No node need run, and no model is loaded.

--report draws the cameras of a recording, and what each of them sees into the images of
the others, as given and after alignment: open DIR/index.html in a browser.

examples:
  wildseg3d check recording/ --report check/
  wildseg3d check --live --config my_rig.yaml
"""
_INSPECT = """\
For the first run with weights: what SAM 2 (masks.sam2.*) finds in each view, and what every
filter drops, before anything is associated or needs a pose. Prints quantiles of the
estimated IoU, the stability and the area of the masks that reached each filter; draws the
views with their masks. No depth, poses or intrinsics are used.

example:
  wildseg3d inspect-masks recording/ --picture masks.png --set masks.sam2.stability=0.9
"""
_SEGMENT = """\
Several pixels on different objects select all of them; --negative leaves an object out.
A box means the object of any level that fills it. --add makes an object of what no mask of
the scene is: by the tree of masks that the scene has, else by the back end that built it,
if that takes prompts, or with `--set masks.backend=...` by another one that does.
--refine corrects an object: --pixel adds what is there, --negative takes it away.
--save writes the changed scene; give another name to keep the one before.
--text means the thing that SAM 3 finds most surely, of all views; its weights are gated.

examples:
  wildseg3d segment scene.ws3d --view left --pixel 320 240 -o mug.ply --masks masks/
  wildseg3d segment scene.ws3d --view left --pixel 320 240 \\
                               --view right --pixel 80 95 -o both.ply
  wildseg3d segment scene.ws3d --view left --pixel 350 230 --level part -o handle.ply
  wildseg3d segment scene.ws3d --view left --box 300 200 380 290 --add --save scene.ws3d
  wildseg3d segment scene.ws3d --refine 3 --view left --negative 34 25 --save b.ws3d
  wildseg3d segment scene.ws3d --text "red mug" -o mug.ply
  wildseg3d segment scene.ws3d --id 3 --json
"""
_LIST = """\
size is that of the smallest box about what was seen of the object. score is the expected
IoU with what a click on it means; ambiguity says how likely something else was meant.

example:
  wildseg3d list scene.ws3d --json
"""
_EXPORT = """\
formats:
  ply, pcd, npz  a cloud per object
  labels         a 16-bit image per view, whose pixels are ids of objects
  coco           masks of all views as COCO has them; ids of objects as track_id
  bop            a dataset of the BOP benchmark with this scene, poses and models
  nerfstudio     images, poses, depth and masks, which `wildseg3d build` reads, too
  json           cameras, boxes, scores
  mesh           triangles per object, where its cloud is a surface
  html           one page with pictures, sizes, scores and ambiguities

examples:
  wildseg3d export scene.ws3d -o out/ --format coco labels html
  wildseg3d export scene.ws3d -o mug/ --format mesh --id 3
"""
_UPDATE = """\
FOLDER holds the new image of the camera, and those of the others as they were. Masks of
the others and ids of their objects stay; only the camera's own image is segmented, and
only pairs with it are compared. The masks are made by the back end and weights that built
the scene, unless `--set masks.backend=...` says otherwise.

example:
  wildseg3d update scene.ws3d recording/ --view left -o scene.ws3d
"""
_EVAL = """\
Every object of the reference view's label image (object_mask_path in transforms.json) is
clicked once, at its most interior pixel; the answer's masks in all other views are compared
with theirs: intersection over union, and share of right pixels.

--protocol wide clicks every object in every view and scores every other view, by the angle
between the two. nvos and spin-nerf take the folder of these benchmarks with all their
scenes, as docs/how-to/benchmarks.md says, and print the papers' figures beside ours.

examples:
  wildseg3d eval recording/ --reference-view left --json scores.json
  wildseg3d eval recording/ --protocol wide
  wildseg3d eval nvos/ --protocol nvos --set pointmaps.backend=mast3r
"""
_ALIGN = """\
PAIRS.npz holds, for E pairs of N views with images of one size:
  edges (E,2) int                       views (i, j) of each pair
  pointmap_i, pointmap_j (E,H,W,3)      both in camera i's frame
  confidence_i, confidence_j (E,H,W)    larger is better, 0 = no point
and may hold soft_mask (N,H,W) in [0,1], matched_i and matched_j (E,H,W) bool, K (N,3,3),
world_from_cam_prior (N,4,4), the last two NaN where unknown.

ALIGNMENT.npz holds world_from_cam (N,4,4), K (N,3,3), pair_scale (E,), world_pointmap
(N,H,W,3), confidence (N,H,W), pair_residual (E,), pair_used (E,), converged, condition,
stop_reason, warnings and seconds as JSON. The exit code is 3 when it did not converge.

example:
  wildseg3d align pairs.npz -o alignment.npz --weighting confidence
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=90)


class _AddClick(argparse.Action):
    """Collects --pixel, --negative and --box in order, each with the --view that stands before
    it."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        found = (namespace.view, *values, *([] if self.const is None else [self.const]))
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), found])


def make_parser() -> argparse.ArgumentParser:
    """The parser; ``run`` of what it returns is the function of the chosen command."""
    parser = argparse.ArgumentParser(
        prog="wildseg3d", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=_Formatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    group = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    def add(
        name: str,
        run: Callable[[argparse.Namespace], int | None],
        text: str,
        detail: str,
        *parents: Any,
    ) -> Callable[..., Any]:
        command = group.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=detail,
            formatter_class=_Formatter,
            parents=[*parents, _common()],
        )
        command.set_defaults(run=run)
        return command.add_argument

    option = add("build", commands.build, "build a scene from a recording", _BUILD, _building())
    _add_output(option, "SCENE", "file to write (default: %(default)s)", Path("scene.ws3d"))
    option("--picture", metavar="PNG", type=Path, help="draw all views with their masks")
    option("--json", metavar="OUT", type=Path, help="file for what was found, by camera and all")
    text = "write the solved poses: static transforms (.yaml), or a transforms.json elsewhere"
    option("--write-poses", metavar="OUT", type=Path, help=text)

    option = add("check", commands.check, "check the cameras of a recording or a robot", _CHECK)
    _add_folder(option, nargs="?")
    option("--json", action="store_true", help="print all figures as JSON instead of a table")
    option("--report", metavar="DIR", type=Path, help="write a page with pictures into a folder")
    option("--live", action="store_true", help="check cameras that publish, over ROS 2")
    text = "parameter file of the node: cameras that --live listens to (default: those of the node"
    text += " that runs) or that a bag has"
    option("--config", metavar="YAML", type=Path, help=text)
    option("--namespace", metavar="NS", default="", help="with --live: of the node that runs")

    text = "show what SAM 2 finds in each view, and what each filter drops"
    option = add("inspect-masks", inspect_masks.inspect_masks, text, _INSPECT, _building())
    option("--picture", metavar="PNG", type=Path, help="draw all views with all their masks")
    option("--json", metavar="OUT", type=Path, help="file for all figures, by view")

    option = add("segment", outputs.segment, "get the cloud of a clicked object", _SEGMENT)
    option("scene", metavar="SCENE", type=Path, help="file that `wildseg3d build` wrote")
    option("--view", metavar="V", help="camera of the pixels that follow")
    pixel: dict[str, Any] = {"action": _AddClick, "nargs": 2, "type": float, "dest": "clicks"}
    pixel |= {"metavar": ("U", "V"), "default": []}
    option("--pixel", const=POSITIVE, help="column and row of a pixel on the object", **pixel)
    option("--negative", const=NEGATIVE, help="of a pixel that is not on it", **pixel)
    corners: dict[str, Any] = {"nargs": 4, "dest": "boxes", "metavar": ("U0", "V0", "U1", "V1")}
    text = "first and last column and row of a rectangle about the object"
    option("--box", help=text, **pixel | corners)
    text = "what the object is called, such as 'red mug': SAM 3 finds it"
    option("--text", metavar="WORDS", help=text)
    ids: dict[str, Any] = {"dest": "ids", "type": int, "action": "append", "default": []}
    option("--id", metavar="N", help="an object by its id; may be repeated", **ids)
    option("--all", action="store_true", help="all objects, as one cloud")
    text = "how much of the thing at a pixel is meant (default: %(default)s)"
    option("--level", choices=LEVELS, default=LEVELS[0], help=text)
    text = "the best larger or smaller thing instead of the answer"
    option("--alternative", choices=("larger", "smaller"), help=text)
    option("--add", action="store_true", help="find the object anew where no mask is it")
    option("--refine", metavar="N", type=int, help="correct an object by pixels on and off it")
    text = "with --add or --refine: write the changed scene"
    option("--save", metavar="SCENE", type=Path, help=text)
    _add_output(option, "CLOUD", "file to write: .ply, .pcd or .npz, by its suffix")
    option("--masks", metavar="DIR", type=Path, help="write its mask of every view")
    option("--voxel-size", metavar="M", type=float, default=0.0, help="thin the cloud to voxels")
    option("--picture", metavar="PNG", type=Path, help="draw clicks, masks and cloud")
    option("--json", action="store_true", help="print all figures as JSON")
    _add_settings(option, "masks.backend=NAME")

    option = add("list", outputs.list_objects, "list the objects of a scene", _LIST)
    option("scene", metavar="SCENE", type=Path, help="file that `wildseg3d build` wrote")
    option("--json", action="store_true", help="print JSON, with boxes, instead of a table")

    option = add("export", outputs.export, "write a scene in the formats of other tools", _EXPORT)
    option("scene", metavar="SCENE", type=Path, help="file that `wildseg3d build` wrote")
    text = "folder to write: new, empty, or that of an earlier export, which is replaced"
    option("-o", "--output", metavar="DIR", type=Path, required=True, help=text)
    text = "one or several of the formats below (default: ply json html)"
    option("--format", dest="formats", metavar="FORMAT", nargs="+", action="extend", help=text)
    option("--id", metavar="N", help="this object alone; may be repeated", **ids)

    option = add("update", commands.update, "replace one camera's image in a scene", _UPDATE)
    option("scene", metavar="SCENE", type=Path, help="file that `wildseg3d build` wrote")
    _add_building(option)
    option("--view", metavar="V", required=True, help="camera whose image is new")
    _add_output(option, "SCENE", "file to write (default: the one that was read)")

    option = add("eval", benchmarks.evaluate, "score one-click answers", _EVAL, _building())
    text = "where to click (default: the view with most objects)"
    option("--reference-view", metavar="V", help=text)
    option("--include-reference", action="store_true", help="score that view's masks as well")
    option("--scene", metavar="SCENE", type=Path, help="score this scene instead of building one")
    protocols = benchmarks.PROTOCOLS
    text = "what is asked and scored (default: %(default)s)"
    option("--protocol", choices=protocols, default=protocols[0], help=text)
    text = "with nvos and spin-nerf: this scene alone; may be repeated"
    option("--only", metavar="NAME", action="append", default=[], help=text)
    option("--json", metavar="OUT", type=Path, help="file for all figures")

    option = add("align", commands.align, "bring pairwise pointmaps into one world", _ALIGN)
    option("pairs", metavar="PAIRS", type=Path, help="file with the pairs' pointmaps")
    text = "file to write (default: %(default)s)"
    _add_output(option, "ALIGNMENT", text, Path("alignment.npz"))
    hints = typing.get_type_hints(AlignmentConfig)
    for name, text in (("weighting", "how points are weighed"), ("loss", "robust loss")):
        option(
            f"--{name}",
            choices=typing.get_args(hints[name]),
            help=f"{text} (default: {getattr(AlignmentConfig(), name)})",
        )
    option("--metric", action="store_true", help="the points are in metres: no scale per pair")
    _add_settings(option, "alignment.max_iterations=50")

    for name, delegate in DELEGATES.items():
        group.add_parser(name, help=delegate.help, add_help=False)
    return parser


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--verbose", action="store_true", help="show where an error came from")
    common.add_argument("--quiet", action="store_true", help="no progress bars, no summary")
    return common


def _building() -> argparse.ArgumentParser:
    building = argparse.ArgumentParser(add_help=False)
    _add_building(building.add_argument)
    return building


def _add_output(
    option: Callable[..., Any], metavar: str, text: str, default: Path | None = None
) -> None:
    option("-o", "--output", metavar=metavar, type=Path, default=default, help=text)


def _add_settings(option: Callable[..., Any], example: str) -> None:
    text = "configuration file, or a rig's parameter file, which says the cameras of a bag, too"
    option("--config", metavar="YAML", type=Path, help=text)
    text = f"one setting, e.g. {example}; overrides --config; may be repeated"
    option("--set", dest="settings", metavar="KEY=VALUE", action="append", default=[], help=text)


def _add_folder(option: Callable[..., Any], **kind: Any) -> None:
    option("folder", metavar="FOLDER", type=Path, help="the recording: a folder or a bag", **kind)
    option("--max-views", metavar="N", type=int, help="use at most N views, evenly spread")
    text = "refuse frames that cannot be read and views that nothing relates to the others"
    option("--strict", action="store_true", help=text)
    text = "what the folder is, where it may be several: colmap, llff, bop ..."
    text += " (docs/reference/formats.md)"
    option("--format", metavar="NAME", default="", help=text)


def _add_building(option: Callable[..., Any]) -> None:
    _add_folder(option)
    _add_settings(option, "index.click_radius=4")
