"""What the page needs of a scene, be it in a file or in a node that runs elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import CameraVerdict, Click, ObjectCloud, Point, Prompt, Verdict
from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.grasping.objects import SceneObject
from wildseg3d_ros.rig.live import PackedPicture
from wildseg3d_ros.robot.solids import PlacedSolid


@dataclass(frozen=True, eq=False)
class ShownCamera:
    """A camera of a scene.

    Attributes:
        name: of the view.
        image: (H, W, 3) uint8 RGB, as the scene has it; None where it is not to be had.
        labels: (H, W) int32 ids of whole objects, 0 = none.
        K: (3, 3) intrinsics in pixels; None where they are not known.
        world_from_cam: (4, 4) pose in the scene's frame; None where it is not known.
    """

    name: str
    image: NDArray[np.uint8] | None
    labels: NDArray[np.int32]
    K: NDArray[np.float64] | None = None
    world_from_cam: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class ShownScene:
    """A scene as the page shows it; it does not change.

    Attributes:
        scene_id: of the scene that answers.
        frame_id: of all points and poses.
        cameras: of the scene, in its order.
        points: (M, 3) float32, all that was measured, thinned, in an order that is random: any
            first part of it is the cloud, thinned further.
        colors: (M, 3) uint8 RGB.
        objects: of all levels, by id.
        verdicts: on the cameras' poses; empty where nothing is known.
        warnings: of the build, one sentence each.
        up: (3,) direction that is up.
        metric: whether lengths are metres.
        edits: changes that can be taken back; 1 where that is not known.
        version: told apart by it are several views of a scene, as a node's topics come in.
    """

    scene_id: str
    frame_id: str
    cameras: tuple[ShownCamera, ...]
    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    verdicts: tuple[CameraVerdict, ...] = ()
    warnings: tuple[str, ...] = ()
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    metric: bool = True
    edits: int = 0
    version: int = 0

    @property
    def key(self) -> str:
        """Names it in addresses."""
        return f"{self.scene_id or 'none'}-{self.version}"

    def camera(self, name: str) -> ShownCamera:
        """The named camera.

        Raises:
            PromptError: there is none.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise PromptError(f"the scene has no camera '{name}'", ErrorCode.UNKNOWN_CAMERA)

    @cached_property
    def spacing(self) -> float:
        """Distance of neighbouring points, typically."""
        if len(self.points) < 2:
            return 0.0
        some = self.points[:2000].astype(np.float64)
        distances = KDTree(self.points).query(some, k=2)[0][:, 1]
        return float(np.median(distances))

    def along(self, origin: NDArray, direction: NDArray, slope: float) -> Point:
        """The point of the cloud that a ray meets first.

        Args:
            origin, direction: (3,) of the ray, in the scene's frame.
            slope: half opening of the cone about the ray that counts as on it, per distance.

        Raises:
            PromptError: there is none (POINT_OUTSIDE_SCENE).
        """
        to_point = self.points - origin.astype(np.float32)
        direction = (direction / np.linalg.norm(direction)).astype(np.float32)
        along = to_point @ direction
        across = np.linalg.norm(to_point - along[:, None] * direction, axis=1)
        on_ray = np.flatnonzero((along > 0) & (across <= slope * along))
        if not len(on_ray):
            raise PromptError(
                "there is no point of the scene under the cursor; click on the cloud",
                ErrorCode.POINT_OUTSIDE_SCENE,
            )
        # Of the surface that is met first, the point that is nearest to the ray.
        first = along[on_ray].min()
        depth = max(2 * self.spacing, float(slope * first))
        surface = on_ray[along[on_ray] <= first + depth]
        return Point(*map(float, self.points[surface[across[surface].argmin()]]))


