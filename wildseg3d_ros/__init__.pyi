"""What ``__init__.py`` imports when it is asked for, for type checkers and editors."""

from wildseg3d_ros.api import Scene as Scene
from wildseg3d_ros.api import build as build
from wildseg3d_ros.api import load as load
from wildseg3d_ros.core.errors import WildSeg3DError as WildSeg3DError
from wildseg3d_ros.core.types import Box as Box
from wildseg3d_ros.core.types import Click as Click
from wildseg3d_ros.core.types import View as View
from wildseg3d_ros.io.clouds import write_cloud as write_cloud

__version__: str
