"""The contract of mask back ends: geometric, SAM 2 (small, random), the oracle."""

from __future__ import annotations

import pytest

from wildseg3d_ros.masks import load_masks
from wildseg3d_ros.masks.config import MaskConfig
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_testing.mask_contract import MaskContract, contract_scene
from wildseg3d_testing.oracles import OracleMasks


@pytest.fixture(scope="module", params=["geometric", "sam2", "oracle"])
def backend(request):
    if request.param == "oracle":
        return OracleMasks(contract_scene())
    if request.param == "geometric":
        return load_masks(MaskConfig())
    request.getfixturevalue("one_thread")
    folder = request.getfixturevalue("small_sam2")
    config = Sam2MaskConfig(
        weights=str(folder), device="cpu", grid=6, predicted_iou=0.0, stability=0.3,
        anchors=1, box_overlap=0.9, max_area=0.9,
    )  # fmt: skip
    return load_masks(MaskConfig(backend="sam2", sam2=config))


class TestMaskBackends(MaskContract):
    def updates_exactly(self, backend):
        # Masks of random weights need not fit each other.
        return type(backend).__name__ != "Sam2Masks"
