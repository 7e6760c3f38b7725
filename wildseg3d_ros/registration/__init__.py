"""Pairwise registration of RGB-D views: relative poses from priors, features and dense depth."""

from wildseg3d_ros.registration.dense import refine
from wildseg3d_ros.registration.features import Keypoints, detect_keypoints
from wildseg3d_ros.registration.frame import Frame
from wildseg3d_ros.registration.pair import (
    Registration,
    register_from_features,
    register_from_prior,
)
from wildseg3d_ros.registration.prior import PosePrior

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
