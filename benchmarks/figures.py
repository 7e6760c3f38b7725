"""The pictures and tables of the documentation that show results.

``python -m benchmarks.figures [NAME ...]`` writes them into docs/images, and the tables into the
pages that have their marks; those of the page are recorded in Chromium. The recordings are the
shipped table, whose truth is known, and the real shelf, where it is there (WILDSEG3D_DATA). What
takes longer has commands of its own, which it names at the end.

Colours can be told apart by readers who are colour-blind: objects have those of Okabe and Ito
(2008), then some of Tol (2021), and an id beside; magnitudes have matplotlib's ``viridis``.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import moving_picture, rig_pictures, scaling
from benchmarks.evaluation.plots import PLOTS
from benchmarks.recordings import REAL_DATA
from wildseg3d_ros.core.geometry.cameras import back_project, project
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.evaluation import evaluate, most_interior_pixel
from wildseg3d_ros.io.folder import IGNORE, Recording, load_folder
from wildseg3d_ros.scene.scene import Scene

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
TABLETOP = ROOT / "examples" / "tabletop"
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#882255",
          "#000000", "#332288")  # fmt: skip
MISSED, EXTRA = "#E69F00", "#0072B2"
QUALITY = 82
"""Of JPEG."""
SHELF_REFERENCE = "frame-000007"
SHOWN_ERROR = 0.012
"""Disagreement [m] that has the brightest colour."""
WORST_OF = 14
"""Simulated scenes of which the worst cases are shown."""
GATE = 0.03
"""Beyond this the other camera sees another surface [m]."""


@dataclass(frozen=True, eq=False)
class Built:
    """A recording and its scene."""

    recording: Recording
    scene: Scene


@functools.cache
def tabletop() -> Built:
    """The shipped table, built with the defaults."""
    from wildseg3d_ros.pipeline import build_scene

    recording = load_folder(TABLETOP)
    return Built(recording, build_scene(recording.views))


@functools.cache
def shelf() -> Built | None:
    """The real shelf, built with the defaults; None where it is absent."""
    from wildseg3d_ros.pipeline import build_scene

    source = REAL_DATA / "apc_shelf"
    if not source.is_dir():
        return None
    recording = load_folder(source)
    return Built(recording, build_scene(recording.views))


def rig() -> NDArray[np.uint8]:
    """The table's cameras, two of them with each other's pose."""
    return rig_pictures.swapped_rig(tabletop().recording.views)


def truth_and_answer() -> Any:
    """All views of the table: true objects, answers, and where they differ."""
    built = tabletop()
    return draw_answers(built, [view.name for view in built.recording.views], None)


def shelf_truth_and_answer() -> Any:
    """Views of the real shelf, failures included."""
    built = shelf()
    if built is None:
        return None
    names = [view.name for view in built.recording.views]
    shown = [SHELF_REFERENCE, *(name for name in names[::5] if name != SHELF_REFERENCE)]
    return draw_answers(built, shown[:3], SHELF_REFERENCE)


def answers(built: Built, reference: str | None) -> dict[int, dict[str, NDArray[np.bool_]]]:
    """Masks of one click per object, by label and view; the click is the evaluation's."""
    from wildseg3d_ros.core.errors import PromptError
    from wildseg3d_ros.core.types import Click, Prompt
    from wildseg3d_ros.scene.prompting import answer

    masks = truth_masks(built.recording)
    where = reference or max(masks, key=lambda name: len(np.unique(masks[name])))
    found = {}
    for label in labels_of(masks[where]):
        click = Click(where, *most_interior_pixel(masks[where] == label))
        try:
            found[label] = dict(answer(built.scene, Prompt((click,))).masks)
        except PromptError:
            found[label] = {}
    return found


def truth_masks(recording: Recording) -> dict[str, NDArray]:
    """Label images by view."""
    pairs = zip(recording.views, recording.object_masks, strict=True)
    return {view.name: mask for view, mask in pairs if mask is not None}


def labels_of(mask: NDArray) -> list[int]:
    """Labels of objects in a label image."""
    return [int(label) for label in np.unique(mask) if label not in (0, IGNORE)]


