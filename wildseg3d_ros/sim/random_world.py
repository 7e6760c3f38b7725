"""Random things as a MuJoCo model: compiled, dropped, settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.sim.arm import Arm
from wildseg3d_ros.sim.arm_model import add_arm
from wildseg3d_ros.sim.cell import COLLISION_GROUP, load_mujoco
from wildseg3d_ros.sim.random_body import Shape, Solid
from wildseg3d_ros.sim.random_meshes import slab_mesh
from wildseg3d_ros.sim.random_surroundings import Surroundings
from wildseg3d_ros.sim.shapes import Mesh

REMOVED_GROUP = 4
"""Of the geoms of things that fell off: neither seen nor labelled."""
_TIME_STEP, _CHUNK = 0.003, 12  # [s], and steps between two dampings
_FALL, _SETTLE = 0.45, 0.45
"""Seconds of free movement, and of damped movement after it."""
_CONTACT = {"group": COLLISION_GROUP, "friction": [0.7, 0.01, 0.001], "condim": 4}
_DENSITY = 300.0
"""[kg/m^3] of all things: hollow ones weigh less than they would full."""


@dataclass(frozen=True, eq=False)
class Thing:
    """A shape with the looks of its pieces.

    Attributes:
        shape: shared by twins.
        textures: one of each piece.
        gloss: 0 to 1.
        pose: (4, 4) where it starts.
        assets: name of its meshes and textures, the same for twins.
    """

    shape: Shape
    textures: tuple[NDArray[np.uint8], ...]
    gloss: float
    pose: NDArray[np.float64]
    assets: str


@dataclass(frozen=True, eq=False)
class World:
    """Things that have come to rest.

    Attributes:
        model, data: MuJoCo's.
        kept: indices of the things that stayed on the support.
        poses: (4, 4) of each of them.
        geom_label: (G,) k + 1 for ``kept[k]``, 0 for all else.
    """

    model: Any
    data: Any
    kept: tuple[int, ...]
    poses: tuple[NDArray[np.float64], ...]
    geom_label: NDArray[np.int32]


def settle_world(
    things: Sequence[Thing],
    around: Surroundings,
    ground: Sequence[NDArray[np.uint8]],
    arm: Arm | None = None,
) -> World:
    """Compiles the model, lets the things fall for a second, and takes away what fell off.

    Args:
        things: what is moved by physics.
        around: what stands still.
        ground: textures of the slabs.
        arm: that stands in the world; its links are under the floor until they are placed.
    """
    mujoco = load_mujoco()
    model = _compile(mujoco, things, around, ground, arm)
    data = mujoco.MjData(model)
    for _ in range(round(_FALL / _TIME_STEP / _CHUNK)):
        mujoco.mj_step(model, data, _CHUNK)
    for _ in range(round(_SETTLE / _TIME_STEP / _CHUNK)):
        mujoco.mj_step(model, data, _CHUNK)
        # What rolls would roll for ever, and need not be at rest by itself.
        data.qvel[:] *= 0.7
    mujoco.mj_forward(model, data)
    half = np.array(around.region.half)
    labels = np.zeros(model.ngeom, dtype=np.int32)
    kept, poses = [], []
    for k in range(len(things)):
        body = model.body(f"thing_{k}").id
        place = data.xpos[body]
        if place[2] > -0.02 and (np.abs(place[:2]) < half + 0.12).all():
            kept.append(k)
            poses.append(make_transform(data.xmat[body].reshape(3, 3), place))
            labels[model.geom_bodyid == body] = len(kept)
        else:
            model.geom_group[model.geom_bodyid == body] = REMOVED_GROUP
    return World(model, data, tuple(kept), tuple(poses), labels)


def _compile(mujoco, things, around, ground, arm) -> Any:
    spec = mujoco.MjSpec()
    _set_options(mujoco, spec)
    for k, texture in enumerate(ground):
        _add_material(mujoco, spec, f"ground_{k}", texture, 0.1)
    for k, slab in enumerate(around.slabs):
        _add_slab(mujoco, spec, f"slab_{k}", slab)
    known: set[str] = set()
    for k, thing in enumerate(things):
        if thing.assets not in known:
            _add_assets(mujoco, spec, thing)
            known.add(thing.assets)
        _add_thing(mujoco, spec, f"thing_{k}", thing)
    if arm is not None:
        add_arm(mujoco, spec, arm)
    return spec.compile()


def _set_options(mujoco, spec) -> None:
    spec.option.timestep = _TIME_STEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.iterations, spec.option.ls_iterations = 15, 8
    spec.stat.extent, spec.stat.center = 1.0, [0.0, 0.0, 0.0]
    spec.visual.map.znear, spec.visual.map.zfar = 0.04, 12.0
    spec.visual.map.shadowclip = 0.7
    spec.visual.quality.shadowsize = 768
    spec.visual.quality.offsamples = 0
    spec.visual.headlight.active = 0
    # The first casts shadows; the second fills them.
    for name, shadow in (("lamp", True), ("sky", False)):
        spec.worldbody.add_light(
            name=name,
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            castshadow=shadow,
            dir=[0, 0, -1],
        )


def _quaternion(mujoco, rotation: NDArray) -> NDArray[np.float64]:
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(rotation).ravel())
    return quat


def _add_material(mujoco, spec, name: str, texture: NDArray[np.uint8], gloss: float) -> None:
    height, width = texture.shape[:2]
    image = spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        colorspace=mujoco.mjtColorSpace.mjCOLORSPACE_SRGB,
        width=width,
        height=height,
        nchannel=3,
    )
    image.data = texture.tobytes()
    material = spec.add_material(name=name, specular=gloss, shininess=0.1 + 0.7 * gloss)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _add_mesh(mujoco, spec, name: str, mesh: Mesh) -> None:
    spec.add_mesh(
        name=name,
        uservert=mesh.vertices.astype(np.float32).ravel(),
        usernormal=mesh.normals.astype(np.float32).ravel(),
        usertexcoord=mesh.uv.astype(np.float32).ravel(),
        userface=mesh.faces.astype(np.int32).ravel(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )


def _add_visual(mujoco, body, mesh: str, material: str, **place) -> None:
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=mesh,
        material=material,
        contype=0,
        conaffinity=0,
        mass=0.0,
        **place,
    )


def _add_slab(mujoco, spec, name: str, slab) -> None:
    place = {"pos": slab.pose[:3, 3], "quat": _quaternion(mujoco, slab.pose[:3, :3])}
    _add_mesh(mujoco, spec, name, slab_mesh(slab.size, slab.tile))
    _add_visual(mujoco, spec.worldbody, name, f"ground_{slab.texture}", **place)
    half = np.array(slab.size) / 2
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=half, **place, **_CONTACT)


def _add_assets(mujoco, spec, thing: Thing) -> None:
    for k, (piece, texture) in enumerate(zip(thing.shape.pieces, thing.textures, strict=True)):
        _add_mesh(mujoco, spec, f"{thing.assets}_{k}", piece.mesh)
        _add_material(mujoco, spec, f"{thing.assets}_{k}", texture, thing.gloss)
    for k, solid in enumerate(thing.shape.solids):
        if solid.points is not None:
            spec.add_mesh(
                name=f"{thing.assets}_hull_{k}", uservert=solid.points.astype(np.float32).ravel()
            )


def _add_thing(mujoco, spec, name: str, thing: Thing) -> None:
    quat = _quaternion(mujoco, thing.pose[:3, :3])
    body = spec.worldbody.add_body(name=name, pos=thing.pose[:3, 3], quat=quat)
    body.add_freejoint()
    for k in range(len(thing.shape.pieces)):
        asset = f"{thing.assets}_{k}"
        _add_visual(mujoco, body, asset, asset)
    for k, solid in enumerate(thing.shape.solids):
        _add_solid(mujoco, body, solid, f"{thing.assets}_hull_{k}")


def _add_solid(mujoco, body, solid: Solid, hull: str) -> None:
    place = {"pos": solid.pose[:3, 3], "quat": _quaternion(mujoco, solid.pose[:3, :3])}
    if solid.kind == "hull":
        form = {"type": mujoco.mjtGeom.mjGEOM_MESH, "meshname": hull}
    else:
        kind = getattr(mujoco.mjtGeom, f"mjGEOM_{solid.kind.upper()}")
        form = {"type": kind, "size": [*solid.size, 0.0, 0.0][:3]}
    body.add_geom(density=_DENSITY, **form, **place, **_CONTACT)
