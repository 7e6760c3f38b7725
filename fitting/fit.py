"""Fits the networks to merges and nodes as the agglomeration meets them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fitting.judge import expected_ious, node_counts
from fitting.scenes import TrueGraph
from wildseg3d_ros.masks.surface.features import prior_log_odds
from wildseg3d_ros.masks.surface.merge_tree import Score, merge_patches
from wildseg3d_ros.masks.surface.model import LIMIT, Network, ScoreModel
from wildseg3d_ros.masks.surface.node_features import node_features

ROUNDS = 2
"""Of merging with what was fitted before, and fitting to all merges so far (as in GALA)."""
HIDDEN = (32, 16)
"""Units of the hidden layers."""
FRAGMENT = 20
"""Voxels below which only a tenth of the nodes is fitted to: there are very many of them."""


class Examples:
    """Pairs of clusters as they come up in one scene, and how often two of their voxels belong to
    one object; the larger the smaller cluster is, the more its pairs count."""

    def __init__(self, scene: TrueGraph, random: np.random.Generator) -> None:
        patches = len(scene.graph)
        self._counts = np.concatenate([scene.counts, np.zeros_like(scene.counts)])
        self._patches, self._known, self._random = patches, 0, random
        self.parts: list[tuple[NDArray, NDArray, NDArray]] = []

    def __call__(
        self,
        one: NDArray[np.int64],
        other: NDArray[np.int64],
        features: NDArray[np.float32],
        merges: list[tuple[int, int]],
    ) -> None:
        """Takes a share of the pairs; arguments as of ``merge_tree.Watch``."""
        counts = self._counts
        for k, (a, b) in enumerate(merges[self._known :], start=self._known):
            counts[self._patches + k] = counts[a] + counts[b]
        self._known = len(merges)
        size_one, size_other = counts[one].sum(axis=1), counts[other].sum(axis=1)
        smaller = np.minimum(size_one, size_other)
        kept = np.minimum(0.15 * np.sqrt(smaller / 8.0 + 0.1), 1.0)
        taken = (smaller > 0) & (self._random.random(len(one)) < kept)
        one, other, kept, smaller = one[taken], other[taken], kept[taken], smaller[taken]
        share = counts[one] / size_one[taken, None], counts[other] / size_other[taken, None]
        same = (share[0] * share[1]).sum(axis=1)
        background = share[0][:, 0] * share[1][:, 0]
        # How background merges matters little, as long as nothing else merges with it.
        weight = np.sqrt(smaller) / kept * np.where(background > 0.5, 0.3, 1.0)
        self.parts.append((features[taken], same, weight))


def fit_model(scenes: Sequence[TrueGraph], steps: int, seed: int = 0) -> ScoreModel:
    """Fits both networks.

    Args:
        scenes: to fit to.
        steps: of gradient descent for each network at the end; half as many in earlier rounds.
        seed: of everything random.
    """
    random = np.random.default_rng(seed)
    score: Score = prior_log_odds
    parts: list[tuple[NDArray, NDArray, NDArray]] = []
    for last in (k == ROUNDS - 1 for k in range(ROUNDS)):
        for scene in scenes:
            examples = Examples(scene, random)
            merge_patches(scene.graph, score, examples)
            parts += examples.parts
        features, target, weight = _joined(parts)
        merge = fit_network(
            features, target, weight, steps if last else steps // 2, seed, prior_log_odds(features)
        )
        score = ScoreModel(merge, merge).merge_log_odds
    parts = []
    for scene in scenes:
        graph = scene.graph
        tree = merge_patches(graph, score)
        size = tree.shapes.voxels
        taken = (size >= FRAGMENT) | (random.random(len(size)) < 0.1)
        features = node_features(tree, graph.layers, graph.voxel_size)
        target = expected_ious(node_counts(tree, scene.counts), tree.patches)
        weight = np.sqrt(size) * np.where(size >= FRAGMENT, 1.0, 10.0)
        parts.append((features[taken], target[taken], weight[taken]))
    return ScoreModel(merge, fit_network(*_joined(parts), steps=steps, seed=seed))


def _joined(parts: Sequence[tuple[NDArray, NDArray, NDArray]]) -> tuple[NDArray, NDArray, NDArray]:
    features, target, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    return features, target, weight


def fit_network(
    features: NDArray[np.float32],
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    steps: int,
    seed: int,
    offset: NDArray[np.float64] | None = None,
) -> Network:
    """A network whose log-odds, with the offset added, are those of the expected target in [0, 1]:
    cross-entropy, AdamW."""
    torch.manual_seed(seed)
    mean = features.mean(axis=0)
    deviation = features.std(axis=0) + np.float32(1e-6)
    x = torch.tensor(np.clip((features - mean) / deviation, -LIMIT, LIMIT), dtype=torch.float32)
    y = torch.tensor(target, dtype=torch.float32)
    known = torch.tensor(np.zeros(len(x)) if offset is None else offset, dtype=torch.float32)
    w = torch.tensor(weight / weight.mean(), dtype=torch.float32)
    sizes = (features.shape[1], *HIDDEN, 1)
    linear = [torch.nn.Linear(m, n) for m, n in itertools.pairwise(sizes)]
    stack = [module for each in linear for module in (each, torch.nn.ReLU())][:-1]
    network = torch.nn.Sequential(*stack)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss = torch.nn.BCEWithLogitsLoss(reduction="none")
    for _ in range(steps):
        batch = torch.randint(0, len(x), (2048,))
        error = (loss(network(x[batch])[:, 0] + known[batch], y[batch]) * w[batch]).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
    layers = tuple(
        (each.weight.detach().numpy().T.copy(), each.bias.detach().numpy().copy())
        for each in linear
    )
    return Network(mean, deviation, layers)
