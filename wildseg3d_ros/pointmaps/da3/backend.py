"""The geometry back end: views in, pair predictions out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.core.devices import torch_device
from wildseg3d_ros.core.errors import ConfigError, ErrorCode, InputError, WildSeg3DError
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.models import call, ran_out_of_memory
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.pointmaps.confidence import UNIT_SIGMA
from wildseg3d_ros.pointmaps.da3.cameras import decode_cameras, encode_cameras
from wildseg3d_ros.pointmaps.da3.checkpoint import NON_COMMERCIAL, load_network
from wildseg3d_ros.pointmaps.da3.config import Da3PointmapConfig
from wildseg3d_ros.pointmaps.da3.images import Fitting
from wildseg3d_ros.pointmaps.da3.network import Architecture, Maps
from wildseg3d_ros.pointmaps.da3.noise import relative_precision
from wildseg3d_ros.pointmaps.da3.scale import Anchored, Scale, find_scale, relative_poses
from wildseg3d_ros.pointmaps.learned_matches import LearnedMatcher

Pair = tuple[int, int]


class Network(Protocol):
    """What is asked of the network; see :class:`.network.DepthAnything3`."""

    architecture: Architecture

    def steps(self, views: int) -> int:
        """How often ``step`` is called for that many views."""
        ...

    def __call__(
        self, images: Sequence[Tensor], cameras: Tensor | None, *, step: Callable[[], None]
    ) -> list[Maps]:
        """Maps of all views."""
        ...


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the network says of the views, in their images' pixels and its own unit.

    Attributes:
        depths: per view (H, W), 0 = none. precisions: see :func:`relative_precision`.
        poses: (N, 4, 4). K: per view (3, 3), given or found.
    """

    depths: list[NDArray[np.float32]]
    precisions: list[NDArray[np.float32]]
    poses: NDArray[np.float64]
    K: list[NDArray[np.float64]]


