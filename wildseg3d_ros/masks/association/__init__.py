"""One id per object over all views: masks of each view, brought together by 3D and by tracks."""

from wildseg3d_ros.masks.association.associate import Association, associate
from wildseg3d_ros.masks.association.presence import Presence
from wildseg3d_ros.masks.association.tracks import Tracks

__all__ = ["Association", "Presence", "Tracks", "associate"]
