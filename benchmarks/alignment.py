"""Dynamic Global Alignment: time, accuracy against per-pixel Adam, wrong pairs, weightings.

``python -m benchmarks.alignment --ablation`` prints the table of weightings in
docs/explanation/alignment.md;
``--full`` takes all 300 Adam steps of the timed problem, which lasts a quarter of an hour or more.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import typing
from collections.abc import Sequence
from dataclasses import astuple, replace

import numpy as np

from benchmarks.adam_baseline import STEPS, run
from benchmarks.alignment_problems import KINDS, Errors, errors_of, problem, soft_masks
from benchmarks.recordings import depth_disagreement, shelf_pairs
from wildseg3d_ros.alignment import Aligner, align, align_view, fuse, fuse_view
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.masks import load_masks
from wildseg3d_testing.pairs import ConstructedPairs

CONFIG = AlignmentConfig()
REPEATS = 5
TIMED_STEPS = 5
"""Adam steps that the per-step time is taken from, unless all are asked for."""

ACCURACY_SIZE = (48, 64)
"""Small enough for all 300 Adam steps."""


def main(full: bool = False) -> dict:
    """All figures; see the module's text."""
    return {
        "time": timing(full),
        "one view added": added_view(),
        "accuracy (5 views, 64x48, all 300 Adam steps)": accuracy(2),
        "garbage": garbage(3),
        "gpu": gpu(),
    }


def timing(full: bool = False) -> dict:
    """Seconds of solve and fusion, best of a few, and the baseline's in the same run."""
    made = problem("clean", 0, 8, (192, 256))
    solve, alignment = _best(lambda: align(made.predictions, made.views, CONFIG))
    fused, _ = _best(lambda: fuse(made.predictions, made.views, alignment, CONFIG))
    steps = STEPS if full else TIMED_STEPS
    per_step = run(made.predictions, made.views, steps=steps, schedule=STEPS).step_seconds
    out = {
        "8 views complete 256x192, start + solve [s]": solve[0],
        "of it processor time [s]": solve[1],
        "fusion [s]": fused[0],
        "Adam, a step [s]": per_step,
        f"Adam, 300 steps [s], extrapolated from {steps}": STEPS * per_step,
        "Adam over solve + fusion": STEPS * per_step / (solve[0] + fused[0]),
    }
    many = problem("clean", 0, 16, (48, 64))
    solve, _ = _best(lambda: align(many.predictions, many.views, CONFIG))
    out["16 views, 240 directed pairs, start + solve [s]"] = solve[0]
    out["of 240 pairs, processor time [s]"] = solve[1]
    large = problem("clean", 0, 8, (384, 512))
    alignment = align(large.predictions, large.views, CONFIG)
    fused, _ = _best(lambda: fuse(large.predictions, large.views, alignment, CONFIG))
    out["8 views complete 512x384, fusion [s]"] = fused[0]
    out["of it fusion's processor time [s]"] = fused[1]
    return out


def accuracy(seeds: int) -> dict:
    """Errors of DGA over those of the baseline with the better of its weightings, by kind."""
    out: dict = {}
    for kind in KINDS:
        ours, theirs = [], []
        for seed in range(seeds):
            made = problem(kind, seed, 5, ACCURACY_SIZE)
            ours.append(dga_errors(made, CONFIG))
            runs = [run(made.predictions, made.views, weighting) for weighting in ("log", "plain")]
            errors = [errors_of(made, done.points, done.world_from_cam) for done in runs]
            # The better for each error by itself.
            theirs.append(Errors(*(min(e) for e in zip(*map(astuple, errors), strict=True))))
        out[kind] = {
            "DGA": _mean(ours),
            "Adam, better of two": _mean(theirs),
            "ratio of medians, by seed": [
                round(a.median / b.median, 3) for a, b in zip(ours, theirs, strict=True)
            ],
            "ratio of means": _ratio(ours, theirs, "mean"),
            "ratio of camera errors": _ratio(ours, theirs, "camera"),
        }
    return out


def _ratio(ours: list[Errors], theirs: list[Errors], name: str) -> float:
    """Geometric mean over problems."""
    logs = [np.log(getattr(a, name) / getattr(b, name)) for a, b in zip(ours, theirs, strict=True)]
    return float(np.exp(np.mean(logs)))


def added_view() -> dict:
    """Processor time of one more view beside that of a fresh solve, and what it costs in error."""
    out: dict = {}
    for count, size in ((8, (192, 256)), (16, (48, 64))):
        made = problem("clean", 0, count, size)
        last = count - 1
        old = [p for p in made.predictions if last not in (p.a, p.b)]
        new = [p for p in made.predictions if last in (p.a, p.b)]
        first = align(old, made.views[:last], CONFIG)
        before = fuse(old, made.views[:last], first, CONFIG)
        fresh, anew = _best(lambda m=made: align(m.predictions, m.views, CONFIG))
        aligner = Aligner(made.predictions, made.views, CONFIG)
        aligner.solve()
        warm, again = _best(aligner.solve)
        onto, added = _best(
            lambda p=new, m=made, v=last, f=first, w=before: align_view(
                p, m.views, v, f, w, CONFIG
            )
        )
        fused, all_points = _best(lambda m=made, a=anew: fuse(m.predictions, m.views, a, CONFIG))
        alone, points = _best(
            lambda p=new, m=made, v=last, a=added, w=before: fuse_view(p, m.views, v, a, w, CONFIG)
        )
        apart = np.abs(anew.world_from_cam - again.world_from_cam)[:, :3, 3].max()
        errors = [
            errors_of(made, found.points, alignment.world_from_cam).median
            for alignment, found in ((anew, all_points), (added, points))
        ]
        out[f"{count} views, {len(made.predictions)} pairs"] = {
            "all anew [s]": fresh[1],
            "one added, the others stay [s]": onto[1],
            "share of the time": onto[1] / fresh[1],
            "fusion: all, one view [s]": [fused[1], alone[1]],
            "median object error: all anew, one added [mm]": errors,
            "a second solve of the same pairs [s]": warm[1],
            "its largest difference of camera positions [mm]": 1e3 * float(apart),
        }
    return out


