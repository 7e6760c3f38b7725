"""Object masks by SAM 2 (Ravi et al., 2024) or EdgeTAM, from the models of transformers."""

from wildseg3d_ros.masks.sam2.backend import Sam2Masks

__all__ = ["Sam2Masks"]
