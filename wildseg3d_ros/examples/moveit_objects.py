"""Clicks an object and gives MoveIt the object, what is about it, and which links may touch it.

python examples/moveit_objects.py front 320 240 --frame base_link --touch left_finger right_finger

The object becomes a collision object `wildseg3d_ID`, a box or the convex hull of its points. The
scene without it goes out as a cloud for the octomap: name its topic as point_cloud_topic of an
occupancy_map_monitor/PointCloudOctomapUpdater in sensors_3d.yaml. The links of --touch, and the
octomap that the object stands on, may touch it. Needs moveit_msgs and a running move_group.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from wildseg3d_ros.core.errors import ErrorCode, InputError, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.grasping.surroundings import PlainCloud
from wildseg3d_ros.ros.client import SceneClient
from wildseg3d_ros.ros.discovery import (
    ask_until_answered,
    publish_once,
    wait_for,
    when_done,
)
from wildseg3d_ros.ros.messages.clouds import cloud_message, xyz_columns
from wildseg3d_ros.ros.messages.conversions import point_message
from wildseg3d_ros.ros.messages.replies import Description

OCTOMAP = "<octomap>"  # the name that MoveIt's allowed collisions know it by
_LISTENER_SECONDS = 5.0
"""For so long somebody who listens to the cloud is waited for: an octomap is no must."""


def collision_object(found: Description, name: str, shape: str):
    """moveit_msgs/msg/CollisionObject of a selection with its box.

    Args:
        found: what was clicked.
        name: the object's id in MoveIt.
        shape: "box" or "mesh", the convex hull of the points. Both have the box's pose.
    """
    from moveit_msgs.msg import CollisionObject  # pyright: ignore[reportMissingImports]
    from shape_msgs.msg import SolidPrimitive  # pyright: ignore[reportMissingImports]

    pose = found.pose
    message = CollisionObject(
        header=pose.header, pose=pose.pose, id=name, operation=CollisionObject.ADD
    )
    if shape == "box":
        size = [float(edge) for edge in found.box.size]
        message.primitives = [SolidPrimitive(type=SolidPrimitive.BOX, dimensions=size)]
        message.primitive_poses = [Pose()]
    else:
        inside = apply(np.linalg.inv(found.box.frame_from_box), found.points.astype(float))
        message.meshes = [hull(inside)]
        message.mesh_poses = [Pose()]
    return message


def hull(points: NDArray[np.float64]):
    """shape_msgs/msg/Mesh of the convex hull of (M, 3) points, its triangles facing outwards.

    Raises:
        InputError: the points lie in a plane.
    """
    from shape_msgs.msg import Mesh, MeshTriangle  # pyright: ignore[reportMissingImports]

    try:
        found = ConvexHull(points)
    except QhullError as error:
        raise InputError(
            f"the {len(points)} points of the object lie in a plane, and a mesh needs a volume; "
            "take --shape box"
        ) from error
    triangles = points[found.simplices]
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    inwards = np.einsum("ij,ij->i", normal, found.equations[:, :3]) < 0
    corners = found.simplices.copy()
    corners[inwards] = corners[inwards][:, ::-1]
    number = np.zeros(len(points), int)
    number[found.vertices] = np.arange(len(found.vertices))
    return Mesh(
        vertices=[point_message(point) for point in points[found.vertices]],
        triangles=[
            MeshTriangle(vertex_indices=number[each].astype(np.uint32)) for each in corners
        ],
    )


def allow(matrix: Any, name: str, others: Sequence[str]) -> None:
    """Lets ``name`` touch ``others`` in a moveit_msgs/msg/AllowedCollisionMatrix, in place.

    MoveIt replaces its whole matrix by the one of a scene: it has to be the present one, changed.
    """
    from moveit_msgs.msg import AllowedCollisionEntry  # pyright: ignore[reportMissingImports]

    names = list(matrix.entry_names)
    rows = [list(entry.enabled) for entry in matrix.entry_values]
    for new in (each for each in (name, *others) if each not in names):
        names.append(new)
        for row in rows:
            row.append(False)
        rows.append([False] * len(names))
    for other in others:
        one, two = names.index(name), names.index(other)
        rows[one][two] = rows[two][one] = True
    matrix.entry_names = names
    matrix.entry_values = [AllowedCollisionEntry(enabled=row) for row in rows]


class PlanningScene:
    """The planning scene of move_group, by a scene client's node."""

    def __init__(self, client: SceneClient, timeout: float = 10.0) -> None:
        from moveit_msgs.srv import (  # pyright: ignore[reportMissingImports]
            ApplyPlanningScene,
            GetPlanningScene,
        )

        self._node, self._timeout, self._get = client.node, timeout, GetPlanningScene
        self._apply = client.node.create_client(ApplyPlanningScene, "apply_planning_scene")

    def add(self, thing: Any, touch: Sequence[str]) -> None:
        """Adds a collision object, or replaces the one of its id, and lets links touch it.

        Raises:
            WildSeg3DError: MoveIt refused.
            TimeoutError: move_group does not answer.
        """
        from moveit_msgs.msg import (  # pyright: ignore[reportMissingImports]
            PlanningScene,
            PlanningSceneComponents,
        )

        wanted = self._get.Request()
        wanted.components.components = PlanningSceneComponents.ALLOWED_COLLISION_MATRIX
        name, seconds = "get_planning_scene", self._timeout
        present = ask_until_answered(self._node, self._get, name, seconds, wanted)
        if present is None or not wait_for(self._apply.service_is_ready, seconds):
            raise TimeoutError(f"nobody answers on '{name}'; is move_group running?")
        matrix = present.scene.allowed_collision_matrix
        allow(matrix, thing.id, [*touch, OCTOMAP])
        change = PlanningScene(is_diff=True, allowed_collision_matrix=matrix)
        change.robot_state.is_diff = True
        change.world.collision_objects = [thing]
        future = self._apply.call_async(self._apply.srv_type.Request(scene=change))
        if not when_done(future).wait(seconds):
            raise TimeoutError(f"no answer on '{self._apply.srv_name}' within {seconds:g} s")
        reply: Any = future.result()
        if not reply.success:
            raise WildSeg3DError(
                f"MoveIt refused '{thing.id}'; move_group's log says why. Does TF know "
                f"'{thing.header.frame_id}' in its planning frame?",
                ErrorCode.BAD_REQUEST,
            )


