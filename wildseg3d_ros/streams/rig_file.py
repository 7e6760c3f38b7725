"""A rig's parameter file, as the node reads it, read without ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.files.text import read_yaml
from wildseg3d_ros.core.settings import from_mapping, nested
from wildseg3d_ros.streams.config import CameraConfig, NodeConfig

PARAMETERS = "ros__parameters"
_NODES = ("wildseg3d", "scene_node")
"""Names under which a file may have the scene node's settings, beside wildcards."""
_OF_ROS = ("use_sim_time", "qos_overrides", "cameras")


@dataclass(frozen=True)
class RigFile:
    """What a parameter file says.

    Attributes:
        node: of the node itself.
        cameras: where each camera publishes, by its name.
        scene: settings of the stages, not yet checked.
    """

    node: NodeConfig = field(default_factory=NodeConfig)
    cameras: Mapping[str, CameraConfig] = field(default_factory=dict)
    scene: Mapping[str, Any] = field(default_factory=dict)


def read_rig(path: Path) -> RigFile:
    """Reads a file.

    Raises:
        FileError: it cannot be read. ConfigError: no parameter file, or settings that do not fit.
    """
    rig = rig_from(read_yaml(path, "parameter file"))
    if rig is None:
        raise ConfigError(
            f"'{path}' is no parameter file: no node in it has '{PARAMETERS}' (config/ has some)"
        )
    return rig


def rig_from(values: Any) -> RigFile | None:
    """What the values of a YAML file say; None where they are no parameter file.

    Raises:
        ConfigError: settings that do not fit.
    """
    given = _parameters(values)
    if given is None:
        return None
    own = {each.name for each in fields(NodeConfig)}
    node = from_mapping(NodeConfig(), {k: v for k, v in given.items() if k in own})
    names = given.get("cameras", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"'cameras' must list the names of the cameras; got {names!r}")
    cameras = {}
    for name in names:
        told = given.get(name) or {}
        if not isinstance(told, Mapping):
            raise ConfigError(f"'{name}' is a camera, and holds its settings; got {told!r}")
        cameras[name] = from_mapping(CameraConfig.of(name, node), told, f"{name}.")
    rest = {k: v for k, v in given.items() if k not in {*own, *names, *_OF_ROS}}
    return RigFile(node, cameras, rest)


def _parameters(values: Any) -> dict[str, Any] | None:
    """All parameters of the scene node, as groups; None for another file."""
    found: dict[str, Any] | None = None
    if not isinstance(values, Mapping):
        return None
    for node, section in values.items():
        given = section.get(PARAMETERS) if isinstance(section, Mapping) else None
        if not isinstance(given, Mapping):
            continue
        last = str(node).rstrip("/").rpartition("/")[2]
        if last in ("*", "**", *_NODES):
            found = (found or {}) | nested({str(k): v for k, v in given.items()})
    return found
