"""Random requests for a node whose cameras see the table of test/ros/table.py; many are bad."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import table
from geometry_msgs.msg import Point, PointStamped
from sensor_msgs.msg import Image

from wildseg3d_msgs.msg import Box, CameraMask, Click, Prompt
from wildseg3d_msgs.srv import DescribeObject, Segment
from wildseg3d_ros.ros.messages.conversions import header, image_from_array, image_from_mask
from wildseg3d_ros.ros.replay_node import optical_frame

TRUTH = {name: table.trace(pose)[2] for name, pose in table.POSES.items()}
"""Labels of the balls by camera."""
FRAMES = ("", "world", "/world", *map(optical_frame, table.NAMES))
HEIGHT, WIDTH = table.SIZE


class RandomRequests:
    """Makes requests of a seed.

    Args:
        seed: of the numbers.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def segment(self) -> Segment.Request:
        """A look-up."""
        pick = self._random
        return Segment.Request(
            prompt=self.prompt(),
            target_frame=self.frame(),
            target_now=pick.random() < 0.1,
            voxel_size=self._size(),
            include_alternative_clouds=pick.random() < 0.2,
            publish=pick.random() < 0.3,
        )

    def describe(self) -> DescribeObject.Request:
        """A description."""
        pick = self._random
        return DescribeObject.Request(
            prompt=self.prompt(),
            target_frame=self.frame(),
            voxel_size=self._size(),
            include_surface=pick.random() < 0.6,
            normal_radius=self._size(),
            include_context=pick.random() < 0.3,
            context_size=self._size(),
            include_surroundings=pick.random() < 0.3,
            surroundings_voxel_size=self._size(),
            include_masks=pick.random() < 0.7,
            organized_cameras=[self.camera()] if pick.random() < 0.2 else [],
        )

    def frame(self) -> str:
        """Mostly one that TF knows."""
        return self._mostly(FRAMES, ("nowhere", "/", "fr\N{SNOWMAN}nt", " "), 0.05)

    def camera(self) -> str:
        """Mostly one of the node's; sometimes a captured view, which may be there or not."""
        views = [f"{name}@{self._random.randrange(1, 9)}" for name in table.NAMES]
        return self._mostly(table.NAMES, (*views, "", "back", "\x01"), 0.1)

    def prompt(self) -> Prompt:
        """One way to point or several."""
        pick = self._random
        makers = {
            "clicks": self.click,
            "boxes": self.box,
            "masks": self.mask,
            "points": self.point,
            "object_ids": self.object_id,
        }
        names = list(makers)
        chosen = [pick.choices(names, (8, 2, 2, 3, 3))[0]]
        if pick.random() < 0.15:
            chosen += pick.sample(names, 2)
        given = {
            name: [makers[name]() for _ in range(1 if pick.random() < 0.85 else 2)]
            for name in dict.fromkeys(chosen)
        }
        return Prompt(
            **given,
            level=self._mostly((0,), (1, 2, 3, 255), 0.1),
            scene_id="0123456789abcdef" if pick.random() < 0.02 else "",
        )

    def click(self) -> Click:
        """Mostly on a ball."""
        pick, camera = self._random, self.camera()
        u, v = pick.uniform(-3, WIDTH + 3), pick.uniform(-3, HEIGHT + 3)
        labels = TRUTH.get(camera.partition("@")[0])
        if labels is not None and pick.random() < 0.7:
            v, u = map(float, pick.choice(np.argwhere(labels == pick.choice((1, 2)))))
        if pick.random() < 0.02:
            u = pick.choice((math.nan, math.inf, -1e30))
        return Click(camera=camera, u=u, v=v, label=self._mostly((1,), (0, -1, 2), 0.1))

    def box(self) -> Box:
        """Mostly about a ball."""
        pick, camera = self._random, self.camera()
        labels = TRUTH.get(camera.partition("@")[0])
        if labels is None or pick.random() < 0.3:
            corners = [pick.uniform(-5, 165) for _ in range(4)]
        else:
            rows, columns = np.nonzero(labels == pick.choice((1, 2)))
            corners = [columns.min(), rows.min(), columns.max(), rows.max()]
        u0, v0, u1, v1 = map(float, corners)
        return Box(camera=camera, u0=u0, v0=v0, u1=u1, v1=v1)

    def mask(self) -> CameraMask:
        """Mostly that of a ball."""
        pick, camera = self._random, self.camera()
        labels = TRUTH.get(camera.partition("@")[0], next(iter(TRUTH.values())))
        image = image_from_mask(labels == pick.choice((1, 2, 3)))
        if pick.random() < 0.2:
            image = pick.choice(
                (
                    Image(),
                    image_from_array(np.ones((7, 5), np.uint8), "mono8"),
                    Image(height=2**32 - 1, width=2**32 - 1, encoding="mono8", step=1),
                    image_from_array(np.ones((*table.SIZE, 3), np.uint8), "rgb8"),
                )
            )
        return CameraMask(camera=camera, mask=image)

    def point(self) -> PointStamped:
        """Mostly on a ball, in the world or in a camera's frame."""
        pick = self._random
        centre, radius = table.BALLS[pick.choice((1, 2))]
        way = np.array([pick.gauss(0, 1), pick.gauss(0, 1) - 1, abs(pick.gauss(0, 1))])
        place = np.array(centre) + radius * way / np.linalg.norm(way)
        if pick.random() < 0.1:
            place = place * pick.choice((10.0, math.nan, 1e300))
        x, y, z = map(float, place)
        frame = self._mostly(("", "world"), FRAMES + ("nowhere",), 0.2)
        stamp_ns = self._mostly((0,), (1, 2**31 * 10**9 - 1), 0.05)
        return PointStamped(header=header(frame, stamp_ns), point=Point(x=x, y=y, z=z))

    def object_id(self) -> int:
        """Mostly one that is there."""
        return self._mostly((1, 2), (0, 3, 4, -1, 2**31 - 1), 0.2)

    def _size(self) -> float:
        bad = (-1.0, math.nan, math.inf, 1e-30, 1e30)
        return self._mostly((0.0, 0.0, 0.004, 0.01, 0.05), bad, 0.05)

    def _mostly(self, good, bad, share: float):
        return self._random.choice(bad if self._random.random() < share else good)
