"""How good a trained network is on views that it has not learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.masks.learned.inputs import OFFSETS
from wildseg3d_ros.masks.learned.network import AffinityModel
from wildseg3d_ros.training.frames import Frame
from wildseg3d_ros.training.loss import affinity_targets

CONDITIONS: Final = ("with depth", "without depth", "without colour")
OUTPUTS: Final = len(OFFSETS) + 1
"""One for each offset, and 'on an object'."""
DECILES: Final = 10


@dataclass(eq=False)
class Tally:
    """Sums over pixels of all views, from which the figures follow. Index [output, answer, ...],
    where the answer, no or yes, is the true one.

    Attributes:
        pixels: (OUTPUTS, 2, DECILES) number of pixels, by the decile of the probability of yes.
        loss: (OUTPUTS, 2) summed log loss.
        right: (OUTPUTS, 2) number of pixels whose probability is on the right side of a half.
    """

    pixels: NDArray[np.float64] = field(default_factory=lambda: np.zeros((OUTPUTS, 2, DECILES)))
    loss: NDArray[np.float64] = field(default_factory=lambda: np.zeros((OUTPUTS, 2)))
    right: NDArray[np.float64] = field(default_factory=lambda: np.zeros((OUTPUTS, 2)))

    def add(
        self,
        output: int,
        log_odds: NDArray[np.float32],
        target: NDArray[np.bool_],
        counts: NDArray[np.bool_],
    ) -> None:
        """Adds one output of a view, all (H, W): log-odds of yes, the truth, what counts."""
        odds, yes = log_odds[counts].astype(np.float64), target[counts]
        decile = np.minimum((DECILES / (1.0 + np.exp(-odds))).astype(int), DECILES - 1)
        for answer in (0, 1):
            here = yes == answer
            signed = odds[here] if answer else -odds[here]
            self.pixels[output, answer] += np.bincount(decile[here], minlength=DECILES)
            self.loss[output, answer] += np.logaddexp(0.0, -signed).sum()
            self.right[output, answer] += (signed > 0).sum()

    def log_loss(self) -> NDArray[np.float64]:
        """(OUTPUTS,) in nats, yes and no weighted alike; NaN where there is only one of them."""
        return self._balanced(self.loss)

    def accuracy(self) -> NDArray[np.float64]:
        """(OUTPUTS,) mean of the shares of right answers among yes and among no."""
        return self._balanced(self.right)

    def calibration(self) -> NDArray[np.float64]:
        """(OUTPUTS, DECILES) share of yes in each decile of probability, yes and no weighted alike
        over all deciles; NaN in empty ones."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share = self.pixels / self.pixels.sum(axis=2, keepdims=True)
            return share[:, 1] / share.sum(axis=1)

    def _balanced(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (sums / self.pixels.sum(axis=2)).mean(axis=1)


def evaluate(
    model: AffinityModel,
    paths: Sequence[Path],
    report: Callable[[float], None] = lambda fraction: None,
) -> dict[str, Tally]:
    """Figures of the network's file, run as the masks run it, for each of :data:`CONDITIONS`.

    Args:
        model: the network.
        paths: of frames.
        report: told the share of the frames that is done.
    """
    tallies = {condition: Tally() for condition in CONDITIONS}
    for count, path in enumerate(paths, start=1):
        frame = Frame.load(path)
        for condition, tally in tallies.items():
            _add_view(tally, *outputs(model, frame, condition))
        report(count / len(paths))
    return tallies


def outputs(
    model: AffinityModel, frame: Frame, condition: str = CONDITIONS[0]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """(OUTPUTS, H, W) log-odds of a view and (H, W) labels of the pixels they speak of."""
    lab, depth = frame_lab(frame), frame.depth
    if condition == "without depth":
        depth = np.zeros_like(depth)
    elif condition == "without colour":
        lab = np.broadcast_to(np.array([50.0, 0.0, 0.0], np.float32), lab.shape).copy()
    said = model(lab, depth, frame.K)
    row, column = (
        np.minimum(np.rint(np.arange(count) * each), size - 1).astype(np.intp)
        for count, each, size in zip(said.on_object.shape, said.step, depth.shape, strict=True)
    )
    out = np.concatenate([said.log_odds, said.on_object[None]])
    return out, frame.labels[row[:, None], column]


def frame_lab(frame: Frame) -> NDArray[np.float32]:
    """(H, W, 3) CIE Lab of a view, L in 0..100."""
    image = frame.image.astype(np.float32) / np.float32(255)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2Lab), np.float32)


def _add_view(tally: Tally, out: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
    for k, offset in enumerate(OFFSETS):
        target, counts = affinity_targets(torch.from_numpy(labels)[None], offset)
        tally.add(k, out[k], target[0].numpy(), counts[0].numpy())
    tally.add(len(OFFSETS), out[-1], labels > 0, np.ones(labels.shape, np.bool_))
