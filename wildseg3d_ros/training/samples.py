"""Inputs and targets of training: views varied as cameras and rooms vary, the same in each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.masks.learned.inputs import CHANNELS, STEP, network_input
from wildseg3d_ros.training.frames import Frame

HEIGHT, WIDTH = 256, 320
"""Of all inputs [px]."""
UNKNOWN = 255
"""Label of pixels outside the view."""


@dataclass(frozen=True)
class Variation:
    """How often a view is changed, and how much.

    Attributes:
        colourless, depthless: shares of views that lose all colour, or all depth.
        grey: share of views whose colours lose their hue.
        turned: share of views turned by a quarter, as cameras on wrists are.
        scale: views are brought to sizes within this factor, up or down.
        light: standard deviation of gain and offset of the lightness.
        patchy: share of views that lose up to nine tenths of their depth, in patches of any size
            down to single pixels, as small depth images leave gaps in larger colour images.
    """

    colourless: float = 0.08
    depthless: float = 0.12
    grey: float = 0.1
    turned: float = 0.1
    scale: float = 1.4
    light: float = 0.15
    patchy: float = 0.35


class Samples(torch.utils.data.Dataset):
    """Batches by their number: batch k is the same whenever it is asked for.

    Args:
        paths: of frames.
        batch: views in each.
        steps: number of batches.
        seed: of everything random.
        variation: None takes the views as they are.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        batch: int,
        steps: int,
        seed: int,
        variation: Variation | None = Variation(),
    ) -> None:
        self._paths, self._batch, self._steps = paths, batch, steps
        self._seed, self._variation = seed, variation

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """(B, C, H, W) inputs and (B, H / 2, W / 2) labels."""
        if not 0 <= step < self._steps:
            raise IndexError(step)
        taken = [self._sample(step * self._batch + k) for k in range(self._batch)]
        inputs, labels = zip(*taken, strict=True)
        return np.stack(inputs), np.stack(labels)

    def _sample(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Every view comes once in each pass over all, in another order each time."""
        turn, index = divmod(number, len(self._paths))
        order = np.random.default_rng([self._seed, turn]).permutation(len(self._paths))
        rng = np.random.default_rng([self._seed, 1, number])
        return sample(Frame.load(self._paths[order[index]]), rng, self._variation)


def sample(
    frame: Frame, rng: np.random.Generator, variation: Variation | None
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Input (C, H, W) and labels (H / 2, W / 2) of a view, at the size of all inputs."""
    quarter = frame.depth.shape[0] > frame.depth.shape[1]
    if variation is not None:
        quarter ^= rng.random() < variation.turned
    if quarter:
        frame = _turned(frame)
    if variation is not None and rng.random() < 0.5:
        frame = _mirrored(frame)
    scale = 1.0
    if variation is not None:
        scale = float(np.exp(rng.uniform(-1.0, 1.0) * np.log(variation.scale)))
    frame = _window(frame, scale, rng)
    image = frame.image.astype(np.float32) / np.float32(255)
    lab = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2Lab), np.float32)
    depth = frame.depth
    if variation is not None:
        lab[..., 0] = lab[..., 0] * np.exp(rng.normal(0.0, variation.light)) + rng.normal(
            0.0, 50.0 * variation.light
        )
        lab[..., 1:] += rng.normal(0.0, 4.0, 2)
        lab[..., 1:] *= 0.0 if rng.random() < variation.grey else rng.uniform(0.6, 1.3)
        fate = rng.random()
        if fate < variation.depthless:
            depth = np.zeros_like(depth)
        elif fate < variation.depthless + variation.colourless:
            lab[..., 0], lab[..., 1:] = 50.0, 0.0
        if rng.random() < variation.patchy:
            depth = _patchy(depth, rng)
    data = network_input(lab, depth, frame.K)
    data[: CHANNELS.index("inverse_depth"), frame.labels == UNKNOWN] = 0.0
    return data, frame.labels[::STEP, ::STEP]


def _patchy(depth: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The depth with gaps: a tenth to nine tenths of it are lost, in patches of 1 to 16 pixels."""
    height, width = depth.shape
    size = int(2 ** rng.integers(0, 5))
    noise = rng.standard_normal((-(-height // size), -(-width // size))).astype(np.float32)
    noise = np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR))
    lost = noise < np.quantile(noise, rng.uniform(0.1, 0.9))
    return np.where(lost, np.float32(0.0), depth)


def _turned(frame: Frame) -> Frame:
    """Turned by a quarter counter-clockwise."""
    K = frame.K.copy()
    width = frame.depth.shape[1]
    K[0, 0], K[1, 1] = frame.K[1, 1], frame.K[0, 0]
    K[0, 2], K[1, 2] = frame.K[1, 2], width - 1 - frame.K[0, 2]
    return Frame(np.rot90(frame.image), np.rot90(frame.depth), K, np.rot90(frame.labels))


def _mirrored(frame: Frame) -> Frame:
    K = frame.K.copy()
    K[0, 2] = frame.depth.shape[1] - 1 - K[0, 2]
    return Frame(frame.image[:, ::-1], frame.depth[:, ::-1], K, frame.labels[:, ::-1])


def _window(frame: Frame, scale: float, rng: np.random.Generator) -> Frame:
    """The view at another scale, cut or padded to the size of all inputs."""
    height, width = frame.depth.shape
    size = round(height * scale), round(width * scale)
    K = frame.K.copy()
    K[0], K[1] = K[0] * size[1] / width, K[1] * size[0] / height
    shape = size[::-1]
    image = cv2.resize(np.ascontiguousarray(frame.image), shape, interpolation=cv2.INTER_AREA)
    depth = cv2.resize(np.ascontiguousarray(frame.depth), shape, interpolation=cv2.INTER_NEAREST)
    labels = cv2.resize(np.ascontiguousarray(frame.labels), shape, interpolation=cv2.INTER_NEAREST)
    spare = max(size[0] - HEIGHT, 0), max(size[1] - WIDTH, 0)
    top, left = (int(rng.integers(0, each + 1)) for each in spare)
    rows, columns = min(HEIGHT, size[0]), min(WIDTH, size[1])
    K[0, 2] -= left
    K[1, 2] -= top
    out_image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    out_depth = np.zeros((HEIGHT, WIDTH), np.float32)
    out_labels = np.full((HEIGHT, WIDTH), UNKNOWN, np.uint8)
    inner, there = np.s_[:rows, :columns], np.s_[top : top + rows, left : left + columns]
    out_image[inner], out_depth[inner] = image[there], depth[there]
    out_labels[inner] = labels[there]
    return Frame(out_image, out_depth, K, out_labels)