def draw_answers(built: Built, names: Sequence[str], reference: str | None) -> Any:
    """A row per view: truth, answers to one click per object, and the difference."""
    import matplotlib.pyplot as plt

    masks, found = truth_masks(built.recording), answers(built, reference)
    images = {view.name: view.image for view in built.recording.views}
    figure, axes = plt.subplots(
        len(names), 3, figsize=(10, 2.55 * len(names)), layout="constrained", squeeze=False
    )
    for row, name in zip(axes, names, strict=True):
        truth = masks[name]
        shown = {label: each[name] for label, each in found.items() if name in each}
        show_objects(row[0], images[name], {label: truth == label for label in found})
        show_objects(row[1], images[name], shown)
        ious = show_difference(row[2], images[name], truth, shown)
        row[0].set_title(f"{name}: truth", fontsize=8)
        row[1].set_title("one click per object", fontsize=8)
        row[2].set_title(f"difference; mean IoU {np.mean(ious):.3f}", fontsize=8)
    for axis in axes.flat:
        axis.tick_params(labelsize=5, length=2)
    figure.legend(
        handles=[plt.Rectangle((0, 0), 1, 1, color=c) for c in ("black", MISSED, EXTRA)],
        labels=["right", "missing in the answer", "too much in the answer"],
        loc="outside lower center",
        ncols=3,
        fontsize=8,
    )
    return figure


def show_objects(axis: Any, image: NDArray[np.uint8], masks: dict[int, NDArray]) -> None:
    """An image with masks in distinct colours, outlined, each with its label."""
    from matplotlib.colors import to_rgb

    picture = image / 255.0 * 0.6 + 0.2
    for number, mask in enumerate(masks.values()):
        color = np.array(to_rgb(COLORS[number % len(COLORS)]))
        picture[mask] = 0.45 * picture[mask] + 0.55 * color
    axis.imshow(picture)
    for label, mask in masks.items():
        if mask.sum() < 20:
            continue
        axis.contour(mask, levels=[0.5], colors="black", linewidths=0.6)
        u, v = most_interior_pixel(mask)
        axis.text(
            *(u, v, str(label)), fontsize=7, color="white", ha="center", va="center",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "black", "linewidth": 0},
        )  # fmt: skip


def show_difference(
    axis: Any, image: NDArray[np.uint8], truth: NDArray, masks: dict[int, NDArray]
) -> list[float]:
    """Where answers and truth differ; returns the IoU of each object that is in the view."""
    from matplotlib.colors import to_rgb

    picture = np.repeat(image.mean(axis=2, keepdims=True) / 255.0 * 0.3 + 0.65, 3, axis=2)
    ious = []
    right, missed, extra = (np.zeros(truth.shape, bool) for _ in range(3))
    for label, mask in masks.items():
        true = truth == label
        known = truth != IGNORE
        if not (true | (mask & known)).any():
            continue
        ious.append((true & mask).sum() / (true | (mask & known)).sum())
        right |= true & mask
        missed |= true & ~mask
        extra |= mask & ~true & known
    for area, color in ((right, "black"), (missed, MISSED), (extra, EXTRA)):
        picture[area] = 0.25 * picture[area] + 0.75 * np.array(to_rgb(color))
    axis.imshow(picture)
    return ious


def alignment_error() -> Any:
    """How far each pixel is from what the other cameras say, before and after the alignment."""
    import matplotlib.pyplot as plt

    built = tabletop()
    views = built.recording.views
    rows = {
        "given poses": [np.asarray(view.world_from_cam_prior) for view in views],
        "aligned": list(built.scene.world_from_cam),
    }
    shown = (0, 3, 5)
    figure, axes = plt.subplots(2, len(shown), figsize=(10, 5.4), layout="constrained")
    drawn = None
    for row, (title, poses) in zip(axes, rows.items(), strict=True):
        for axis, index in zip(row, shown, strict=True):
            error = 1e3 * disagreement(views, poses, index)
            axis.set_facecolor("#b0b0b0")
            drawn = axis.imshow(error, cmap="viridis", vmin=0, vmax=1e3 * SHOWN_ERROR)
            median = np.nanmedian(error)
            axis.set_title(f"{views[index].name}, {title}: median {median:.1f} mm", fontsize=9)
            axis.tick_params(labelsize=6, length=2)
    bar = figure.colorbar(drawn, ax=axes, extend="max", shrink=0.9)
    bar.set_label("distance to the surface that others measured [mm]")
    return figure


