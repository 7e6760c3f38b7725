"""The values that flow through the pipeline, one validated type per stage.

Frames are named target first: ``world_from_cam`` takes camera points to the world. Camera axes are
OpenCV's (x right, y down, z forward). Pixels are ``uv`` (column, row); arrays are ``[row, col]``.
Integer pixel coordinates are pixel centres. Times are integer nanoseconds.
"""

from wildseg3d_ros.core.types.alignment import (
    Alignment,
    CameraVerdict,
    LeftOutView,
    Verdict,
    WorldPointmaps,
)
from wildseg3d_ros.core.types.masks import (
    BACKGROUND,
    LEVELS,
    Level,
    MaskCache,
    MaskOrigin,
    MaskRecord,
    ObjectRecord,
)
from wildseg3d_ros.core.types.object_tree import ObjectTree
from wildseg3d_ros.core.types.pairs import PairPrediction, RelativePose
from wildseg3d_ros.core.types.prompts import (
    NEGATIVE,
    POSITIVE,
    Alternative,
    Box,
    Click,
    ObjectCloud,
    Point,
    Prompt,
    ViewMask,
    ViewMasks,
    ViewPrompts,
)
from wildseg3d_ros.core.types.tree import MaskTree
from wildseg3d_ros.core.types.views import View, check_names, check_views

__all__ = [
    "BACKGROUND",
    "LEVELS",
    "NEGATIVE",
    "POSITIVE",
    "Alignment",
    "Alternative",
    "Box",
    "CameraVerdict",
    "Click",
    "LeftOutView",
    "Level",
    "MaskCache",
    "MaskOrigin",
    "MaskRecord",
    "MaskTree",
    "ObjectCloud",
    "ObjectRecord",
    "ObjectTree",
    "PairPrediction",
    "Point",
    "Prompt",
    "RelativePose",
    "Verdict",
    "View",
    "ViewMask",
    "ViewMasks",
    "ViewPrompts",
    "WorldPointmaps",
    "check_names",
    "check_views",
]
