from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest

from wildseg3d_ros import cli, pipeline
from wildseg3d_ros.cli.commands import read_config
from wildseg3d_ros.cli.report import print_table
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ConfigError, InputError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.progress_bar import ProgressBar
from wildseg3d_ros.core.types import MaskCache
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.io.folder import Recording, write_folder
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_testing.clouds import read_ply
from wildseg3d_testing.exact import exact_scene
from wildseg3d_testing.oracles import OracleMasks, OraclePointmaps
from wildseg3d_testing.rigs import MISTAKES
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import merged_cache, treed_cache, true_tree


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=4, arc_degrees=120)


@pytest.fixture
def folder(truth, tmp_path):
    write_folder(tmp_path / "recording", truth.recording())
    return tmp_path / "recording"


@pytest.fixture(scope="module")
def scene_file(truth, tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes") / "scene.ws3d"
    save_scene(exact_scene(truth), path)
    return path


@pytest.fixture
def oracles(truth, monkeypatch):
    """The pipeline with back ends that know the truth."""
    monkeypatch.setattr(pipeline, "load_for", lambda *_: OraclePointmaps(truth))
    monkeypatch.setattr(pipeline, "load_masks", lambda _: OracleMasks(truth))


def pixel(truth, object_id, view=0):
    u, v = most_interior_pixel(truth.labels[view] == object_id)
    return ["--view", truth.views[view].name, "--pixel", str(u), str(v)]


def run(*words):
    return cli.main([str(word) for word in words])


def fails(capsys, *words):
    """The one line of an error; nothing else may be on standard error but stages."""
    assert run(*words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "\n".join(lines)
    errors = [line for line in lines if line.startswith("wildseg3d: error: ")]
    assert len(errors) == 1
    return errors[0]


# ---- check -----------------------------------------------------------------------------------


def test_check_prints_a_line_per_camera(folder, capsys):
    assert run("check", folder) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == ["load ...", "alignment ..."]
    lines = said.out.splitlines()
    heads = ["camera", "pose", "depth", "agrees", "moved by", "verdict", "with"]
    assert lines[0].split("  ")[0] == "camera" and all(head in lines[0] for head in heads)
    assert [line.split()[0] for line in lines[1:5]] == [f"cam_{k}" for k in range(4)]
    assert all(" ok " in line and "given" in line for line in lines[1:5])
    assert lines[5] == "rig      ok"


def test_check_names_inverse_matrices(truth, tmp_path, capsys):
    wrong = MISTAKES["inverse matrices"].make(truth.views, np.random.default_rng(0))
    write_folder(tmp_path / "wrong", Recording(tuple(wrong)))
    assert run("check", tmp_path / "wrong") == 3
    printed = capsys.readouterr().out
    assert "rig      suspect" in printed
    assert "the poses look inverted" in printed
    assert run("check", tmp_path / "wrong", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "suspect"
    assert found["finding"]["kind"] == "inverse"
    assert [camera["name"] for camera in found["cameras"]] == [f"cam_{k}" for k in range(4)]


def test_build_of_inverse_matrices_ends_with_3_and_writes_nothing(truth, tmp_path, capsys):
    wrong = MISTAKES["inverse matrices"].make(truth.views, np.random.default_rng(0))
    write_folder(tmp_path / "wrong", Recording(tuple(wrong)))
    assert run("build", tmp_path / "wrong", "-o", tmp_path / "scene.ws3d") == 3
    assert "wildseg3d: error: as given" in capsys.readouterr().err
    assert not (tmp_path / "scene.ws3d").exists()


def test_check_without_poses_is_unchecked(folder, capsys):
    meta = json.loads((folder / "transforms.json").read_text())
    for frame in meta["frames"]:
        del frame["transform_matrix"]
    (folder / "transforms.json").write_text(json.dumps(meta))
    assert run("check", folder) == 0
    printed = capsys.readouterr().out
    assert "rig      unchecked" in printed
    assert printed.count(" none ") == 4
    # What a build would do with them.
    assert "camera 'cam_3' took no part and cannot be clicked" in printed


def test_check_writes_a_report(folder, tmp_path, capsys):
    out = tmp_path / "new" / "report"
    assert run("check", folder, "--report", out) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"wrote    {out}/index.html")
    assert "Cameras: " in (out / "index.html").read_text()
    assert run("check", folder, "--report", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "ok"


def test_check_of_a_wrong_rig_writes_a_report_and_ends_with_3(truth, tmp_path):
    wrong = MISTAKES["inverse matrices"].make(truth.views, np.random.default_rng(0))
    write_folder(tmp_path / "wrong", Recording(tuple(wrong)))
    assert run("check", tmp_path / "wrong", "--report", tmp_path / "report", "--quiet") == 3
    assert "look inverted" in (tmp_path / "report" / "index.html").read_text()


def test_check_says_before_the_work_that_a_report_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    error = fails(capsys, "check", tmp_path / "no recording", "--report", tmp_path / "file")
    assert "cannot write a report" in error and "is a file" in error


# ---- segment ---------------------------------------------------------------------------------


def test_segment_output_files(truth, scene_file, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("segment", scene_file, *pixel(truth, 2), "-o", out / "a.ply", "--masks",
               out / "masks", "--picture", out / "a.png") == 0  # fmt: skip
    index = load_scene(scene_file).index
    np.testing.assert_array_equal(read_ply(out / "a.ply")["points"], index.points[index.rows(2)])
    for view, labels in zip(truth.views, truth.labels, strict=True):
        mask = cv2.imread(str(out / "masks" / f"{view.name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, np.where(labels == 2, 255, 0))
    assert cv2.imread(str(out / "a.png")) is not None
    printed = capsys.readouterr().out
    assert "objects  2, score 1.00\n" in printed
    assert f"{index.count(2)}, extent" in printed
    assert "in frame 'base'" in printed
    assert f"wrote    {out / 'a.ply'}" in printed


def test_segment_several_and_negative_pixels(truth, scene_file, capsys):
    u, v = most_interior_pixel(truth.labels[1] == 3)
    assert run("segment", scene_file, *pixel(truth, 1), *pixel(truth, 2, view=1),
               "--negative", u, v) == 0  # fmt: skip
    assert "objects  1, 2, score 1.00\n" in capsys.readouterr().out
    assert "excludes" in fails(
        capsys, "segment", scene_file, *pixel(truth, 1), "--negative", *pixel(truth, 1)[3:]
    )


def test_segment_view_after_pixel(truth, scene_file, capsys):
    _, name, *rest = pixel(truth, 1)
    assert run("segment", scene_file, *rest, "--view", name) == 0
    assert "objects  1, score 1.00" in capsys.readouterr().out


def test_segment_voxel_size(truth, scene_file, tmp_path):
    for size, name in ((0, "whole.npz"), (0.02, "thin.npz")):
        path = tmp_path / name
        assert run("segment", scene_file, *pixel(truth, 1), "-o", path, "--voxel-size", size,
                   "--quiet") == 0  # fmt: skip
    with np.load(tmp_path / "thin.npz") as thin, np.load(tmp_path / "whole.npz") as whole:
        assert 3 < len(thin["points"]) < len(whole["points"]) / 2


def test_segment_quiet(truth, scene_file, capsys):
    assert run("segment", scene_file, *pixel(truth, 1), "--quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.fixture(scope="module")
def layered_file(truth, tmp_path_factory):
    """The scene without object 3, and with the left half of object 1 in view 0 as its part."""
    cache = exact_scene(truth).masks
    labels = tuple(np.where(m == 3, 0, m) for m in cache.labels)
    middle = np.median(np.nonzero(labels[0] == 1)[1])
    half = (labels[0] == 1) & (np.arange(labels[0].shape[1]) < middle)
    finer = (np.where(half, 50, 0).astype(np.int32), *(np.zeros_like(m) for m in labels[1:]))
    left = tuple(i for i in cache.object_ids if i != 3)
    records = describe_objects([labels, finer], cache.scores)
    path = tmp_path_factory.mktemp("scenes") / "layered.ws3d"
    masks = MaskCache(labels, cache.scores, left, (finer,), records)
    save_scene(exact_scene(truth, cache=masks), path)
    return path, most_interior_pixel(half)


def test_segment_box_and_level(truth, layered_file, capsys):
    path, (u, v) = layered_file
    rows, columns = np.nonzero(truth.labels[1] == 2)
    box = (columns.min(), rows.min(), columns.max(), rows.max())
    assert run("segment", path, "--view", "cam_1", "--box", *box) == 0
    assert "objects  2, score 1.00" in capsys.readouterr().out
    pointed = ("segment", path, "--view", "cam_0", "--pixel", u, v)
    assert run(*pointed) == 0
    assert "objects  1, score 1.00" in capsys.readouterr().out
    assert run(*pointed, "--level", "part") == 0
    assert "objects  50, score 1.00" in capsys.readouterr().out
    assert "no cached object fills the box" in fails(
        capsys, "segment", path, "--view", "cam_1", "--box", 1, 1, 9, 9
    )
    assert "in which camera is box 1 2?" in fails(capsys, "segment", path, "--box", 1, 2, 3, 4)
    assert "u0 < u1 and v0 < v1" in fails(
        capsys, "segment", path, "--view", "cam_1", "--box", 9, 1, 1, 9
    )


def test_segment_add_and_save(truth, layered_file, tmp_path, capsys):
    """A thing that the tree of masks knows and that is no object; by label maps alone it is not
    there."""
    path, _ = layered_file
    place = pixel(truth, 3, view=2)
    more, treed = tmp_path / "more.ws3d", tmp_path / "treed.ws3d"
    assert "there is background" in fails(capsys, "segment", path, *place)
    assert "--save writes the scene that --add or --refine changed" in fails(
        capsys, "segment", path, *place, "--save", more
    )
    assert "mask back end that takes prompts" in fails(capsys, "segment", path, *place, "--add")
    left = [i for i in truth.object_ids if i != 3]
    save_scene(exact_scene(truth, cache=treed_cache(truth, true_tree(truth), left)), treed)
    assert run("segment", treed, *place) == 0
    assert "objects  none, but a part of the surface, score 1.00" in capsys.readouterr().out
    assert run("segment", treed, *place, "--add", "--save", more) == 0
    out = capsys.readouterr().out
    (new,) = set(load_scene(more).object_ids) - set(left)
    assert f"objects  {new}, score 1.00" in out
    assert f"wrote    {more}" in out
    # It is an object like any other now.
    assert run("segment", more, *place) == 0
    assert f"objects  {new}, score 1.00" in capsys.readouterr().out
    assert run("segment", more, *place, "--alternative", "smaller") == 0
    assert "objects  none, but a part of the surface" in capsys.readouterr().out
    # What a mask is needs no finding.
    assert run("segment", path, *pixel(truth, 2), "--add") == 0
    assert "warning" not in capsys.readouterr().out
    assert "masks.backend" in fails(
        capsys, "segment", path, *place, "--add", "--set", "masks.backend=sam3"
    )


def test_segment_refine_and_save(truth, tmp_path, capsys):
    """Two things were one object; the file before is the way back."""
    path, better = tmp_path / "scene.ws3d", tmp_path / "better.ws3d"
    made = true_tree(truth)
    save_scene(exact_scene(truth, cache=merged_cache(truth, made, {1: (1, 3)})), path)
    off = [word.replace("--pixel", "--negative") for word in pixel(truth, 3)]
    assert run("segment", path, "--refine", 1, *off, "--save", better) == 0
    assert "objects  1, score 1.00" in capsys.readouterr().out
    scene, before = load_scene(better), load_scene(path)
    assert scene.index.count(1) < before.index.count(1)
    assert before.object_ids == scene.object_ids == (1,)


@pytest.mark.usefixtures("oracles")
def test_update_one_camera(truth, folder, tmp_path, capsys):
    path = tmp_path / "scene.ws3d"
    assert run("build", folder, "-o", path, "--quiet") == 0
    before = load_scene(path)
    assert run("update", path, folder, "--view", "cam_1", "-o", tmp_path / "new.ws3d") == 0
    assert f"wrote    {tmp_path / 'new.ws3d'}" in capsys.readouterr().out
    after = load_scene(tmp_path / "new.ws3d")
    assert after.scene_id != before.scene_id
    assert after.object_ids == before.object_ids
    assert load_scene(path).scene_id == before.scene_id
    assert run("update", path, folder, "--view", "cam_1", "--quiet") == 0
    assert load_scene(path).scene_id not in (before.scene_id, after.scene_id)
    assert "no camera 'left'" in fails(capsys, "update", path, folder, "--view", "left")
    fewer = fails(capsys, "update", path, folder, "--view", "cam_1", "--max-views", 2)
    assert "4 views, cam_0 (160x120), cam_1 (160x120), " in fewer
    assert "got 2: cam_0 (160x120), cam_3 (160x120). " in fewer
    assert "same --max-views" in fewer


def test_segment_errors_one_line(truth, scene_file, tmp_path, capsys):
    one = pixel(truth, 1)
    assert "nothing was clicked: give --view" in fails(capsys, "segment", scene_file)
    assert "in which camera is pixel 3 4?" in fails(capsys, "segment", scene_file, "--pixel", 3, 4)
    assert "at least one click with label 1" in fails(
        capsys, "segment", scene_file, "--view", "cam_0", "--negative", 3, 4
    )
    assert "no camera 'left'" in fails(
        capsys, "segment", scene_file, "--view", "left", "--pixel", 3, 4
    )
    assert "is outside the image" in fails(
        capsys, "segment", scene_file, "--view", "cam_0", "--pixel", -3, 4
    )
    assert "must end in .ply, .pcd, .npz" in fails(
        capsys, "segment", scene_file, *one, "-o", "a.obj"
    )
    assert "it is a folder" in fails(capsys, "segment", scene_file, *one, "--picture", tmp_path)
    assert "voxel_size" in fails(capsys, "segment", scene_file, *one, "--voxel-size", -1)
    assert "cannot read scene" in fails(capsys, "segment", tmp_path / "none.ws3d", *one)
    # After all that the next good one works.
    assert run("segment", scene_file, *one) == 0


@pytest.mark.parametrize(
    "words", [["eval", "--protocol", "nvos"], ["eval", "--protocol", "spin-nerf"], ["batch"]]
)
def test_main_paths_that_the_system_refuses_are_one_line(words, tmp_path, capsys):
    command, *options = words
    long = str(tmp_path / ("x" * 300))
    out = ["-o", str(tmp_path / "out")] if command == "batch" else []
    assert run(command, long, *options, *out, "--quiet") == 2
    said = capsys.readouterr().err
    # From Python 3.14 on such a path is one that is not there.
    cause = ".*no (folder|recording) " if sys.version_info >= (3, 14) else "File name too long: '"
    assert re.match(f"wildseg3d: error: {cause}", said)
    assert said.count("\n") == 1


def test_main_verbose_traceback(scene_file, capsys):
    assert run("segment", scene_file, "--view", "left", "--pixel", 3, 4, "--verbose") == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith("wildseg3d: error: the scene has no camera 'left'")


# ---- build and eval --------------------------------------------------------------------------


def test_build_output(truth, folder, oracles, tmp_path, capsys):
    path = tmp_path / "scene.ws3d"
    assert run("build", folder, "-o", path, "--picture", tmp_path / "scene.png") == 0
    said = capsys.readouterr()
    scene = load_scene(path)
    assert scene.object_ids == truth.object_ids
    assert scene.view_names == tuple(view.name for view in truth.views)
    assert f"scene    {scene.scene_id}, 4 views, frame 'world'" in said.out
    assert re.search(r"\npairs    \d+ of \d+ used; pairs agree to \S+ mm \(median\)\n", said.out)
    for word in ("objects", "pairs", "seconds", "memory", "wrote"):
        assert f"\n{word}" in said.out
    # Not on a terminal: a line per stage.
    for stage in ("load", "pairs", "pointmaps", "alignment", "masks", "index"):
        assert f"{stage} ..." in said.err.splitlines()
    assert cv2.imread(str(tmp_path / "scene.png")) is not None


def test_evaluate_oracles(folder, oracles, tmp_path, capsys):
    path = tmp_path / "deep" / "scores.json"
    assert run("eval", folder, "--reference-view", "cam_1", "--json", path) == 0
    scores = json.loads(path.read_text())
    assert scores["miou"] > 0.99
    assert scores["macc"] > 0.999
    assert scores["reference_view"] == "cam_1"
    assert set(scores["seconds"]) >= {"pointmaps", "alignment", "masks", "index"}
    printed = capsys.readouterr().out
    for score in scores["objects"]:
        assert score["name"] in printed
    assert "clicked  in view 'cam_1', whose own masks are not scored" in printed


def test_evaluate_built_scene(folder, scene_file, tmp_path, capsys):
    path = tmp_path / "scores.json"
    assert run("eval", folder, "--scene", scene_file, "--include-reference", "--json", path) == 0
    printed = capsys.readouterr().out
    assert "\nmean" in printed
    assert "1.000" in printed
    assert "scored too" in printed
    # The seconds are those of the build, the memory would be this process's.
    assert "\nmemory" not in printed
    assert "peak_memory_mb" not in json.loads(path.read_text())


def test_build_max_views_and_settings(folder, monkeypatch, tmp_path, capsys):
    seen = {}

    def build_scene(views, config, progress, world_frame):
        seen.update(views=[view.name for view in views], config=config)
        raise InputError("enough seen")

    monkeypatch.setattr(pipeline, "build_scene", build_scene)
    settings = tmp_path / "config.yaml"
    settings.write_text("index: {click_radius: 3}\nalignment: {max_iterations: 9}\n")
    assert "enough seen" in fails(capsys, "build", folder, "--max-views", 2, "--config", settings,
                                  "--set", "index.click_radius=4")  # fmt: skip
    assert seen["views"] == ["cam_0", "cam_3"]
    assert seen["config"].index.click_radius == 4
    assert seen["config"].alignment.max_iterations == 9


def test_build_of_what_is_no_recording_names_what_is(scene_file, tmp_path, capsys):
    error = fails(capsys, "build", scene_file)
    assert "a scene that is built already: `wildseg3d segment` and `view` read it" in error
    error = fails(capsys, "build", tmp_path / "none.ws3d")
    assert "does not exist" in error and "`wildseg3d segment` and `view`" in error
    error = fails(capsys, "build", tmp_path / "none.mcap")
    assert "expected a folder of images, or a bag (its folder, .mcap or .db3)" in error


def test_build_errors_one_line(folder, oracles, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "is empty; expected" in fails(capsys, "build", tmp_path / "empty")
    assert "does not exist" in fails(capsys, "build", tmp_path / "none")
    assert "it is a folder" in fails(capsys, "build", folder, "-o", tmp_path)
    assert "did you mean 'index.click_radius'" in fails(
        capsys, "build", folder, "--set", "index.click_radios=4"
    )
    assert "cannot read configuration" in fails(
        capsys, "build", folder, "--config", tmp_path / "none.yaml"
    )
    assert "reference view 'left'" in fails(capsys, "eval", folder, "--reference-view", "left")


def test_main_interrupted(folder, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "build_scene", interrupted)
    assert run("build", folder) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "wildseg3d: interrupted"


# ---- configuration and progress --------------------------------------------------------------


def test_read_config_settings():
    assert read_config(None, []) == SceneConfig()
    config = read_config(
        None,
        ["alignment.device=cuda:1", "pairing.min_overlap=0.5", "pointmaps.depth.refine=false"],
    )
    assert config.alignment.device == "cuda:1"
    assert config.pairing.min_overlap == 0.5
    assert config.pointmaps.depth.refine is False


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("index.click_radius", "--set takes KEY=VALUE"),
        ("=4", "--set takes KEY=VALUE"),
        ("indx.click_radius=4", "did you mean 'index'"),
        ("index.click_radius.x=4", "'index.click_radius' is a setting, not a group"),
        ("index=4", "'index' is a group of settings"),
        ("index.click_radius=[", "the value is not readable"),
        ("index.click_radius=many", "is of type int"),
        ("index.click_radius=1000", r"must lie in \[0, 64\]"),
    ],
)
def test_read_config_bad_settings(setting, message):
    with pytest.raises(ConfigError, match=message):
        read_config(None, [setting])


def test_progress_bar_stages(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with ProgressBar() as bar:
        progress = Progress(bar.report)
        for stage in ("first", "second"):
            with progress.stage(stage):
                progress.update(0.5)
    shown = capsys.readouterr().err
    for stage in ("first", "second"):
        assert f"{stage:<10} 100%" in shown


# ---- the command as a whole ------------------------------------------------------------------


@pytest.mark.parametrize("command", [(), ("build",), ("update",), ("segment",), ("eval",)])
def test_make_parser_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*command, "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text
    assert max(len(line) for line in text.splitlines()) <= 92


def test_main_usage_errors(capsys):
    for words in ((), ("bild",), ("segment",), ("build", "a", "--max-views", "few")):
        with pytest.raises(SystemExit) as caught:
            run(*words)
        assert caught.value.code == 2


def test_main_delegates(monkeypatch, capsys):
    told = []

    def module_main(words, prog):
        told.append((prog, words))
        return 3

    names = ("ros.replay_node", "demo", "training.command")
    for name in (f"wildseg3d_ros.{name}" for name in names):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(main=module_main))
    assert run("replay", "folder", "--rate", 5) == 3
    assert run("demo", "--verbose", "--out", "x") == 3
    assert run("train-masks", "out.onnx") == 3
    assert told == [
        ("wildseg3d replay", ["folder", "--rate", "5"]),
        ("wildseg3d demo", ["--out", "x"]),
        ("wildseg3d train-masks", ["out.onnx"]),
    ]


def test_main_replay_without_ros(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "wildseg3d_ros.ros.replay_node", raising=False)
    for name in [m for m in sys.modules if m.split(".")[0] == "rclpy"] + ["rclpy"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert "needs ROS 2, whose module 'rclpy" in fails(capsys, "replay", "folder")


@pytest.mark.parametrize("words", [["--help"], ["build", "--help"], ["--version"]])
def test_main_help_imports(words):
    """What only says how it is used loads nothing that computes, so that it answers at once."""
    code = (
        "import sys\n"
        "from wildseg3d_ros.cli import main\n"
        "try:\n"
        f"    main({words})\n"
        "except SystemExit:\n"
        "    print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "argparse" in loaded
    heavy = {"torch", "transformers", "rclpy", "cv2", "scipy", "skimage", "mujoco", "tqdm", "yaml"}
    assert not loaded & heavy
    assert len(loaded) < 250


def test_main_broken_pipe(truth, scene_file):
    words = [sys.executable, "-m", "wildseg3d_ros.cli", "segment", str(scene_file)]
    command = " ".join([*words, *pixel(truth, 1)])
    script = f"set -o pipefail; {command} | true; echo $?"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() in ("141", "0")  # 0: all was written before the reader left


def test_main_as_module():
    words = [sys.executable, "-m", "wildseg3d_ros.cli", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("wildseg3d ")


def test_names_that_the_terminal_cannot_write(capsys, monkeypatch):
    """Written with escapes, whatever the terminal's encoding; a new line breaks no table."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert cli.main(["list", "/does/not/exist.ws3d"]) == 2
    print_table([("camera", "with"), ("k\u00e4mera\n2", "x")])
    sys.stdout.flush()
    assert written.getvalue().splitlines()[1] == rb"k\xe4mera?2  x"
