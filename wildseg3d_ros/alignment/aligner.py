"""Dynamic global alignment, step by step: pairs in, cameras and world pointmaps out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment import register_view
from wildseg3d_ros.alignment.assembly import Problem, assemble
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.fuse import fuse, fuse_view
from wildseg3d_ros.alignment.fusion.view_surfaces import sample_views
from wildseg3d_ros.alignment.graph.graph import Graph, check_pairs, pair_name, usable_pairs
from wildseg3d_ros.alignment.graph.initialization import continue_from, initialize
from wildseg3d_ros.alignment.graph.sampling import Samples, weigh
from wildseg3d_ros.alignment.prior_consistency import (
    Verified,
    check_relative_poses,
    verify,
)
from wildseg3d_ros.alignment.solve.gauss_newton import solve
from wildseg3d_ros.alignment.solve.residuals import refuse_beyond
from wildseg3d_ros.alignment.solve.robust import SolvedPairs, all_pairs, solve_pairs
from wildseg3d_ros.core.components import component_lists
from wildseg3d_ros.core.devices import blas_on_one_thread
from wildseg3d_ros.core.errors import AlignmentError
from wildseg3d_ros.core.types import (
    Alignment,
    MaskCache,
    PairPrediction,
    RelativePose,
    View,
    WorldPointmaps,
)

_NOT_SOLVED = "there is no solution to fuse: call solve() first"


class Aligns(Protocol):
    """What solves and fuses the same pairs several times, as more is known of the objects."""

    def solve(self, masks: MaskCache | None = None) -> Alignment:
        """Cameras and pairs in one world; with the masks' scores where there are masks."""
        ...

    def fuse(self) -> WorldPointmaps:
        """The world pointmaps of the last solution."""
        ...


class Aligner:
    """Brings all pairs and cameras into one world.

    What the solve needs of the pairs' maps is read once, when the aligner is made: maps that
    change in place afterwards do not change its solutions. :meth:`fuse` reads every pixel: the
    maps must then be those that were aligned. A second solve starts from the first
    one's poses, and pairs that contradicted the others are left out from its start.

    >>> from wildseg3d_ros.config import SceneConfig
    >>> from wildseg3d_ros.core.progress import Progress
    >>> from wildseg3d_ros.io.folder import load_folder
    >>> from wildseg3d_ros.pointmaps import load_pointmaps
    >>> views = load_folder("recording").views
    >>> pairs = [(0, 1), (1, 2)]
    >>> predictions = load_pointmaps(SceneConfig().pointmaps).predict(views, pairs, Progress())
    >>> aligner = Aligner(predictions, views)
    >>> aligner.solve().world_from_cam.shape
    (3, 4, 4)
    >>> len(aligner.fuse().points)  # a map of every view
    3
    """

    def __init__(
        self,
        predictions: Sequence[PairPrediction],
        views: Sequence[View],
        config: AlignmentConfig = AlignmentConfig(),
        relative_poses: Sequence[RelativePose] = (),
    ) -> None:
        """
        Args:
            predictions: one or more pairs that connect all views; both pointmaps of a pair have
                the size of their view's image. Points with confidence 0 or NaN anywhere are left
                out. Maps may be NumPy arrays, or tensors on a GPU.
            views: all views that the pairs refer to by index.
            relative_poses: known poses between some of the cameras.

        Raises:
            AlignmentError: there is no pair.
            InputError: a pair's indices or sizes do not fit the views.
        """
        check_pairs(predictions, views)
        check_relative_poses(relative_poses, views)
        if not predictions:
            raise AlignmentError(
                f"there is no pair to align {len(views)} view(s) with; do the views overlap, and "
                "do they have points (depth in range, confidence above 0)?"
            )
        self._problem = Problem(
            tuple(predictions),
            tuple(views),
            config,
            tuple(relative_poses),
            sample_views(predictions, views),
        )
        self._samples = Samples.of(predictions, views, config)
        self._pairs: SolvedPairs | None = None
        self._alignment: Alignment | None = None

    @blas_on_one_thread()
    def solve(self, masks: MaskCache | None = None) -> Alignment:
        """Solves all pairs; see :func:`align`.

        Raises:
            AlignmentError: the pairs do not connect all views (``ErrorCode.DISCONNECTED_VIEWS``,
                the groups named), or the answer is beyond a configured limit.
        """
        views, config = self._problem.views, self._problem.config
        names = [pair_name(pair, views) for pair in self._problem.predictions]
        graph, warnings = usable_pairs(weigh(self._samples, config, masks), names, views)
        result = self._solve_pairs(graph)
        known = self._verify(result)
        if known.outvoted.any() and _connects(result.graph.edges[~known.outvoted], len(views)):
            warnings += [
                f"pair {names[e]} contradicts another pair and the given pose, and is left out"
                for e in result.graph.ids[known.outvoted]
            ]
            graph = result.graph.select(~known.outvoted)
            result = solve_pairs(graph, initialize(graph), config)
            known = self._verify(result)
        result = self._with_priors(result, known)
        warnings += [*known.warnings, *result.warnings(names, config)]
        alignment = assemble(self._problem, masks, result, known, warnings)
        refuse_beyond(alignment, views, config)
        self._pairs, self._alignment = result, alignment
        return alignment

    def fuse(self) -> WorldPointmaps:
        """The world pointmaps of the last solution; see :func:`fuse`.

        Raises:
            RuntimeError: nothing was solved yet.
        """
        if self._alignment is None:
            raise RuntimeError(_NOT_SOLVED)
        problem = self._problem
        return fuse(problem.predictions, problem.views, self._alignment, problem.config)

    def _solve_pairs(self, graph: Graph) -> SolvedPairs:
        """From the last solution, where there is one."""
        last = self._pairs
        start = last and continue_from(last.graph, last.poses, last.kept, graph)
        poses, kept = start or (initialize(graph), None)
        return solve_pairs(graph, poses, self._problem.config, kept)

    def _verify(self, result: SolvedPairs) -> Verified:
        """What the pairs alone bear out of what is known beforehand."""
        problem = self._problem
        if not problem.relative_poses and all(
            view.world_from_cam_prior is None and view.depth is None for view in problem.views
        ):
            return Verified(None, (), ())
        return verify(
            problem.predictions, problem.views, result, problem.relative_poses, problem.config
        )

    def _with_priors(self, result: SolvedPairs, known: Verified) -> SolvedPairs:
        """Solves once more with those priors that the pairs alone bear out."""
        if known.priors is None:
            return result
        priors = known.priors.select(result.kept)
        solution = solve(
            result.current, result.solution.poses, self._problem.config, priors, is_near=True
        )
        poses, distance = all_pairs(result.graph, result.kept, solution)
        iterations = result.iterations + solution.iterations
        return replace(
            result, solution=solution, poses=poses, distance=distance, iterations=iterations
        )


