"""Clicks an object and publishes it for GPD, as gpd_ros/msg/CloudSamples.

python examples/gpd_samples.py front 320 240 --frame base_link --topic cloud_samples

The cloud has x, y, z and a normal alone: GPD takes normals from such a cloud only. A point that
several cameras see counts for the first of them, as GPD knows one a point. Needs gpd_ros built for
ROS 2 in the sourced workspace.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Int64

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.ros.client import SceneClient
from wildseg3d_ros.ros.discovery import publish_once
from wildseg3d_ros.ros.messages.clouds import cloud_message, normal_columns, xyz_columns
from wildseg3d_ros.ros.messages.conversions import point_message
from wildseg3d_ros.ros.messages.replies import Description


def first_camera(views: NDArray[np.uint32], cameras: int) -> NDArray[np.int64]:
    """(M,) number of the first camera that sees each point, of (M,) bits; 0 where none of 32."""
    seen = (views[:, None] >> np.arange(min(cameras, 32), dtype=np.uint32)) & 1
    return seen.argmax(axis=1)


def cloud_samples(found: Description, samples: int):
    """gpd_ros/msg/CloudSamples of a description with its surface.

    Args:
        found: what was clicked.
        samples: at how many of its points, spread evenly, GPD looks for grasps.
    """
    from gpd_ros.msg import CloudSamples, CloudSources  # pyright: ignore[reportMissingImports]

    assert found.normals is not None
    assert found.views is not None
    columns = xyz_columns(found.points) | normal_columns(found.normals)
    chosen = np.linspace(0, len(found.points) - 1, min(samples, len(found.points))).astype(int)
    cameras = first_camera(found.views, len(found.view_points))
    return CloudSamples(
        cloud_sources=CloudSources(
            cloud=cloud_message(columns, found.frame_id, found.stamp_ns),
            camera_source=[Int64(data=int(camera)) for camera in cameras],
            view_points=[point_message(place) for place in found.view_points.values()],
        ),
        samples=[point_message(point) for point in found.points[chosen].astype(float)],
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("camera", help="name of a camera of the scene node")
    parser.add_argument("u", type=float, help="column of the click [px]")
    parser.add_argument("v", type=float, help="row of the click [px]")
    parser.add_argument("--frame", default="base_link", help="TF frame of the cloud")
    parser.add_argument("--topic", default="cloud_samples", help="what GPD listens to")
    parser.add_argument("--samples", type=int, default=200, help="points to look for grasps at")
    given = parser.parse_args()
    if importlib.util.find_spec("gpd_ros") is None:
        print("gpd_ros is missing: build it in your workspace and source that", file=sys.stderr)
        return 1
    try:
        with SceneClient() as client:
            found = client.describe(
                [(given.camera, given.u, given.v)],
                target_frame=given.frame,
                voxel_size=0.002,
                include_surface=True,
            )
            message = cloud_samples(found, given.samples)
            print(
                f"{len(found.points)} points in '{found.frame_id}' for '{given.topic}'", flush=True
            )
            publish_once(client.node, message, given.topic, seconds=math.inf)
    except (WildSeg3DError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
