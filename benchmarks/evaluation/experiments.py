"""What is measured: cases, one build each, in experiments that vary one thing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evaluation.scoring import score
from benchmarks.evaluation.sensing import Sensing, as_given, sense, without_arm
from benchmarks.evaluation.stages import FIRST_SEED, Kind, Stage, stage
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.types import View
from wildseg3d_ros.pipeline import build_scene
from wildseg3d_ros.scene.scene import Scene

SCENES = 10
"""Of each kind."""
SWEPT = 3
"""Scenes of the catalogue in which one thing is varied."""
DRAWS = 20
CAMERAS = {
    2: (2, 4),
    3: (1, 3, 5),
    4: (0, 2, 4, 6),
    5: (0, 2, 4, 6, 7),
    6: (0, 1, 3, 5, 6, 7),
    7: (0, 1, 2, 4, 5, 6, 7),
    8: (0, 1, 2, 3, 4, 5, 6, 7),
}
"""Which of a stage's eight make a rig of so many: evenly around, from five on one above."""
EXTRINSICS = ((0.0, 0.0), (2.0, 0.2), (5.0, 0.5), (10.0, 1.0), (20.0, 2.0))
"""Errors of all given poses [mm, degrees]."""
NOISE = (1.0, 2.0, 3.0, 4.0)
CONFIGS = {
    "depth": SceneConfig(),
    "stereo": SceneConfig.from_mapping({"pointmaps": {"backend": "stereo"}}),
}
"""The combinations that need no weights: both with the geometric masks."""


@dataclass(frozen=True)
class Case:
    """One build.

    Attributes:
        experiment: that it belongs to.
        kind, seed, stage_cameras: of the stage.
        cameras: which of the stage's are used.
        sensing: how.
        pointmaps: key of ``CONFIGS``.
        aligned: False: the given poses are used as they are.
        posture: of the arm; empty: there is none.
        filtered: whether the arm is left out by its URDF.
    """

    experiment: str
    kind: Kind
    seed: int
    stage_cameras: int
    cameras: tuple[int, ...]
    sensing: Sensing = field(default_factory=Sensing)
    pointmaps: str = "depth"
    aligned: bool = True
    posture: str = ""
    filtered: bool = False

    @property
    def key(self) -> str:
        """Tells builds apart: two experiments may have one in common."""
        fields = asdict(self)
        del fields["experiment"]
        if not self.posture:
            del fields["posture"], fields["filtered"]
        return json.dumps(fields, sort_keys=True)

    def measure(self) -> dict[str, Any]:
        """Builds the scene and compares it with the truth."""
        made, views, scene = self.build()
        return score(made, views, self.cameras, scene)

    def build(self) -> tuple[Stage, list[View], Scene | WildSeg3DError]:
        """The stage, its views, and the scene or why there is none."""
        made = stage(self.kind, self.seed, self.stage_cameras, self.posture)
        views = sense(made, self.sensing, self.cameras)
        if self.filtered:
            views = without_arm(made, views)
        config = CONFIGS[self.pointmaps]
        try:
            scene = build_scene(views, config) if self.aligned else as_given(views, config)
        except WildSeg3DError as error:
            return made, views, error
        return made, views, scene


def accuracy() -> Iterator[Case]:
    """Twenty scenes, each combination; stereo with cameras close together as well, as it needs."""
    scenes: tuple[tuple[Kind, str], ...] = (
        ("catalogue", "depth"),
        ("random", "depth"),
        ("narrow", "stereo"),
        ("catalogue", "stereo"),
        ("random", "stereo"),
    )
    for kind, pointmaps in scenes:
        for seed in range(FIRST_SEED, FIRST_SEED + SCENES):
            sensing = Sensing(depth=pointmaps == "depth")
            yield Case("accuracy", kind, seed, 5, tuple(range(5)), sensing, pointmaps)


def _swept(experiment: str, views: int = 5, **changes: Any) -> Iterator[Case]:
    """A case per scene in which one thing is varied."""
    aligned = changes.pop("aligned", True)
    for seed in range(FIRST_SEED, FIRST_SEED + SWEPT):
        sensing = Sensing(**changes)
        yield Case(experiment, "catalogue", seed, 8, CAMERAS[views], sensing, aligned=aligned)


