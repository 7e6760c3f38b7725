"""Plain RGB cameras through the node, by its parameters alone: da3, mast3r and stereo."""

from __future__ import annotations

import numpy as np
import pytest
import table

pytest.importorskip("torch")

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.io.folder import Recording
from wildseg3d_ros.ros.building.process import PIPELINE
from wildseg3d_testing import da3_weights
from wildseg3d_testing.mast3r_weights import write_checkpoint
from wildseg3d_testing.scenes import construct_scene, fan_poses


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """A network this small waits for a second thread longer than it works."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


RGB = {f"{name}__depth_topic": "" for name in table.NAMES}


def node(world, weights, **parameters):
    return world.scene_node(
        PIPELINE,
        **RGB,
        pointmaps__backend="mast3r",
        pointmaps__mast3r__weights=str(weights),
        pointmaps__mast3r__image_size=96,
        pointmaps__mast3r__device="cpu",
        **parameters,
    )


def test_scene_node_mast3r_keeps_weights(world, tmp_path, capfd):
    """The node builds from RGB and keeps the weights loaded."""
    # What random weights say contradicts TF.
    scene_node = node(world, write_checkpoint(tmp_path), alignment__max_prior_residual=0.0)
    world.replay()
    client = world.client()
    first = client.build()
    assert {"pairs", "pointmaps", "alignment"} <= set(first.stage_seconds)
    process = scene_node._worker.pid
    assert client.build().scene_id != first.scene_id
    assert scene_node._worker.pid == process
    assert capfd.readouterr().err.count("CC BY-NC-SA 4.0") == 1, "loaded and said once"


def test_scene_node_mast3r_contradicts_tf(world, tmp_path):
    """Geometry that contradicts TF is refused and the node lives."""
    node(world, write_checkpoint(tmp_path))
    world.replay()
    client = world.client()
    for _ in range(2):
        with pytest.raises(WildSeg3DError, match="contradict each other.*max_prior_residual"):
            client.build()


def test_scene_node_mast3r_weights_absent(world, tmp_path):
    """Absent weights are a reply with the command that fetches them."""
    node(world, tmp_path / "none.safetensors")
    world.replay()
    with pytest.raises(WildSeg3DError, match=r"do not exist; fetch them with `hf download") as e:
        world.client().build()
    assert e.value.code == ErrorCode.BAD_FILE


def test_scene_node_da3(world, tmp_path):
    """The node builds from RGB, in metres by TF."""
    weights = da3_weights.write_checkpoint(tmp_path)
    world.scene_node(
        PIPELINE,
        **RGB,
        pointmaps__backend="da3",
        pointmaps__da3__weights=str(weights),
        pointmaps__da3__image_size=84,
        pointmaps__da3__device="cpu",
        # What random weights say contradicts TF, but not beyond all bounds.
        pointmaps__da3__max_disagreement=1.0,
        alignment__max_prior_residual=0.0,
    )
    world.replay()
    assert world.client().build().scale_sources == ("camera poses",)


def test_scene_node_stereo(world):
    """Calibrated cameras are triangulated."""
    truth = construct_scene(3, 400, 300, 4, seed=3, with_depth=False, poses=fan_poses(3, 12.0))
    names = [view.name for view in truth.views]
    world.scene_node(
        PIPELINE,
        cameras=names,
        pointmaps__backend="stereo",
        **{f"{name}__depth_topic": "" for name in names},
    )
    world.replay(Recording(truth.views))
    client = world.client()
    report = client.build()
    assert report.scale_sources == ("camera poses",)
    assert report.registration_residual < 0.005
    chosen = set()
    for label in (1, 2, 3, 4):
        rows, cols = np.nonzero(truth.labels[1] == label)
        cloud = client.segment([(names[1], float(np.median(cols)), float(np.median(rows)))])
        assert len(cloud.points) > 300
        assert np.median(truth.distance_to_object(label, cloud.points)) < 0.002
        chosen |= set(cloud.object_ids)
    assert len(chosen) == 4
