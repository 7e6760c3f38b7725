"""The learned scores: two networks of a few kilobytes, fitted on simulated scenes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.arrays import read_npz
from wildseg3d_ros.masks.surface.features import PAIR_FEATURES, prior_log_odds
from wildseg3d_ros.masks.surface.node_features import NODE_FEATURES

MODEL_FILES = {False: "scores.npz", True: "scores_learned.npz"}
"""Beside this module, for surfaces without and with affinities of a network; ``python -m fitting``
makes them anew."""

LIMIT = 4.0
"""Standard deviations from the mean that features are limited to: beyond what was fitted to, a
network has no word. Chosen among 2 and 4 on simulated scenes."""


@dataclass(frozen=True, eq=False)
class Network:
    """A multilayer perceptron with ReLU.

    Attributes:
        mean, deviation: (F,) of the features that it was fitted on.
        layers: weights (inputs, outputs) and bias (outputs,) of each; the last has one output.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) log-odds for features (n, F)."""
        x = np.clip((features - self.mean) / self.deviation, -LIMIT, LIMIT)
        for k, (weight, bias) in enumerate(self.layers):
            x = x @ weight + bias
            if k < len(self.layers) - 1:
                x = np.maximum(x, 0.0)
        return x[:, 0].astype(np.float64)

    def arrays(self, name: str) -> dict[str, NDArray]:
        """What a file stores."""
        stored = {f"{name}_mean": self.mean, f"{name}_deviation": self.deviation}
        for k, (weight, bias) in enumerate(self.layers):
            stored |= {f"{name}_weight_{k}": weight, f"{name}_bias_{k}": bias}
        return stored

    @classmethod
    def of_arrays(cls, name: str, stored: Mapping[str, NDArray]) -> Self:
        """The network that :meth:`arrays` stored."""
        layers = []
        while f"{name}_weight_{len(layers)}" in stored:
            k = len(layers)
            layers.append((stored[f"{name}_weight_{k}"], stored[f"{name}_bias_{k}"]))
        return cls(stored[f"{name}_mean"], stored[f"{name}_deviation"], tuple(layers))


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """What decides on merges and objects.

    Attributes:
        merge: correction of the rules' log-odds of two clusters being of one object, from their
            pair features.
        node: log-odds whose probability is the IoU that is expected of a node, from its features.
        affinities: SHA-256 of the network whose affinities were among the features, "" = none.
    """

    merge: Network
    node: Network
    affinities: str = ""

    def merge_log_odds(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) log-odds of pairs of clusters: those of plain rules, corrected by the network.
        Together they do better on scenes that nothing was fitted to than either."""
        return self.merge(features) + prior_log_odds(features)

    @classmethod
    def load(cls, path: str) -> Self:
        """Reads a file.

        Raises:
            FileError: it cannot be read, or was fitted to other features than this version
                measures.
        """
        try:
            return cls._of(path, read_npz(path, "scores of the masks"))
        except (ValueError, KeyError) as error:
            raise FileError(
                f"cannot read the scores of the masks '{path}' ({error}): install the package anew"
            ) from error

    @classmethod
    def _of(cls, path: str, arrays: dict[str, NDArray]) -> Self:
        names = tuple(arrays["pair_features"]), tuple(arrays["node_features"])
        if names != (PAIR_FEATURES, NODE_FEATURES):
            raise FileError(
                f"the scores in '{path}' were fitted to other features than this version "
                "measures: install the package anew, or, in a clone, fit them again by `make fit`"
            )
        merge, node = (Network.of_arrays(name, arrays) for name in ("merge", "node"))
        return cls(merge, node, str(arrays["affinities"]))

    def save(self, path: str) -> None:
        """Writes a file that :meth:`load` reads."""
        arrays = self.merge.arrays("merge") | self.node.arrays("node")
        arrays["pair_features"] = np.array(PAIR_FEATURES)
        arrays["node_features"] = np.array(NODE_FEATURES)
        arrays["affinities"] = np.array(self.affinities)
        np.savez_compressed(path, allow_pickle=False, **arrays)


@cache
def default_model(affinities: bool) -> ScoreModel:
    """The model of the package, for surfaces with or without affinities; each is read once."""
    return ScoreModel.load(str(Path(__file__).with_name(MODEL_FILES[affinities])))
