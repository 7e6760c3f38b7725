"""Prompts answered by the network, from kept embeddings where there are any."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import ViewPrompts
from wildseg3d_ros.masks.sam2.network import Embedding, Sam2Network
from wildseg3d_ros.masks.sources import Proposals


class Sam2Prompts:
    """Masks that SAM 2 proposes for points and boxes.

    Args:
        network: ready to decode.
        images: per view (H, W, 3) uint8 RGB.
        embeddings: per view, as the mask cache keeps them; views without are encoded anew.
    """

    def __init__(
        self,
        network: Sam2Network,
        images: Sequence[NDArray[np.uint8]],
        embeddings: Sequence[tuple[NDArray[np.float16], ...]],
    ) -> None:
        self._network, self._images, self._kept = network, images, embeddings
        self._ready: dict[int, Embedding] = {}

    def propose(self, view: int, prompts: ViewPrompts) -> Proposals:
        """The network's masks: three alternatives for one point alone, which may mean a thing or a
        part of it, and one mask for a box or several points, as the original code has it."""
        points = labels = box = None
        if len(prompts.points):
            points, labels = prompts.points[None], prompts.on[None].astype(np.int32)
        if prompts.box is not None:
            box = np.array([prompts.box])
        if view not in self._ready:
            stored = self._kept[view] if self._kept else ()
            self._ready[view] = self._network.embedding(self._images[view], stored)
        embedding = self._ready[view]
        logits, quality = self._network.decode(
            embedding, points, labels, box, alternatives=box is None and len(prompts.points) < 2
        )
        height, width = embedding.size
        soft = [
            1.0 / (1.0 + np.exp(-np.clip(cv2.resize(each, (width, height)), -30, 30)))
            for each in logits[0].cpu().numpy()
        ]
        quality = quality[0].clamp(0.0, 1.0).cpu().numpy()
        return np.stack(soft).astype(np.float32), quality
