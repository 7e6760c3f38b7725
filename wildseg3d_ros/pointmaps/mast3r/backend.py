"""The geometry back end: views in, pair predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from wildseg3d_ros.core.arrays import Array, to_numpy
from wildseg3d_ros.core.devices import available_memory, torch_device
from wildseg3d_ros.core.errors import ConfigError, DisconnectedViews, ErrorCode, InputError
from wildseg3d_ros.core.parallel import THREADS
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.pairing import named_groups, parted_groups
from wildseg3d_ros.pointmaps.mast3r.checkpoint import load_network
from wildseg3d_ros.pointmaps.mast3r.config import Mast3rPointmapConfig
from wildseg3d_ros.pointmaps.mast3r.images import Fitting
from wildseg3d_ros.pointmaps.mast3r.inference import (
    SHARE_OF_MEMORY,
    Encoded,
    Inference,
    free_on_gpu,
)
from wildseg3d_ros.pointmaps.mast3r.matching import matched_flags
from wildseg3d_ros.pointmaps.mast3r.network import Architecture, Maps, Mast3r

VISIBLE_CUT = 0.05
"""Share of an image that is said to be cut away; less than half a patch at its edges is not."""


class Mast3rPointmaps:
    """Pointmaps of pairs of RGB images by MASt3R, each pair with a scale of its own.

    The weights are loaded when this is made.

    Raises:
        ConfigError: no such device, or an image size that is no multiple of the patch.
        FileError: the weights are absent, damaged or another model's.
    """

    def __init__(self, config: Mast3rPointmapConfig = Mast3rPointmapConfig()) -> None:
        self._config = config
        device = torch_device(config.device, "pointmaps.mast3r.device")
        name = config.dtype
        if name == "auto":
            name = "bfloat16" if device.type == "cuda" else "float32"
        dtype = getattr(torch, name)
        self._network = load_network(config.weights, device, dtype, self._check_image_size)
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
        """(N, N) similarity of the views by their pooled encoder tokens, 0..1, 0 on the diagonal.

        The tokens are kept for the next :meth:`predict`.
        """
        encoded = self._encode(views, range(len(views)), progress, len(views))
        pooled = torch.stack([each.tokens[0].float().mean(dim=0) for each in encoded.values()])
        # What all images have in common tells nothing.
        pooled = functional.normalize(pooled - pooled.mean(dim=0), dim=1, eps=1e-6)
        similarity = (0.5 + 0.5 * pooled @ pooled.T).clamp(0.0, 1.0).double().cpu().numpy()
        np.fill_diagonal(similarity, 0.0)
        return similarity

    def predict(
        self, views: Sequence[View], pairs: Sequence[tuple[int, int]], progress: Progress
    ) -> list[PairPrediction]:
        """Pointmaps of the pairs, in both directions when the configuration asks for them.

        Pairs in whose second view the network has little confidence are left out.

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
        needed = self._check_memory(views, directed)
        wanted = sorted({view for pair in directed for view in pair})
        self._warn_of_cuts([views[index] for index in wanted], progress)
        steps = len(wanted) + len(directed)
        encoded = self._encode(views, wanted, progress, steps)
        self._encoded = []
        run = self._inference(progress, reserved=needed if self._config.keep_on_device else 0)
        fittings = [self._fitting(view) for view in views]
        made: dict[tuple[int, int], Future[PairPrediction]] = {}
        # Maps are brought back to the images' pixels while the network makes the next ones.
        with ThreadPoolExecutor(THREADS) as pool:
            for pair, one, two in run.decode(encoded, directed):
                fetched = self._fetch([views[index].name for index in pair], one, two)
                parts = [fittings[index] for index in pair]
                made[pair] = pool.submit(_prediction, pair, parts, fetched)
                progress.update((len(wanted) + len(made)) / steps)
        return self._kept(views, [made[pair].result() for pair in directed], progress)

    @property
    def _device(self) -> torch.device:
        return next(self._network.parameters()).device

    def _inference(self, progress: Progress, reserved: int = 0) -> Inference:
        return Inference(self._network, self._config.batch_size, progress.warn, reserved)

    def _check_memory(self, views: Sequence[View], directed: Sequence[tuple[int, int]]) -> int:
        """Bytes of the maps of all pairs, which are kept in the images' pixels until the scene is
        built.

        Raises:
            ConfigError: they do not fit; the system would end the process in the middle.
        """
        on_gpu = self._config.keep_on_device and self._device.type == "cuda"
        free = free_on_gpu(self._device) if on_gpu else available_memory()
        pixels = sum(views[v].size[0] * views[v].size[1] for pair in directed for v in pair)
        # Point and confidence as float32, matched flag.
        needed = (4 * 4 + 1) * pixels
        if free is None or needed <= SHARE_OF_MEMORY * free:
            return needed
        height, width = max((view.size for view in views), key=lambda size: size[0] * size[1])
        smaller = np.sqrt(SHARE_OF_MEMORY * free / needed)
        ways = ["fewer pairs (pairing.max_pairs_per_view)"]
        if self._config.both_directions:
            ways.append("one direction per pair (pointmaps.mast3r.both_directions: false)")
        if on_gpu:
            ways.append("the processor's memory (pointmaps.mast3r.keep_on_device: false)")
        raise ConfigError(
            f"the pointmaps of {len(directed)} directed pairs of {width}x{height} images take "
            f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free"
            f"{f' on {self._device}' if on_gpu else ''}, of which {SHARE_OF_MEMORY:.0%} may be "
            f"used. Give smaller images (about {int(smaller * width)}x{int(smaller * height)}; "
            f"the network sees {self._config.image_size} pixels), {', '.join(ways)}, or fewer "
            "cameras"
        )

    def _fitting(self, view: View) -> Fitting:
        return Fitting.of(view, self._config.image_size, self._network.architecture.patch)

    def _warn_of_cuts(self, views: Sequence[View], progress: Progress) -> None:
        """Names the cameras of whose images a visible part gets no points of its own."""
        cut = [(view, lost) for view in views if (lost := self._fitting(view).lost) > VISIBLE_CUT]
        if cut:
            named = ", ".join(f"'{view.name}' ({lost:.0%})" for view, lost in cut)
            progress.warn(
                "images nearer to a square than 4:3 are cut to 4:3, as the network was trained: "
                f"what is cut away has no points, of cameras {named}. Images of 4:3 or wider lose "
                "nothing"
            )

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
        run = self._inference(progress)
        for index, encoded in zip(new, run.encode(fitted), strict=True):
            known[index] = encoded
            progress.update(len(known) / max(steps, 1))
        self._encoded = [(views[index].image, known[index]) for index in wanted]
        return {index: known[index] for index in wanted}

    def _fetch(self, names: Sequence[str], one: Maps, two: Maps) -> list[_ViewMaps]:
        """The maps of a pair's two views, with matched flags, where they are to be kept."""
        flags = matched_flags(one.descriptors, two.descriptors)
        fetched = []
        for maps, flag in zip((one, two), flags, strict=True):
            bad = ~(maps.points.isfinite().all(dim=-1) & maps.confidence.isfinite())
            _check_numbers(names, float(bad.float().mean()), self._network)
            # Without a finite point there is no confidence.
            points = maps.points.masked_fill(bad[..., None], 0)
            made = points, maps.confidence.masked_fill(bad, 0), flag.clone()
            keep = self._config.keep_on_device
            fetched.append(made if keep else tuple(map(to_numpy, made)))
        return fetched

    def _kept(
        self, views: Sequence[View], made: Sequence[PairPrediction], progress: Progress
    ) -> list[PairPrediction]:
        """The pairs of enough confidence.

        Raises:
            InputError: without the others, views that the pairs connect fall apart.
        """
        limit = self._config.min_confidence
        confidence = {(p.a, p.b): _second_confidence(p) for p in made}
        kept = [pair for pair, value in confidence.items() if value >= limit]
        groups = parted_groups(len(views), kept, list(confidence))
        if groups:
            between = [
                value
                for pair, value in confidence.items()
                if any((pair[0] in group) != (pair[1] in group) for group in groups)
            ]
            raise DisconnectedViews(
                f"the views fall into groups that the network cannot relate to each other: "
                f"{named_groups(views, groups)}. No pair between two groups has enough confidence "
                f"(at most {max(between):.2f}, needed {limit:g}: "
                "pointmaps.mast3r.min_confidence). Add views that see what two groups show, leave "
                "views out, or lower min_confidence",
                groups,
                f"the network's confidence in no pair with the other views reaches "
                f"{limit:g} (at most {max(between):.2f})",
                [p for p in made if confidence[p.a, p.b] >= limit],
            )
        for (a, b), value in confidence.items():
            if value < limit:
                progress.warn(
                    f"pair '{views[a].name}' - '{views[b].name}' is left out: the network's "
                    f"confidence in it is {value:.2f}, needed {limit:g}"
                )
        return [p for p in made if confidence[p.a, p.b] >= limit]


