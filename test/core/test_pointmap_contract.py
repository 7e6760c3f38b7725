"""The contract of pointmap back ends, held against each of ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.types import View
from wildseg3d_ros.pointmaps import PointmapBackend, load_pointmaps
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.pointmap_contract import Case, PointmapContract
from wildseg3d_testing.scenes import construct_scene, fan_poses

pytestmark = pytest.mark.usefixtures("one_thread")


def cropped(view: View, rows: int, cols: int) -> View:
    """Part of a view, its principal point moved with it."""
    assert view.K is not None
    K = view.K.copy()
    K[0, 2] -= cols
    K[1, 2] -= rows
    depth = None if view.depth is None else view.depth[rows:, cols:]
    return replace(view, image=view.image[rows:, cols:].copy(), depth=depth, K=K)


def choose(**pointmaps: Any) -> PointmapBackend:
    """The back end that a configuration file with these settings gives."""
    return load_pointmaps(SceneConfig.from_mapping({"pointmaps": pointmaps}).pointmaps)


def depth_case(tmp_path_factory) -> Case:
    scene = construct_scene(3, 160, 120, 5, arc_degrees=50, depth_noise=DepthNoise())
    views = (*scene.views[:2], cropped(scene.views[2], 8, 12))
    return Case(choose(backend="depth"), views, replace(views[0], depth=None), "no depth image")


def mast3r_case(tmp_path_factory) -> Case:
    from wildseg3d_testing.mast3r_weights import write_checkpoint

    weights = write_checkpoint(tmp_path_factory.mktemp("weights"))
    scene = construct_scene(3, 160, 120, 5, arc_degrees=50, with_depth=False)
    views = (*scene.views[:2], cropped(scene.views[2], 8, 12))
    backend = choose(
        backend="mast3r", mast3r={"weights": str(weights), "image_size": 96, "device": "cpu"}
    )
    small = replace(views[0], image=np.zeros((16, 16, 3), np.uint8), K=None)
    return Case(backend, views, small, "16x16 pixels is too small")


def da3_case(tmp_path_factory) -> Case:
    from wildseg3d_testing.da3_weights import write_checkpoint

    weights = write_checkpoint(tmp_path_factory.mktemp("weights"))
    # What random weights say contradicts any pose.
    scene = construct_scene(3, 160, 120, 5, arc_degrees=50, with_depth=False, with_priors=False)
    views = (*scene.views[:2], cropped(scene.views[2], 8, 12))
    backend = choose(
        backend="da3", da3={"weights": str(weights), "image_size": 84, "device": "cpu"}
    )
    small = replace(views[0], image=np.zeros((16, 16, 3), np.uint8), K=None)
    return Case(backend, views, small, "16x16 pixels is too small")


def stereo_case(tmp_path_factory) -> Case:
    scene = construct_scene(3, 320, 240, 5, poses=fan_poses(3, 7.0), with_depth=False)
    views = (*scene.views[:2], cropped(scene.views[2], 8, 12))
    unposed = replace(views[0], world_from_cam_prior=None)
    return Case(choose(backend="stereo"), views, unposed, "has no pose.*transform_matrix")


BACKENDS = {"depth": depth_case, "stereo": stereo_case, "mast3r": mast3r_case, "da3": da3_case}


@pytest.fixture(scope="module", params=BACKENDS)
def case(request, tmp_path_factory) -> Case:
    return BACKENDS[request.param](tmp_path_factory)


class TestPointmapBackends(PointmapContract):
    pass
