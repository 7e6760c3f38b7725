"""The cell as it changes, and what its cameras sense of it.

What stands still is rendered once: only the noise is new in every frame, as of a real sensor.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError, PromptError
from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.core.types import View
from wildseg3d_ros.sim.arm import CAMERA_FRAME, Arm
from wildseg3d_ros.sim.cameras import Camera, bearing, look_at
from wildseg3d_ros.sim.noise import (
    DepthNoise,
    color_gain,
    kinematic_pose,
    sense_color,
    sense_depth,
)
from wildseg3d_ros.sim.posed_arm import PosedArm
from wildseg3d_ros.sim.render import Frame
from wildseg3d_ros.sim.staged import CatalogueStage, RandomStage, Staged
from wildseg3d_ros.sim.things import Things

WRIST = "wrist"
"""Name of the camera that tours the table."""
_FOVY = np.radians(45.0)
"""Of the camera on the wrist."""
_AWAY = np.array([0.0, 0.0, -3.0])
"""Where removed things lie: under the floor."""


@dataclass(frozen=True)
class CellSpec:
    """What a live cell has.

    Attributes:
        seed: the same seed gives the same cell, and the same noise.
        things: of the catalogue, or random ones, on a table, in a bin or on a shelf.
        objects, views: how many things of the catalogue, and fixed cameras.
        wrist: whether one more camera tours the things.
        arm: whether an arm stands behind them, which carries that camera where there is one.
        width, height: of the pictures [px].
        light_samples: passes of light per picture: more is smoother and slower.
        depth_noise: the depth cameras; None for perfect depth.
        translation_sigma, rotation_sigma: of the fixed cameras' reported poses [m, rad].
    """

    seed: int = 0
    things: Things = "catalogue"
    objects: int = 10
    views: int = 4
    wrist: bool = False
    arm: bool = False
    width: int = 640
    height: int = 480
    light_samples: int = 8
    depth_noise: DepthNoise | None = field(default_factory=DepthNoise)
    translation_sigma: float = 0.002
    rotation_sigma: float = 0.002


class LiveCell:
    """A cell that can be changed; all of it is used by one thread, as OpenGL is.

    Attributes:
        reported: ``world_from_cam`` of each camera as its rig says, which a kick leaves as it is.
        tour: poses of the wrist camera, one after the other.
        arm: None where there is none.

    Raises:
        InputError: the cell cannot be made or rendered here.
    """

    def __init__(self, spec: CellSpec) -> None:
        if spec.arm and spec.things == "shelf":
            raise InputError("an arm stands behind things, and behind those on a shelf is a wall")
        self.spec, self._layout, self._light = spec, 0, 1.0
        self._rng = np.random.default_rng([spec.seed, 6000])
        self._kicks = np.random.default_rng([spec.seed, 8000])  # whatever was sensed before
        self._stage = self._built()
        tour = np.random.default_rng([spec.seed, 7000])
        self.tour = _tour(tour, self._stage.middle, self._stage.azimuth)
        self.arm = PosedArm(self._stage.behind, self._stage.middle, spec.wrist)
        if spec.arm and spec.wrist:
            self.tour = self.arm.take_tour(self.tour)
        self._true = {n: camera.world_from_cam for n, camera in self._stage.cameras.items()}
        if spec.wrist:
            self._true[WRIST] = self.tour[0]
            self._stage.move_camera(WRIST, self.tour[0])
        sigmas = spec.translation_sigma, spec.rotation_sigma
        self.reported = {
            name: pose if name == WRIST else kinematic_pose(pose, self._rng, *sigmas)
            for name, pose in self._true.items()
        }
        self._gains = {name: color_gain(self._rng) for name in self._true}
        self._frames: dict[str, Frame] = {}
        self._gone: set[str] = set()
        if spec.arm:
            self._put_arm()

    def close(self) -> None:
        """Frees what OpenGL holds."""
        self._stage.close()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of all cameras."""
        return tuple(self._true)

    @property
    def things(self) -> tuple[str, ...]:
        """Names of the things on the table."""
        return tuple(name for name in self._stage.names if name not in self._gone)

    def label(self, thing: str) -> int:
        """Of a thing in the label images."""
        return self._stage.names.index(thing) + 1

    def poses(self) -> dict[str, NDArray[np.float64]]:
        """(4, 4) ``world_from_object`` of the things."""
        return {name: self._stage.pose(name) for name in self.things}

    def boxes(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """(4, 4) pose of its centre and (3,) edges [m] of a box about each thing."""
        found = {}
        for name, pose in self.poses().items():
            centre, edges = self._stage.box(name)
            found[name] = pose @ make_transform(np.eye(3), centre), edges
        return found

    def true_pose(self, camera: str) -> NDArray[np.float64]:
        """(4, 4) where a camera really stands."""
        return self._true[camera]

    def labels(self, camera: str) -> NDArray[np.uint8]:
        """(H, W) what each pixel truly shows, 0 = background."""
        return self._frame(camera).labels

    def sensed(self, camera: str) -> View:
        """What a camera delivers now, with the pose that its rig reports; new noise every time."""
        spec, frame = self.spec, self._frame(camera)
        made = self._stage.cameras[camera]
        K, depth = made.intrinsics(spec.width, spec.height), frame.depth
        if spec.depth_noise is not None:
            depth = sense_depth(depth, K, self._rng, spec.depth_noise)
        depth = self._stage.sensed_depth(depth, frame.labels, self._rng)
        color = frame.color if self._light == 1.0 else np.clip(frame.color * self._light, 0, 1)
        image = sense_color(color.astype(np.float32), self._rng, gain=self._gains[camera])
        return View(camera, image, K, depth, self.reported[camera])

    # ---- changes -----------------------------------------------------------------------------

    def place_wrist(self, place: int) -> None:
        """Puts the wrist camera at a place of its tour, and tells the rig so."""
        if self.spec.arm:
            self.arm.go_to(place)
            self._put_arm()
            return
        self._put_wrist(self.tour[place % len(self.tour)])

    def next_place(self, place: int) -> None:
        """The camera on the wrist goes on, or the arm alone takes its next posture."""
        if self.spec.wrist:
            self.place_wrist(place)
        elif self.spec.arm:
            postures = list(self.arm.postures)
            self.place_arm(postures[place % len(postures)])

    def place_arm(self, posture: str) -> None:
        """Puts the arm into a posture; raises PromptError: no such posture, or no arm."""
        if not self.spec.arm:
            raise PromptError("there is no arm in this cell; start it with --arm")
        self.arm.take(posture)
        self._put_arm()

    def shuffle(self) -> None:
        """Another arrangement of the same things, or another random scene; cameras stay."""
        self._layout += 1
        self._stage.close()
        self._stage = self._built()
        for name, pose in self._true.items():
            self._stage.move_camera(name, pose)
        self._frames.clear()
        self._gone.clear()
        if self.spec.arm:
            self._put_arm()

    def move(self, name: str, x: float, y: float, angle: float) -> None:
        """Moves a thing over the table, a little above it, and lets it fall to rest.

        Raises:
            PromptError: no such thing.
        """
        pose = self._pose_of(name)
        if not (abs(x) <= 1.0 and abs(y) <= 1.0 and abs(angle) <= 2 * np.pi):
            raise PromptError(
                f"a thing is moved by up to 1 m and 6.28 rad; got {x:g}, {y:g} and {angle:g}"
            )
        lifted = make_transform(
            rotation_from_vector(np.array([0.0, 0.0, angle])) @ pose[:3, :3],
            pose[:3, 3] + [x, y, 0.02],
        )
        self._stage.move_thing(name, lifted)
        self._stage.settle()
        for gone in self._gone:  # physics dropped them on, too
            self._bury(gone)
        self._frames.clear()

    def remove(self, name: str) -> None:
        """Takes a thing away; raises PromptError: no such thing."""
        self._pose_of(name)
        self._gone.add(name)
        self._bury(name)
        self._frames.clear()

    def kick(self, camera: str, distance: float, angle: float) -> None:
        """Moves a camera [m, rad] in a random direction; what its rig reports stays.

        Raises:
            PromptError: no such camera.
        """
        self._check_camera(camera)
        if not (0.0 <= distance <= 1.0 and 0.0 <= angle <= np.pi):
            raise PromptError(
                f"a kick is of 0 to 1 m and 0 to 3.14 rad; got {distance:g} and {angle:g}"
            )
        step, axis = (_direction(self._kicks) for _ in range(2))
        motion = make_transform(rotation_from_vector(angle * axis), distance * step)
        self._true[camera] = self._true[camera] @ motion
        self._stage.move_camera(camera, self._true[camera])
        self._frames.pop(camera, None)

    def set_light(self, brightness: float) -> None:
        """Brightness of the lamps; 1 as it was made. Raises PromptError outside of 0.1 to 3."""
        if not 0.1 <= brightness <= 3.0:
            raise PromptError(f"brightness must lie in 0.1 to 3, got {brightness:g}")
        self._light = brightness

    # ---- parts -------------------------------------------------------------------------------

    def _built(self) -> Staged:
        spec = self.spec
        more = (Camera(WRIST, np.eye(4), _FOVY),) if spec.wrist else ()
        arm = Arm(np.eye(4), spec.wrist) if spec.arm else None
        if spec.things == "catalogue":
            picture = spec.width, spec.height, spec.light_samples
            counts = spec.objects, spec.views, spec.seed, self._layout
            return CatalogueStage(*counts, more, arm, picture)
        kind = None if spec.things == "random" else spec.things
        if kind is None and spec.arm:
            kind = "bin" if spec.seed % 3 == 0 else "table"
        size = spec.width, spec.height
        return RandomStage(kind, spec.views, spec.seed, self._layout, more, arm, size)

    def _put_arm(self) -> None:
        """Shows the arm in its posture; the camera that it carries goes along."""
        poses = self.arm.poses()
        self._stage.place_arm(poses)
        self._frames.clear()
        if self.spec.wrist:
            self._put_wrist(poses[CAMERA_FRAME])

    def _put_wrist(self, pose: NDArray[np.float64]) -> None:
        self._true[WRIST] = self.reported[WRIST] = pose
        self._stage.move_camera(WRIST, pose)
        self._frames.pop(WRIST, None)

    def _frame(self, camera: str) -> Frame:
        if camera not in self._frames:
            # What moves is rendered at every place: with a quarter of the light.
            quick = camera == WRIST or self.spec.arm
            self._frames[camera] = self._stage.frame(camera, quick)
        return self._frames[camera]

    def _pose_of(self, name: str) -> NDArray[np.float64]:
        poses = self.poses()
        if name not in poses:
            raise PromptError(f"there is no thing '{name}' on the table, but {', '.join(poses)}")
        return poses[name]

    def _check_camera(self, name: str) -> None:
        if name not in self._true:
            raise PromptError(f"there is no camera '{name}', but {', '.join(self._true)}")

    def _bury(self, name: str) -> None:
        self._stage.move_thing(name, make_transform(np.eye(3), _AWAY))


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def _tour(
    rng: np.random.Generator,
    middle: NDArray[np.float64],
    limits: tuple[float, float],
    places: int = 8,
) -> list[NDArray[np.float64]]:
    """Poses of a camera on an arm that looks at the middle from all around, within limits of the
    azimuth [rad]."""
    poses = []
    low, high = limits
    whole = high - low > 6.0
    turns = 2 * np.pi * np.arange(places) / places if whole else np.linspace(low, high, places)
    for turn in turns:
        azimuth = turn + rng.uniform(-0.1, 0.1)
        elevation = np.radians(rng.uniform(40, 60) if whole else rng.uniform(15, 30))
        target = middle + rng.uniform(-0.03, 0.03, 3)
        poses.append(look_at(target + rng.uniform(0.6, 0.7) * bearing(azimuth, elevation), target))
    return poses