def garbage(seeds: int) -> dict:
    """Errors with 6 % wrong pairs against the clean run, and how many were named."""
    clean, spoilt, wrong, named, innocent = [], [], 0, 0, 0
    for seed in range(seeds):
        made = problem("clean", seed, 8)
        clean.append(dga_errors(made, CONFIG))
        made = problem("garbage", seed, 8)
        spoilt.append(dga_errors(made, CONFIG))
        alignment = align(made.predictions, made.views, CONFIG)
        count = len(made.predictions)
        chosen = np.random.default_rng(seed).choice(count, round(0.06 * count), replace=False)
        left = set(np.flatnonzero(~alignment.pair_used).tolist())
        wrong += len(chosen)
        named += len(left & set(chosen.tolist()))
        innocent += len(left - set(chosen.tolist()))
    return {
        "clean": _mean(clean),
        "with wrong pairs": _mean(spoilt),
        "wrong pairs": wrong,
        "of them named": named,
        "right pairs left out": innocent,
    }


def ablation(seeds: int = 8) -> str:
    """A Markdown table over weightings: median object errors [mm] by kind of scene, and the
    median disagreement of depth images on the real shelf [mm], by the masks of the pipeline."""
    weightings = typing.get_args(typing.get_type_hints(AlignmentConfig)["weighting"])
    lines = [
        "| weighting | " + " | ".join(KINDS) + " | all (geometric mean) | real shelf |",
        "|---|" + "---|" * (len(KINDS) + 2),
    ]
    made = {kind: [problem(kind, seed) for seed in range(seeds)] for kind in KINDS}
    real = real_shelf(weightings)
    for weighting in weightings:
        config = replace(CONFIG, weighting=weighting)
        errors = [_mean([dga_errors(m, config) for m in made[kind]]) for kind in KINDS]
        medians = [e["median_mm"] for e in errors]
        overall = float(np.exp(np.mean(np.log(medians))))
        cells = " | ".join(f"{value:.2f}" for value in [*medians, overall])
        lines.append(f"| `{weighting}` | {cells} | {real.get(weighting, 'absent')} |")
    return "\n".join(lines)


def real_shelf(weightings: Sequence[str]) -> dict[str, str]:
    """The shelf's disagreement [mm] by weighting; empty where the recording is absent."""
    shelf = shelf_pairs()
    if shelf is None:
        return {}
    views, pairs = shelf
    first = align(pairs, views, CONFIG)
    masks = load_masks(SceneConfig().masks).segment(
        views, first, fuse(pairs, views, first, CONFIG), Progress()
    )
    out = {}
    for weighting in weightings:
        config = replace(CONFIG, weighting=weighting)
        poses = align(pairs, views, config, masks=masks).world_from_cam
        out[weighting] = f"{1e3 * depth_disagreement(views, list(poses)):.2f}"
    return out


def gpu() -> dict:
    """Fusion of 16 views complete at 512x384 on a GPU, and the time of reading the pairs once."""
    import torch

    if not torch.cuda.is_available():
        return {"skipped": "no CUDA device on this machine; run it where there is one"}
    config = replace(CONFIG, device="cuda")
    made = problem("clean", 0, 16, (384, 512))
    alignment = align(made.predictions, made.views, config)
    fused, _ = _best(lambda: fuse(made.predictions, made.views, alignment, config))
    read = 2 * len(made.predictions) * 384 * 512 * 16
    block = torch.empty(read // 4, dtype=torch.float32, device="cuda")
    torch.cuda.synchronize()
    floor, _ = _best(lambda: (block.sum(), torch.cuda.synchronize()))
    return {
        "device": torch.cuda.get_device_name(),
        "fusion [s]": fused[0],
        "reading all pairs once from its memory [s]": floor[0],
    }


def dga_errors(made: ConstructedPairs, config: AlignmentConfig) -> Errors:
    """Errors of the alignment with soft masks."""
    alignment = align(made.predictions, made.views, config, soft_masks(made))
    world = fuse(made.predictions, made.views, alignment, config)
    return errors_of(made, world.points, alignment.world_from_cam)


def _best(work: typing.Callable[[], typing.Any]) -> tuple[tuple[float, float], typing.Any]:
    """Minimum (wall, processor) seconds of a few runs, and the last answer."""
    walls, cpus, answer = [], [], None
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        answer = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return (min(walls), min(cpus)), answer


def _mean(errors: list[Errors]) -> dict[str, float]:
    return {
        f"{name}_mm": float(np.mean([getattr(e, name) for e in errors]))
        for name in ("median", "mean", "camera")
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alignment", description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--ablation", action="store_true")
    arguments = parser.parse_args()
    print(ablation() if arguments.ablation else json.dumps(main(arguments.full), indent=2))
    sys.exit(0)
