"""What papers report on these benchmarks; docs/how-to/benchmarks.md says where each was read."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """A method's figures in percent; None where the paper gives none.

    Attributes:
        method: and where it was published.
        miou, macc: means over the benchmark's scenes.
        trained: whether it is trained for each scene.
    """

    method: str
    miou: float
    macc: float | None
    trained: bool


NVOS = (
    Row("NVOS (CVPR 2022)", 70.1, 92.0, True),
    Row("SA3D (NeurIPS 2023)", 90.3, 98.2, True),
    Row("SAGA (AAAI 2025)", 92.6, 98.6, True),
    Row("OmniSeg3D (CVPR 2024)", 91.7, 98.4, True),
    Row("FlashSplat (ECCV 2024)", 91.8, 98.6, True),
    Row("GaussianCut (NeurIPS 2024)", 92.5, 98.4, True),
    Row("WildSeg3D (ICCV 2025)", 94.1, 99.0, False),
)
SPIN_NERF = (
    Row("SPIn-NeRF (CVPR 2023)", 90.9, 98.8, True),
    Row("SA3D (NeurIPS 2023)", 92.4, None, True),
    Row("SAGA (AAAI 2025)", 93.4, 99.2, True),
    Row("OmniSeg3D (CVPR 2024)", 94.3, 99.3, True),
    Row("Click-Gaussian (ECCV 2024)", 94.0, None, True),
)
