"""The verdict on a rig, for people and programs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from wildseg3d_ros.core.components import component_lists
from wildseg3d_ros.core.errors import RigError
from wildseg3d_ros.core.types import CameraVerdict
from wildseg3d_ros.rig.cameras import Cameras

Verdict = Literal["ok", "suspect", "unchecked"]

SUMMARY: dict[str, str] = {
    "ok": "The cameras agree with each other.",
    "suspect": "Something contradicts.",
    "unchecked": "Nothing could be checked.",
}
"""What is said of a verdict that nothing else explains."""

ONLY_PLANES = "only a plane in common with others"
"""Why a camera is unchecked that may be slid along it."""


@dataclass(frozen=True)
class CameraReport:
    """What is known of one camera.

    Attributes:
        name: of the view.
        posed: whether a pose is given.
        depth: median of its depth image [m]; NaN without.
        depth_share: of its pixels that have depth; NaN without a depth image.
        overlap: share of what it and another camera compare that agrees, by the other's name; only
            of those that tell something.
        agreement: the same over all others; NaN where nothing is compared.
        log_ratio: evidence for its pose, natural logarithm; see :mod:`wildseg3d_ros.rig`.
        verdict: ok, suspect or unchecked.
        why: the reason, where it is not ok.
        takes_part: whether it has a pose and intrinsics, and another camera has them, too.
        as_given: whether that verdict is on its given pose itself; otherwise on one within an
            honest error of it.
        doubts: what is odd about it by itself, one sentence each.
    """

    name: str
    posed: bool
    depth: float
    overlap: dict[str, float]
    agreement: float
    log_ratio: float
    verdict: Verdict
    why: str = ""
    takes_part: bool = True
    depth_share: float = float("nan")
    as_given: bool = True
    doubts: tuple[str, ...] = ()

    def doubted(self, shows_nothing: Sequence[str], odd: Sequence[str]) -> CameraReport:
        """The same with what is told of its view by itself.

        An image that shows nothing is wrong whatever the cameras are. What is odd about intrinsics
        and depth decides where the comparison with the others leaves it open.
        """
        is_open = self.takes_part and self.verdict == "unchecked"
        decisive = [*shows_nothing, *(odd if is_open else ())]
        doubts = (*shows_nothing, *odd)
        if not decisive or self.verdict == "suspect":
            return replace(self, doubts=doubts)
        return replace(self, verdict="suspect", why=decisive[0], doubts=doubts)

    @property
    def verdict_before_alignment(self) -> CameraVerdict:
        """The same, as a build reports it; nothing has moved yet."""
        nan = float("nan")
        return CameraVerdict(
            self.name,
            self.posed,
            translation=nan,
            rotation=nan,
            translation_sigma=nan,
            rotation_sigma=nan,
            deviations=nan,
            weight=float(self.posed),
            verdict=self.verdict,
            why=self.why,
            agreement=self.agreement,
            overlap=self.overlap,
            median_depth=self.depth,
            depth_share=self.depth_share,
        )


@dataclass(frozen=True)
class Finding:
    """A mistake that explains what is seen, where the given cameras do not.

    Attributes:
        kind: of :data:`wildseg3d_ros.rig.mistakes.KINDS`.
        cameras: names of those it is about; all where it is about the rig.
        given, mended: shares of the common surface that agree, as given and without the mistake;
            NaN where nothing is compared.
        log_ratio_given, log_ratio_mended: evidence for the cameras of either.
        factor: by which something was multiplied; 1 where nothing was.
        text: the sentence for people, with the way out.
        mended_cameras: those of the views with pose and intrinsics, without the mistake.
    """

    kind: str
    cameras: tuple[str, ...]
    given: float
    mended: float
    log_ratio_given: float
    log_ratio_mended: float
    factor: float
    text: str
    mended_cameras: Cameras | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; NaN becomes None."""
        return {
            key: None if isinstance(value, float) and np.isnan(value) else value
            for key, value in vars(self).items()
            if key != "mended_cameras"
        }