def extrinsics() -> Iterator[Case]:
    """Given poses that are off, with and without an alignment."""
    for aligned in (True, False):
        for millimetres, degrees in EXTRINSICS:
            yield from _swept(
                "extrinsics", millimetres=millimetres, degrees=degrees, aligned=aligned
            )


def views() -> Iterator[Case]:
    """Two to eight cameras."""
    for count in CAMERAS:
        yield from _swept("views", count)


def noise() -> Iterator[Case]:
    """A sensor whose noise grows."""
    for factor in NOISE:
        yield from _swept("noise", noise=factor)


def identity() -> Iterator[Case]:
    """The same scene with new noise."""
    for kind in ("catalogue", "random"):
        for draw in range(DRAWS):
            yield Case("identity", kind, FIRST_SEED, 5, tuple(range(5)), Sensing(draw=draw))


def arm() -> Iterator[Case]:
    """An arm over the things, and left out by its URDF."""
    for seed in range(FIRST_SEED, FIRST_SEED + SWEPT):
        case = Case("arm", "catalogue", seed, 5, tuple(range(5)))
        yield case
        for filtered in (False, True):
            yield replace(case, posture="over", filtered=filtered)


EXPERIMENTS: dict[str, Callable[[], Iterator[Case]]] = {
    "accuracy": accuracy,
    "extrinsics": extrinsics,
    "views": views,
    "noise": noise,
    "identity": identity,
    "arm": arm,
}


def measure(case: Case) -> dict[str, Any]:
    """What a case gives; of the identity of objects, also which of the first draw are found."""
    if case.experiment != "identity":
        return case.measure()
    made, sensed, scene = case.build()
    result = score(made, sensed, case.cameras, scene)
    if not isinstance(scene, WildSeg3DError):
        result["kept"] = kept_objects(_first_draw(case.kind), _labels(scene))
    return result


@lru_cache(maxsize=2)
def _first_draw(kind: Kind) -> tuple[np.ndarray, ...]:
    first = next(case for case in identity() if case.kind == kind)
    scene = first.build()[2]
    if isinstance(scene, WildSeg3DError):
        raise scene
    return _labels(scene)


def _labels(scene: Scene) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(labels) for labels in scene.masks.labels)


def kept_objects(
    before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> list[dict[str, float]]:
    """For each object of one build the IoU of its masks, over all views together, with the
    object of another build that it overlaps most and that overlaps it most; 0 without one."""
    old, new = (np.concatenate([each.ravel() for each in side]) for side in (before, after))
    old_ids, old_at = np.unique(old, return_inverse=True)
    new_ids, new_at = np.unique(new, return_inverse=True)
    both = np.zeros((len(old_ids), len(new_ids)))
    np.add.at(both, (old_at.ravel(), new_at.ravel()), 1.0)
    iou = both / (both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both)
    iou[old_ids == 0], iou[:, new_ids == 0] = 0.0, 0.0
    rows = []
    for k in np.flatnonzero(old_ids):
        best = int(iou[k].argmax())
        mutual = iou[:, best].argmax() == k
        rows.append({"id": int(old_ids[k]), "iou": float(iou[k, best]) if mutual else 0.0})
    return rows


class Results:
    """The results in a folder, a line each in a file per experiment: what is there is not
    measured again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("*.jsonl")):
            for line in path.read_text().splitlines():
                row = json.loads(line)
                self._found[row["case"]] = row["result"]

    def get(self, case: Case) -> dict[str, Any] | None:
        """What was measured of a case; None where it was not."""
        found = self._found.get(case.key)
        return (
            None
            if found is None or (case.experiment == "identity" and "kept" not in found)
            else found
        )

    def add(self, case: Case, result: dict[str, Any]) -> None:
        """Keeps a result."""
        self._found[case.key] = result
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{case.experiment}.jsonl").open("a") as file:
            file.write(json.dumps({"case": case.key, "result": result}) + "\n")
