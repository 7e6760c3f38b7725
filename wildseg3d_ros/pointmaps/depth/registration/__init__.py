"""Pairwise registration of RGB-D views: relative poses from priors, features and dense depth."""

from wildseg3d_ros.pointmaps.depth.registration.dense import refine
from wildseg3d_ros.pointmaps.depth.registration.features import Keypoints, detect_keypoints
from wildseg3d_ros.pointmaps.depth.registration.frame import Frame
from wildseg3d_ros.pointmaps.depth.registration.pair import (
    Registration,
    register_from_features,
    register_from_prior,
)
from wildseg3d_ros.pointmaps.depth.registration.prior import PosePrior

__all__ = [
    "Frame",
    "Keypoints",
    "PosePrior",
    "Registration",
    "detect_keypoints",
    "refine",
    "register_from_features",
    "register_from_prior",
]