@dataclass(frozen=True)
class RigReport:
    """The verdict on a rig.

    Attributes:
        cameras: one report each, in the order of the views.
        finding: the mistake that was made; None where there is none or none is known.
    """

    cameras: tuple[CameraReport, ...]
    finding: Finding | None = None

    @property
    def suspects(self) -> tuple[str, ...]:
        """Names of cameras that contradict others."""
        return tuple(each.name for each in self.cameras if each.verdict == "suspect")

    @property
    def warnings(self) -> list[str]:
        """What a user should know although a scene is built, one sentence each."""
        return self.warned()

    def warned(self, checked: Collection[str] = ()) -> list[str]:
        """The same after something else has checked the poses of some cameras, by their names."""
        if self.finding is not None:
            return [self.finding.text]
        out = []
        by_others = [each for each in self.cameras if each.verdict == "suspect"]
        by_others = [each for each in by_others if each.why not in each.doubts]
        if by_others:
            told = (
                f"'{each.name}' ({percent(each.agreement)} of what it shares with others agrees)"
                for each in by_others
            )
            out.append(
                f"the given poses contradict each other, and no usual mistake explains it: camera "
                f"{', '.join(told)}. Lengths and places may be wrong: check these cameras' poses, "
                "intrinsics and depth, and that nothing moved between the images"
            )
        unchecked = [c for c in self.cameras if c.takes_part and c.verdict == "unchecked"]
        unchecked = [c for c in unchecked if c.name not in checked]
        if unchecked:
            named = "of all cameras" if len(unchecked) == len(self.cameras) else ""
            told = ", ".join(
                f"'{c.name}'"
                + ("" if np.isnan(c.agreement) else f" ({percent(c.agreement)} agrees)")
                for c in unchecked
            )
            out.append(
                f"the given pose {named or f'of camera {told}'} could not be checked: too little "
                "is seen in common with other cameras that have a pose, too little of it agrees "
                "(was one moved?), or it is nothing but a plane"
            )
        out += self._apart()
        return out + [f"camera '{c.name}': {c.why}" for c in self.cameras if c.why in c.doubts]

    def _apart(self) -> list[str]:
        """A warning of groups of cameras that are right by themselves, and share nothing."""
        names = [each.name for each in self.cameras if each.verdict == "ok"]
        seen = [
            (names.index(each.name), names.index(other))
            for each in self.cameras
            for other in each.overlap
            if each.name in names and other in names
        ]
        groups = component_lists(len(names), seen)
        if len(groups) < 2:
            return []
        told = "; ".join(", ".join(f"'{names[k]}'" for k in group) for group in groups)
        text = f"groups of cameras see nothing in common ({told}): nothing checks how they lie to "
        return [f"{text}each other; add a camera that sees what both do"]

    @property
    def doubts(self) -> list[str]:
        """What is odd about views by themselves, one sentence each."""
        return [f"camera '{each.name}': {text}" for each in self.cameras for text in each.doubts]

    @property
    def verdict(self) -> Verdict:
        """Of the rig: suspect where anything is, unchecked where nothing is told of any camera."""
        if self.finding is not None or self.suspects:
            return "suspect"
        return "ok" if any(each.verdict == "ok" for each in self.cameras) else "unchecked"

    def refuse(self) -> None:
        """Raises RigError where a mistake was found."""
        if self.finding is not None:
            raise RigError(
                f"{self.finding.text}. To build all the same, set alignment.check_rig to false",
                self.verdicts,
            )

    @property
    def verdicts(self) -> tuple[CameraVerdict, ...]:
        """By camera, before anything is aligned."""
        return tuple(each.verdict_before_alignment for each in self.cameras)

    def joined(self, aligned: Sequence[CameraVerdict]) -> tuple[CameraVerdict, ...]:
        """What an alignment of some of the views says of their cameras, with what is told here.

        A camera is checked where either could; where both say something else than that it is ok,
        the alignment has seen more. A pose near the given one that is borne out here says nothing
        for the given one, where the alignment left the camera there unchecked.
        """
        if not aligned:
            return self.verdicts
        out, known = [], {each.name: each for each in self.verdicts}
        as_given = {each.name for each in self.cameras if each.as_given}
        for theirs in aligned:
            ours = known[theirs.name]
            verdict, why = theirs.verdict, theirs.why
            doubted = verdict in ("ok", "unchecked") and ours.verdict == "suspect"
            # Planes agree with each other wherever they are slid to.
            doubted |= verdict == "ok" and ours.why == ONLY_PLANES
            checked = ours.verdict == "ok" and theirs.name in as_given
            if doubted or (verdict == "unchecked" and checked):
                verdict, why = ours.verdict, ours.why
            out.append(
                replace(
                    theirs,
                    verdict=verdict,
                    why=why,
                    agreement=ours.agreement,
                    overlap=ours.overlap,
                    median_depth=ours.median_depth,
                    depth_share=ours.depth_share,
                )
            )
        return tuple(out)


def percent(share: float) -> str:
    """A share in words; NaN is nothing."""
    return "nothing" if np.isnan(share) else f"{share:.0%}".replace("%", " %")