FACING = 0.3
"""Cosine of the angle to a surface from which a camera counts as seeing it."""


def disagreement(views: Sequence[Any], poses: Sequence[NDArray], index: int) -> NDArray:
    """(H, W) median distance [m] of a view's pixels, along the normal of their surface, to what
    the other cameras that it faces measured in their direction; NaN where there is none."""
    view = views[index]
    points = back_project(view.depth, view.K)
    normals = smooth_normals(points, view.depth > 0).reshape(-1, 3) @ poses[index][:3, :3].T
    world = apply(poses[index], points.reshape(-1, 3).astype(np.float64))
    found = np.full((len(views), len(world)), np.nan)
    for number, other in enumerate(views):
        if number == index:
            continue
        to_camera = poses[number][:3, 3] - world
        cosine = (normals * to_camera).sum(axis=1) / np.linalg.norm(to_camera, axis=1)
        uv, z = project(apply(invert(poses[number]), world), other.K)
        height, width = other.size
        with np.errstate(invalid="ignore"):
            column, row = np.round(uv).T
            inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            inside &= cosine > FACING
        pixels = row[inside].astype(int), column[inside].astype(int)
        theirs = back_project(other.depth, other.K)[pixels].astype(np.float64)
        apart = apply(poses[number], theirs) - world[inside]
        near = (other.depth[pixels] > 0) & (np.abs(z[inside] - other.depth[pixels]) < GATE)
        error = np.abs((apart * normals[inside]).sum(axis=1))
        found[number, inside] = np.where(near, error, np.nan)
    found[:, view.depth.ravel() <= 0] = np.nan
    result = np.full(len(world), np.nan)
    seen = ~np.isnan(found).all(axis=0)
    result[seen] = np.nanmedian(found[:, seen], axis=0)
    return result.reshape(view.size)