_ViewMaps = tuple[Array, Array, Array]
"""Points, confidence and matched flags of a view of a pair: NumPy's, or tensors."""


def _prediction(
    pair: tuple[int, int], fittings: Sequence[Fitting], fetched: Sequence[_ViewMaps]
) -> PairPrediction:
    """The pair in the pixels of its views' images."""
    (points_a, confidence_a, matched_a), (points_b, confidence_b, matched_b) = (
        (*fitting.restore(points, confidence), fitting.restore_flags(matched))
        for fitting, (points, confidence, matched) in zip(fittings, fetched, strict=True)
    )
    maps = points_a, points_b, confidence_a, confidence_b
    matched = {"matched_a": matched_a, "matched_b": matched_b}
    return PairPrediction(*pair, *maps, roughly_metric=True, **matched)


def _second_confidence(prediction: PairPrediction) -> float:
    """How confident the network is of a pair, by the second view: views may share a corner only,
    so that its most confident tenth counts."""
    confidence, quantile = prediction.confidence_b, 0.9
    if isinstance(confidence, np.ndarray):
        return float(np.quantile(confidence, quantile))
    # torch.quantile takes 16 million values at most.
    ordered = torch.as_tensor(confidence).flatten().sort().values
    place = quantile * (len(ordered) - 1)
    low, high = ordered[int(place)], ordered[int(np.ceil(place))]
    return float(torch.lerp(low, high, place % 1.0))


def _check_numbers(names: Sequence[str], bad: float, network: Mast3r) -> None:
    """Raises where more than a hundredth of a map's points is no number: that is a defect."""
    if bad <= 0.01:
        return
    dtype = next(network.parameters()).dtype
    way_out = (
        "float16 overflows: set pointmaps.mast3r.dtype to bfloat16 or float32"
        if dtype == torch.float16
        else "are the weights damaged? Fetch them again"
    )
    raise InputError(
        f"MASt3R gave no numbers (NaN or infinity) for {100 * bad:.0f} % of the points of pair "
        f"{' - '.join(map(repr, names))} in {str(dtype).removeprefix('torch.')}; {way_out}",
        ErrorCode.INTERNAL,
    )
