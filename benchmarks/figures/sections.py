"""What there is to make, in its order: pictures first, then what takes longer."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import moving_picture
from benchmarks.evaluation.plots import PLOTS
from benchmarks.figures import pictures
from benchmarks.figures.built_scenes import ROOT

OUT = ROOT / "out" / "figures"


@dataclass(frozen=True)
class Section:
    """Something to make.

    Attributes:
        name: by which it is asked for.
        what: it says, and ``page``: where, relative to docs/explanation.
        module, arguments: of the program that makes it; of ``benchmarks`` it writes its results
            into out/figures. Empty: :func:`.pictures.draw` makes it.
        takes: on two cores that nothing else uses, roughly.
        pictures: of docs/images, that it makes.
    """

    name: str
    what: str
    page: str
    takes: str
    module: str = ""
    arguments: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What prints it alone."""
        if not self.module:
            return f"make figures ARGS={self.name}"
        if self.module == "benchmarks":
            quoted = " ".join(self.arguments)
            return f'make bench ARGS="{quoted}"' if " " in quoted else f"make bench ARGS={quoted}"
        return " ".join(("python -m", self.module, *self.arguments))

    @property
    def results(self) -> Path:
        """Where a benchmark's results are, as JSON."""
        return OUT / f"{self.name}.json"

    def make(self) -> str:
        """Makes it; says why not, else nothing."""
        if not self.module:
            return pictures.draw(self.name)
        if self.module == "benchmarks.moving_picture" and (why := moving_picture.missing()):
            return why
        words = [sys.executable, "-m", self.module, *self.arguments]
        if self.module == "benchmarks":
            words += ["--json", str(self.results)]
        with (OUT / f"{self.name}.txt").open("w") as printed:
            done = subprocess.run(
                words, check=False, cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT
            )
        if done.returncode:
            return f"it ended with {done.returncode}; see {printed.name}"
        return ""


def _picture(name: str, what: str, page: str, takes: str = "1 min") -> Section:
    return Section(name, what, page, takes, pictures=(f"{name}.jpg",))


def _bench(name: str, what: str, page: str, takes: str, *others: str) -> Section:
    return Section(name, what, page, takes, "benchmarks", (name, *others))


_MEASURED, _MASKS = "[below](#pictures)", "[Masks](masks.md#how-good-they-are)"
SECTIONS = (
    _picture("truth_and_answer", "every object, truth beside answer", _MEASURED),
    _picture("alignment_error", "depth images before and after the alignment", _MEASURED),
    _picture("cloud_error", "a cloud beside its true surface", _MEASURED),
    _picture("shelf_truth_and_answer", "the same on a real shelf", _MEASURED),
    _picture(
        "shelf", "the shelf before and after the alignment", "[Alignment](alignment.md#figures)"
    ),
    _picture(
        "rig",
        "two cameras with each other's pose",
        "[Checking cameras](../how-to/rig.md#the-page)",
    ),
    _picture("worst_cases", "the worst clicks", _MASKS, "3 min"),
    Section(
        "page",
        "a click in the page",
        "[The page](../how-to/viewer.md)",
        "2 min",
        "benchmarks.moving_picture",
        (),
        tuple(p.name for p in moving_picture.WRITTEN),
    ),
    _bench(
        "tabletop",
        "answers of one click, time, memory",
        "[above](#one-click-as-in-the-papers)",
        "1 min",
        "shelf",
    ),
    _bench("prompt", "time to answer", "[above](#time-to-answer)", "minutes", "service"),
    _bench(
        "grasping", "normals and boxes", "[Grasping](../reference/grasping.md#how-good)", "1 min"
    ),
    _bench(
        "scene_file",
        "what is in a scene's file",
        "[Files](../reference/scenes.md#how-small-it-is)",
        "1 min",
    ),
    _picture(
        "scaling",
        "what scenes cost",
        "[Scaling](scaling.md#by-views-pixels-pairs-and-objects)",
        "5 min",
    ),
    _bench("bags", "bags", "[Bags](../reference/formats.md#bags)", "minutes"),
    _bench("batch", "batches", "[Batch](../how-to/batch.md#figures)", "minutes"),
    Section(
        "rig_mistakes",
        "mistakes of rigs",
        "[Checking cameras](../how-to/rig.md#measured)",
        "minutes",
        "benchmarks",
        ("rig",),
    ),
    _bench(
        "alignment",
        "alignment: time, accuracy, wrong pairs",
        "[Alignment](alignment.md#figures)",
        "minutes",
    ),
    Section(
        "weighting",
        "alignment: how points are weighed",
        "[Alignment](alignment.md#how-points-are-weighed)",
        "an hour",
        "benchmarks.alignment",
        ("--ablation",),
    ),
    _bench("association", "masks: evidence, association", _MASKS, "minutes"),
    _bench(
        "stereo",
        "stereo: accuracy by angle, wrong poses",
        "[Stereo](stereo.md#measured)",
        "minutes",
        "rgb_rigs",
    ),
    _bench(
        "cameras",
        "images a second, many clients",
        "[The node](../reference/node.md#large-images)",
        "minutes",
        "soak",
    ),
    _bench(
        "kicked",
        "cameras that were moved",
        "[Alignment](alignment.md#figures)",
        "an hour",
        "doubtful",
    ),
    _bench(
        "mast3r",
        "MASt3R, SAM 2: beside the references' numbers, times",
        "[I have no GPU](../how-to/no-gpu.md)",
        "minutes",
        "sam2",
    ),
    Section(
        "da3",
        "Depth Anything 3 beside its authors' code",
        "[Depth Anything 3](../how-to/da3.md#measured)",
        "needs that code",
        "benchmarks.da3_reference",
    ),
    _bench("stability", "how steady answers are", "[above](#how-steady-it-is)", "hours"),
    Section(
        "evaluation",
        "how good in a simulated cell",
        "[Simulated cell](evaluation.md)",
        "hours",
        "benchmarks.evaluation",
        (),
        tuple(f"{name}.jpg" for name in PLOTS),
    ),
)
