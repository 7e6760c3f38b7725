"""The geometry back end: views in, pair predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from wildseg3d_ros.core.components import components
from wildseg3d_ros.core.devices import available_memory, torch_device
from wildseg3d_ros.core.errors import ConfigError, ErrorCode, InputError
from wildseg3d_ros.core.parallel import THREADS
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.pairing import named_groups
from wildseg3d_ros.pointmaps.config import PointmapConfig
from wildseg3d_ros.pointmaps.mast3r.checkpoint import load_network
from wildseg3d_ros.pointmaps.mast3r.images import Fitting
from wildseg3d_ros.pointmaps.mast3r.inference import Encoded, Inference
from wildseg3d_ros.pointmaps.mast3r.matching import matched_flags
from wildseg3d_ros.pointmaps.mast3r.network import Architecture, Maps

_SUREST = 0.9
"""A pair is as sure as this quantile of its second view's confidences: views may share a corner
only."""


_BYTES_PER_PIXEL = 17
"""Of a prediction: point, confidence, matched flag."""

_SHARE_OF_MEMORY = 0.8
"""What the pairs' maps may take of the free memory: the alignment and the masks need some, too."""

_TOLERATED = 0.01
"""Share of a map that may be no number; more is a defect."""


class Mast3rPointmaps:
    """Pointmaps of pairs of RGB images by MASt3R, each pair with a scale of its own.

    The weights are loaded when this is made.

    Raises:
        ConfigError: no such device, or an image size that is no multiple of the patch.
        FileError: the weights are absent, damaged or another model's.
    """

    def __init__(self, config: PointmapConfig = PointmapConfig()) -> None:
        self._config = config.mast3r
        device = torch_device(self._config.device, "pointmaps.mast3r.device")
        name = self._config.dtype
        if name == "auto":
            name = "bfloat16" if device.type == "cuda" else "float32"
        self._network = load_network(
            self._config.weights, device, getattr(torch, name), self._check_image_size
        )
        self._encoded: list[tuple[NDArray[np.uint8], Encoded]] = []

    def _check_image_size(self, architecture: Architecture) -> None:
        size, patch = self._config.image_size, architecture.patch
        if size % patch:
            below = size // patch * patch
            raise ConfigError(
                f"pointmaps.mast3r.image_size must be a multiple of {patch}, got {size}; the "
                f"nearest are {below} and {below + patch}"
            )

    def check(self, views: Sequence[View]) -> None:
        """Raises InputError when an image is too small to be compared."""
        for view in views:
            self._fitting(view)

    def similarity(self, views: Sequence[View], progress: Progress) -> NDArray[np.float64]:
        """(N, N) likeness of the views by their pooled encoder tokens, 0..1, 0 on the diagonal.

        The tokens are kept for the next :meth:`predict`.
        """
        encoded = self._encode(views, range(len(views)), progress, len(views))
        pooled = torch.stack([each.tokens[0].float().mean(dim=0) for each in encoded.values()])
        # What all images have in common tells nothing.
        pooled = functional.normalize(pooled - pooled.mean(dim=0), dim=1, eps=1e-6)
        likeness = (0.5 + 0.5 * pooled @ pooled.T).clamp(0.0, 1.0).double().cpu().numpy()
        np.fill_diagonal(likeness, 0.0)
        return likeness

    def predict(
        self, views: Sequence[View], pairs: Sequence[tuple[int, int]], progress: Progress
    ) -> list[PairPrediction]:
        """Pointmaps of the pairs, in both directions when the configuration asks for them.

        Pairs whose second view the network cannot place surely are left out.

        Raises:
            ConfigError: the pairs' maps would take more memory than there is.
            InputError: an image is too small; or pairs are left out that were needed to connect
                the views (DISCONNECTED_VIEWS, the groups named).
            WildSeg3DError: the network gave no numbers, or a single pair does not fit into memory.
            Cancelled: the caller asked to stop.
        """
        self.check(views)
        directed = list(dict.fromkeys((int(a), int(b)) for a, b in pairs))
        if self._config.both_directions:
            directed = list(dict.fromkeys(directed + [(b, a) for a, b in directed]))
        self._check_memory(views, directed)
        wanted = sorted({view for pair in directed for view in pair})
        steps = len(wanted) + len(directed)
        encoded = self._encode(views, wanted, progress, steps)
        self._encoded = []
        run = Inference(self._network, self._config.batch_size, progress.warn)
        position = {view: number for number, view in enumerate(wanted)}
        local = [(position[a], position[b]) for a, b in directed]
        fittings = [self._fitting(view) for view in views]
        made: dict[tuple[int, int], Future[PairPrediction]] = {}
        # The processor brings maps back to the images' pixels while a GPU makes the next ones.
        with ThreadPoolExecutor(THREADS) as pool:
            for (a, b), one, two in run.decode([encoded[view] for view in wanted], local):
                pair = wanted[a], wanted[b]
                fetched = self._fetch([views[index].name for index in pair], one, two)
                parts = [fittings[index] for index in pair]
                made[pair] = pool.submit(_prediction, pair, parts, fetched)
                progress.update((len(wanted) + len(made)) / steps)
        return self._kept(views, [made[pair].result() for pair in directed], progress)

    def _check_memory(self, views: Sequence[View], directed: Sequence[tuple[int, int]]) -> None:
        """Raises ConfigError where the maps of all pairs do not fit: they are kept in the images'
        pixels until the scene is built, and the system would end the process in the middle."""
        free = available_memory()
        pixels = sum(views[v].size[0] * views[v].size[1] for pair in directed for v in pair)
        needed = _BYTES_PER_PIXEL * pixels
        if free is None or needed <= _SHARE_OF_MEMORY * free:
            return
        height, width = max((view.size for view in views), key=lambda size: size[0] * size[1])
        smaller = np.sqrt(_SHARE_OF_MEMORY * free / needed)
        one_way = ", one direction per pair (pointmaps.mast3r.both_directions: false)"
        raise ConfigError(
            f"the pointmaps of {len(directed)} directed pairs of {width}x{height} images take "
            f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free, of which "
            f"{_SHARE_OF_MEMORY:.0%} may be used. Give smaller images (about "
            f"{int(smaller * width)}x{int(smaller * height)}; the network sees "
            f"{self._config.image_size} pixels), fewer pairs (pairing.max_pairs_per_view)"
            f"{one_way if self._config.both_directions else ''}, or fewer cameras"
        )

    def _fitting(self, view: View) -> Fitting:
        return Fitting.of(view, self._config.image_size, self._network.architecture.patch)

    def _encode(
        self, views: Sequence[View], wanted: Sequence[int], progress: Progress, steps: int
    ) -> dict[int, Encoded]:
        """Tokens of the wanted views; those of the same images are not computed again."""
        known = {
            index: encoded
            for index in wanted
            for image, encoded in self._encoded
            if image is views[index].image
        }
        # Views of one size next to each other are encoded together.
        new = [index for index in wanted if index not in known]
        new.sort(key=lambda index: self._fitting(views[index]).inner)
        fitted = [self._fitting(views[index]).apply(views[index].image) for index in new]
        run = Inference(self._network, self._config.batch_size, progress.warn)
        for index, encoded in zip(new, run.encode(fitted), strict=True):
            known[index] = encoded
            progress.update(len(known) / max(steps, 1))
        self._encoded = [(views[index].image, known[index]) for index in wanted]
        return {index: known[index] for index in wanted}

    def _fetch(self, names: Sequence[str], one: Maps, two: Maps) -> list[_Fetched]:
        """The maps of a pair's two views in the processor's memory, with matched flags."""
        flags = matched_flags(one.descriptors, two.descriptors)
        fetched = []
        for maps, flag in zip((one, two), flags, strict=True):
            points, confidence = maps.points.cpu().numpy(), maps.confidence.cpu().numpy()
            _check_numbers(names, points, confidence, next(self._network.parameters()).dtype)
            fetched.append(_Fetched(points, confidence, flag.cpu().numpy()))
        return fetched

    def _kept(
        self, views: Sequence[View], made: Sequence[PairPrediction], progress: Progress
    ) -> list[PairPrediction]:
        """The pairs that are sure enough.

        Raises:
            InputError: without the others, views that the pairs connect fall apart.
        """
        least = self._config.min_confidence
        sure = [float(np.quantile(p.confidence_b, _SUREST)) for p in made]
        kept = [p for p, value in zip(made, sure, strict=True) if value >= least]
        count = len(views)
        asked = components(count, [(p.a, p.b) for p in made]).tolist()
        group = components(count, [(p.a, p.b) for p in kept]).tolist()
        if group != asked:
            raise InputError(
                f"the views fall into groups that the network cannot relate to each other: "
                f"{named_groups(views, group)}. It places no view of one surely in a view of "
                f"another (confidence at most {self._best_between(made, sure, group):.2f}, least "
                f"{least:g}: pointmaps.mast3r.min_confidence). Add views that see what two groups "
                "show, leave views out, or lower min_confidence",
                ErrorCode.DISCONNECTED_VIEWS,
            )
        for p, value in zip(made, sure, strict=True):
            if value < least:
                progress.warn(
                    f"pair '{views[p.a].name}' - '{views[p.b].name}' is left out: the network is "
                    f"not sure how they lie to each other (confidence {value:.2f} of {least:g})"
                )
        return kept

    @staticmethod
    def _best_between(
        made: Sequence[PairPrediction], sure: Sequence[float], group: Sequence[int]
    ) -> float:
        return max(value for p, value in zip(made, sure, strict=True) if group[p.a] != group[p.b])


