"""Makes the scores of the geometric masks anew: ``python -m fitting``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path

from fitting.fit import fit_model
from fitting.judge import judge, summarise
from fitting.scenes import TrueGraph, simulated_scenes
from wildseg3d_ros.masks.learned.network import NETWORK_FILE, AffinityModel
from wildseg3d_ros.masks.surface.model import MODEL_FILES, ScoreModel


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fitting",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    package = Path(str(resources.files("wildseg3d_ros.masks")))
    parser.add_argument("--scenes", type=int, default=330, help="scenes to fit to")
    parser.add_argument("--held-out", type=int, default=40, help="scenes to judge on")
    parser.add_argument("--steps", type=int, default=8000, help="of gradient descent")
    parser.add_argument("--cache", type=Path, default=Path("out/fitting"))
    parser.add_argument("--out", type=Path, default=package / "surface", help="folder")
    parser.add_argument(
        "--network", type=Path, default=package / "learned" / NETWORK_FILE, help="of affinities"
    )
    parser.add_argument("--judge-only", action="store_true", help="judge what is there")
    options = parser.parse_args()
    fitted, held_out = (
        list(simulated_scenes(range(first, first + count), options.cache))
        for first, count in ((0, options.scenes), (8000, options.held_out))
    )
    network = AffinityModel(options.network)
    for learned, file in MODEL_FILES.items():
        path = options.out / file
        if not options.judge_only:
            model = fit_model(_seen(fitted, network, learned), options.steps)
            replace(model, affinities=network.hash if learned else "").save(str(path))
            print(f"fitted on {len(fitted)} scenes: {path}, {path.stat().st_size} bytes")
        model = ScoreModel.load(str(path))
        judged = [judge(scene, model) for scene in _seen(held_out, network, learned)]
        print(json.dumps(summarise(judged), indent=1))
    return 0


def _seen(scenes: list[TrueGraph], network: AffinityModel, learned: bool) -> list[TrueGraph]:
    """The scenes, with affinities of the network or without."""
    return [scene.with_affinities(network) for scene in scenes] if learned else scenes


if __name__ == "__main__":
    sys.exit(main())
