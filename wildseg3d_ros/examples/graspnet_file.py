"""Clicks an object and writes the file that Contact-GraspNet or GraspGen reads.

python examples/graspnet_file.py front 320 240 object.npz --frame front_color_optical_frame
python contact_graspnet/inference.py --np_path=object.npz --local_regions --filter_grasps

python examples/graspnet_file.py front 320 240 object.npy --frame base_link
python client-server/graspgen_client.py --pcd_file object.npy

.npz: depth, K, segmap and rgb of a pinhole camera in the origin of --frame, which has to be an
optical frame (z forward): the object as 1 in segmap, and what lies about it. The grasps come in
that frame. points: the object alone, which GraspGen's MCP server takes from the same file.
.npy: these points alone, (M, 3) in --frame [m], for GraspGen's client.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError, WildSeg3DError
from wildseg3d_ros.core.files.writing import replacing, write_npz
from wildseg3d_ros.grasping.surroundings import PlainCloud
from wildseg3d_ros.ros.client import SceneClient
from wildseg3d_ros.ros.messages.replies import Description

FOCAL = 900.0  # [px] points that are 2 mm apart have pixels of their own up to 1.8 m away
NEAREST = 0.05  # [m]
CAMERA = (
    0.05  # [m] from the origin of its optical frame, at most: where the alignment has moved it
)


def depth_image(cloud: PlainCloud) -> dict[str, NDArray]:
    """The cloud as one camera in its frame's origin sees it, in the arrays of Contact-GraspNet.

    Returns:
        depth (H, W) float32 [m], 0 where there is no point; segmap (H, W) uint8, 1 on the object;
        rgb (H, W, 3) uint8, blue first, as its reader takes it; K (3, 3).

    Raises:
        InputError: no point of the object lies before the camera.
    """
    order = np.argsort(
        -cloud.points[:, 2], kind="stable"
    )  # the nearest of a pixel is written last
    order = order[cloud.points[order, 2] > NEAREST]
    points, on_object = cloud.points[order].astype(float), cloud.on_object[order]
    if not on_object.any():
        raise InputError(
            f"the object does not lie {NEAREST} m or more along +z of the frame; --frame has to "
            "name the optical frame of a camera that looks at it (z forward)"
        )
    uv = np.rint(FOCAL * points[:, :2] / points[:, 2:]).astype(int)
    low = uv.min(axis=0)
    width, height = uv.max(axis=0) - low + 1
    column, row = (uv - low).T
    depth = np.zeros((height, width), np.float32)
    segmap = np.zeros((height, width), np.uint8)
    rgb = np.zeros((height, width, 3), np.uint8)
    depth[row, column] = points[:, 2]
    segmap[row, column] = on_object
    rgb[row, column] = cloud.colors[order][:, ::-1]
    K = np.array([[FOCAL, 0, -low[0]], [0, FOCAL, -low[1]], [0, 0, 1.0]])
    return {"depth": depth, "K": K, "segmap": segmap, "rgb": rgb}


def frame_warning(found: Description) -> str:
    """What speaks against the frame being a camera's optical frame; mostly nothing."""
    nearest = min(float(np.linalg.norm(place)) for place in found.view_points.values())
    if nearest < CAMERA:
        return ""
    return (
        f"no camera of the scene is in the origin of '{found.frame_id}', the nearest one "
        f"{nearest:.2f} m off: is it an optical frame (z forward)? The image is taken from there, "
        "along its z"
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("camera", help="name of a camera of the scene node")
    parser.add_argument("u", type=float, help="column of the click [px]")
    parser.add_argument("v", type=float, help="row of the click [px]")
    parser.add_argument("file", help=".npz for Contact-GraspNet, .npy for GraspGen")
    parser.add_argument("--frame", required=True, help="TF frame; .npz: an optical frame")
    given = parser.parse_args()
    if not given.file.endswith((".npz", ".npy")):
        parser.error(f"FILE is to end in .npz (Contact-GraspNet) or .npy (GraspGen): {given.file}")
    try:
        with SceneClient() as client:
            found = client.describe(
                [(given.camera, given.u, given.v)],
                target_frame=given.frame,
                include_context=True,
                voxel_size=0.002,
                surroundings_voxel_size=0.002,
            )
        if given.file.endswith(".npy"):
            with replacing(given.file) as file:
                np.save(file, found.points)
        else:
            assert found.context is not None
            if against := frame_warning(found):
                print(f"warning: {against}", file=sys.stderr)
            write_npz(given.file, points=found.points, **depth_image(found.context))
    except (WildSeg3DError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(found.points)} points in '{found.frame_id}', written to {given.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