@dataclass(frozen=True, eq=False)
class LiveImage:
    """What a camera sees now.

    Attributes:
        stamp_ns: of the image.
        image: (H, W, 3) uint8 RGB.
    """

    stamp_ns: int
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class SourceState:
    """How it stands with a source.

    Attributes:
        problem: why nothing can be asked, and the way out; empty where all is well.
        stale: sentences about cameras that see something else than the scene shows.
        busy: stage and fraction of what changes the scene; None while nothing does.
        failed: why the newest build gave no scene.
    """

    problem: str = ""
    stale: tuple[str, ...] = ()
    busy: tuple[str, float] | None = None
    failed: str = ""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a prompt was answered with.

    Attributes:
        cloud: points, masks, score and alternatives, in the scene's frame.
        box: about the points; None where there is none.
        seconds: from the question to the answer.
        warnings: one sentence each.
    """

    cloud: ObjectCloud
    box: OrientedBox | None
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def certain(self) -> bool:
        """Whether somebody said how good it is."""
        return not math.isnan(self.cloud.score)


@dataclass(frozen=True, eq=False)
class CameraCheck:
    """What a check of the cameras as given finds.

    Attributes:
        verdict: on all of them: ok, suspect or unchecked.
        problems: sentences, the most important first; empty where nothing is wrong.
        cameras: the verdict on each.
        pictures: of all cameras, then of pairs of them.
    """

    verdict: Verdict
    problems: tuple[str, ...]
    cameras: tuple[CameraVerdict, ...]
    pictures: tuple[PackedPicture, ...]


class CapturesViews(Protocol):
    """Views of moving cameras that a node keeps for the next scene.

    Attributes:
        captured: names of the views that are kept.
    """

    captured: tuple[str, ...]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that can be captured."""
        ...

    def capture(self, camera: str) -> None:
        """Keeps what a camera sees now. Raises WildSeg3DError."""
        ...

    def drop(self, names: Sequence[str]) -> None:
        """Forgets views; without names, all. Raises WildSeg3DError."""
        ...

    def picture(self, name: str) -> NDArray[np.uint8] | None:
        """(H, W, 3) what a view shows; None where it was not captured from here."""
        ...


class SceneSource(Protocol):
    """Answers for one scene at a time. Every method may be called from any thread.

    Attributes:
        name: what is shown, for people.
        can_build: whether a scene can be built anew.
        live: whether cameras publish.
        captures: views that can be captured; None where none can.
        no_check: why the cameras cannot be checked; empty where they can.
    """

    name: str
    no_check: str
    captures: CapturesViews | None
    can_build: bool
    live: bool

    @property
    def shown(self) -> ShownScene | None:
        """The scene that answers; None while there is none."""
        ...

    @property
    def state(self) -> SourceState:
        """How it stands."""
        ...

    def ask(self, prompt: Prompt, stamps: dict[str, int] | None = None) -> Answer:
        """The cloud of what a prompt means; stamps [ns] are of the images that its clicks mean,
        by camera, where that is not the scene's. Raises WildSeg3DError."""
        ...

    def add(self, prompt: Prompt) -> Answer:
        """Makes what a prompt means an object. Raises WildSeg3DError."""
        ...

    def refine(self, prompt: Prompt) -> Answer:
        """Corrects the object that a prompt names. Raises WildSeg3DError."""
        ...

    def undo(self) -> None:
        """Takes the newest change back. Raises WildSeg3DError."""
        ...

    def click_at(self, point: Point) -> Click:
        """A click at the pixel that shows a point. Raises WildSeg3DError."""
        ...

    def build(self) -> None:
        """Builds anew, while ``state`` says how far it is, and after it what failed."""
        ...

    def cancel(self) -> None:
        """Stops a build."""
        ...

    def check(self) -> CameraCheck:
        """Compares the cameras as they are given, and draws it; takes seconds. Raises
        WildSeg3DError."""
        ...

    def live_image(self, camera: str) -> LiveImage | None:
        """The newest image; None where there is none."""
        ...

    def robot(self) -> tuple[PlacedSolid, ...]:
        """The robot's links as they stand now; none where nobody describes it."""
        ...

    def close(self) -> None:
        """Ends what runs beside."""
        ...
