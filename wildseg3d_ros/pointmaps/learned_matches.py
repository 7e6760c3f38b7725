"""Matches of two images by EfficientLoFTR (Wang et al., CVPR 2024, arXiv 2403.04765), from the
model classes of transformers: for views too far aside for local features.

PyTorch is imported when a matcher is made: the back ends that can use one need none by default.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.devices import torch_device
from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.core.models import (
    DESCRIPTION,
    WEIGHTS,
    build,
    call,
    lacking,
    made_of,
    read_checkpoint,
)
from wildseg3d_ros.core.weights import find_weights

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

INPUT = 640, 480
"""Longer and shorter edge [px] of what the network sees, as it was trained."""


class LearnedMatcher:
    """The network, ready to match.

    Args:
        weights: hub name of a downloaded model, or its folder.
        setting: key of the setting that names the weights, for errors.
        device: torch device.

    Raises:
        FileError: no such weights, or not all of them.
        ConfigError: no such device, or PyTorch or transformers is missing.
    """

    def __init__(self, weights: str, setting: str, device: str = "auto") -> None:
        try:
            import torch
            import transformers
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{setting} needs the Python module '{error.name}', which is not installed: "
                "`make setup EXTRAS=sam2` in a clone, else `pip install 'wildseg3d[sam2]'`; or "
                "leave the setting empty"
            ) from error
        self._torch = torch
        self._device = torch_device(device, f"the device of {setting}")
        kind = transformers.EfficientLoFTRForKeypointMatching
        self._who = f"EfficientLoFTR weights '{weights}'"
        self._network = _load(kind, weights, setting).to(self._device).eval()

    @classmethod
    def of(cls, weights: str, setting: str, device: str = "auto") -> LearnedMatcher | None:
        """None where the setting is empty."""
        return cls(weights, setting, device) if weights else None

    def match(
        self, gray_a: NDArray[np.uint8], gray_b: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(M, 2) pixels in each of two images (H, W) that show the same places."""
        with self._torch.inference_mode():
            return call(self._who, self._match, gray_a, gray_b)

    def _match(
        self, gray_a: NDArray[np.uint8], gray_b: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        torch, network = self._torch, self._network
        width, height = INPUT if gray_a.shape[1] >= gray_a.shape[0] else INPUT[::-1]
        pair = np.stack(
            [
                cv2.resize(g, (width, height), interpolation=cv2.INTER_AREA)
                for g in (gray_a, gray_b)
            ]
        )
        pixels = torch.from_numpy(pair).to(self._device).float()[None, :, None] / 255.0
        features = network.efficientloftr(pixels.expand(-1, -1, 3, -1, -1)).feature_maps
        coarse = features[0]
        columns, stride = coarse.shape[-1], height / coarse.shape[-2]
        _, _, matched = network._coarse_matching(coarse, stride)
        # Cell k of the second image and what it matches in the first: the class's own forward
        # refines row k of both lists together, which are matches of two different cells.
        cell_b = (matched[0, 0] >= 0).nonzero()[:, 0]
        cell_a = matched[0, 0, cell_b]
        if not len(cell_b):
            return np.zeros((0, 2)), np.zeros((0, 2))
        fine_a, fine_b = network.refinement_layer(
            coarse / network.config.hidden_size**0.5, features[1:]
        )
        off_a, off_b = self._refined(fine_a[0, cell_a], fine_b[0, cell_b])
        corner_a, corner_b = (
            stride * torch.stack([cell % columns, cell // columns], -1)
            for cell in (cell_a, cell_b)
        )
        uv_a, uv_b = ((corner_a + off_a).double(), (corner_b + off_b).double())
        uv_a, uv_b = uv_a.cpu().numpy(), uv_b.cpu().numpy()
        return _in_image(uv_a, gray_a, width, height), _in_image(uv_b, gray_b, width, height)

    def _refined(self, fine_a: Tensor, fine_b: Tensor) -> tuple[Tensor, Tensor]:
        """(M, 2) pixels of matches from their cells' corners: sections 3.3 of the paper.

        The likeliest pair of pixels of both cells, then a part of a pixel in the second image, by
        the expectation over the 3x3 about it. The class's own code takes both softmaxes over
        wrong dimensions since it has batches.

        Args:
            fine_a: (M, W * W, C) features of the first image's cells.
            fine_b: (M, (W + 2)^2, C) of the second's, with a rim of one pixel.
        """
        torch, config = self._torch, self._network.config
        side, rows = round(fine_a.shape[1] ** 0.5), torch.arange(len(fine_a))
        first = fine_a.shape[-1] - config.fine_matching_slice_dim
        similarity = fine_a[..., :first] @ fine_b[..., :first].transpose(1, 2) / first
        sure = similarity.softmax(1) * similarity.softmax(2)
        sure = sure.unflatten(2, (side + 2, side + 2))[..., 1:-1, 1:-1].flatten(1)
        best = sure.argmax(dim=1)
        at_a, at_b = best // side**2, best % side**2
        v, u = at_b // side, at_b % side
        second = (fine_a[rows, at_a, first:, None] * fine_b[..., first:].transpose(1, 2)).sum(1)
        second = second / config.fine_matching_slice_dim**0.5
        step = torch.arange(3, device=fine_a.device)
        around = (v[:, None, None] + step[:, None]) * (side + 2) + u[:, None, None] + step
        weight = second.gather(1, around.flatten(1)) / config.fine_matching_regress_temperature
        weight = weight.softmax(1).unflatten(1, (3, 3))
        part = torch.stack(
            [(weight.sum(1) * (step - 1)).sum(1), (weight.sum(2) * (step - 1)).sum(1)], dim=-1
        )
        return (
            torch.stack([at_a % side, at_a // side], -1).float(),
            torch.stack([u, v], -1) + part,
        )


def _in_image(
    uv: NDArray[np.float64], gray: NDArray[np.uint8], width: int, height: int
) -> NDArray[np.float64]:
    """Pixels (M, 2) of an image that the network saw at another size."""
    scale = np.array([gray.shape[1] / width, gray.shape[0] / height])
    return (uv + 0.5) * scale - 0.5


def _load(kind: Any, weights: str, setting: str) -> Any:
    import torch

    def remedy(name: str = "zju-community/efficientloftr") -> str:
        return (
            f"fetch them with `hf download {name} {DESCRIPTION} {WEIGHTS}` (64 MB, licence "
            f"Apache-2.0), or set {setting} to the model's folder"
        )

    file = find_weights(weights, "EfficientLoFTR", (WEIGHTS, DESCRIPTION), remedy)
    with made_of(f"weights of EfficientLoFTR from '{weights}'", remedy, always=True):
        network, report = build(kind, read_checkpoint(file), torch.float32)
        if said := lacking(report):
            raise FileError(
                f"the weights of '{weights}' are not complete, or of another model: {said}"
            )
    _log.warning("EfficientLoFTR weights '%s' loaded; the published ones: Apache-2.0", weights)
    return network
