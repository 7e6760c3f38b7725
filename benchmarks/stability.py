"""Stability of the masks under noise, and accuracy of clicks anywhere on an object.

Sets: the shipped table; real frames, where they are present; random simulated scenes; all, and
some of the scenes, once more with noise in colours and depth, and in the given poses. What a click
is and how it is scored is in :mod:`benchmarks.clicks`. ``python -m benchmarks.stability
FOLDER...`` measures recordings with object masks instead. All records are written as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.clicks import (
    ClickRecord,
    Source,
    choose_clicks,
    score_click,
    summarise,
    truth_of,
)
from benchmarks.recordings import REAL_DATA, ROOT
from benchmarks.worst_cases import WorstCases
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.io.folder import TRANSFORMS, Recording, load_folder, write_folder
from wildseg3d_ros.masks import load_masks
from wildseg3d_ros.pipeline import build_scene

if TYPE_CHECKING:
    from wildseg3d_ros.core.types import View
    from wildseg3d_ros.scene.scene import Scene

COLOR_STEP = 1
"""Largest change of a grey level by the noise added to the table's images."""
DEPTH_STEP = 1e-3
"""Step that the table's depth is rounded to [m]."""
TRANSLATION_SIGMA, ROTATION_SIGMA = 1e-3, np.radians(0.1)
"""Per axis, of the noise added to the table's given poses [m, rad]."""
FIRST_SEED = 9000
"""Of the simulated scenes. Those from here on judge; nothing is fitted to them."""
PARTS = ("table", "real", "simulated")


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        parts: of ``PARTS``.
        color_draws, pose_draws: builds of the table with noise of either kind.
        draws: the same of every real recording and of the first simulated scenes.
        scenes: number of simulated scenes.
        noisy_scenes: of which so many with noise.
        folders: recordings to measure instead of all parts.
        json: file of the results.
        pictures: folder for pictures of the worst cases; None for none.
    """

    parts: tuple[str, ...] = PARTS
    color_draws: int = 10
    pose_draws: int = 5
    draws: int = 2
    scenes: int = 40
    noisy_scenes: int = 4
    folders: tuple[Path, ...] = ()
    json: Path = ROOT / "out" / "stability.json"
    pictures: Path | None = None


class Measurement:
    """Collects the records of all builds, and the worst cases."""

    def __init__(self) -> None:
        self.records: list[ClickRecord] = []
        self.failed: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.worst = WorstCases()

    def click(
        self,
        source: Source,
        recording: Recording,
        scene: Scene | WildSeg3DError,
        reference: str | None = None,
    ) -> None:
        """Makes and scores all clicks on a build of a recording.

        Args:
            scene: the build, or why it failed.
            reference: view of the best clicks; None for the view with most objects.
        """
        truth = truth_of(recording)
        images = {view.name: view.image for view in recording.views}
        found = []
        for chosen in choose_clicks(truth, 0, reference):
            label, _, click = chosen
            name = recording.name_of(label)
            record, cloud = score_click(source, scene, truth, chosen, name)
            right = truth.labels[click.view] == label
            answered = np.zeros_like(right) if cloud is None else cloud.masks[click.view]
            self.worst.offer(record, images[click.view], right, answered)
            found.append(record)
        self.records += found
        where = f"{source.dataset}, {source.recording}, draw {source.draw}"
        if isinstance(scene, WildSeg3DError):
            self.failed[where] = str(scene)
        figures = {kind: each["miou"] for kind, each in summarise(found).items()}
        said = ", ".join(f"{kind} clicks {miou:.3f}" for kind, miou in figures.items())
        print(f"{where}: mean IoU of {said or 'no clicks'}", file=sys.stderr, flush=True)

    def results(self) -> dict[str, Any]:
        """Figures by set, and all records."""
        sets = dict.fromkeys(record.dataset for record in self.records)
        return {
            "summary": {
                name: summarise([record for record in self.records if record.dataset == name])
                for name in sets
            },
            "builds_failed": self.failed,
            "skipped": self.skipped,
            "clicks": [dataclasses.asdict(record) for record in self.records],
        }


def measure(options: Options = Options()) -> dict[str, Any]:
    """Builds one recording after the other, clicks, and writes results and pictures.

    Raises:
        FileError: a recording cannot be read, or a result not be written.
    """
    measurement = Measurement()
    if options.folders:
        for folder in options.folders:
            recording = load_folder(folder)
            source = Source(str(folder), folder.name)
            measurement.click(source, recording, _built(recording.views))
    else:
        steps: dict[str, Callable[[Measurement, Options], None]] = {
            "table": _measure_table,
            "real": _measure_real,
            "simulated": measure_simulated,
        }
        for part in options.parts:
            steps[part](measurement, options)
    results = measurement.results()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.pictures is not None:
        measurement.worst.write(options.pictures)
    return results


def _built(views: Sequence[View]) -> Scene | WildSeg3DError:
    """The scene, or why there is none."""
    try:
        return build_scene(views)
    except WildSeg3DError as error:
        return error


# ---- noise -----------------------------------------------------------------------------------


def _measure_noise(
    measurement: Measurement,
    source: Source,
    recording: Recording,
    color_draws: int,
    pose_draws: int,
    reference: str | None = None,
) -> None:
    """Builds with noise; poses are disturbed where they are given."""
    posed = all(view.world_from_cam_prior is not None for view in recording.views)
    for kind, disturb, draws in (
        ("colour", with_sensor_noise, color_draws),
        ("pose", with_pose_noise, pose_draws if posed else 0),
    ):
        for draw in range(1, draws + 1):
            views = disturb(recording.views, np.random.default_rng(draw - 1))
            noisy = Source(f"{source.dataset}, {kind} noise", source.recording, draw)
            measurement.click(noisy, recording, _built(views), reference)


def with_sensor_noise(views: Sequence[View], rng: np.random.Generator) -> list[View]:
    """The views with uniform noise of one grey level and with depth rounded to 1 mm."""
    disturbed = []
    for view in views:
        noise = rng.integers(-COLOR_STEP, COLOR_STEP, view.image.shape, np.int16, endpoint=True)
        image = np.clip(view.image + noise, 0, 255).astype(np.uint8)
        depth = view.depth
        if depth is not None:
            depth = (np.rint(depth / DEPTH_STEP) * DEPTH_STEP).astype(np.float32)
        disturbed.append(dataclasses.replace(view, image=image, depth=depth))
    return disturbed


def with_pose_noise(views: Sequence[View], rng: np.random.Generator) -> list[View]:
    """The views with noise in their given poses, each camera moved in its own frame."""
    disturbed = []
    for view in views:
        noise = make_transform(
            rotation_from_vector(rng.normal(0.0, ROTATION_SIGMA, 3)),
            rng.normal(0.0, TRANSLATION_SIGMA, 3),
        )
        given = view.world_from_cam_prior
        assert given is not None, f"view '{view.name}' has no pose to disturb"
        disturbed.append(dataclasses.replace(view, world_from_cam_prior=given @ noise))
    return disturbed


# ---- the shipped table -----------------------------------------------------------------------


def _measure_table(measurement: Measurement, options: Options) -> None:
    recording, source = load_folder(ROOT / "examples" / "tabletop"), Source("table", "tabletop")
    measurement.click(source, recording, _built(recording.views))
    _measure_noise(measurement, source, recording, options.color_draws, options.pose_draws)


# ---- real frames -----------------------------------------------------------------------------


def _measure_real(measurement: Measurement, options: Options) -> None:
    references = {"apc_shelf": "frame-000007", "ycbv_mug": None, "ycbv_flip": None}
    for name, reference in references.items():
        folder = REAL_DATA / name
        if not folder.is_dir():
            measurement.skipped[name] = (
                f"'{folder}' is absent; set WILDSEG3D_DATA to the recordings' folder"
            )
            continue
        recording = load_folder(folder)
        scene = _built(recording.views)
        plain = Source(name, name)
        measurement.click(plain, recording, scene, reference)
        _measure_noise(measurement, plain, recording, options.draws, options.draws, reference)
        if name == "ycbv_flip":
            final = _masked_on_final(recording.views, scene)
            source = Source(f"{name}, masks on the final alignment", name)
            measurement.click(source, recording, final, reference)


def _masked_on_final(
    views: Sequence[View], scene: Scene | WildSeg3DError
) -> Scene | WildSeg3DError:
    """The scene with masks made on its final alignment; a build makes them on its first one."""
    if isinstance(scene, WildSeg3DError):
        return scene
    masks = load_masks(SceneConfig().masks)
    return scene.with_masks(masks.segment(views, scene.alignment, scene.world, Progress()))


# ---- simulated scenes ------------------------------------------------------------------------


def measure_simulated(measurement: Measurement, options: Options) -> None:
    """Random scenes, the first of them with noise as well."""
    for number, seed in enumerate(range(FIRST_SEED, FIRST_SEED + options.scenes)):
        try:
            recording = simulated(seed)
        except WildSeg3DError as error:
            measurement.skipped[f"simulated, seed {seed}"] = str(error)
            continue
        source = Source("simulated", f"seed {seed}")
        measurement.click(source, recording, _built(recording.views))
        if number < options.noisy_scenes:
            _measure_noise(measurement, source, recording, options.draws, options.draws)


def simulated(seed: int) -> Recording:
    """A simulated scene, rendered once and kept under ``out`` while the simulator stays the same.

    Raises:
        InputError: the seed's scene cannot be built.
    """
    # Imported here since it needs MuJoCo, which the other parts do without.
    from wildseg3d_ros.sim.random_scene import RandomSceneSpec, record_random_scene

    spec = RandomSceneSpec(seed=seed)
    key = hashlib.sha256(f"{spec!r} {_simulator_version()}".encode()).hexdigest()[:16]
    folder = ROOT / "out" / "simulated" / key
    if not (folder / TRANSFORMS).is_file():  # written last
        write_folder(folder, record_random_scene(spec))
    return load_folder(folder)


def _simulator_version() -> str:
    """Changes with any source file of the simulator."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "wildseg3d_ros" / "sim").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


