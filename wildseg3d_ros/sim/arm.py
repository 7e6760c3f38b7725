"""A simple arm of six joints: where its links are, how it reaches a pose, and its URDF.

Links are boxes, cylinders and spheres, the same in the cell and in the URDF. In the zero posture
the arm points straight up; its frames then have the axes of the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildseg3d_ros.core.geometry.transforms import (
    invert,
    make_transform,
    rotation_angle,
    rotation_from_vector,
    vector_from_rotation,
)

CAMERA_FRAME = "wrist_color_optical_frame"
"""The link that is the wrist camera's optical frame."""
_CLOSE = 1e-4
"""Of a solution [m, rad]."""
_LONGEST_STEP = 0.3
"""Of an iteration [rad]."""


@dataclass(frozen=True)
class LinkShape:
    """What a link looks like.

    Attributes:
        kind: "box" (edges), "cylinder" (radius, length along z) or "sphere" (radius).
        size: [m].
        at: (3,) its centre in the link's frame.
        color: red, green, blue in [0, 1].
        lies_along: axis that a cylinder's own z axis is turned to: "z", or "y".
    """

    kind: Literal["box", "cylinder", "sphere"]
    size: tuple[float, ...]
    at: tuple[float, float, float]
    color: tuple[float, float, float]
    lies_along: Literal["z", "y"] = "z"

    @property
    def link_from_shape(self) -> NDArray[np.float64]:
        """(4, 4) pose in the link's frame."""
        turn = [-np.pi / 2, 0, 0] if self.lies_along == "y" else [0, 0, 0]
        return make_transform(rotation_from_vector(turn), self.at)


@dataclass(frozen=True)
class Link:
    """A link and the joint that carries it.

    Attributes:
        name: of the link; its joint is called so, too, with ``_joint`` behind.
        at: (3,) of the joint in the frame of the link before.
        axis: "y" or "z" that it turns about; "" where it is fixed.
        limit: largest angle to either side [rad].
        shapes: what is seen.
    """

    name: str
    at: tuple[float, float, float]
    axis: Literal["", "y", "z"]
    limit: float
    shapes: tuple[LinkShape, ...]


_GREY, _DARK, _ORANGE = (0.62, 0.64, 0.66), (0.16, 0.17, 0.19), (0.85, 0.42, 0.10)
LINKS = (
    Link(
        "base_link", (0, 0, 0), "", 0.0,
        (LinkShape("cylinder", (0.08, 0.14), (0, 0, 0.07), _DARK),),
    ),
    Link(
        "shoulder_link", (0, 0, 0.14), "z", 3.14,
        (LinkShape("cylinder", (0.07, 0.14), (0, 0, 0.07), _GREY),
         LinkShape("cylinder", (0.06, 0.18), (0, 0, 0.10), _ORANGE, "y")),
    ),
    Link(
        "upper_arm_link", (0, 0, 0.10), "y", 2.4,
        (LinkShape("cylinder", (0.050, 0.65), (0, 0, 0.325), _GREY),),
    ),
    Link(
        "forearm_link", (0, 0, 0.65), "y", 2.7,
        (LinkShape("cylinder", (0.055, 0.14), (0, 0, 0), _ORANGE, "y"),
         LinkShape("cylinder", (0.040, 0.30), (0, 0, 0.15), _GREY)),
    ),
    Link(
        "wrist_1_link", (0, 0, 0.30), "z", 3.14,
        (LinkShape("cylinder", (0.036, 0.30), (0, 0, 0.15), _DARK),),
    ),
    Link(
        "wrist_2_link", (0, 0, 0.30), "y", 2.2,
        (LinkShape("sphere", (0.042,), (0, 0, 0), _ORANGE),
         LinkShape("cylinder", (0.030, 0.08), (0, 0, 0.04), _GREY)),
    ),
    Link(
        "wrist_3_link", (0, 0, 0.08), "z", 3.14,
        (LinkShape("cylinder", (0.034, 0.05), (0, 0, 0.025), _DARK),),
    ),
    Link("tool0", (0, 0, 0.05), "", 0.0, ()),
)  # fmt: skip
"""From the base to the tool."""
CAMERA_AT = (0.0, -0.06, 0.03)
"""Of the camera in the tool's frame, whose axes are those of its optical frame [m]."""
_CAMERA = (
    # Behind the lens, or its padded solid would hold the camera's centre.
    LinkShape("box", (0.09, 0.025, 0.025), (0, 0, -0.04), _DARK),
)


