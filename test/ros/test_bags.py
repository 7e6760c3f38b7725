"""Bags of live cameras: what is recorded, and that a bag and the node make the same views."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rosbags")

import table
from listening import PATIENCE, wait_for
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rosbags.rosbag2 import Reader

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.io.bags.writing import BagWriter
from wildseg3d_ros.io.loading import load_recording
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.record_node import RecordNode
from wildseg3d_ros.ros.tf.listener import TransformListener
from wildseg3d_ros.streams.config import CameraConfig, NodeConfig
from wildseg3d_ros.streams.rig_file import RigFile
from wildseg3d_ros.streams.tf.tree import TransformTree

CAMERAS = {name: CameraConfig.of(name) for name in table.NAMES}


def same_views(found, expected):
    """All but the moment is the same, to the bit."""
    assert [view.name for view in found] == [view.name for view in expected]
    for view, other in zip(found, expected, strict=True):
        for part in dataclasses.fields(view):
            if part.name == "stamp_ns":
                continue
            one, two = getattr(view, part.name), getattr(other, part.name)
            assert np.array_equal(one, two), (view.name, part.name)


@pytest.mark.parametrize("tf", ["static", "dynamic"])
def test_a_bag_gives_the_views_of_the_node_that_hears_the_same(world, tmp_path, tf):
    """Both listen to the same publishers at once; the one writes, the other builds views."""
    writer = BagWriter(tmp_path / "bag", "sqlite3" if tf == "dynamic" else "mcap", tf == "dynamic")
    recorder = world.add(RecordNode(CAMERAS, writer, context=world.context), 1)
    node = Node("listener", context=world.context)
    group = MutuallyExclusiveCallbackGroup()
    config = NodeConfig(max_image_age=0.0, image_timeout=PATIENCE, tf_timeout=PATIENCE)
    cameras = Cameras(node, CAMERAS, config, group)
    transforms = TransformListener(node, TransformTree(), group)
    world.add(node, 1)
    cameras.subscribe()
    transforms.subscribe()
    world.replay(table.make_recording(), tf=tf)

    def heard():
        assert recorder.failed is None, recorder.failed
        cameras.adapt()
        counts = dict(writer.counts)
        enough = [count > 3 or topic == "/tf_static" for topic, count in counts.items()]
        return len(enough) == 3 * len(CAMERAS) + 1 and all(enough)

    wait_for(heard)
    taken = cameras.take(table.NAMES, config, transforms, lambda: False)
    recorder.close()
    assert recorder.failed is None
    recording = load_recording(tmp_path / "bag", rig=RigFile(config, CAMERAS))
    same_views(recording.views, taken.views)
    assert recording.warnings == taken.warnings == ()
    assert recording.world_frame == taken.world_frame
    found = load_recording(tmp_path / "bag")  # by the names of the topics
    assert [view.name for view in found.views] == sorted(table.NAMES)
    same_views(found.views, sorted(taken.views, key=lambda view: view.name))


def test_record_keeps_latched_transforms_latched(world, tmp_path):
    writer = BagWriter(tmp_path / "bag")
    recorder = world.add(RecordNode(CAMERAS, writer, context=world.context), 1)
    world.replay(table.make_recording())
    wait_for(lambda: writer.counts["/tf_static"])
    assert set(recorder.silent) >= {"/tf"}
    recorder.close()
    with Reader(tmp_path / "bag") as bag:
        (static,) = (c for c in bag.connections if c.topic == "/tf_static")
    (qos,) = static.ext.offered_qos_profiles
    assert qos.durability.name == "TRANSIENT_LOCAL"


def test_record_command_ends_with_a_bag_when_it_is_told_to(world, tmp_path):
    world.replay(table.make_recording())
    rig = tmp_path / "rig.yaml"
    rig.write_text(f"/**: {{ros__parameters: {{cameras: [{', '.join(table.NAMES)}]}}}}")
    bag = tmp_path / "bag"
    words = [sys.executable, "-m", "wildseg3d_ros.cli", "record", "-o", str(bag)]
    process = subprocess.Popen(
        [*words, "--config", str(rig)], env=os.environ, stdout=subprocess.PIPE, text=True
    )
    folder = wait_for(lambda: next(tmp_path.glob(".bag.*.part/bag/bag.mcap"), None))
    wait_for(lambda: folder.stat().st_size > 3_000_000)
    assert not bag.exists(), "it is not there before it is whole"
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0, said
    assert f"wrote    {bag} (" in said
    assert not list(tmp_path.glob(".bag.*"))
    assert len(load_recording(bag).views) == 3


def test_record_without_anything_to_hear(tmp_path, capfd):
    from wildseg3d_ros.cli import main

    words = ["record", "-o", str(tmp_path / "bag"), "--seconds", "0.3"]
    assert main([*words, "--cameras", "nobody"]) == 2
    assert "no bag was written: nothing came on" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(words) == 2
    assert "nothing to record" in capfd.readouterr().err
    (tmp_path / "bag").mkdir()
    assert main([*words, "--cameras", "nobody"]) == 2
    assert "is there already" in capfd.readouterr().err


def test_bag_writer_says_what_the_disk_says(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write bag"):
        BagWriter(tmp_path / "file" / "bag")
