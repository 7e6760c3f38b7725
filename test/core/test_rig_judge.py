"""Rigs that are right pass, rigs with a usual mistake are refused by its name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ErrorCode, RigError
from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.core.types import View
from wildseg3d_ros.pipeline import build_scene
from wildseg3d_ros.rig.judge import judge
from wildseg3d_ros.sim.cameras import look_at
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.oracles import OracleMasks, OraclePointmaps
from wildseg3d_testing.rigs import MISTAKES, with_pose_error, with_poses
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.stereo import stereo_scene

INVERSE = MISTAKES["inverse matrices"].make


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def truth():
    return construct_scene(4, 160, 120, seed=5, arc_degrees=110, depth_noise=DepthNoise())


@pytest.fixture(scope="module")
def views(truth):
    """With honest poses."""
    return with_pose_error(truth.views, rng(), 0.004, np.radians(0.4))


@pytest.fixture(scope="module")
def plain_views():
    """Without depth."""
    return stereo_scene(4, 12.0, 320, 240).views


def plane_views(poses, texture=None):
    """A level table of the world's z = 0, before cameras that see nothing else."""
    K = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]])
    out = []
    for k, pose in enumerate(poses):
        v, u = np.mgrid[:120, :160]
        ray = np.stack([(u - 79.5) / 150, (v - 59.5) / 150, np.ones(u.shape)], -1)
        ray = ray @ pose[:3, :3].T
        depth = -pose[2, 3] / ray[..., 2]
        at = pose[:3, 3] + ray * depth[..., None]
        # No camera gives one value everywhere.
        bare = 128.0 + rng(k).integers(0, 3, u.shape)
        gray = bare if texture is None else texture(at)
        image = np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, 2)
        out.append(View(f"cam_{k}", image, K, depth.astype(np.float32), pose))
    return out


def blotches(at):
    """A texture of 10 cm that does not repeat within the table."""
    x, y = at[..., 0], at[..., 1]
    return (
        128 + 50 * np.sin(40 * x + 9 * np.sin(13 * y)) + 50 * np.sin(37 * y + 7 * np.cos(11 * x))
    )


# ---- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MISTAKES)
def test_judge_names_the_mistake(views, name):
    report = judge(MISTAKES[name].make(views, rng(1)))
    assert report.finding is not None, report.warnings
    assert report.finding.kind == MISTAKES[name].kind, report.finding.text
    assert report.finding.mended > 0.8
    assert not report.finding.given > report.finding.mended - 0.05
    assert report.verdict == "suspect"
    with pytest.raises(RigError, match="check_rig") as refused:
        report.refuse()
    assert refused.value.code == ErrorCode.WRONG_RIG


@pytest.mark.parametrize(
    ("name", "factor"),
    [("translations x 0.37", 0.37), ("depth x 5", 5), ("intrinsics x 2", 2), ("depth x 0.1", 0.1)],
)
def test_judge_finds_the_factor(views, name, factor):
    finding = judge(MISTAKES[name].make(views, rng())).finding
    assert finding is not None
    assert finding.factor == pytest.approx(factor, rel=0.05)


def test_judge_names_the_camera_alone(views):
    turned = MISTAKES["pose of one turned by 180"].make(views[:1], rng())
    report = judge([*turned, *views[1:]])
    assert report.finding is not None
    assert report.finding.cameras == (views[0].name,)
    assert report.suspects == (views[0].name,)
    assert f"'{views[0].name}'" in report.finding.text


@pytest.mark.parametrize("name", [n for n, m in MISTAKES.items() if not m.needs_depth])
def test_judge_of_plain_images(plain_views, name):
    report = judge(MISTAKES[name].make(plain_views, rng(1)))
    assert report.finding is not None, report.warnings
    assert report.finding.kind == MISTAKES[name].kind, report.finding.text


# ---- right rigs ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_judge_passes_right_rigs(seed):
    random = rng(seed)
    count = 2 + seed
    arc = random.uniform(25, 60) * (count - 1)
    scene = construct_scene(count, 120, 90, seed=seed, arc_degrees=arc, depth_noise=DepthNoise())
    size, turn = random.uniform(0, 0.01), np.radians(random.uniform(0, 1))
    report = judge(with_pose_error(scene.views, random, size, turn))
    assert report.finding is None, report.finding.text
    assert report.verdict == "ok"
    assert report.warnings == []


def test_judge_passes_plain_images(plain_views):
    report = judge(plain_views)
    assert report.verdict == "ok"
    assert report.warnings == []


def test_judge_reports_each_camera(views):
    report = judge(views)
    assert [camera.name for camera in report.cameras] == [view.name for view in views]
    for camera, view in zip(report.cameras, views, strict=True):
        assert camera.posed
        assert camera.verdict == "ok"
        assert camera.agreement > 0.8
        assert camera.depth == pytest.approx(np.median(view.depth[view.depth > 0]), rel=0.05)
        assert set(camera.overlap) <= {v.name for v in views} - {view.name}


def test_judge_suspects_one_wrong_pose_and_does_not_refuse(views):
    """What no usual mistake explains is left to the alignment, but not silently."""
    pose = np.asarray(views[2].world_from_cam_prior)
    wrong = make_transform(pose[:3, :3] @ rotation_from_vector([0.3, 0.25, 0.2]), pose[:3, 3])
    report = judge([*views[:2], replace(views[2], world_from_cam_prior=wrong), *views[3:]])
    assert report.finding is None
    assert report.suspects == (views[2].name,)
    assert [camera.verdict for camera in report.cameras].count("ok") >= 2
    assert "contradict each other" in report.warnings[0]
    assert f"'{views[2].name}'" in report.warnings[0]


