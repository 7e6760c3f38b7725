"""Click an object in one camera, get its point cloud from all of them (WildSeg3D for ROS 2).

In Python, without ROS (docs/reference/python.md)::

    import wildseg3d_ros as ws

    scene = ws.build("recording/")
    cloud = scene.segment(("front", 320, 240))
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Box": "wildseg3d_ros.core.types",
    "Click": "wildseg3d_ros.core.types",
    "Scene": "wildseg3d_ros.api",
    "View": "wildseg3d_ros.core.types",
    "WildSeg3DError": "wildseg3d_ros.core.errors",
    "build": "wildseg3d_ros.api",
    "load": "wildseg3d_ros.api",
    "write_cloud": "wildseg3d_ros.io.clouds",
}
"""Where each public name lives. They are imported when they are asked for: the command line and
the nodes need not pay for all of them."""


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(
            f"module '{__name__}' has no attribute '{name}'; it has {', '.join(_PUBLIC)}"
        )
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_PUBLIC, "__version__"])
