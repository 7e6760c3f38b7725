"""Makes the scores of the geometric masks anew: ``python -m fitting``."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import resources
from pathlib import Path

from fitting.fit import fit_model
from fitting.judge import judge, summarise
from fitting.scenes import simulated_scenes
from wildseg3d_ros.masks.surface.model import MODEL_FILE, ScoreModel


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fitting",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    package = resources.files("wildseg3d_ros.masks.surface")
    parser.add_argument("--scenes", type=int, default=300, help="scenes to fit to")
    parser.add_argument("--held-out", type=int, default=60, help="scenes to judge on")
    parser.add_argument("--steps", type=int, default=8000, help="of gradient descent")
    parser.add_argument("--cache", type=Path, default=Path("out/fitting"))
    parser.add_argument("--out", type=Path, default=Path(str(package / MODEL_FILE)))
    parser.add_argument("--judge-only", action="store_true", help="judge what is there")
    options = parser.parse_args()
    if not options.judge_only:
        scenes = list(simulated_scenes(range(options.scenes), options.cache))
        model = fit_model(scenes, options.steps)
        model.save(str(options.out))
        print(f"fitted on {len(scenes)} scenes: {options.out}, {options.out.stat().st_size} bytes")
    model = ScoreModel.load(str(options.out))
    held_out = range(8000, 8000 + options.held_out)
    judged = [judge(scene, model) for scene in simulated_scenes(held_out, options.cache)]
    print(json.dumps(summarise(judged), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