@dataclass(frozen=True, eq=False)
class _Fetched:
    """Points, confidence and matched flags of a view in the network's pixels."""

    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    matched: NDArray[np.bool_]


def _prediction(
    pair: tuple[int, int], fittings: Sequence[Fitting], fetched: Sequence[_Fetched]
) -> PairPrediction:
    """The pair in the pixels of its views' images."""
    (points_a, sure_a), (points_b, sure_b) = (
        fitting.restore(each.points, each.confidence)
        for fitting, each in zip(fittings, fetched, strict=True)
    )
    matched_a, matched_b = (
        fitting.restore_flags(each.matched)
        for fitting, each in zip(fittings, fetched, strict=True)
    )
    return PairPrediction(
        *pair,
        points_a,
        points_b,
        sure_a,
        sure_b,
        roughly_metric=True,
        matched_a=matched_a,
        matched_b=matched_b,
    )


def _check_numbers(
    names: Sequence[str],
    points: NDArray[np.float32],
    confidence: NDArray[np.float32],
    dtype: torch.dtype,
) -> None:
    """Takes the confidence from pixels without a finite point; raises where these are many."""
    bad = ~(np.isfinite(points).all(axis=-1) & np.isfinite(confidence))
    if bad.mean() > _TOLERATED:
        name = str(dtype).removeprefix("torch.")
        way_out = (
            "float16 overflows: set pointmaps.mast3r.dtype to bfloat16 or float32"
            if dtype == torch.float16
            else "are the weights damaged? Fetch them again"
        )
        raise InputError(
            f"MASt3R gave no numbers (NaN or infinity) for {100 * bad.mean():.0f} % of the points "
            f"of pair {' - '.join(map(repr, names))} in {name}; {way_out}",
            ErrorCode.INTERNAL,
        )
    if bad.any():
        confidence[bad] = 0.0
        points[bad] = 0.0
