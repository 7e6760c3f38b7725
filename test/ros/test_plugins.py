"""Back ends of other packages through the node, by its parameters alone."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.ros.building.process import PIPELINE
from wildseg3d_testing.plane_package import RED, SQUARES, recording

NAMES = ("front", "left", "right")


def test_node_other_package(world, plane_package):
    """Their settings are parameters with range and text; a build with them answers a click."""
    node = world.scene_node(
        PIPELINE,
        **{f"{name}__depth_topic": "" for name in NAMES},
        pointmaps__backend="plane",
        pointmaps__plane__depth=0.8,
        masks__backend="colors",
    )
    told = node.describe_parameter("pointmaps.plane.depth")
    assert told.description == "depth of the plane before every camera [m]"
    (depth,) = told.floating_point_range
    assert (depth.from_value, depth.to_value) == (0.05, 100.0)
    (contrast,) = node.describe_parameter("masks.colors.contrast").integer_range
    assert (contrast.from_value, contrast.to_value) == (1, 255)
    assert "plane" in node.describe_parameter("pointmaps.backend").additional_constraints
    given = recording(NAMES)
    world.replay(given)
    client = world.client()
    assert client.build().objects == 2
    v, u = np.argwhere(given.object_masks[0] == RED)[0]
    found = client.segment([("front", u, v)])
    offset = np.abs(found.points - [*SQUARES[RED], 0.0])
    assert len(offset) > 300
    assert offset.max(axis=0) == pytest.approx([0.06, 0.06, 0.0], abs=0.007)
