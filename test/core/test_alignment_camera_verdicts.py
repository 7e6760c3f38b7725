"""What an alignment says about each camera: of RGB-D cameras one of which was kicked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import AlignmentError
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.pairing import choose_pairs
from wildseg3d_ros.pointmaps import load_pointmaps
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.rigs import with_pose_error
from wildseg3d_testing.scenes import construct_scene

CONFIG = SceneConfig()
COUNT = 4


def recorded(seed, metres, degrees, honest=(0.003, 0.3), count=COUNT, **options):
    """A scene of RGB-D cameras with honest errors, the views as given, and the kicked camera."""
    rng = np.random.default_rng(seed)
    scene = construct_scene(
        count,
        320,
        240,
        seed=seed,
        arc_degrees=37 * (count - 1),
        depth_noise=DepthNoise(),
        **options,
    )
    views = with_pose_error(scene.views, rng, honest[0], np.radians(honest[1]))
    kicked = int(rng.integers(count))
    views[kicked : kicked + 1] = with_pose_error(
        views[kicked : kicked + 1], rng, metres, np.radians(degrees)
    )
    return scene, views, kicked


def aligned(views):
    pairs = choose_pairs(views, CONFIG.pairing)
    predictions = load_pointmaps(CONFIG.pointmaps).predict(views, pairs, Progress())
    return align(predictions, views, CONFIG.alignment)


def misplaced(alignment, scene, camera):
    """Metres and degrees between a camera and where it is, seen from the other cameras."""
    errors = []
    for other in range(len(scene.views)):
        if other != camera:
            found, truth = (
                invert(poses[other]) @ poses[camera]
                for poses in (alignment.world_from_cam, scene.world_from_cam)
            )
            angle = np.degrees(rotation_angle(found[:3, :3] @ truth[:3, :3].T))
            errors.append((np.linalg.norm(found[:3, 3] - truth[:3, 3]), angle))
    return np.median(errors, axis=0)


@pytest.mark.parametrize(
    ("metres", "degrees", "expected"),
    [
        (0.02, 1.0, {"moved"}),
        (0.05, 0.0, {"moved"}),
        (0.05, 2.5, {"left out"}),
        # The last one in the row may share too little with others than its neighbour.
        (0.1, 0.0, {"left out", "suspect"}),
        (0.1, 5.0, {"left out", "suspect"}),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_kicked_camera_is_corrected_and_reported(seed, metres, degrees, expected):
    scene, views, kicked = recorded(seed, metres, degrees)
    alignment = aligned(views)
    camera = alignment.cameras[kicked]
    assert camera.verdict in expected
    others = [each.verdict for v, each in enumerate(alignment.cameras) if v != kicked]
    assert others == ["ok"] * (COUNT - 1)
    assert camera.name == views[kicked].name
    assert camera.posed
    assert camera.weight == 0.0
    # To within the honest errors of all cameras.
    assert camera.translation == pytest.approx(metres, abs=0.008)
    assert np.degrees(camera.rotation) == pytest.approx(degrees, abs=1.0)
    assert camera.deviations > 4.5
    assert 0.001 < camera.translation_sigma < 0.01
    assert any(f"'{camera.name}'" in text for text in alignment.warnings)
    apart, angle = misplaced(alignment, scene, kicked)
    assert apart < 0.002
    assert angle < 0.2


@pytest.mark.parametrize("honest", [(0.0, 0.0), (0.003, 0.3), (0.01, 1.0)])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_right_cameras_are_ok(count, honest):
    for seed in range(2):
        _, views, _ = recorded(seed, 0.0, 0.0, honest, count)
        alignment = aligned(views)
        assert {camera.verdict for camera in alignment.cameras} <= {"ok", "unchecked"}
        if count > 2:
            assert {camera.verdict for camera in alignment.cameras} == {"ok"}
        assert alignment.warnings == () or count == 2


@pytest.mark.parametrize("seed", range(3))
def test_kicked_camera_without_features_is_never_believed(seed):
    """Blank images leave nothing that could find a camera 10 cm away."""
    scene, views, kicked = recorded(seed, 0.1, 5.0)
    views = [replace(view, image=np.full_like(view.image, 128)) for view in views]
    try:
        alignment = aligned(views)
    except AlignmentError:
        return
    if misplaced(alignment, scene, kicked)[0] > 0.01:
        assert alignment.cameras[kicked].verdict in ("left out", "suspect", "unchecked")


def test_camera_without_a_pose_is_placed_by_the_others():
    scene, views, _ = recorded(0, 0.0, 0.0)
    views[1] = replace(views[1], world_from_cam_prior=None)
    alignment = aligned(views)
    camera = alignment.cameras[1]
    assert (camera.posed, camera.verdict, camera.weight) == (False, "ok", 0.0)
    assert np.isnan([camera.translation, camera.rotation, camera.deviations]).all()
    assert misplaced(alignment, scene, 1)[0] < 0.002
