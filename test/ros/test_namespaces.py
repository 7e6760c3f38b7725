"""Two cells on one machine: each node in a namespace, with cameras of the same names."""

from __future__ import annotations

import numpy as np
import pytest
import table

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording

VIEWS = table.make_views()
ON_GREEN = ("front", *table.pixel_on(VIEWS[0], table.GREEN))


def without_green(view: View) -> View:
    """The view with the table where the green ball was."""
    image = np.where(table.trace(table.POSES[view.name])[2][..., None] == table.GREEN, 140,
                     view.image).astype(np.uint8)  # fmt: skip
    return View(view.name, image, view.K, view.depth, view.world_from_cam_prior)


def test_scene_node_two_namespaces(world):
    """Each sees its own cameras: the green ball lies on one of the two tables."""
    recordings = {
        "cell_1": table.make_recording(),
        "cell_2": Recording(tuple(map(without_green, VIEWS))),
    }
    clients = {}
    for namespace, recording in recordings.items():
        world.scene_node(namespace=namespace)
        world.replay(recording, namespace=namespace)
        clients[namespace] = world.client(namespace)
    for client in clients.values():
        client.build()
    assert clients["cell_1"].segment([ON_GREEN]).object_ids == (table.GREEN,)
    with pytest.raises(WildSeg3DError) as nothing:
        clients["cell_2"].segment([ON_GREEN])
    assert nothing.value.code == ErrorCode.NO_OBJECT_AT_PIXEL
