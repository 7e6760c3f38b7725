"""RViz's configuration for a rig: a display for each camera, and the frame that it is drawn in."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.text import read_yaml
from wildseg3d_ros.core.files.writing import write_bytes
from wildseg3d_ros.ros.parameters import NodeConfig

NAME = "wildseg3d"
"""The scene node's, by which parameter files name it."""

_IMAGE = "rviz_default_plugins/Image"


def rig_of(config: str | Path) -> tuple[list[str], str]:
    """Names of the cameras and the world frame, as a node's parameter file gives them.

    What it does not say is no camera, and the default of ``world_frame``: the node says itself
    what is wrong with its parameters.

    Raises:
        FileError: missing, or not readable YAML.
    """
    cameras: Any = []
    frame: Any = NodeConfig.world_frame
    for values in _sections(read_yaml(config, "parameter file")):
        cameras = values.get("cameras", cameras)
        frame = values.get("world_frame", frame)
    names = [str(name) for name in cameras] if isinstance(cameras, list) else []
    return names, str(frame)


def _sections(said: Any) -> Iterator[dict]:
    """The parameters of each section for the scene node: by its name or a pattern, or nested."""
    for name, section in said.items() if isinstance(said, dict) else ():
        if not isinstance(section, dict):
            continue
        values = section.get("ros__parameters")
        if values is None:
            yield from _sections(section)
        elif isinstance(values, dict) and str(name).rsplit("/", 1)[-1] in (NAME, "*", "**"):
            yield values


def write_rviz_config(
    path: str | Path, template: str | Path, cameras: Sequence[str], fixed_frame: str
) -> None:
    """Writes ``template`` with one image display for each camera and another fixed frame.

    Args:
        path: file to write.
        template: config/scene.rviz; its first image display is what the others are made after.
        cameras: names of cameras, whose topics ``<camera>/overlay`` are shown.
        fixed_frame: TF frame that everything is drawn in.

    Raises:
        FileError: the template cannot be read, or has no image display.
    """
    config = read_yaml(template, "RViz configuration")
    try:
        manager = config["Visualization Manager"]
        displays = manager["Displays"]
        pattern = next(each for each in displays if each["Class"] == _IMAGE)
        manager["Global Options"]["Fixed Frame"] = fixed_frame
    except (KeyError, TypeError, StopIteration) as error:
        raise FileError(
            f"'{template}' is no RViz configuration to start from: it needs a 'Visualization "
            f"Manager' with 'Global Options' and a display of class {_IMAGE}"
        ) from error
    shown = [each for each in displays if each["Class"] != _IMAGE]
    for camera in cameras:
        display = copy.deepcopy(pattern)
        display["Name"] = camera
        display["Topic"]["Value"] = f"{camera}/overlay"
        shown.append(display)
    manager["Displays"] = shown
    import yaml

    write_bytes(path, yaml.safe_dump(config, sort_keys=False).encode())