# ---- results ---------------------------------------------------------------------------------


def main() -> dict:
    """All sets; the figures without the single clicks, which are in the JSON file."""
    results = measure()
    return {**results["summary"], **{k: results[k] for k in ("builds_failed", "skipped")}}


COLUMNS = {
    "objects": "objects",
    "clicks": "clicks",
    "no answer": "share_without_answer",
    "useless": "share_useless",
    "mIoU": "miou",
    "other views": "miou_other_views",
    "at depth": "miou_at_depth",
    "worst click": "miou_worst_clicks",
    "worst draw": "miou_worst_draw",
    "flips": "clicked_pixels_that_flip",
}
"""Heading and figure."""


def table_lines(summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """A Markdown table, one line per set and kind of click; then what has no column."""
    yield "| set | click | " + " | ".join(COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 2) + "|"
    rest = []
    for dataset, kinds in summary.items():
        for kind, figures in kinds.items():
            cells = (_cell(figures.get(name)) for name in COLUMNS.values())
            yield f"| {dataset} | {kind} | " + " | ".join(cells) + " |"
            for name, value in figures.items():
                if name not in COLUMNS.values():
                    rest.append(f"{dataset}, {kind} clicks: {name} {_cell(value)}")
    yield ""
    yield from rest


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(_cell, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _options(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stability", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="recordings")
    parser.add_argument("--quick", action="store_true", help="fewer draws and scenes")
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--scenes", type=int, help="number of simulated scenes")
    parser.add_argument("--json", type=Path, default=Options.json, help="file of the results")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the worst cases")
    given = parser.parse_args(arguments)
    quick = Options(color_draws=3, pose_draws=2, draws=1, scenes=8, noisy_scenes=2)
    options = quick if given.quick else Options()
    return dataclasses.replace(
        options,
        parts=(given.only,) if given.only else PARTS,
        scenes=options.scenes if given.scenes is None else given.scenes,
        folders=tuple(given.folders),
        json=given.json,
        pictures=given.pictures,
    )


if __name__ == "__main__":
    measured = measure(_options())
    print("\n".join(table_lines(measured["summary"])))
    for title in ("builds_failed", "skipped"):
        for where, why in measured[title].items():
            print(f"{title.replace('_', ' ')}: {where}: {why}")