class Da3Pointmaps:
    """Pointmaps by Depth Anything 3: one depth map per view, shared by the view's pairs.

    With two or more given poses the maps are in metres, by the one scale of
    :func:`.scale.find_scale`; else in a unit that all views share, the cameras where the network
    sees them. Given intrinsics are used, others are the network's. The confidence is 1 cm over
    the standard deviation of the depth, see :mod:`.noise`.

    The weights are loaded when this is made.

    Args:
        config: the settings.
        network: one to use instead of loading weights.

    Raises:
        ConfigError: no such device, or an image size that is no multiple of the patch.
        FileError: the weights are absent, damaged or another model's.
    """

    def __init__(
        self, config: Da3PointmapConfig = Da3PointmapConfig(), network: Network | None = None
    ) -> None:
        self._config, self._licence = config, ""
        self._who = f"Depth Anything 3 weights '{config.weights}'"
        self._device = torch_device(config.device, "pointmaps.da3.device")
        if network is None:
            name = config.dtype
            if name == "auto":
                name = "bfloat16" if self._device.type == "cuda" else "float32"
            network, self._licence = load_network(
                config.weights, self._device, getattr(torch, name), self._check_image_size
            )
        self._network = network
        self._matcher = LearnedMatcher.of(config.matcher, "pointmaps.da3.matcher", config.device)

    def _check_image_size(self, architecture: Architecture) -> None:
        size, patch = self._config.image_size, architecture.backbone.patch
        if size % patch:
            below = size // patch * patch
            raise ConfigError(
                f"pointmaps.da3.image_size must be a multiple of {patch}, got {size}; the nearest "
                f"are {below} and {below + patch}"
            )

    def check(self, views: Sequence[View]) -> None:
        """Raises InputError when an image is too small."""
        for view in views:
            self._fitting(view)

    def predict(
        self, views: Sequence[View], pairs: Sequence[Pair], progress: Progress
    ) -> list[PairPrediction]:
        """Pointmaps and relative pose of each pair; the network sees all views of the pairs at
        once.

        Raises:
            InputError: an image is too small, or no scale brings the network's depth and the
                given poses together (BAD_CALIBRATION).
            WildSeg3DError: the network gave no numbers, or the views do not fit into memory.
            Cancelled: the caller asked to stop.
        """
        self.check(views)
        pairs = list(dict.fromkeys((int(a), int(b)) for a, b in pairs))
        wanted = sorted({view for pair in pairs for view in pair})
        if not wanted:
            return []
        chosen = [views[v] for v in wanted]
        count = _Counter(progress, self._network.steps(len(chosen)) + len(chosen) + len(pairs))
        if self._licence == NON_COMMERCIAL:
            progress.warn(f"the published weights of this size are under {self._licence}")
        seen = self._see(chosen, count.step)
        posed = [k for k, view in enumerate(chosen) if view.world_from_cam_prior is not None]
        scale = self._scale(chosen, seen, posed) if len(posed) > 1 else None
        maps = self._pointmaps(seen, scale, count.step)
        place = {k: number for number, k in enumerate(posed)}
        a_from_b = relative_poses(len(chosen), scale, place, seen.poses)
        index = {v: k for k, v in enumerate(wanted)}
        made = []
        for a, b in pairs:
            k, m = index[a], index[b]
            among = tuple(sorted((place.get(k, -1), place.get(m, -1))))
            made.append(
                PairPrediction(
                    a,
                    b,
                    *(maps[k][0], maps[m][0], maps[k][1], maps[m][1]),
                    a_from_b[k, m],
                    metric=scale is not None,
                    scale_source="camera poses",
                    doubtful=scale is not None and scale.poses.contradicts((among[0], among[1])),
                )
            )
            count.step()
        return made

    def _fitting(self, view: View) -> Fitting:
        patch = self._network.architecture.backbone.patch
        return Fitting.of(view, self._config.image_size, patch)

    def _see(self, views: Sequence[View], step: Callable[[], None]) -> _Seen:
        """What the network says of the views."""
        fittings = [self._fitting(view) for view in views]
        sizes = [fitting.inner for fitting in fittings]
        images = [fit.apply(view.image) for fit, view in zip(fittings, views, strict=True)]
        given = [
            None if view.K is None else fit.to_network(view.K)
            for fit, view in zip(fittings, views, strict=True)
        ]
        maps = self._run(images, _known_cameras(views, given, sizes), step)
        depths, confidences = zip(*(_numbers(each) for each in maps), strict=True)
        poses, found = _cameras(maps, sizes, views)
        K = [f if g is None else g for f, g in zip(found, given, strict=True)]
        precisions = relative_precision(depths, confidences, K)
        restored = [
            fit.restore(depth, precision, float(k[0, 0]))
            for fit, depth, precision, k in zip(fittings, depths, precisions, K, strict=True)
        ]
        full = [
            fit.to_image(k) if view.K is None else view.K
            for fit, view, k in zip(fittings, views, K, strict=True)
        ]
        return _Seen([r[0] for r in restored], [r[1] for r in restored], poses, full)

    def _run(
        self,
        images: Sequence[NDArray[np.float32]],
        cameras: NDArray[np.float32] | None,
        step: Callable[[], None],
    ) -> list[Maps]:
        device = self._device
        given = None if cameras is None else torch.from_numpy(cameras).to(device)
        try:
            with torch.inference_mode():
                tensors = [torch.from_numpy(image).to(device) for image in images]
                return call(self._who, self._network, tensors, given, step=step)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            raise WildSeg3DError(
                f"Depth Anything 3 ran out of memory on {device} with {len(images)} views at "
                f"once ({(str(error).splitlines() or ['MemoryError'])[0]}); set "
                "pointmaps.da3.image_size lower, its device to cpu, or use fewer cameras"
            ) from error

    def _scale(self, views: Sequence[View], seen: _Seen, posed: Sequence[int]) -> Scale:
        config = self._config
        sigma = np.array([(v.prior_translation_sigma, v.prior_rotation_sigma) for v in views])
        usual = config.prior_translation_sigma, config.prior_rotation_sigma
        problem = Anchored(
            [views[k] for k in posed],
            [seen.K[k] for k in posed],
            [np.where(seen.precisions[k] > 0, seen.depths[k], 0) for k in posed],
            seen.poses[list(posed)],
            np.where(sigma > 0, sigma, usual)[list(posed)],
            self._matcher,
        )
        return find_scale(problem, config.max_disagreement)

    def _pointmaps(
        self, seen: _Seen, scale: Scale | None, step: Callable[[], None]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Per view points (H, W, 3) in its camera's frame and confidence (H, W)."""
        factor = np.float32(1.0 if scale is None else scale.factor)
        deviation = max(self._config.relative_sigma, 0.0 if scale is None else scale.deviation)
        made = []
        for depth, precision, K in zip(seen.depths, seen.precisions, seen.K, strict=True):
            length = factor * depth
            confidence = np.zeros_like(length)
            np.divide(
                np.float32(UNIT_SIGMA / deviation) * precision,
                length,
                out=confidence,
                where=length > 0,
            )
            made.append((back_project(length, K), confidence))
            step()
        return made


class _Counter:
    """Steps of a known number as progress."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self._progress, self._steps, self._done = progress, steps, 0

    def step(self) -> None:
        self._done += 1
        self._progress.update(self._done / self._steps)


def _known_cameras(
    views: Sequence[View],
    given: Sequence[NDArray[np.float64] | None],
    sizes: Sequence[tuple[int, int]],
) -> NDArray[np.float32] | None:
    """(N, 9) for the network, which wants the cameras of all views or none."""
    poses = [v.world_from_cam_prior for v in views if v.world_from_cam_prior is not None]
    K = [k for k in given if k is not None]
    if len(poses) < len(views) or len(K) < len(views) or len(views) < 2:
        return None
    return encode_cameras(np.stack(poses), K, sizes)


def _numbers(maps: Maps) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Depth and confidence, 0 where either is no number."""
    depth, confidence = maps.depth.cpu().numpy(), maps.confidence.cpu().numpy()
    bad = ~(np.isfinite(depth) & np.isfinite(confidence) & (depth > 0))
    if (share := float(bad.mean())) > 0.01:
        raise _no_numbers(f"for {100 * share:.0f} % of the pixels of a view")
    return np.where(bad, np.float32(0), depth), np.where(bad, np.float32(0), confidence)


def _cameras(
    maps: Sequence[Maps], sizes: Sequence[tuple[int, int]], views: Sequence[View]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Poses (N, 4, 4) and intrinsics (N, 3, 3) of the network, for its pixels."""
    found = torch.stack([each.camera for each in maps]).float().cpu().numpy()
    try:
        poses, K = decode_cameras(found, sizes)
    except ValueError as error:
        raise _no_numbers(f"for a camera ({error})") from error
    if not (np.isfinite(poses).all() and np.isfinite(K).all()):
        raise _no_numbers("for a camera")
    for view, k, (height, width) in zip(views, K, sizes, strict=True):
        # The network's own limit: a field of view of nothing, or of half the world.
        if view.K is None and not (0.1 * width < k[0, 0] < 50 * width and k[1, 1] < 50 * height):
            raise InputError(
                f"the network found no field of view for camera '{view.name}'; give its "
                "intrinsics (camera_info, or fl_x, fl_y, cx, cy in transforms.json)",
                ErrorCode.BAD_CALIBRATION,
            )
    return poses, K


def _no_numbers(where: str) -> InputError:
    return InputError(
        f"Depth Anything 3 gave no numbers (NaN or infinity) {where}; are the weights damaged? "
        "Fetch them again, or set pointmaps.da3.dtype to float32",
        ErrorCode.INTERNAL,
    )
