"""Fits the networks to merges and nodes as the agglomeration meets them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray

from fitting.judge import expected_ious, node_counts
from fitting.scenes import TrueGraph
from wildseg3d_ros.masks.surface.features import prior_log_odds
from wildseg3d_ros.masks.surface.merge_tree import Score, merge_patches
from wildseg3d_ros.masks.surface.model import LIMIT, Network, ScoreModel
from wildseg3d_ros.masks.surface.node_features import node_features

Part = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]
"""Features (n, F), targets in [0, 1] and weights of some examples."""
ROUNDS = 2
"""Of merging with what was fitted before, and fitting to all merges so far (as in GALA)."""
HIDDEN = (64, 32)
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
        self.parts: list[Part] = []

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
    merge: Network | None = None
    parts: list[Part] = []
    with ProcessPoolExecutor(mp_context=get_context("fork")) as pool:
        for k in range(ROUNDS):
            seeds = [(seed, k, n) for n in range(len(scenes))]
            for examples in pool.map(partial(_pairs, merge=merge), scenes, seeds, chunksize=4):
                parts += examples
            features, target, weight = _joined(parts)
            rules = prior_log_odds(features)
            rate = steps if k == ROUNDS - 1 else steps // 2
            merge = fit_network(features, target, weight, rate, seed, rules)
        seeds = [(seed, ROUNDS, n) for n in range(len(scenes))]
        parts = list(pool.map(partial(_nodes, merge=merge), scenes, seeds, chunksize=4))
    assert merge is not None  # there is a round at least
    return ScoreModel(merge, fit_network(*_joined(parts), steps=steps, seed=seed))


def _score(merge: Network | None) -> Score:
    """Of pairs, by the rules alone where nothing was fitted yet."""
    return prior_log_odds if merge is None else ScoreModel(merge, merge).merge_log_odds


def _pairs(scene: TrueGraph, seed: tuple[int, ...], merge: Network | None) -> list[Part]:
    """Examples of a scene's pairs of clusters."""
    examples = Examples(scene, np.random.default_rng(seed))
    merge_patches(scene.graph, _score(merge), examples)
    return examples.parts


def _nodes(scene: TrueGraph, seed: tuple[int, ...], merge: Network | None) -> Part:
    """Examples of a scene's nodes."""
    graph, random = scene.graph, np.random.default_rng(seed)
    tree = merge_patches(graph, _score(merge))
    size = tree.shapes.voxels
    taken = (size >= FRAGMENT) | (random.random(len(size)) < 0.1)
    features = node_features(tree, graph.layers, graph.voxel_size)
    target = expected_ious(node_counts(tree, scene.counts), tree.patches)
    weight = np.sqrt(size) * np.where(size >= FRAGMENT, 1.0, 10.0)
    return features[taken], target[taken], weight[taken]


def _joined(parts: Sequence[Part]) -> Part:
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
