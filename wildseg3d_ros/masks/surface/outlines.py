"""Where the outlines of projected labels run in the image: log-odds of labels, pixel by pixel.

All labels of a view are judged at once. What is certain of the projection (the inner core of each
label) spreads over the image and stops at its edges; colour models of both sides of an outline,
the distance to it and missing depth say the rest. A logistic model that was fitted on simulated
scenes weighs these cues, so that its probabilities are calibrated there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.learned.network import PixelAffinities
from wildseg3d_ros.masks.surface.objects import UNKNOWN

GROWTH = 12
"""A mask can grow by this much [px]: shadows beside an object are wider than anything that its
own depth lacks."""
BAND = 6.0
"""Within this distance of an outline nothing is certain [px]: depth edges are this beyond off."""
CORE = 0.5
"""A label is certain from this share of its largest inner distance on."""
MIN_PIXELS = 12
"""Less of a label than this is not drawn [px]."""
EVIDENCE = (
    "constant",
    "spread",  # log-odds of the label's share of the certainty that reached the pixel
    "colour",  # log ratio of the colour models
    "inside",
    "inside, depth in bands",
    "inside, depth of the label's largest",
    "outside, distance in bands",
    "outside, distance of the growth",
    "no depth",
    "no depth, distance to some",
    "no depth and inside",
    "on an object",  # log-odds of a network, above those of a label that it does not see
)
"""The cues, in the order of the weights."""
WEIGHTS = {
    False: (-0.26, 0.71, 0.79, 0.21, 0.54, -3.71, 2.23, -6.01, 1.13, -5.02, -1.05, 0.0),
    True: (-1.48, 0.63, 0.61, 0.23, 0.97, -3.29, 1.82, -6.25, 1.13, -3.33, -1.3, 0.42),
}
"""Of the cues without and with a network, fitted by ``python -m benchmarks.outlines --fit``. Given
the certainty that reached it, a deep pixel is one that little certainty of its own label reached:
hence the signs."""

_TILE = 8
_NEAR = 2
"""Labels are looked for in tiles of 8 px, up to two tiles (and 12 px at least) away."""
_BINS = 16, 20, 20
"""Of L, a and b: colour models are histograms."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Cues of the labels of one channel; labels that share a channel are too far apart to meet.

    Attributes:
        pixels: (M,) flat indices of pixels where a label of the channel is possible.
        labels: (M,) that label.
        cues: (M, len(EVIDENCE)) float32.
        learned: whether a network said something.
    """

    pixels: NDArray[np.intp]
    labels: NDArray[np.int32]
    cues: NDArray[np.float32]
    learned: bool


def label_log_odds(evidence: Evidence) -> NDArray[np.float32]:
    """(M,) log-odds that the pixels are of their label and not of what is about it."""
    return evidence.cues @ np.array(WEIGHTS[evidence.learned], np.float32)


def outline_evidence(
    image: NDArray[np.uint8],
    projected: NDArray[np.int32],
    network: PixelAffinities | None = None,
) -> Iterator[Evidence]:
    """Cues of every object at every pixel that may be of it, channel by channel.

    Args:
        image: (h, w, 3) uint8 RGB.
        projected: (h, w), 0 on the background, > 0 on objects, else UNKNOWN.
        network: what it says of the view, if one was asked.
    """
    names, counts = np.unique(projected[projected > 0], return_counts=True)
    names = names[counts >= MIN_PIXELS].astype(np.int32)
    if len(names) == 0:
        return
    compact = np.full(int(names[-1]) + 1, UNKNOWN, np.int32)
    compact[0], compact[names] = 0, np.arange(1, len(names) + 1)
    label = np.where(projected <= names[-1], compact[np.clip(projected, 0, names[-1])], UNKNOWN)
    label[projected < 0] = UNKNOWN
    channels = _channels(label, len(names) + 1)
    # Nothing outside this window can be of an object.
    used = cv2.boundingRect(np.asarray(channels.any(axis=0), np.uint8))
    window = np.s_[used[1] : used[1] + used[3], used[0] : used[0] + used[2]]
    flat = np.arange(label.size).reshape(label.shape)[window].ravel()
    regions = _Regions.of(label[window], len(names) + 1)
    lab = cv2.cvtColor(np.ascontiguousarray(image[window]), cv2.COLOR_RGB2Lab)
    lab = np.asarray(cv2.bilateralFilter(lab, 5, 25.0, 3.0), np.uint8)
    channels = np.ascontiguousarray(channels[:, window[0], window[1]])
    on_object = np.zeros(label.shape, np.float32)
    if network is not None:
        on_object = network.of_view(network.on_object, label.shape)
    on_object = on_object.ravel()[flat]
    # Of an object that the network does not see it knows no outline either.
    core = np.bincount(regions.label.ravel(), regions.certainty.ravel() * on_object)
    weight = np.bincount(regions.label.ravel(), regions.certainty.ravel())
    unseen = np.minimum(core / np.maximum(weight, 1e-9), 0.0).astype(np.float32)
    spread = _spread(lab, regions, channels)
    colours = _Colours.of(lab, regions, channels)
    for channel, share in zip(channels, spread, strict=True):
        pixels, index, cues = _cues(regions, channel, share, colours)
        cues = np.column_stack([cues, on_object[pixels] - unseen[index]])
        yield Evidence(flat[pixels], names[index - 1], cues, network is not None)


@dataclass(frozen=True, eq=False)
class _Regions:
    """Labels 0 to count - 1 that fill the image, what no depth was measured of by the nearest.

    Attributes:
        label: (h, w) int32.
        gap: (h, w) distance to depth [px].
        depth: (h, w) distance to the outline, from 1 [px].
        deepest: (count,) largest depth of each label [px].
        certainty: (h, w) in [0, 1].
    """

    label: NDArray[np.int32]
    gap: NDArray[np.float32]
    depth: NDArray[np.float32]
    deepest: NDArray[np.float32]
    certainty: NDArray[np.float32]

    @classmethod
    def of(cls, label: NDArray[np.int32], count: int) -> _Regions:
        known = label != UNKNOWN
        gap, nearest = cv2.distanceTransformWithLabels(
            (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        of_source = np.zeros(int(nearest.max()) + 1, np.int32)
        of_source[nearest[known]] = label[known]
        label = of_source[nearest]
        rim = np.zeros(label.shape, np.bool_)
        across, down = label[:, 1:] != label[:, :-1], label[1:] != label[:-1]
        rim[:, 1:], rim[1:] = across, rim[1:] | down
        rim[:, :-1] |= across
        rim[:-1] |= down
        depth = 1.0 + cv2.distanceTransform((~rim).astype(np.uint8), cv2.DIST_L2, 5)
        depth = np.minimum(depth, float(sum(label.shape))).astype(np.float32)
        deepest = np.zeros(count, np.float32)
        np.maximum.at(deepest, label.ravel(), depth.ravel())
        reach = np.maximum(CORE * deepest, BAND)
        reach[0] = BAND  # a table is no less certain for being large
        certainty = np.minimum(depth / reach[label], 1.0) ** 2
        # Sensors see no depth just where outlines are.
        certainty = np.where(known, np.maximum(certainty, 0.05), 0.1 * certainty + 0.005)
        return cls(
            label, np.asarray(gap, np.float32), depth, deepest, certainty.astype(np.float32)
        )


def _channels(label: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """(C, h, w) label that may be at each pixel, 0 = none; labels that may meet never share one.

    So many labels are judged by few passes over the image: a greedy colouring of the graph of
    labels that are close to each other.
    """
    height, width = label.shape
    row, col = np.arange(height) // _TILE, np.arange(width) // _TILE
    tiles = np.zeros((count + 1, row[-1] + 1, col[-1] + 1), np.uint8)
    tiles[label, row[:, None], col] = 1  # the last one is UNKNOWN's
    kernel = np.ones((2 * _NEAR + 1,) * 2, np.uint8)
    near = np.stack([cv2.dilate(tile, kernel) for tile in tiles[1:count]])
    flat = near.reshape(count - 1, -1).astype(np.float32)
    meet = flat @ flat.T > 0
    channel_of = np.full(count - 1, -1)
    for k in range(count - 1):
        taken = set(channel_of[:k][meet[k, :k]].tolist())
        channel_of[k] = next(c for c in range(count) if c not in taken)
    channels = np.zeros((channel_of.max() + 1, *near.shape[1:]), np.int32)
    for k, c in enumerate(channel_of):
        channels[c][near[k] > 0] = k + 1
    return channels[:, row][:, :, col]


def _spread(
    lab: NDArray[np.uint8], regions: _Regions, channels: NDArray[np.int32]
) -> NDArray[np.float32]:
    """(C, h, w) share of the certainty around each pixel that is of the channel's label.

    The recursive domain transform (Gastal and Oliveira, SIGGRAPH 2011): what is behind an edge
    of the image is far away. As a quotient of two filters, certainty is what counts.
    """
    sigma, contrast = 40.0, 25.0  # px, and Lab of 8 bits
    weigh = np.array([0.7, 1.0, 1.0], np.float32)  # shading changes lightness on one object
    image = lab.astype(np.float32) * weigh
    across = 1.0 + sigma / contrast * np.abs(np.diff(image, axis=1)).sum(axis=2)
    down = 1.0 + sigma / contrast * np.abs(np.diff(image, axis=0)).sum(axis=2)
    across = np.ascontiguousarray(across.T)
    total = regions.certainty
    own = (channels == regions.label) & (channels > 0)
    stack = np.concatenate([own * total, total[None]])
    passes = 2
    for i in range(passes):
        length = sigma * np.sqrt(3.0) * 2.0 ** (passes - i - 1) / np.sqrt(4.0**passes - 1.0)
        rate = np.float32(-np.sqrt(2.0) / length)
        turned = np.ascontiguousarray(stack.transpose(0, 2, 1))
        _smooth_rows(turned, np.exp(rate * across))
        stack = np.ascontiguousarray(turned.transpose(0, 2, 1))
        _smooth_rows(stack, np.exp(rate * down))
    return stack[:-1] / np.maximum(stack[-1], 1e-9)


def _smooth_rows(stack: NDArray[np.float32], keep: NDArray[np.float32]) -> None:
    """Recursive filter down and up the rows of (C, h, w); (h - 1, w) is kept across two rows."""
    step = np.empty_like(stack[:, 0])
    for i in range(1, stack.shape[1]):
        np.subtract(stack[:, i - 1], stack[:, i], out=step)
        step *= keep[i - 1]
        stack[:, i] += step
    for i in range(stack.shape[1] - 2, -1, -1):
        np.subtract(stack[:, i + 1], stack[:, i], out=step)
        step *= keep[i]
        stack[:, i] += step


@dataclass(frozen=True, eq=False)
class _Colours:
    """Log ratio of two colour histograms for each label: its core, and what is about it.

    Attributes:
        bins: (h, w) int32 bin of each pixel.
        log_ratio: (count, bins) float32.
    """

    bins: NDArray[np.int32]
    log_ratio: NDArray[np.float32]

    @classmethod
    def of(
        cls, lab: NDArray[np.uint8], regions: _Regions, channels: NDArray[np.int32]
    ) -> _Colours:
        count, size = len(regions.deepest), int(np.prod(_BINS))
        lightness, a, b = np.moveaxis(lab.astype(np.int32), 2, 0)
        a, b = (np.clip((x - 128) // 6 + 10, 0, 19) for x in (a, b))
        bins = ((lightness >> 4) * _BINS[1] + a) * _BINS[2] + b
        certainty = regions.certainty
        histograms = np.zeros((2, count * size), np.float32)
        key = regions.label * size + bins
        histograms[0] = np.bincount(key.ravel(), certainty.ravel(), count * size)
        for channel in channels:
            about = (channel > 0) & (channel != regions.label)
            key = channel[about] * size + bins[about]
            histograms[1] += np.bincount(key, certainty[about], count * size)
        cells = histograms.reshape(2, count, *_BINS)
        for axis in (2, 3, 4):
            last = cells.shape[axis] - 1
            before = np.take(cells, np.arange(-1, last).clip(0), axis)
            after = np.take(cells, np.arange(1, last + 2).clip(max=last), axis)
            cells = 0.5 * cells + 0.25 * (before + after)
        core, about = cells.reshape(2, count, size)
        core = core / (core.sum(axis=1, keepdims=True) + 1e-9)
        about = about / (about.sum(axis=1, keepdims=True) + 1e-9)
        rare = 3e-4  # what is rarer on both sides says nothing
        return cls(bins, np.log((core + rare) / (about + rare)).clip(-4.0, 4.0))


def _cues(
    regions: _Regions, channel: NDArray[np.int32], share: NDArray[np.float32], colours: _Colours
) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.float32]]:
    """Flat pixels where the channel's labels are possible, these labels, and the cues there."""
    inside = (channel > 0) & (channel == regions.label)
    distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
    pixels = np.flatnonzero((channel > 0) & (distance <= GROWTH))
    label, within = channel.ravel()[pixels], inside.ravel()[pixels]
    depth, away = regions.depth.ravel()[pixels], distance.ravel()[pixels]
    gap, p = regions.gap.ravel()[pixels], share.ravel()[pixels].clip(0.003, 0.997)
    cues = np.stack(
        [
            np.ones(len(pixels), np.float32),
            np.log(p / (1.0 - p)),
            colours.log_ratio[label, colours.bins.ravel()[pixels]],
            within,
            within * np.minimum(depth / BAND, 1.0),
            within * depth / regions.deepest[label],
            np.minimum(away / BAND, 1.0),
            away / GROWTH,
            gap > 0,
            np.minimum(gap / GROWTH, 1.0),
            within & (gap > 0),
        ],
        axis=1,
    )
    return pixels, label, cues.astype(np.float32)
