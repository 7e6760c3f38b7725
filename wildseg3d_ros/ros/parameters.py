"""ROS parameters, declared by walking the configuration dataclasses: the one list of defaults."""

from __future__ import annotations

import re
import textwrap
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    InvalidTopicNameException,
    ParameterAlreadyDeclaredException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_topic_name import validate_topic_name

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.files.reading import shown
from wildseg3d_ros.core.settings import (
    Setting,
    check_setting,
    from_mapping,
    nearest,
    nested,
    walk,
)
from wildseg3d_ros.streams.config import CameraConfig, NodeConfig

_Config = TypeVar("_Config")


LIVE = (
    "world_frame",
    "target_frame",
    "max_image_age",
    "image_timeout",
    "tf_timeout",
    "allow_missing_poses",
    "max_captured_views",
    "auto_capture",
    "join_captured_views",
    "scene_cloud_voxel",
    "change_seconds",
    "change_share",
    "rebuild_when_stale",
    "robot.padding",
)
"""Parameters of :class:`NodeConfig` that may change while the node runs: at the next use."""


def parameters_help() -> str:
    """What ``scene_node --help`` prints: how it is started, and its parameters."""
    lines = [
        "Builds scenes from live cameras on request, and answers with object clouds.",
        "",
        "usage: scene_node --ros-args --params-file my_rig.yaml",
        "       scene_node --ros-args -p \"cameras:=['left', 'right']\" -p world_frame:=base_link",
        "",
        "cameras: names of the cameras; they are the least that has to be given",
    ]
    for title, config, prefix in (
        ("the node's own", NodeConfig(), ""),
        ("of each camera", CameraConfig(), "<camera>."),
        ("of the stages", SceneConfig(), ""),
    ):
        lines += ["", f"parameters {title}:"]
        for each in walk(config, prefix):
            lines.append(f"  {each.name} ({each.value!r})")
            lines += textwrap.wrap(each.spec.metadata["text"], 76, **_INDENT)
    return "\n".join(lines)


_INDENT: dict[str, Any] = {"initial_indent": 6 * " ", "subsequent_indent": 6 * " "}


class Parameters:
    """Declares all parameters of the scene node and reads them back as validated dataclasses.

    Raises:
        ConfigError: a value that does not fit, or cameras that make no sense.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._settings: dict[str, Setting] = {}
        self._given = set(getattr(node, "_parameter_overrides", {}))
        self.camera_names = self._declare_names()
        self._declare(NodeConfig(), "", lambda name: name in LIVE)
        # The build process takes other settings at its next build.
        self._declare(SceneConfig(), "", lambda _: True)
        for name in self.camera_names:
            self._declare(CameraConfig.of(name, self.node()), f"{name}.", lambda _: False)
            self._check_topics(name)
        self._warn_of_unknown()
        node.add_on_set_parameters_callback(self._validate)

    def node(self) -> NodeConfig:
        """Settings of the node as they are now."""
        return self._read(NodeConfig())

    def scene(self) -> SceneConfig:
        """Settings of the pipeline as they are now."""
        return self._read(SceneConfig())

    def is_given(self, name: str) -> bool:
        """Whether somebody gave a parameter its value, at the start or since."""
        return name in self._given

    def camera(self, name: str) -> CameraConfig:
        """Topics of a camera."""
        return self._read(CameraConfig(), f"{name}.")

    def _declare_names(self) -> tuple[str, ...]:
        text = "names of the cameras; each has parameters <name>.image_topic and so on"
        # An empty list has no type in ROS, so the type is checked here.
        value = self._node.declare_parameter(
            "cameras",
            [],
            ParameterDescriptor(description=text, read_only=True, dynamic_typing=True),
        ).value
        names = tuple(value) if isinstance(value, (list, tuple)) else ()
        if not names or not all(isinstance(name, str) for name in names):
            raise ConfigError(
                "parameter 'cameras' must list the names of the cameras, for example "
                f"-p cameras:=\"['left', 'right']\"; got {value!r}"
            )
        bad = [name for name in names if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)]
        if bad:
            raise ConfigError(
                f"camera names are parts of topic names (a letter, then letters, digits and _); "
                f"got {', '.join(map(repr, bad))} in 'cameras'"
            )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"two cameras are named {', '.join(map(repr, twice))} in 'cameras'; each camera "
                "needs its own name"
            )
        return names

    def _check_topics(self, name: str) -> None:
        camera = self.camera(name)
        for field in ("image_topic", "camera_info_topic", "depth_topic"):
            topic = getattr(camera, field)
            if field == "depth_topic" and not topic:
                continue
            try:
                validate_topic_name(topic)
            except (InvalidTopicNameException, ValueError) as error:
                raise ConfigError(
                    f"parameter '{name}.{field}' is to name a topic, got '{topic}': {error}"
                ) from error

    def _declare(self, defaults: Any, prefix: str, is_live: Callable[[str], bool]) -> None:
        for each in walk(defaults, prefix):
            descriptor = _descriptor(each, read_only=not is_live(each.name))
            try:
                value = self._node.declare_parameter(each.name, each.value, descriptor).value
            except (InvalidParameterTypeException, InvalidParameterValueException) as error:
                raise ConfigError(f"parameter '{each.name}': {shown(error)}") from error
            except ParameterAlreadyDeclaredException as error:
                raise ConfigError(
                    f"a camera cannot be named '{prefix.rstrip('.')}': parameter '{each.name}' "
                    "exists"
                ) from error
            check_setting(*each._replace(value=value))
            self._settings[each.name] = each

    def _read(
        self, defaults: _Config, prefix: str = "", changed: Mapping[str, Any] | None = None
    ) -> _Config:
        """The settings as they are, or would be with some changed, by parameter name."""
        names = [each.name for each in walk(defaults, prefix)]
        values = {name: self._node.get_parameter(name).value for name in names}
        values |= {name: value for name, value in (changed or {}).items() if name in values}
        values = {name.removeprefix(prefix): value for name, value in values.items()}
        return from_mapping(defaults, nested(values), prefix)

    def _validate(self, parameters: list[Parameter]) -> SetParametersResult:
        changed = {p.name: p.value for p in parameters if p.name in self._settings}
        try:
            for name, value in changed.items():
                check_setting(*self._settings[name]._replace(value=value))
            # What fits alone may not fit together.
            self._read(SceneConfig(), changed=changed)
            self._read(NodeConfig(), changed=changed)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._given.update(changed)
        return SetParametersResult(successful=True)

    def _warn_of_unknown(self) -> None:
        """ROS ignores values of parameters that nobody declares; a misspelt one is said here."""
        for name in self._given:
            if self._node.has_parameter(name) or name.startswith("qos_overrides."):
                continue
            near = nearest(name, self._settings)
            self._node.get_logger().warning(f"unknown parameter '{name}' is ignored{near}")


def _descriptor(setting: Setting, read_only: bool) -> ParameterDescriptor:
    hint, given = setting.hint, setting.spec.metadata
    low, high = given.get("low"), given.get("high")
    descriptor = ParameterDescriptor(
        description=given["text"],
        read_only=read_only,
        # So that 0 may be written for 0.0; the type is checked with the range.
        dynamic_typing=hint is float,
    )
    if typing.get_origin(hint) is Literal:
        descriptor.additional_constraints = f"one of {', '.join(typing.get_args(hint))}"
    elif low is not None and high is not None:
        if hint is int:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        elif hint is float:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(low), to_value=float(high))
            ]
    return descriptor
