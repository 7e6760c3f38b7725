"""The robot cell as a MuJoCo model: table, floor, objects at rest, cameras."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.sim import textures
from wildseg3d_ros.sim.arm import Arm
from wildseg3d_ros.sim.arm_model import add_arm, place_arm
from wildseg3d_ros.sim.cameras import Camera, ring_cameras
from wildseg3d_ros.sim.layout import Placement, place
from wildseg3d_ros.sim.prop import Part, Prop
from wildseg3d_ros.sim.props import CATALOGUE
from wildseg3d_ros.sim.shapes import Mesh, box, join, quad

TABLE_SIZE, TABLE_HEIGHT = (1.30, 0.95, 0.04), 0.75  # [m], and of its top over the floor
COLLISION_GROUP = 3
"""Of MuJoCo's geoms that physics sees and no camera does; all others are in group 0."""
_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])
_CONTACT = {"group": COLLISION_GROUP, "friction": [0.8, 0.01, 0.002], "condim": 6}
"""How things that touch each other slide and roll: with friction of rolling (the third, which 6
contact dimensions have), or round things would not come to rest."""


def load_mujoco() -> ModuleType:
    """The ``mujoco`` module, set to render without a display.

    Where the environment variable MUJOCO_GL does not name a way, EGL is used, or OSMesa where
    there is no EGL. MuJoCo reads it once, when it is imported first.

    Raises:
        InputError: MuJoCo, or the library that it renders with, is not installed.
    """
    way = os.environ.setdefault("MUJOCO_GL", "egl" if find_library("EGL") else "osmesa")
    if way in ("egl", "osmesa"):
        os.environ.setdefault("PYOPENGL_PLATFORM", way)
    try:
        import mujoco
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the simulated cell needs MuJoCo and a way to render without a display "
            f"(MUJOCO_GL={way}): {error}; {WAY_OUT}"
        ) from error
    return mujoco


WAY_OUT = (
    "`make setup EXTRAS=sim` in a clone, else `pip install 'wildseg3d[sim]'`, and `apt-get "
    "install libegl1 libegl-mesa0` provide them; libosmesa6 with MUJOCO_GL=osmesa does without EGL"
)


class NothingAtRest(InputError):
    """In no draw of a seed did things come to rest where they should; another seed may do."""


@dataclass(frozen=True, eq=False)
class Cell:
    """Objects at rest on the table.

    Attributes:
        model, data: MuJoCo's MjModel and MjData.
        props: the objects; label k + 1 is ``props[k]``.
        placements: how each was put there.
        cameras: as they really stand.
        geom_label: (G,) label of each geom, 0 = support and background.
    """

    model: Any
    data: Any
    props: tuple[Prop, ...]
    placements: tuple[Placement, ...]
    cameras: tuple[Camera, ...]
    geom_label: NDArray[np.int32]

    def move_camera(self, name: str, world_from_cam: NDArray[np.float64]) -> None:
        """Puts a camera elsewhere: (4, 4), OpenCV axes."""
        mujoco = load_mujoco()
        camera = self.model.camera(name).id
        self.model.cam_pos[camera] = world_from_cam[:3, 3]
        rotation = world_from_cam[:3, :3] @ _OPENGL_FROM_OPENCV
        self.model.cam_quat[camera] = _quaternion(mujoco, rotation)
        mujoco.mj_forward(self.model, self.data)

    def move_object(self, name: str, world_from_object: NDArray[np.float64]) -> None:
        """Puts an object elsewhere: (4, 4); it stays there, at rest, until physics runs."""
        mujoco = load_mujoco()
        joint = self.data.joint(self.model.body(name).jntadr[0])
        quat = _quaternion(mujoco, world_from_object[:3, :3])
        joint.qpos[:] = [*world_from_object[:3, 3], *quat]
        joint.qvel[:] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def place_arm(self, poses: Mapping[str, NDArray[np.float64]]) -> None:
        """Puts the links of the arm at (4, 4) ``world_from_link``."""
        place_arm(load_mujoco(), self.model, self.data, poses)

    def settle(self, seconds: float = 1.0) -> None:
        """Lets physics run."""
        mujoco = load_mujoco()
        mujoco.mj_step(self.model, self.data, round(seconds / self.model.opt.timestep))
        self.data.qvel[:] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def world_from_object(self, index: int) -> NDArray[np.float64]:
        """(4, 4) pose of object ``index`` at rest."""
        body = self.data.body(self.props[index].name)
        return make_transform(body.xmat.reshape(3, 3), body.xpos)


