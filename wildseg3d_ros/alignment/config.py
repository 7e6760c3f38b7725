"""Settings of the alignment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.settings import setting


@dataclass(frozen=True)
class AlignmentConfig:
    """Dynamic Global Alignment."""

    weighting: Literal["dynamic", "dynamic_confidence", "soft_mask", "confidence", "sharpened"] = (
        setting(
            "sharpened",
            "point weights: confidences, plain or sharpened; WildSeg3D's soft mask, its dynamic "
            "adjustment, or that times the confidence",
        )
    )
    alpha_p: float = setting(1.0, "dynamic adjustment at matched points", 0.0, 10.0)
    alpha_n: float = setting(1.0, "dynamic adjustment at unmatched points", 0.0, 2.0)
    loss: Literal["huber", "geman_mcclure"] = setting(
        "huber", "robust loss; geman_mcclure ignores gross errors but has local minima"
    )
    samples_per_view: int = setting(512, "pixels per view that the solve uses", 32, 65536)
    max_iterations: int = setting(30, "upper bound of Gauss-Newton passes per solve", 1, 200)
    tolerance: float = setting(
        1e-4, "largest step of a converged solve [rad, or share of the scene's size]", 1e-12, 0.1
    )
    prior_translation_sigma: float = setting(
        0.0,
        "standard deviation of given camera positions that constrain the solve [m], where a view "
        "does not say its own; 0 = they only register the finished world",
        0.0,
        10.0,
    )
    prior_rotation_sigma: float = setting(
        0.0, "the same of given orientations [rad]; 0 = they only register the world", 0.0, 3.0
    )
    check_rig: bool = setting(
        True,
        "compare given poses, intrinsics and depth with each other before anything is aligned, "
        "and refuse a rig that is wrong in a known way (inverse matrices, axes, units, ...)",
    )
    trust_intrinsics: bool = setting(
        False,
        "keep given focal lengths that pointmaps of unknown scale contradict by more than 8 "
        "percent; else theirs are used, with a warning",
    )
    max_residual: float = setting(
        0.0,
        "median residual of a view beyond which the alignment is refused [m, or scene units]; "
        "0 = never",
        0.0,
        1e6,
    )
    max_residual_px: float = setting(
        0.0,
        "median reprojection error of a view beyond which it is refused [px]; 0 = never",
        0.0,
        1e6,
    )
    max_condition: float = setting(
        0.0,
        "condition of the solve beyond which it is refused, the pairs leaving some pose "
        "undetermined; 0 = never: beyond 1e6 there is a warning",
        0.0,
        1e16,
    )
    max_prior_residual: float = setting(
        0.2,
        "median distance at the scene between given poses or depth and the finished world beyond "
        "which it is refused [m], as it is beyond a tenth of the viewing distance; 0 = never",
        0.0,
        1e6,
    )
    device: str = setting(
        "cpu",
        "where world pointmaps are fused: cpu = on the processor, with NumPy; auto = where the "
        "pointmaps are; cuda or cuda:N = on a GPU, with PyTorch",
    )

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(
                f"'alignment.device' is auto, cpu, cuda or cuda:N; got '{self.device}'"
            )
