"""The judge of a rig: what its views bear out, what contradicts, which mistake explains it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.factor_graph import outlier_limit
from wildseg3d_ros.core.types import View
from wildseg3d_ros.rig import mistakes
from wildseg3d_ros.rig.cameras import Cameras, Evidence, all_pairs, chosen_pairs
from wildseg3d_ros.rig.focal import fit_focal_length
from wildseg3d_ros.rig.matches import Matches, pairs_to_match
from wildseg3d_ros.rig.mistakes import Mistake
from wildseg3d_ros.rig.plausible import of_geometry, of_image
from wildseg3d_ros.rig.pose_error import most_likely_nearby
from wildseg3d_ros.rig.report import (
    ONLY_PLANES,
    CameraReport,
    Finding,
    RigReport,
    Verdict,
    percent,
)
from wildseg3d_ros.rig.surfaces import Surfaces

_CLEARLY = 0.75
"""Share of a mistake's log ratio that the cameras as given may have for it to be named. Right
cameras, give or take an honest error, have more than any mistake in constructed rigs."""

_ENOUGH = 25.0
"""Log ratio that a mistake has to have, so that none of some 500 that are tried wins by chance: of
cameras that look at different tables, with things of the same kinds, up to 21."""

_TOLD = 5.0
"""Log ratio, up or down, from which something is told about a camera."""

_ALMOST_ALL = 0.93
"""Share of what two right cameras compare that agrees, where little but planes tells."""

_THINNED = 4
"""For the search, each so-manieth point; the best are compared again by all."""


def judge(views: Sequence[View]) -> RigReport:
    """Compares views as given, and as they would be if a usual mistake had been made.

    Args:
        views: of one static scene. Those without pose or intrinsics take no part; depth is
            evidence where both views of a pair have it, and matched features elsewhere.
    """
    report = _compared(views)
    cameras = [
        camera.doubted(of_image(view), of_geometry(view))
        for camera, view in zip(report.cameras, views, strict=True)
    ]
    return replace(report, cameras=tuple(cameras))


def _compared(views: Sequence[View]) -> RigReport:
    index = [
        v for v, view in enumerate(views)
        if view.world_from_cam_prior is not None and view.K is not None
    ]  # fmt: skip
    if len(index) < 2:
        return RigReport(tuple(_unposed(view) for view in views))
    posed = [views[v] for v in index]
    surfaces = Surfaces(posed)
    rig = _Judged(posed, surfaces, _Both(posed, surfaces))
    finding, about = rig.finding()
    if finding is None and not surfaces.measured.any():
        finding, about = rig.focal_length()
    elif finding is None and not rig.is_certain:
        rig = _Judged(posed, surfaces, _Both(posed, surfaces, match_all=True))
        finding, about = rig.finding()
    reports = {v: rig.report(k, about) for k, v in enumerate(index)}
    return RigReport(
        tuple(reports.get(v) or _unposed(view) for v, view in enumerate(views)), finding
    )


class _Both:
    """Evidence of depth where both views have it, and of features elsewhere or everywhere."""

    def __init__(self, views: Sequence[View], surfaces: Surfaces, match_all: bool = False) -> None:
        self._surfaces = surfaces
        pairs = pairs_to_match(len(views))
        if not match_all:
            pairs = pairs[~surfaces.measured[pairs].all(axis=1)]
        self.matches = Matches(views, pairs) if len(pairs) else None

    def evidence(self, cameras: Cameras, pairs: NDArray[np.int64], thinned: int = 1) -> Evidence:
        found = self._surfaces.evidence(cameras, pairs, thinned)
        if self.matches is not None:
            found = found + self.matches.evidence(cameras, pairs, thinned)
        return found


class _Judged:
    """Views with poses, their evidence as given, and the search for a mistake."""

    def __init__(self, views: Sequence[View], surfaces: Surfaces, source: _Both) -> None:
        self.views = views
        self.cameras = Cameras.of(views)
        self.source = source
        self.depth = surfaces.median_depth
        self.look_the_same = surfaces.look_the_same()
        self.pairs = chosen_pairs(self.cameras, self.source)
        self.given = self.source.evidence(self.cameras, self.pairs)
        measured = self.depth[np.isfinite(self.depth)]
        # Images alone know no scale.
        both = surfaces.measured.sum() > 1
        self.median_depth = float(np.median(measured)) if both else float("nan")

    @property
    def is_certain(self) -> bool:
        """Whether surfaces that are no plane bear every camera out."""
        own = (self.pairs[:, :, None] == np.arange(len(self.views))).any(axis=1).T
        return bool((own @ self.given.solid >= _ENOUGH).all())

    @cached_property
    def nearby(self) -> Evidence:
        """Evidence for the given cameras, give or take an honest error of their poses."""
        cameras = most_likely_nearby(self.cameras, self.source, self.pairs)
        return self.source.evidence(cameras, self.pairs)

    def finding(self) -> tuple[Finding | None, frozenset[int]]:
        """The mistake that explains the evidence far better than the given cameras do, and the
        views that it is about."""
        best = self._likeliest(self._mistakes(), _THINNED)[:8]
        for k, mistake in enumerate(best[:3]):
            best[k] = self._likeliest([mistake, *mistakes.refined(mistake)], 1)[0]
        for mistake in self._likeliest(best, 1):
            if self._is_clear(mistake):
                concerned = self._concerned(mistake)
                mended = self._mended(mistake, concerned, 1)
                about = frozenset(mistake.views or range(len(self.views)))
                return self._named(mistake, self.given.select(concerned), mended), about
        return None, frozenset()

    def focal_length(self) -> tuple[Finding | None, frozenset[int]]:
        """A focal length that all cameras have wrong, by plain images."""
        matches = self.source.matches
        fit = None if matches is None else fit_focal_length(self.cameras, matches)
        if fit is None or 2.0 * fit.gain < outlier_limit(1) ** 2 or fit.is_honest:
            return None, frozenset()
        mistake = mistakes.of_focal_length(fit.factor, fit.whole)
        mended = self._mended(mistake, self._concerned(mistake), 1)
        found = replace(
            self._named(mistake, self.given, mended),
            text=f"as given {percent(fit.given)} of the images' matches lie on their epipolar "
            f"lines, {mistake.reading} {percent(fit.fitted)}, and the poses need not be moved for "
            f"it: {mistake.text}; {mistake.remedy}",
        )
        return found, frozenset(range(len(self.views)))

    def _is_clear(self, mistake: Mistake) -> bool:
        """Whether the evidence with the mistake mended is far above that as given, give or take an
        honest error, for most of the cameras that it is about; by all points, or by those that are
        on no plane."""
        concerned = self._concerned(mistake)
        mended = self._mended(mistake, concerned, 1)
        views = np.array(mistake.views or range(len(self.views)))
        of_view = (self.pairs[concerned][:, :, None] == views).any(axis=1).T
        clear: list[bool] = []
        best: Evidence | None = None
        for weighed in (_all, _solid):
            found = weighed(mended).sum() - mistake.rarity
            told = of_view @ weighed(mended) >= _TOLD
            given = weighed(self.given)[concerned].sum()
            # A right camera may have hardly anything in common with the others: one of 3, 2 of 7.
            most_told = (~told).sum() <= (len(views) + 1) // 4
            is_clear = found >= _ENOUGH and most_told and given <= _CLEARLY * found
            near = weighed(self.nearby)[concerned].sum() if is_clear else np.inf
            # That with the mistake mended takes as long as the search for mistakes.
            if is_clear and near > _CLEARLY * found:
                if best is None:
                    best = self._mended_nearby(mistake, concerned)
                is_clear = near <= _CLEARLY * (weighed(best).sum() - mistake.rarity)
            clear.append(bool(is_clear))
        if not self._turns_nothing(mistake):
            return any(clear)
        # Cameras that have nothing in common as given may be right, and their planes slid onto
        # each other by the mistake; those that contradict each other are not right.
        return all(clear) or (clear[0] and _all(self.nearby)[concerned].sum() <= -_ENOUGH)

    def _mended_nearby(self, mistake: Mistake, concerned: NDArray[np.bool_]) -> Evidence:
        """Evidence with the mistake mended, give or take an honest error of the poses."""
        cameras = most_likely_nearby(mistake.mend(self.cameras), self.source, self.pairs)
        return self.source.evidence(cameras, self.pairs[concerned])

    def _turns_nothing(self, mistake: Mistake) -> bool:
        """Whether no camera is turned by mending it: planes then slide along themselves, or are
        scaled in themselves."""
        a, b = self.pairs[self._concerned(mistake)].T
        now, then = self.cameras, mistake.mend(self.cameras)
        if (now.depth_scale != then.depth_scale).any():
            return False
        given, mended = (
            np.linalg.inv(poses[a, :3, :3]) @ poses[b, :3, :3]
            for poses in (now.world_from_cam, then.world_from_cam)
        )
        return bool(np.median(np.abs(given - mended).max(axis=(1, 2))) < 0.1)

    def _mistakes(self) -> Iterable[Mistake]:
        yield from mistakes.of_all(self.views, self.median_depth)
        if self.look_the_same:
            yield mistakes.of_one_place()
        for v in range(len(self.views)):
            yield from mistakes.of_view(self.views, v)
        for one, two in all_pairs(len(self.views)).tolist():
            yield mistakes.of_two(self.views, one, two)

    def _likeliest(self, candidates: Iterable[Mistake], thinned: int) -> list[Mistake]:
        """The candidates, those that gain most over the given cameras first."""
        given = self.source.evidence(self.cameras, self.pairs, thinned)
        gains = []
        for mistake in candidates:
            concerned = self._concerned(mistake)
            mended = self._mended(mistake, concerned, thinned)
            gain = mended.total - given.log_ratio[concerned].sum() - mistake.rarity
            gains.append((gain, mistake))
        return [mistake for _, mistake in sorted(gains, key=lambda each: -each[0])]

    def _concerned(self, mistake: Mistake) -> NDArray[np.bool_]:
        """(P,) pairs that hold a view of the mistake."""
        if not mistake.views:
            return np.ones(len(self.pairs), dtype=bool)
        return np.asarray(np.isin(self.pairs, mistake.views).any(axis=1), dtype=bool)

    def _mended(self, mistake: Mistake, concerned: NDArray, thinned: int) -> Evidence:
        cameras = mistake.mend(self.cameras)
        return self.source.evidence(cameras, self.pairs[concerned], thinned)

    def _named(self, mistake: Mistake, given: Evidence, mended: Evidence) -> Finding:
        who = [self.views[v].name for v in mistake.views or range(len(self.views))]
        whose, seeing = "the views", "no view sees anything of the others"
        if mistake.views:
            named = " and ".join(f"'{name}'" for name in who)
            whose = f"{named} and the others"
            seeing = f"{named} and the others see nothing in common"
        so = f"{percent(given.share)} of the common surface of {whose} agrees"
        if given.compared.sum() == 0:
            so = seeing
        return Finding(
            mistake.kind,
            tuple(who),
            given.share,
            mended.share,
            given.total,
            mended.total,
            mistake.factor,
            f"as given {so}, {mistake.reading} {percent(mended.share)}: {mistake.text}; "
            f"{mistake.remedy}",
            mistake.mend(self.cameras),
        )

    def report(self, v: int, about: frozenset[int]) -> CameraReport:
        """Of one view, by its index; ``about``: the views that a mistake was found of."""
        mine = (self.pairs == v).any(axis=1)
        own = self.given.select(mine)
        verdict, why = ("suspect", "see the finding") if v in about else _verdict(own)
        as_given = v in about or verdict == "ok"
        total = own.total
        if not as_given:
            nearby = self.nearby.select(mine)
            (verdict, why), total = _verdict(nearby), nearby.total
            if verdict == "ok" and own.total <= -_TOLD:
                verdict, why = "unchecked", "contradicts the others, but a pose near it does not"
        overlap = {
            self.views[int(pair.sum()) - v].name: float(agreeing / compared)
            for pair, ratio, agreeing, compared in zip(
                self.pairs[mine], own.log_ratio, own.agreeing, own.compared, strict=True
            )
            if abs(ratio) >= 1.0 and compared > 0
        }
        depth = float(self.depth[v])
        name = self.views[v].name
        share = depth_share(self.views[v])
        return CameraReport(
            name, True, depth, overlap, own.share, total, verdict, why, True, share, as_given
        )


def _all(evidence: Evidence) -> NDArray[np.float64]:
    return evidence.log_ratio


def _solid(evidence: Evidence) -> NDArray[np.float64]:
    return evidence.solid


def _verdict(own: Evidence) -> tuple[Verdict, str]:
    """Of one camera, by the evidence of its pairs."""
    if own.total <= -_TOLD:
        return "suspect", "contradicts the others"
    if own.total < _TOLD:
        return "unchecked", "too little in common with others"
    if own.sure.sum() < _TOLD:
        return "unchecked", ONLY_PLANES
    # Of a camera that was moved planes still agree, and a little more by chance.
    tell = own.log_ratio >= _TOLD
    agree = (own.agreeing[tell] / own.compared[tell]).max(initial=0.0)
    if own.sure.sum() < _ENOUGH and agree < _ALMOST_ALL:
        return "unchecked", "too little but planes in common with others, and not all of it agrees"
    return "ok", ""


def _unposed(view: View) -> CameraReport:
    depth = float("nan")
    if view.depth is not None and (view.depth > 0).any():
        depth = float(np.median(view.depth[view.depth > 0]))
    posed = view.world_from_cam_prior is not None
    why = "no pose" if not posed else "no intrinsics" if view.K is None else "no other pose"
    nothing = float("nan")
    share = depth_share(view)
    return CameraReport(view.name, posed, depth, {}, nothing, 0.0, "unchecked", why, False, share)


def depth_share(view: View) -> float:
    """Of the pixels that have depth; NaN without a depth image."""
    return float("nan") if view.depth is None else float((view.depth > 0).mean())