def _connects(edges: NDArray[np.int64], count: int) -> bool:
    return len(component_lists(count, edges)) == 1


@dataclass(eq=False)
class ViewAligner:
    """Brings one view that was added or replaced into a world that stands.

    The other views' world pointmaps stay where they are. The attributes are the arguments of
    :func:`align_view`.
    """

    pairs: Sequence[PairPrediction]
    views: Sequence[View]
    changed: int
    start: Alignment
    world: WorldPointmaps
    config: AlignmentConfig = AlignmentConfig()
    _alignment: Alignment | None = field(default=None, init=False)

    def solve(self, masks: MaskCache | None = None) -> Alignment:
        """Solves the view's pairs; see :func:`align_view`."""
        self._alignment = register_view.align_view(
            self.pairs, self.views, self.changed, self.start, self.world, self.config, masks
        )
        return self._alignment

    def fuse(self) -> WorldPointmaps:
        """All world pointmaps, the view's made anew; RuntimeError where nothing was solved."""
        if self._alignment is None:
            raise RuntimeError(_NOT_SOLVED)
        return fuse_view(
            self.pairs, self.views, self.changed, self._alignment, self.world, self.config
        )


def align(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    config: AlignmentConfig = AlignmentConfig(),
    masks: MaskCache | None = None,
    relative_poses: Sequence[RelativePose] = (),
) -> Alignment:
    """Brings all pairs and cameras into one world: one solve of an :class:`Aligner`.

    Minimises ``sum_e sum_v sum_i W_i |chi_i^v - (sigma_e R_e x_i^{v,e} + t_e)|`` robustly over
    the world points chi and one similarity per pair e (WildSeg3D, dynamic global alignment). Where
    no pair is metric, the product of the used pairs' scales is fixed to 1, or they are brought to
    the given poses' scale; pairs with ``metric=True`` keep scale 1. Pairs that contradict the
    others are left out and named in ``warnings``.

    The world is the frame of the given camera poses when there are any that fix it (and then
    metric), else camera 0's frame. Given poses of views always set the finished world's frame.
    Where their deviations are said (by the view or in ``config``) they also enter the solve, as
    relative poses and the depth images of views with pairs of unknown scale do, weighed against
    the pairs' own residuals; a prior that the pairs contradict is left out and its camera named in
    ``warnings``. A prior acts on a camera through the pairs that have a map in its frame.

    Args:
        masks: object masks with soft scores; without them every pixel's score is 1.
        Others: as of :class:`Aligner`.

    Raises:
        AlignmentError, InputError: as :class:`Aligner` and its :meth:`~Aligner.solve`.
    """
    return Aligner(predictions, views, config, relative_poses).solve(masks)
