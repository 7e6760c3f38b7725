"""``wildseg3d check --live``: cameras that publish, checked without a scene node or by one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.files.text import read_yaml
from wildseg3d_ros.rig.live import LiveRig
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.client import SceneClient
from wildseg3d_ros.ros.messages.reports import rig_report
from wildseg3d_ros.ros.parameters import Parameters
from wildseg3d_ros.ros.running import Spinner
from wildseg3d_ros.ros.services.check_rig import RigCheck
from wildseg3d_ros.ros.tf.listener import TransformListener, make_buffer

NODE = "wildseg3d"
"""Name of the scene node, under which parameter files have its settings."""
_RATES = 3.0
"""Seconds over which rates are counted."""


def check_running_node(namespace: str = "") -> LiveRig:
    """Asks the scene node that runs.

    Raises:
        TimeoutError: there is none.
    """
    with SceneClient(namespace) as client:
        return client.check_rig()


def check_cameras(config: Path) -> LiveRig:
    """Listens to the cameras of a parameter file of the scene node, which need not run.

    Waits until all cameras have come, for at most the file's ``image_timeout``.

    Raises:
        FileError: it cannot be read. ConfigError: parameters that do not fit.
    """
    read_yaml(config, "parameter file")  # rcl would wait for a pipe
    with _listening(config) as (cameras, rig_check, parameters):
        start = time.monotonic()
        while time.monotonic() - start < _RATES + parameters.node().image_timeout:
            cameras.adapt()
            complete = all(cameras[name].matcher.newest() for name in cameras.names)
            if complete and time.monotonic() - start > _RATES:
                break
            time.sleep(0.2)
        return rig_report(rig_check.check())


@contextmanager
def _listening(config: Path) -> Iterator[tuple[Cameras, RigCheck, Parameters]]:
    """A node with nothing but subscriptions, which serves nobody."""
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        try:
            node = Node(
                NODE,
                context=context,
                cli_args=["--ros-args", "--params-file", str(config)],
                use_global_arguments=False,
                enable_rosout=False,
                start_parameter_services=False,
            )
        except Exception as error:  # rcl's parser has no error class of its own
            raise ConfigError(f"'{config}' is no parameter file: {error}") from error
        try:
            parameters = Parameters(node)
            group = MutuallyExclusiveCallbackGroup()
            topics = {name: parameters.camera(name) for name in parameters.camera_names}
            cameras = Cameras(node, topics, parameters.node(), group)
            transforms = TransformListener(node, make_buffer(), group)
            cameras.subscribe()
            transforms.subscribe()
            spinner = Spinner(node, threads=1)
            try:
                yield cameras, RigCheck(node, cameras, transforms, parameters.node), parameters
            finally:
                spinner.stop()
        finally:
            node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