def smooth_normals(points: NDArray, valid: NDArray[np.bool_], reach: int = 5) -> NDArray:
    """(H, W, 3) unit normals towards the camera of points (H, W, 3), over so many pixels to all
    sides; NaN where there is no surface."""
    window = (2 * reach + 1, 2 * reach + 1)
    weight = cv2.boxFilter(valid.astype(np.float64), -1, window, normalize=False)
    held = np.where(valid[..., None], points, 0.0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = cv2.boxFilter(held, -1, window, normalize=False) / weight[..., None]
        across, down = (
            np.roll(mean, -reach, axis=axis) - np.roll(mean, reach, axis=axis) for axis in (1, 0)
        )
        normals = np.cross(down, across)
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    inner = np.full_like(normals, np.nan)
    within = slice(reach, -reach), slice(reach, -reach)
    inner[within] = normals[within]
    return inner


def worst_cases() -> NDArray[np.uint8]:
    """The ten objects of simulated scenes whose clicks are answered worst."""
    from benchmarks import stability
    from benchmarks.worst_cases import sheet

    measurement = stability.Measurement()
    options = stability.Options(scenes=WORST_OF, noisy_scenes=0)
    stability.measure_simulated(measurement, options)
    pictures = sheet(measurement.worst.pictures())
    height = round(rig_pictures.WIDTH / pictures.shape[1] * pictures.shape[0])
    small = cv2.resize(pictures, (rig_pictures.WIDTH, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def cloud_error() -> Any:
    """A box's cloud by its distance to the true box, from two sides, with a scale bar."""
    import matplotlib.pyplot as plt

    from wildseg3d_ros.core.types import Click, Prompt
    from wildseg3d_ros.scene.prompting import answer

    built = tabletop()
    cloud = answer(built.scene, Prompt((Click("cam_3", 175, 180),)))
    local, size = in_true_box(built, cloud.points.astype(np.float64), "cereal_box")
    error = 1e3 * distance_to_box(local, size)
    chosen = np.random.default_rng(0).permutation(len(local))[:30_000]
    figure, axes = plt.subplots(1, 3, figsize=(10, 4.4), layout="constrained")
    for axis, (across, up, depth), title in (
        (axes[0], (0, 2, 1), "front"),
        (axes[1], (1, 2, 0), "side"),
    ):
        order = chosen[np.argsort(-local[chosen, depth])]
        drawn = axis.scatter(
            *(1e2 * local[order, across], 1e2 * local[order, up]), c=error[order], s=0.4,
            cmap="viridis", vmin=0, vmax=6,
        )  # fmt: skip
        half, top = 50 * size[across], 1e2 * size[2]
        axis.plot([-half, half, half, -half, -half], [0, 0, top, top, 0], color="#D55E00", lw=1)
        axis.plot([-half, -half + 5], [-2, -2], color="black", lw=3)
        axis.text(-half + 2.5, -3.4, "5 cm", fontsize=8, ha="center")
        axis.set_ylim(-4.5, top + 1.5)
        axis.set_aspect("equal")
        axis.set_title(f"{title}; true box in orange", fontsize=9)
        axis.set_xlabel("[cm]", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.colorbar(drawn, ax=axes[:2], extend="max", label="distance to the true box [mm]")
    axes[2].hist(error, bins=np.linspace(0, 12, 49), color="#0072B2")
    shares = np.percentile(error, [50, 90])
    axes[2].set_title(f"median {shares[0]:.1f} mm, 90 % below {shares[1]:.1f} mm", fontsize=9)
    axes[2].set_xlabel("distance [mm]", fontsize=8)
    axes[2].set_ylabel("points", fontsize=8)
    axes[2].tick_params(labelsize=7)
    figure.get_layout_engine().set(w_pad=0.12)
    return figure


def in_true_box(built: Built, points: NDArray, name: str) -> tuple[NDArray, NDArray]:
    """Points in a true object's frame, and its size [m].

    The scene's frame is that of the reported poses, which are off by millimetres; it is brought
    onto the true one by the cameras, rigidly.
    """
    truth = json.loads((TABLETOP / "truth.json").read_text())
    cameras = [truth["cameras"][view]["world_from_cam"] for view in built.scene.view_names]
    true = np.array(cameras)[:, :3, 3]
    found = np.asarray(built.scene.world_from_cam)[:, :3, 3]
    _, true_from_scene = umeyama(found, true, with_scale=False)
    thing = truth["objects"][name]
    pose = np.array(thing["world_from_object"])
    return apply(invert(pose) @ true_from_scene, points), np.array(thing["size"])


def distance_to_box(points: NDArray, size: NDArray) -> NDArray:
    """Distance to the surface of a box that stands on its frame's origin."""
    half = size / 2
    offset = np.abs(points - [0, 0, half[2]]) - half
    outside = np.linalg.norm(np.maximum(offset, 0), axis=1)
    return np.where(outside > 0, outside, -offset.max(axis=1))


def objects_table() -> list[list[str]]:
    """A row per object of the table: IoU, points, milliseconds."""
    built = tabletop()
    scores = evaluate(built.recording, built.scene)
    return [
        [each.name, f"{each.iou or 0:.3f}", f"{each.iou_at_depth or 0:.3f}", f"{each.points:,}"]
        for each in scores.objects
    ]


FIGURES: dict[str, Callable[[], Any]] = {
    "truth_and_answer": truth_and_answer,
    "alignment_error": alignment_error,
    "cloud_error": cloud_error,
    "shelf_truth_and_answer": shelf_truth_and_answer,
    "shelf": rig_pictures.shelf_picture,
    "rig": rig,
    "worst_cases": worst_cases,
    "scaling": scaling.figure,
}
"""What makes each picture of docs/images: matplotlib's figure, RGB, or None where its recording is
absent."""

RECORDED: dict[str, tuple[str, ...]] = {
    "page": tuple(path.name for path in moving_picture.WRITTEN)
}
"""Pictures that benchmarks/moving_picture.py records, which needs a browser."""


@dataclass(frozen=True)
class Measurement:
    """Figures of a page that :mod:`benchmarks.figures` does not make.

    Attributes:
        what, page: what they say, and where, relative to docs/explanation.
        command: that prints them, or writes them where it makes ``pictures``.
        takes: on two cores that nothing else uses, roughly; "not timed" may be hours.
    """

    what: str
    page: str
    command: str
    takes: str
    pictures: tuple[str, ...] = ()


MEASUREMENTS = (
    Measurement("how good in a simulated cell", "[Simulated cell](evaluation.md)",
                "make evaluation", "hours", tuple(f"{name}.jpg" for name in PLOTS)),
    Measurement("answers of one click, time, memory", "[above](#one-click-as-in-the-papers)",
                'make bench ARGS="tabletop shelf"', "1 min"),
    Measurement("time to answer", "[above](#time-to-answer)",
                'make bench ARGS="prompt service"', "minutes"),
    Measurement("how steady answers are", "[above](#how-steady-it-is)",
                "make bench ARGS=stability", "not timed"),
    Measurement("alignment: time, accuracy, wrong pairs", "[Alignment](alignment.md#figures)",
                "make bench ARGS=alignment", "not timed"),
    Measurement("masks: evidence, association", "[Masks](masks.md#how-good-they-are)",
                "make bench ARGS=association", "minutes"),
    Measurement("stereo: accuracy by angle, wrong poses", "[Stereo](stereo.md#measured)",
                "make bench ARGS=stereo", "not timed"),
    Measurement("mistakes of rigs", "[Checking cameras](../how-to/rig.md#measured)",
                "make bench ARGS=rig", "minutes"),
    Measurement("cameras that were moved", "[Alignment](alignment.md#figures)",
                'make bench ARGS="kicked doubtful"', "not timed"),
    Measurement("what scenes cost", "[Scaling](scaling.md)", "make bench ARGS=scaling", "minutes"),
    Measurement("batches", "[Batch](../how-to/batch.md#figures)",
                "make bench ARGS=batch", "minutes"),
    Measurement("bags", "[Bags](../reference/formats.md#bags)", "make bench ARGS=bags", "minutes"),
    Measurement("normals and boxes", "[Grasping](../reference/grasping.md#how-good)",
                "make bench ARGS=grasping", "1 min"),
    Measurement("images a second, many clients", "[The node](../reference/node.md#large-images)",
                'make bench ARGS="cameras soak"', "minutes"),
    Measurement("Depth Anything 3 against its authors' code",
                "[Depth Anything 3](../how-to/da3.md#measured)",
                "python -m benchmarks.da3_reference", "needs that code"),
    Measurement("MASt3R against the reference's numbers", "[MASt3R](../how-to/mast3r.md)",
                "make bench ARGS=mast3r", "not timed"),
)  # fmt: skip


def commands_table() -> list[list[str]]:
    """A row per measurement."""
    return [[each.what, each.page, f"`{each.command}`", each.takes] for each in MEASUREMENTS]


TABLES: dict[str, tuple[str, tuple[str, ...], Callable[[], list[list[str]]]]] = {
    "objects": (
        "docs/explanation/measured.md",
        ("object", "mean IoU, all pixels", "where depth was measured", "points"),
        objects_table,
    ),
    "commands": (
        "docs/explanation/measured.md",
        ("what", "where", "command", "takes"),
        commands_table,
    ),
}
"""Page, columns and rows of each table; the page has ``<!-- table: NAME -->`` before it."""


def write_table(name: str) -> None:
    """Replaces a table in its page."""
    page, columns, rows = TABLES[name]
    lines = [columns, ["---"] * len(columns), *rows()]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    text = (ROOT / page).read_text()
    mark = f"<!-- table: {name} -->\n"
    new = re.sub(rf"({re.escape(mark)}\n)(?:\|.*\n)+", lambda m: m[1] + table + "\n", text)
    (ROOT / page).write_text(new)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=__doc__)
    names = [*FIGURES, *RECORDED, *TABLES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    given = parser.parse_args(arguments)
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    if unknown := set(given.names) - set(names):
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    for name in given.names or names:
        if name in TABLES:
            write_table(name)
            continue
        if name in RECORDED:
            why = moving_picture.missing()
            print(f"{name}: {why}" if why else f"{name}: recording", flush=True)
            if not why:
                moving_picture.main()
            continue
        figure = FIGURES[name]()
        if figure is None:
            print(f"{name}: its recording is absent; set WILDSEG3D_DATA to the recordings' folder")
            continue
        path = IMAGES / f"{name}.jpg"
        if isinstance(figure, np.ndarray):
            Image.fromarray(figure).save(path, quality=QUALITY)
        else:
            figure.savefig(path, dpi=110, pil_kwargs={"quality": QUALITY})
        print(f"wrote {path.relative_to(ROOT)}", flush=True)
    if not given.names:
        print("not made here:")
        for each in MEASUREMENTS:
            print(f"  {each.what}: {each.command} ({each.takes})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
