"""Builds a scene from the running cameras, clicks one pixel and writes the object's cloud.

python examples/click.py CAMERA U V OBJECT.ply [--frame FRAME]
"""

from __future__ import annotations

import argparse
import sys

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.io.clouds import write_ply
from wildseg3d_ros.ros.client import SceneClient


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("camera", help="name of a camera of the scene node")
    parser.add_argument("u", type=float, help="column of the click [px]")
    parser.add_argument("v", type=float, help="row of the click [px]")
    parser.add_argument("ply", help="file to write")
    parser.add_argument("--frame", default="", help="TF frame of the cloud (the scene's own)")
    given = parser.parse_args()
    try:
        with SceneClient(timeout=30.0) as client:
            report = client.build(
                progress=lambda stage, share: print(f"\r{stage:<10} {share:4.0%}", end="")
            )
            print(f"\r{report.objects} objects in {report.seconds:.1f} s")
            click = (given.camera, given.u, given.v)
            found = client.describe(
                [click],
                target_frame=given.frame,
                voxel_size=0.002,
                include_surface=True,
            )
    except (WildSeg3DError, TimeoutError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    write_ply(given.ply, found.points, found.colors, found.normals)
    print(f"{len(found.points)} points in '{found.frame_id}', written to {given.ply}")
    position = found.pose.pose.position
    size = " x ".join(f"{edge:.3f}" for edge in found.box.size)
    print(f"box of {size} m at ({position.x:.3f}, {position.y:.3f}, {position.z:.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