@dataclass(frozen=True, eq=False)
class Arm:
    """An arm at a place.

    Attributes:
        world_from_base: (4, 4).
        has_camera: whether a camera sits on its wrist.
    """

    world_from_base: NDArray[np.float64]
    has_camera: bool = False

    @property
    def links(self) -> tuple[Link, ...]:
        """From the base outwards."""
        camera = Link(CAMERA_FRAME, CAMERA_AT, "", 0.0, _CAMERA)
        return (*LINKS, camera) if self.has_camera else LINKS

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the joints that turn."""
        return tuple(f"{link.name}_joint" for link in LINKS if link.axis)

    def steps(self, angles: ArrayLike) -> list[tuple[str, str, NDArray[np.float64]]]:
        """(parent, link, (4, 4) parent_from_link) of all links but the base."""
        left = np.asarray(angles, np.float64).tolist()
        found = []
        links = self.links
        for parent, link in pairwise(links):
            turn = _axis(link) * left.pop(0) if link.axis else np.zeros(3)
            pose = make_transform(rotation_from_vector(turn), link.at)
            found.append((parent.name, link.name, pose))
        return found

    def poses(self, angles: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """(4, 4) ``world_from_link`` of all links, at these six angles [rad]."""
        found = {LINKS[0].name: self.world_from_base}
        for parent, name, pose in self.steps(angles):
            found[name] = found[parent] @ pose
        return found

    def reach(self, world_from_tool: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """(6,) angles that put the tool at a pose, the elbow high; None where it is out of reach
        or a link would touch the table.

        Damped least squares (Wampler 1986) from several postures.
        """
        target = invert(self.world_from_base) @ world_from_tool
        pan = float(np.arctan2(target[1, 3], target[0, 3]))
        found = []
        for turn in (0.0, np.pi):
            for lift, elbow, bend in ((0.3, 1.2, 1.2), (-0.3, 2.0, 1.0), (0.8, 0.5, 1.5)):
                sign = 1.0 if turn == 0.0 else -1.0
                start = np.array([pan + turn, sign * lift, sign * elbow, 0.0, sign * bend, 0.0])
                angles = self._descend(world_from_tool, start)
                if angles is not None:
                    found.append(angles)
        clear = [(self._height(angles), k) for k, angles in enumerate(found)]
        best = max(clear, default=(0.0, -1))
        return found[best[1]] if best[0] > 0.12 else None

    def _descend(self, target: NDArray, start: NDArray) -> NDArray[np.float64] | None:
        angles = start.copy()
        limits = np.array([link.limit for link in LINKS if link.axis])
        for _ in range(60):
            poses = self.poses(angles)
            tool = poses["tool0"]
            turn = target[:3, :3] @ tool[:3, :3].T
            off = np.concatenate([target[:3, 3] - tool[:3, 3], vector_from_rotation(turn)])
            # The vector of a half turn is none; its angle is known.
            if np.abs(off[:3]).max() < _CLOSE and rotation_angle(turn) < _CLOSE:
                angles = (angles + np.pi) % (2 * np.pi) - np.pi
                return angles if (np.abs(angles) <= limits + 0.01).all() else None
            columns = []
            for link in (link for link in LINKS if link.axis):
                axis = poses[link.name][:3, :3] @ _axis(link)
                columns.append([*np.cross(axis, tool[:3, 3] - poses[link.name][:3, 3]), *axis])
            jacobian = np.array(columns).T
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), off)
            angles += step * min(1.0, _LONGEST_STEP / max(float(np.abs(step).max()), 1e-9))
        return None

    def _height(self, angles: NDArray) -> float:
        """Of the lowest joint from the elbow on [m]."""
        poses = self.poses(angles)
        names = ("forearm_link", "wrist_1_link", "wrist_2_link", "tool0")
        return min(float(poses[name][2, 3]) for name in names)

    def urdf(self) -> str:
        """The arm's description, the base its root."""
        robot = Element("robot", name="arm")
        for link in self.links:
            element = SubElement(robot, "link", name=link.name)
            for part in ("visual", "collision"):
                for shape in link.shapes:
                    _add_shape(SubElement(element, part), shape)
        for parent, link in pairwise(self.links):
            kind = "revolute" if link.axis else "fixed"
            joint = SubElement(robot, "joint", name=f"{link.name}_joint", type=kind)
            SubElement(joint, "parent", link=parent.name)
            SubElement(joint, "child", link=link.name)
            SubElement(joint, "origin", xyz=_text(link.at), rpy="0 0 0")
            if link.axis:
                SubElement(joint, "axis", xyz=_text(_axis(link)))
                most = f"{link.limit:g}"
                SubElement(
                    joint, "limit", lower=f"-{most}", upper=most, effort="100", velocity="2"
                )
        indent(robot)
        return tostring(robot, encoding="unicode")


def _axis(link: Link) -> NDArray[np.float64]:
    return np.array([0.0, 1.0, 0.0] if link.axis == "y" else [0.0, 0.0, 1.0])


def _add_shape(element: Element, shape: LinkShape) -> None:
    turn = "-1.5707963267948966 0 0" if shape.lies_along == "y" else "0 0 0"
    SubElement(element, "origin", xyz=_text(shape.at), rpy=turn)
    geometry = SubElement(element, "geometry")
    sizes: Mapping[str, Mapping[str, str]] = {
        "box": {"size": _text(shape.size)},
        "cylinder": {"radius": f"{shape.size[0]:g}", "length": f"{shape.size[-1]:g}"},
        "sphere": {"radius": f"{shape.size[0]:g}"},
    }
    SubElement(geometry, shape.kind, dict(sizes[shape.kind]))
    if element.tag == "visual":
        name = "rgb_" + "_".join(f"{100 * value:.0f}" for value in shape.color)
        material = SubElement(element, "material", name=name)
        SubElement(material, "color", rgba=_text((*shape.color, 1.0)))


def _text(values: Sequence[float] | NDArray) -> str:
    return " ".join(f"{float(value):g}" for value in values)
