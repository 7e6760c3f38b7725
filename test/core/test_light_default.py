"""The default path with none of the extras' packages to be had."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.io.folder import write_folder
from wildseg3d_testing.clouds import read_ply
from wildseg3d_testing.scenes import construct_scene

ROOT = Path(__file__).resolve().parents[2]
OF_EXTRAS = (
    "torch",
    "transformers",
    "safetensors",
    "huggingface_hub",
    "mujoco",
    "onnx",
    "trimesh",
    "nicegui",
)

WITHOUT = """
import json, sys

ABSENT = json.loads(sys.argv[1])

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Finder)
from wildseg3d_ros.cli import main
sys.exit(main(sys.argv[2:]))
"""


def run_without(packages, *words):
    """The command line in a process in which some packages cannot be imported."""
    command = [sys.executable, "-c", WITHOUT, json.dumps(packages), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_cli_builds_and_answers_without_the_extras(tmp_path):
    """The default path needs none of them."""
    truth = construct_scene(views=3, arc_degrees=60)
    write_folder(tmp_path / "recording", truth.recording())
    scene, cloud = tmp_path / "scene.ws3d", tmp_path / "object.ply"
    built = run_without(OF_EXTRAS, "build", tmp_path / "recording", "-o", scene)
    assert built.returncode == 0, built.stderr
    pixel = most_interior_pixel(truth.labels[0] == 1)
    where = ("--view", truth.views[0].name, "--pixel", *pixel)
    answered = run_without(OF_EXTRAS, "segment", scene, *where, "-o", cloud)
    assert answered.returncode == 0, answered.stderr
    assert len(read_ply(cloud)["points"]) > 100


def test_cli_names_a_missing_extra_with_its_command(tmp_path):
    truth = construct_scene(views=2, arc_degrees=30)
    write_folder(tmp_path / "recording", truth.recording())
    for section, extra in (("pointmaps", "da3"), ("pointmaps", "mast3r"), ("masks", "sam2")):
        words = ("build", tmp_path / "recording", "-o", tmp_path / "scene.ws3d")
        answer = run_without(OF_EXTRAS, *words, "--set", f"{section}.backend={extra}")
        assert answer.returncode == 2
        assert f"make setup EXTRAS={extra}" in answer.stderr
        assert f"pip install 'wildseg3d[{extra}]'" in answer.stderr
        assert "Traceback" not in answer.stderr


def test_cli_train_masks_names_its_extra(tmp_path):
    assert run_without(OF_EXTRAS, "train-masks", "--help").returncode == 0
    for package in ("torch", "onnx", "trimesh"):
        # No more than one of them is missing: what is there does not hide it.
        words = ("--folder", tmp_path / package, "--meshes", tmp_path, "--scenes", 1)
        (tmp_path / "part.obj").write_text("v 0 0 0\nv .1 0 0\nv 0 .1 0\nf 1 2 3\n")
        answer = run_without([package], "train-masks", *words, "--held-out", 1, "--steps", 1)
        assert answer.returncode == 2
        assert f"needs the extra 'train', whose module '{package}' is missing" in answer.stderr
        assert "`make setup EXTRAS=train` in a clone" in answer.stderr
        assert "pip install 'wildseg3d[train]'" in answer.stderr
        assert "Traceback" not in answer.stderr