def build_cell(
    objects: int,
    views: int,
    seed: int,
    attempts: int = 60,
    more_cameras: Sequence[Camera] = (),
    layout: int = 0,
    arm: Arm | None = None,
) -> Cell:
    """Draws objects and cameras, lets physics settle the objects, and keeps a draw that stands.

    Args:
        objects: how many, 1 to the size of the catalogue.
        views: how many cameras.
        seed: the same seed gives the same cell.
        attempts: draws before giving up.
        more_cameras: beside those in the ring.
        layout: another number, another arrangement of the same objects.
        arm: that stands in the cell; its links are under the floor until they are placed.

    Raises:
        InputError: numbers out of range.
        NothingAtRest: no draw of this seed came to rest on the table.
    """
    mujoco = load_mujoco()
    if not 1 <= objects <= len(CATALOGUE):
        raise InputError(f"objects must be 1 to {len(CATALOGUE)}, got {objects}")
    if not 2 <= views <= 64:
        raise InputError(f"views must be 2 to 64, got {views}")
    props = tuple(
        make(np.random.default_rng([seed, k])) for k, make in enumerate(CATALOGUE[:objects])
    )
    cameras = (*ring_cameras(views, np.random.default_rng([seed, 1000])), *more_cameras)
    scenery = _scenery(np.random.default_rng([seed, 2000]))
    rng = np.random.default_rng([seed, 3000, layout] if layout else [seed, 3000])
    for _ in range(attempts):
        if (placements := place(props, rng)) is None:
            continue
        model = _compile(mujoco, props, placements, cameras, scenery, arm)
        data = mujoco.MjData(model)
        if _settle(mujoco, model, data, props):
            labels = np.zeros(model.ngeom, dtype=np.int32)
            for k, prop in enumerate(props):
                labels[model.geom_bodyid == model.body(prop.name).id] = k + 1
            return Cell(model, data, props, tuple(placements), cameras, labels)
    raise NothingAtRest(
        f"no arrangement of {objects} objects came to rest on the table in {attempts} draws of "
        f"seed {seed}; try another seed or fewer objects"
    )


def _settle(mujoco, model, data, props: Sequence[Prop], limit: float = 6.0) -> bool:
    """Runs physics until nothing moves; False when something fell, or never came to rest."""
    while data.time < limit:
        mujoco.mj_step(model, data, 100)
        positions = np.array([data.body(prop.name).xpos for prop in props])
        if (positions[:, 2] < -0.05).any() or (np.abs(positions[:, :2]) > 0.33).any():
            return False
        # Rolling contacts creep below this for ever; a millimetre in ten seconds is rest.
        if data.time > 1.0 and np.abs(data.qvel).max() < 2e-3:
            mujoco.mj_forward(model, data)
            return True
    return False


def _scenery(rng: np.random.Generator) -> list[tuple[str, Part, NDArray[np.float64]]]:
    """What belongs to the background: (name, part, position)."""
    x, y, z = TABLE_SIZE
    top = _ground(-x / 2, -y / 2, x / 2, y / 2)
    apron = box((x, y, z - 0.0005))
    leg = box((0.06, 0.06, TABLE_HEIGHT - z))
    corners = [(sx * (x / 2 - 0.05), sy * (y / 2 - 0.05), 0.0) for sx in (-1, 1) for sy in (-1, 1)]
    legs = join([leg.moved(corner) for corner in corners])
    tiles = 1.6 * np.arange(-7, 8)
    floor = join(
        [_ground(x0, y0, x1, y1) for x0, x1 in pairwise(tiles) for y0, y1 in pairwise(tiles)]
    )
    metal = textures.plain(0x4A4D52, rng)
    return [
        ("table_top", Part(top, textures.wood(rng, 1400, 1900), 0.12), np.zeros(3)),
        ("table_apron", Part(apron, textures.plain(0x8A6A48, rng), 0.1), np.array([0, 0, -z])),
        ("table_legs", Part(legs, metal, 0.3), np.array([0, 0, -TABLE_HEIGHT])),
        ("floor", Part(floor, textures.concrete(rng), 0.05), np.array([0, 0, -TABLE_HEIGHT])),
    ]


