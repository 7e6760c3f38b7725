"""Views of cameras that move, kept for scenes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.transforms import quaternion_from_rotation
from wildseg3d_ros.core.types import View
from wildseg3d_ros.rig.hand_eye import hand_eye_correction
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.streams.capture import Capture

_NUMBER = "@"


def camera_of(view: str) -> str:
    """Name of the camera of a view of a scene: its own, or before the number of a captured one."""
    return view.partition(_NUMBER)[0]


def is_captured(view: str) -> bool:
    """Whether a view of a scene was captured; the others are their cameras' newest images."""
    return _NUMBER in view


@dataclass(frozen=True, eq=False)
class CapturedView:
    """An image and where its camera was.

    Attributes:
        camera: name of the camera; ``view.name`` is that of the view, ``camera@number``.
        view: with the pose that TF gave.
        lens: of the image as published.
    """

    camera: str
    view: View
    lens: Lens

    @property
    def world_from_cam(self) -> NDArray[np.float64]:
        """(4, 4) by TF at the image's time."""
        assert self.view.world_from_cam_prior is not None  # none is captured without
        return self.view.world_from_cam_prior

    @property
    def bytes(self) -> int:
        """That it takes in memory."""
        depth = self.view.depth
        return int(self.view.image.nbytes + (0 if depth is None else depth.nbytes))


class CapturedViews:
    """What was captured, in the order of time; safe to use from several threads."""

    def __init__(self) -> None:
        self._views: tuple[CapturedView, ...] = ()
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def all(self) -> tuple[CapturedView, ...]:
        """All that are kept."""
        return self._views

    def cameras(self) -> frozenset[str]:
        """Names of the cameras that have views."""
        return frozenset(each.camera for each in self._views)

    def of(self, cameras: Iterable[str]) -> list[CapturedView]:
        """The views of some cameras."""
        wanted = set(cameras)
        return [each for each in self._views if each.camera in wanted]

    def add(self, capture: Capture, limit: int) -> tuple[CapturedView, ...]:
        """Keeps the views of a capture, each with a name of its own.

        Raises:
            PromptError: there would be more than the limit; none of them is kept then.
        """
        with self._lock:
            count = len(self._views) + len(capture.views)
            if count > limit:
                raise PromptError(
                    f"{len(self._views)} captured views are kept, and max_captured_views is "
                    f"{limit}; forget some (drop_views), or raise that parameter"
                )
            added = []
            for view in capture.views:
                self._counts[view.name] += 1
                name = f"{view.name}{_NUMBER}{self._counts[view.name]}"
                lens = capture.calibrations[view.name]
                added.append(CapturedView(view.name, replace(view, name=name), lens))
            self._views += tuple(added)
            return tuple(added)

    def drop(self, names: Sequence[str]) -> None:
        """Forgets views, by their names or their cameras'; all, where none is named.

        Raises:
            PromptError: a name that is none.
        """
        with self._lock:
            known = {each.view.name for each in self._views} | self.cameras()
            unknown = [name for name in names if name not in known]
            if unknown:
                listed = ", ".join(each.view.name for each in self._views) or "none"
                raise PromptError(
                    f"no captured view {', '.join(map(repr, unknown))}; there are {listed}"
                )
            self._views = tuple(
                each
                for each in self._views
                if names and each.view.name not in names and each.camera not in names
            )

    def joined(self, live: Capture | None, cameras: Iterable[str], world_frame: str) -> Capture:
        """What a scene is built of: captured views of some cameras, and other cameras as they are.

        Args:
            live: what those without captured views see now; None: there are none.
        """
        views = self.of(cameras)
        if not views and live is not None:
            return live
        captured = Capture(
            tuple(each.view for each in views),
            {each.view.name: each.lens for each in views},
            {each.view.name: each.world_from_cam for each in views},
            {},
            world_frame,
        )
        if live is None:
            return captured
        return Capture(
            (*live.views, *captured.views),
            {**live.calibrations, **captured.calibrations},
            {**live.tf_poses, **captured.tf_poses},
            live.unposed,
            world_frame,
            live.assumed,
        )


def hand_eye_warnings(
    scene: Scene, world_from_cam: Mapping[str, NDArray[np.float64]]
) -> list[str]:
    """Sentences about cameras whose captured views agree that TF has their place on the arm wrong.

    Args:
        world_from_cam: by TF, by the name of the view, in the scene's frame.
    """
    out = []
    for camera in dict.fromkeys(camera_of(name) for name in scene.view_names if is_captured(name)):
        views = [
            v for v, name in enumerate(scene.view_names)
            if camera_of(name) == camera and name in world_from_cam
        ]  # fmt: skip
        given = [world_from_cam[scene.view_names[v]] for v in views]
        found = hand_eye_correction(given, [scene.world_from_cam[v] for v in views])
        if found is not None and found.is_clear:
            x, y, z = found.given_from_true[:3, 3]
            turn = " ".join(
                f"{q:.6f}" for q in quaternion_from_rotation(found.given_from_true[:3, :3])
            )
            out.append(
                f"the {len(views)} views of camera '{camera}' agree that it sits {found.text} "
                "from where TF has it on what carries it: its hand-eye calibration is off. In the "
                f"axes that TF gives it, it is at {x:.5f} {y:.5f} {z:.5f}, turned by {turn} (xyzw)"
            )
    return out