def publish(client: SceneClient, cloud: PlainCloud, found: Description, topic: str) -> None:
    """Publishes the surroundings once, to all who listen now."""
    message = cloud_message(xyz_columns(cloud.points), found.frame_id, found.stamp_ns)
    name, listeners = publish_once(client.node, message, topic, _LISTENER_SECONDS)
    print(f"{len(cloud.points)} points about it on {name}, to {listeners}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("camera", help="name of a camera of the scene node")
    parser.add_argument("u", type=float, help="column of the click [px]")
    parser.add_argument("v", type=float, help="row of the click [px]")
    parser.add_argument("--frame", default="base_link", help="TF frame of the object")
    parser.add_argument("--shape", choices=("box", "mesh"), default="box")
    parser.add_argument("--touch", nargs="*", default=[], help="links that may touch the object")
    parser.add_argument("--topic", default="surroundings", help="cloud for the octomap")
    given = parser.parse_args()
    if importlib.util.find_spec("moveit_msgs") is None:
        print("moveit_msgs is missing: apt-get install ros-$ROS_DISTRO-moveit", file=sys.stderr)
        return 1
    try:
        with SceneClient() as client:
            found = client.describe(
                [(given.camera, given.u, given.v)],
                target_frame=given.frame,
                voxel_size=0.002,
                include_surroundings=True,
            )
            assert found.surroundings is not None
            name = "wildseg3d_" + "_".join(map(str, found.object_ids))
            # What a collision object occupies is left out of the octomap: the object comes first.
            PlanningScene(client).add(collision_object(found, name, given.shape), given.touch)
            publish(client, found.surroundings, found, given.topic)
    except (WildSeg3DError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"'{name}' is in the planning scene; {', '.join(given.touch) or 'no link'} may touch it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