def _ground(x0: float, y0: float, x1: float, y1: float) -> Mesh:
    """A rectangle at z = 0 that shows the whole of its texture."""
    return quad([(x0, y1, 0), (x0, y0, 0), (x1, y0, 0), (x1, y1, 0)])


def _compile(mujoco, props, placements, cameras, scenery, arm) -> Any:
    spec = _empty_world(mujoco)
    world = spec.worldbody
    for name, part, position in scenery:
        _add_part(mujoco, spec, world, name, part, position)
    for prop, placement in zip(props, placements, strict=True):
        pose = placement.world_from_object
        quat = _quaternion(mujoco, pose[:3, :3])
        body = world.add_body(name=prop.name, pos=pose[:3, 3], quat=quat)
        body.add_freejoint()
        for k, part in enumerate(prop.parts):
            _add_part(mujoco, spec, body, f"{prop.name}_{k}", part, np.zeros(3))
        for collider in prop.colliders:
            half = 0.5 * collider.yaw
            body.add_geom(
                type=getattr(mujoco.mjtGeom, f"mjGEOM_{collider.kind.upper()}"),
                size=[*collider.size, 0.0, 0.0][:3],
                pos=collider.position,
                quat=[np.cos(half), 0.0, 0.0, np.sin(half)],
                mass=prop.mass / len(prop.colliders),
                **_CONTACT,
            )
    for camera in cameras:
        world.add_camera(
            name=camera.name,
            pos=camera.world_from_cam[:3, 3],
            quat=_quaternion(mujoco, camera.world_from_cam[:3, :3] @ _OPENGL_FROM_OPENCV),
            fovy=float(np.degrees(camera.fovy)),
        )
    if arm is not None:
        add_arm(mujoco, spec, arm)
    return spec.compile()


def _empty_world(mujoco) -> Any:
    """MuJoCo's specification of a world with a light and the table as physics sees it."""
    spec = mujoco.MjSpec()
    spec.option.timestep = 0.002
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    spec.stat.extent = 1.0
    spec.stat.center = [0.0, 0.0, 0.0]
    spec.visual.map.znear = 0.1
    spec.visual.map.zfar = 20.0
    spec.visual.map.shadowclip = 1.0
    spec.visual.quality.shadowsize = 4096
    spec.visual.headlight.active = 0
    world = spec.worldbody
    world.add_light(
        name="light",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        castshadow=True,
        pos=[0, 0, 2],
        dir=[0, 0, -1],
    )
    x, y, _ = TABLE_SIZE
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[x / 2, y / 2, 0.05],
        pos=[0, 0, -0.05],
        **_CONTACT,
    )
    return spec


def _quaternion(mujoco, rotation: NDArray) -> NDArray[np.float64]:
    """(4,) w, x, y, z of a rotation (3, 3)."""
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    return quat


def _add_part(mujoco, spec, body, name: str, part: Part, position: NDArray) -> None:
    mesh = part.mesh
    spec.add_mesh(
        name=name,
        uservert=mesh.vertices.astype(np.float32).ravel(),
        usernormal=mesh.normals.astype(np.float32).ravel(),
        usertexcoord=mesh.uv.astype(np.float32).ravel(),
        userface=mesh.faces.astype(np.int32).ravel(),
        # The volume of an open surface is undefined; it carries no mass anyhow.
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
    spec.assets[f"{name}.png"] = cv2.imencode(".png", part.texture[..., ::-1])[1].tobytes()
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        file=f"{name}.png",
        colorspace=mujoco.mjtColorSpace.mjCOLORSPACE_SRGB,
    )
    material = spec.add_material(
        name=name, specular=part.gloss, shininess=0.2 + 0.5 * part.gloss, reflectance=0.0
    )
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    body.add_geom(
        name=f"{name}_visual",
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=name,
        material=name,
        contype=0,
        conaffinity=0,
        mass=0.0,
        pos=position,
    )
