"""One RGB-D camera on an arm: move, capture, build, click; the cloud comes in base_link.

Try it without an arm, on a recording that plays as one moving camera:

    wildseg3d replay examples/tabletop --as-one wrist --dwell 3 &
    scene_node --ros-args -p "cameras:=[wrist]" -p world_frame:=world &
    python examples/wrist.py --frame world
"""

from __future__ import annotations

import argparse
import time

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.ros.client import SceneClient


def move(place: int) -> None:
    """Fill in: sends the arm to a place and returns when it stands there (MoveIt, a driver)."""
    print(f"moving to place {place}")
    time.sleep(3.0)


def capture(client: SceneClient) -> list[str]:
    """What the camera sees, once TF says that it stands."""
    while True:
        try:
            return client.capture_views()
        except WildSeg3DError as error:
            if error.code != ErrorCode.CAMERA_MOVES:
                raise
            time.sleep(0.2)


def main() -> None:
    """Six places, one scene, one object in the middle of the first image."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--places", type=int, default=6)
    parser.add_argument("--pixel", type=float, nargs=2, default=(320.0, 240.0))
    parser.add_argument("--frame", default="base_link")
    given = parser.parse_args()
    with SceneClient() as client:
        client.drop_views()
        views = []
        for place in range(given.places):
            move(place)
            views += capture(client)
        for report in client.build().cameras:
            camera = report.verdict
            print(f"{camera.name}: {camera.verdict}, moved by {camera.translation * 1e3:.1f} mm")
        found = client.segment([(views[0], *given.pixel)], target_frame=given.frame)
    print(f"object {found.object_ids} with {len(found.points)} points in '{found.frame_id}'")


if __name__ == "__main__":
    main()
