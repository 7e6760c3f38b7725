"""Where cameras publish and how they are listened to, and a rig's parameter file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.settings import setting
from wildseg3d_ros.robot.config import RobotConfig


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
    auto_capture: Literal["off", "standing", "moving"] = setting(
        "off",
        "captures views of cameras that TF moves, 7 to 11 degrees apart as seen from the scene; "
        "standing: where the camera has stood for 0.3 s; moving: the sharpest images on the way. "
        "Beyond max_captured_views the most redundant view is dropped",
    )
    join_captured_views: bool = setting(
        False,
        "build_scene joins what was captured since to the standing scene, whose views and object "
        "ids stay; false: it builds anew",
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
    robot: RobotConfig = RobotConfig()

    def __post_init__(self) -> None:
        for name, form, more in (("world_frame", "+", ""), ("target_frame", "*", ", or nothing")):
            frame = getattr(self, name)
            if not re.fullmatch(rf"[\w/.:~-]{form}", frame):
                raise ConfigError(
                    f"'{name}' is to name a TF frame: letters, digits and any of _ / . : ~ -"
                    f"{more}; got {frame!r}"
                )


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