# ---- what cannot be checked ------------------------------------------------------------------


def test_judge_of_views_without_poses(views):
    report = judge([replace(view, world_from_cam_prior=None) for view in views])
    assert report.finding is None
    assert report.verdict == "unchecked"
    assert report.warnings == []
    assert {camera.why for camera in report.cameras} == {"no pose"}


def test_judge_of_some_views_without_pose_or_intrinsics(views):
    given = [replace(views[0], world_from_cam_prior=None), replace(views[1], K=None), *views[2:]]
    report = judge(given)
    assert [camera.verdict for camera in report.cameras] == ["unchecked", "unchecked", "ok", "ok"]
    assert [camera.why for camera in report.cameras] == ["no pose", "no intrinsics", "", ""]
    wrong = [*given[:2], *INVERSE(views[2:], rng())]
    assert judge(wrong).finding.kind == "inverse"


def test_judge_of_one_pose(views):
    given = [views[0], *(replace(view, world_from_cam_prior=None) for view in views[1:])]
    report = judge(given)
    assert report.verdict == "unchecked"
    assert report.cameras[0].why == "no other pose"


@pytest.mark.parametrize("texture", [None, blotches], ids=["bare", "textured"])
def test_judge_never_refuses_two_parts_of_one_table(texture):
    """A shorter baseline would lay them on each other: the plane agrees with itself."""
    poses = [look_at(np.array([x, -0.3, 0.6]), np.array([x, 0.0, 0.0])) for x in (-2.0, 0.0, 2.0)]
    report = judge(plane_views(poses, texture))
    assert report.finding is None, report.finding.text
    assert report.suspects == ()
    assert "could not be checked" in report.warnings[0]


@pytest.mark.parametrize("texture", [None, blotches], ids=["bare", "textured"])
def test_judge_never_refuses_a_table(texture):
    poses = [look_at(np.array([x, -0.3, 0.6]), np.array([x / 2, 0, 0])) for x in (-0.2, 0.1, 0.3)]
    views = plane_views(poses, texture)
    report = judge(with_pose_error(views, rng(), 0.01, np.radians(1.0)))
    assert report.finding is None, report.finding.text
    assert report.suspects == ()


def test_judge_of_identical_images(views):
    """One topic for all cameras: their poses differ, what they see does not."""
    given = [replace(view, image=views[0].image, depth=views[0].depth) for view in views]
    report = judge(given)
    assert report.finding is not None
    assert report.finding.kind == "one place"


def test_judge_of_walls_of_nan(views):
    nothing = np.full(views[0].size, np.nan, np.float32)
    report = judge([replace(view, depth=nothing) for view in views])
    assert report.finding is None
    report = judge([replace(views[0], depth=nothing), *views[1:]])
    assert report.finding is None
    assert [camera.verdict for camera in report.cameras[1:]] == ["ok"] * 3


def test_judge_of_noise(views):
    random = rng()
    given = [
        replace(view, image=random.integers(0, 256, view.image.shape, dtype=np.uint8),
                depth=random.uniform(0.3, 3, view.size).astype(np.float32))
        for view in views
    ]  # fmt: skip
    assert judge(given).finding is None


# ---- in the build ----------------------------------------------------------------------------


def test_build_scene_refuses_inverse_matrices(truth):
    with pytest.raises(RigError, match=r"as given .* %.*inverted.*world_from_cam"):
        build_scene(INVERSE(truth.views, rng()), masks=OracleMasks(truth))


def test_build_scene_can_be_overruled_and_says_what_it_is_built_on(truth):
    # The oracle's pairs hold whatever the poses are, so that a scene comes out.
    config = SceneConfig.from_mapping(
        {"alignment": {"check_rig": False, "max_prior_residual": 0.0}}
    )
    oracles = {"pointmaps": OraclePointmaps(truth), "masks": OracleMasks(truth)}
    scene = build_scene(INVERSE(truth.views, rng()), config, **oracles)
    assert not any("inverted" in text for text in scene.warnings)


def test_build_scene_says_what_the_alignment_has_checked(truth):
    # Cameras that see nothing in common, by poses that are 50 m apart in different directions:
    # the judge can compare none of them, and the pairs say how wrong they are.
    apart = np.stack([np.asarray(view.world_from_cam_prior) for view in truth.views])
    apart[:, :3, 3] += 50.0 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    config = SceneConfig.from_mapping({"alignment": {"max_prior_residual": 0.0}})
    oracles = {"pointmaps": OraclePointmaps(truth), "masks": OracleMasks(truth)}
    views = with_poses(truth.views, apart)
    assert "could not be checked" in judge(views).warnings[0]
    scene = build_scene(views, config, **oracles)
    assert not any("could not be checked" in text for text in scene.warnings)
    assert "most given camera poses are off" in scene.warnings[0]


def test_build_scene_is_not_relied_on_where_most_cameras_contradict(truth):
    # Depth of four units: no usual mistake, and the pairs that are kept fit.
    units = np.array([1.0, 1.6, 0.55, 2.6], np.float32)
    views = [
        replace(view, depth=unit * np.asarray(view.depth))
        for view, unit in zip(truth.views, units, strict=True)
    ]
    assert judge(views).finding is None
    oracles = {"pointmaps": OraclePointmaps(truth), "masks": OracleMasks(truth)}
    alignment = build_scene(views, SceneConfig(), **oracles).alignment
    assert not alignment.converged
    assert "most cameras contradict" in alignment.stop_reason
