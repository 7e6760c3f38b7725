"""The arm of a live cell in its postures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError, PromptError
from wildseg3d_ros.core.geometry.transforms import invert, make_transform, rotation_from_vector
from wildseg3d_ros.sim.arm import CAMERA_AT, Arm

HOME = "home"
"""The posture in which the arm leans back, out of most views."""
_ABOVE = {"over": (0.0, 0.0), "left": (-0.2, -0.05), "right": (0.2, -0.05), "back": (0.0, 0.2)}
"""Where the tool is in the other postures, beside the middle of the things [m]."""
_HEIGHT = 0.26
"""Of the tool above the middle of the things [m]."""


class PosedArm:
    """An arm behind things, and the postures that it takes.

    Args:
        behind: y of its base [m].
        middle: (3,) of the things [m].
        has_camera: whether a camera sits on its wrist.

    Attributes:
        angles: (6,) of its joints now [rad].
        postures: angles by name.
    """

    def __init__(self, behind: float, middle: NDArray[np.float64], has_camera: bool) -> None:
        # Its x axis points to the front: the arm leans towards the things.
        base = make_transform(rotation_from_vector([0, 0, -np.pi / 2]), [0.0, behind, 0.0])
        self.model = Arm(base, has_camera)
        self.postures = {HOME: np.array([0.0, -0.9, 0.5, 0.0, 0.8, 0.0])}
        down = np.diag([1.0, -1.0, -1.0])
        for name, (x, y) in _ABOVE.items():
            tool = make_transform(down, middle + [x, y, _HEIGHT])
            angles = self.model.reach(tool)
            if angles is not None:
                self.postures[name] = angles
        self.angles = self.postures[HOME]
        self._tour: list[NDArray[np.float64]] = []

    def poses(self) -> dict[str, NDArray[np.float64]]:
        """(4, 4) ``world_from_link`` of all links."""
        return self.model.poses(self.angles)

    def take(self, posture: str) -> None:
        """Takes a posture; raises PromptError: there is no such one."""
        if posture not in self.postures:
            raise PromptError(
                f"the arm has no posture '{posture}', but {', '.join(self.postures)}"
            )
        self.angles = self.postures[posture]

    def take_tour(self, poses: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """Those poses of its camera that it reaches, for :meth:`go_to`; it goes to the first.

        Raises:
            InputError: it reaches none.
        """
        cam_from_tool = invert(make_transform(np.eye(3), CAMERA_AT))
        reached = []
        for pose in poses:
            angles = self.model.reach(pose @ cam_from_tool)
            if angles is not None:
                self._tour.append(angles)
                reached.append(pose)
        if not reached:
            raise InputError("the arm reaches no place of its camera's tour; try another seed")
        self.go_to(0)
        return reached

    def go_to(self, place: int) -> None:
        """Goes to a place of the tour."""
        self.angles = self._tour[place % len(self._tour)]
