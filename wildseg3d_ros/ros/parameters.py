"""ROS parameters, declared by walking the configuration dataclasses: the one list of defaults."""

from __future__ import annotations

import re
import textwrap
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from wildseg3d_ros.core.settings import (
    Setting,
    check_setting,
    from_mapping,
    nearest,
    nested,
    setting,
    walk,
)

_Config = TypeVar("_Config")


@dataclass(frozen=True)
class NodeConfig:
    """What the node itself needs to know, beside the pipeline."""

    autostart: bool = setting(
        True, "configure and activate at the start; false: a lifecycle manager does"
    )
    world_frame: str = setting("world", "TF frame in which scenes are built")
    target_frame: str = setting(
        "", "TF frame of replies to requests that name none; empty = the scene's own"
    )
    image_transport: Literal["raw", "compressed"] = setting(
        "raw",
        "raw: sensor_msgs/Image; compressed: CompressedImage on <image_topic>/compressed; for "
        "cameras that do not say their own",
    )
    reliability: Literal["auto", "best_effort", "reliable"] = setting(
        "auto",
        "reliability asked of the camera topics, for cameras that do not say their own; auto: "
        "reliable where all publishers are; best_effort fits any publisher",
    )
    sync_slop: float = setting(
        0.02, "maximum difference of the stamps of an image and its depth [s]", 0.0, 10.0
    )
    camera_slop: float = setting(
        0.0,
        "maximum difference of the stamps of the cameras' images in one scene [s]; 0 takes the "
        "newest image of each",
        0.0,
        60.0,
    )
    max_image_age: float = setting(
        10.0, "images that arrived longer ago than this are not used [s]; 0 = any age", 0.0, 1e6
    )
    image_timeout: float = setting(
        5.0, "how long a build waits for images of all cameras [s]", 0.0, 600.0
    )
    tf_timeout: float = setting(
        2.0, "how long a build waits for the cameras' poses in TF [s]", 0.0, 600.0
    )
    allow_missing_poses: bool = setting(
        False,
        "build where TF fails to give poses in world_frame; without any, in the frame of the "
        "first camera. false: such a build fails with MISSING_TF",
    )
    scene_folder: str = setting(
        "~/.ros/wildseg3d",
        "folder in which save_scene, load_scene and save_poses read and write; nothing outside of "
        "it can be named by clients",
    )
    max_captured_views: int = setting(
        32, "how many captured views are kept; some 2 MB each for 640x480 with depth", 1, 1000
    )
    scene_cloud_voxel: float = setting(
        0.005,
        "voxel edge of the published cloud of the whole scene [m]; 0 = every point",
        0.0,
        1.0,
    )
    monitor_period: float = setting(
        1.0,
        "how often the cameras are compared with the scene's images [s]; 0 = never",
        0.0,
        60.0,
    )
    change_seconds: float = setting(
        5.0,
        "how long a part of an image has to look different, and the same, to count as changed [s]",
        0.0,
        600.0,
    )
    change_share: float = setting(
        0.005, "share of a camera's image that has to change for the scene to be stale", 1e-4, 1.0
    )
    rebuild_when_stale: bool = setting(
        False,
        "renew a stale scene without being asked: the views that changed, or all where most did",
    )

    def __post_init__(self) -> None:
        for name, form, more in (("world_frame", "+", ""), ("target_frame", "*", ", or nothing")):
            frame = getattr(self, name)
            if not re.fullmatch(rf"[\w/.:~-]{form}", frame):
                raise ConfigError(
                    f"'{name}' is to name a TF frame: letters, digits and any of _ / . : ~ -"
                    f"{more}; got {frame!r}"
                )


LIVE = (
    "world_frame",
    "target_frame",
    "max_image_age",
    "image_timeout",
    "tf_timeout",
    "allow_missing_poses",
    "max_captured_views",
    "scene_cloud_voxel",
    "change_seconds",
    "change_share",
    "rebuild_when_stale",
)
"""Parameters of :class:`NodeConfig` that may change while the node runs: at the next use."""


@dataclass(frozen=True)
class CameraConfig:
    """Where one camera publishes."""

    image_topic: str = setting("{name}/color/image_raw", "colour images")
    camera_info_topic: str = setting("{name}/color/camera_info", "calibration of the images")
    depth_topic: str = setting(
        "{name}/aligned_depth_to_color/image_raw",
        "depth registered to the colour images, 16UC1 [mm] or 32FC1 [m]; empty = no depth",
    )
    depth_scale: float = setting(
        0.0,
        "metres per unit of depth, for drivers of other units, such as 0.00025 for an L515; 0 = "
        "0.001 for 16UC1 and 1 for 32FC1",
        0.0,
        1.0,
    )
    unnamed_order: Literal["bgr", "rgb"] = setting(
        "bgr", "order of the channels in images of encoding 8UC3 or 8UC4, which does not say it"
    )
    rectified: bool = setting(
        False, "the images are rectified already: P of camera_info holds and D does not apply"
    )
    image_transport: Literal["raw", "compressed"] = setting(
        "raw", "raw: sensor_msgs/Image; compressed: CompressedImage on <image_topic>/compressed"
    )
    depth_transport: Literal["raw", "compressedDepth"] = setting(
        "raw",
        "raw: sensor_msgs/Image; compressedDepth: CompressedImage on "
        "<depth_topic>/compressedDepth",
    )
    reliability: Literal["auto", "best_effort", "reliable"] = setting(
        "auto",
        "reliability asked of this camera's topics; auto: reliable where all publishers are; "
        "best_effort fits any publisher",
    )

    @classmethod
    def of(cls, name: str, node: NodeConfig = NodeConfig()) -> CameraConfig:
        """What a camera has unless told otherwise: topics by its name, the rest by the node."""
        return cls(
            cls.image_topic.format(name=name),
            cls.camera_info_topic.format(name=name),
            cls.depth_topic.format(name=name),
            image_transport=node.image_transport,
            reliability=node.reliability,
        )


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
                raise ConfigError(f"parameter '{each.name}': {error}") from error
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
