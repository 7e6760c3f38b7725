"""A robot's description in URDF: the solids of its links.

Joints are not read: TF gives the links' poses. Of a link, the collision geometry counts, and where
it has none, the visual one. Format: https://docs.ros.org/en/rolling/p/urdfdom/ and the ROS wiki's
"urdf/XML/link".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.robot.meshes import mesh_solid
from wildseg3d_ros.robot.solids import LinkSolid

_LARGEST = 16 << 20
"""Characters of a description."""
_DEEPEST = 50
"""Elements within each other."""


def read_links(text: str, warn: Callable[[str], object]) -> tuple[LinkSolid, ...]:
    """The solids of all links.

    Args:
        text: the URDF.
        warn: told of links, or meshes of links, that cannot be used.

    Raises:
        ConfigError: no URDF, or numbers in it that are none; says in one line what and where.
    """
    root = _parse(text)
    if root.tag != "robot":
        raise ConfigError(f"the robot's description is no URDF: it is a <{root.tag}>, no <robot>")
    solids: list[LinkSolid] = []
    for link in root.iterfind("link"):
        name = link.get("name", "")
        if not name:
            raise ConfigError("the robot's description has a <link> without a name")
        parts = link.findall("collision") or link.findall("visual")
        for part in parts:
            solid = _solid(name, part)
            if isinstance(solid, str):
                warn(f"link '{name}' of the robot has a part that is not known: {solid}")
            else:
                solids.append(solid)
    if not solids:
        raise ConfigError("the robot's description has no link with a geometry")
    return tuple(solids)


def _parse(text: str) -> Element:
    """The root of a document without a document type, so that no entity can grow."""
    if len(text) > _LARGEST:
        raise ConfigError(
            f"the robot's description has {len(text)} characters, and at most {_LARGEST} are read"
        )
    builder, depth = TreeBuilder(), 0
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise ConfigError("the robot's description declares a document type; a URDF has none")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise ConfigError(
                f"the robot's description has elements more than {_DEEPEST} deep in each other"
            )
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        # Bytes, as a text may name another encoding than it has.
        parser.Parse(text.encode(errors="replace"), True)
        return builder.close()
    except (expat.ExpatError, AssertionError, ValueError, LookupError) as error:
        raise ConfigError(f"the robot's description is no readable XML: {error}") from error


def _solid(link: str, part: Element) -> LinkSolid | str:
    """The solid of a <collision> or <visual>, or why there is none."""
    where = f"<{part.tag}> of link '{link}'"
    origin, shape = part.find("origin"), part.find("geometry/*")
    pose = np.eye(4)
    if origin is not None:
        xyz = _numbers(origin, "xyz", 3, where, "0 0 0")
        rpy = _numbers(origin, "rpy", 3, where, "0 0 0")
        pose = make_transform(rotation_from_rpy(rpy), xyz)
    if shape is None:
        return f"its <{part.tag}> has no geometry"
    if shape.tag == "mesh":
        scale = _numbers(shape, "scale", 3, where, "1 1 1")
        return mesh_solid(link, pose, shape.get("filename", ""), scale)
    half: NDArray[np.float64]
    if shape.tag == "box":
        kind: Literal["box", "cylinder", "sphere"] = "box"
        half = _numbers(shape, "size", 3, where) / 2
    elif shape.tag in ("cylinder", "capsule"):
        kind = "cylinder"
        radius, length = (_numbers(shape, each, 1, where)[0] for each in ("radius", "length"))
        if shape.tag == "capsule":
            length += 2 * radius  # of its ends
        half = np.array([radius, radius, length / 2])
    elif shape.tag == "sphere":
        kind = "sphere"
        half = np.full(3, _numbers(shape, "radius", 1, where)[0])
    else:
        return f"its geometry <{shape.tag}> is not known (box, cylinder, capsule, sphere, mesh)"
    if not (half > 0).all():
        raise ConfigError(f"{where}: its {shape.tag} has a size that is not above 0")
    return LinkSolid(link, kind, pose, half)


def rotation_from_rpy(rpy: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation by roll, pitch and yaw [rad] about the fixed axes x, y and z."""
    (sr, sp, sy), (cr, cp, cy) = np.sin(rpy), np.cos(rpy)
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _numbers(
    element: Element, name: str, count: int, where: str, default: str | None = None
) -> NDArray[np.float64]:
    """(count,) finite numbers of an attribute."""
    text = element.get(name, default)
    try:
        values = [float(word) for word in (text or "").split()]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all() or max(map(abs, values)) > 1e6:
        raise ConfigError(
            f"{where}: '{name}' of <{element.tag}> is to hold {count} number(s) of at most 1e6; "
            f"got {(text or '')[:60]!r}"
        )
    return np.array(values)
