"""A bag as a recording: the same views as a node that hears its messages.

Of cameras that stand still the newest frames of one time are taken, with their poses of TF at the
images' stamps; of a camera that moves, its key frames. The bag is read once, in order, and nothing
is kept but the newest frames and the key frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wildseg3d_ros.core.errors import ErrorCode, InputError, WildSeg3DError
from wildseg3d_ros.core.files.proportion import one_recording
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.bags.reading import Bag, opened_bag
from wildseg3d_ros.io.bags.robot import BagRobot
from wildseg3d_ros.io.bags.storage import UNPACKED_RATIO
from wildseg3d_ros.io.bags.topics import (
    TF_MESSAGE,
    CameraTopics,
    listed,
    topics_by_name,
    topics_of_rig,
)
from wildseg3d_ros.io.frames import evenly_spaced
from wildseg3d_ros.io.recording import Recording
from wildseg3d_ros.streams.capture import Capture, capture, poses_of
from wildseg3d_ros.streams.config import NodeConfig
from wildseg3d_ros.streams.decoding import CameraDecoder
from wildseg3d_ros.streams.frames import FrameMatcher, FrameSet, aligned
from wildseg3d_ros.streams.key_frames import KeyFrames
from wildseg3d_ros.streams.rig_file import RigFile
from wildseg3d_ros.streams.tf.errors import Extrapolation, TooEarly
from wildseg3d_ros.streams.tf.links import chain
from wildseg3d_ros.streams.tf.tree import TransformTree

_HISTORY = 4
"""Sets of a camera that are kept, to find those of one time: as the node keeps them."""
_WAITING = 10
"""Frames of a moving camera that wait for the transforms of their time."""
_SLOP = 0.05
"""Seconds between the cameras' images where no rig's file says it."""
_ALLOW = "say 'allow_missing_poses: true' in the rig's parameter file (--config)"
_TF, _TF_STATIC = "/tf", "/tf_static"


@one_recording(UNPACKED_RATIO)
def load_bag(
    path: Path,
    rig: RigFile | None = None,
    max_views: int | None = None,
    progress: Progress | None = None,
) -> Recording:
    """Reads a bag.

    Args:
        path: its folder, or its file.
        rig: names cameras, topics and the world frame; None: found by themselves.
        max_views: at most so many views, evenly spaced.
        progress: told of the fraction that is read.

    Raises:
        FileError: no bag, or truncated or damaged. InputError: topics, calibration or TF that are
            missing, or images that cannot be used. ConfigError: of a rig's file.
    """
    progress = progress or Progress()
    with opened_bag(path) as bag:
        if rig is not None and rig.cameras:
            cameras = topics_of_rig(rig.cameras, bag.topics, path)
        else:
            cameras = topics_by_name(bag.topics, path)
        listener = _Listener(bag, cameras, rig, max_views)
        for share, message in bag.messages(listener.parts):
            listener.take(message.topic, message.value)
            progress.update(share)
        recording = listener.recording()
    chosen = evenly_spaced(len(recording.views), max_views)
    return replace(recording, views=tuple(recording.views[i] for i in chosen), object_masks=())


class _Listener:
    """What has been heard of a bag."""

    def __init__(
        self,
        bag: Bag,
        cameras: Mapping[str, CameraTopics],
        rig: RigFile | None,
        max_views: int | None,
    ) -> None:
        self._bag, self._cameras = bag, cameras
        self._node = rig.node if rig is not None else NodeConfig(camera_slop=_SLOP)
        self._has_rig = rig is not None
        self._world = self._node.world_frame
        self._transforms = TransformTree()
        self.warnings: list[str] = []
        self.parts: dict[str, list[tuple[str, str]]] = {}
        for name, topics in cameras.items():
            for part, topic in (
                ("image", topics.image),
                ("depth", topics.depth),
                ("camera_info", topics.info),
            ):
                if topic:
                    self.parts.setdefault(topic, []).append((name, part))
        for topic in bag.topics.values():
            if topic.kind == TF_MESSAGE:
                self.parts[topic.name] = []
        slop = self._node.sync_slop
        self._most = max_views or self._node.max_captured_views
        self._matchers = {
            name: FrameMatcher(slop, bool(topics.depth), _HISTORY)
            for name, topics in cameras.items()
        }
        self._decoders = {
            name: CameraDecoder(name, topics.config, topics.info, self._warn)
            for name, topics in cameras.items()
        }
        self._robot = BagRobot(self._node.robot, bag.topics, self._warn)
        if self._robot.topic:
            self.parts[self._robot.topic] = []
        self._key_frames = self._make_key_frames()
        self._waiting: dict[str, deque[FrameSet]] = {
            name: deque(maxlen=_WAITING) for name in cameras
        }
        self._complete = dict.fromkeys(cameras, 0)

    def take(self, topic: str, message: Any) -> None:
        """Hears a message."""
        if topic == self._robot.topic:
            self._robot.describe(message.data)
        elif not self.parts[topic]:
            self._take_transforms(message, topic.endswith(_TF_STATIC))
            for name in self._cameras:
                self._choose_key_frames(name)
        for name, part in self.parts[topic]:
            matcher = self._matchers[name]
            matcher.add(part, message)
            if matcher.counts.sets > self._complete[name] and (newest := matcher.newest()):
                self._complete[name] = matcher.counts.sets
                self._waiting[name].append(newest)
                self._choose_key_frames(name)

    def recording(self) -> Recording:
        """The views of all that was heard."""
        self._check_heard()
        self._find_world()
        for name, key_frames in self._key_frames.items():
            self._choose_key_frames(name)
            key_frames.finish()
        moving = [name for name, found in self._key_frames.items() if len(found.kept) > 1]
        views = [view for name in moving for view in self._views_of_moving(name)]
        told: tuple[str, ...] = ()
        still = [name for name in self._cameras if name not in moving]
        if still:
            taken = self._robot.out_of(self._capture(still), self._transforms)
            if not (moving or self._node.allow_missing_poses):
                taken.require_poses(_ALLOW)
            views = [*taken.views, *views]
            told = taken.warnings
        posed = any(view.world_from_cam_prior is not None for view in views)
        count = len(self._cameras)
        return Recording(
            tuple(views),
            warnings=(*self.warnings, *told),
            format=f"a bag of {count} camera{'s' * (count > 1)} ({self._bag.seconds:.1f} s)",
            world_frame=self._world if posed else "",
        )

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _take_transforms(self, message: Any, static: bool) -> None:
        for transform in message.transforms:
            try:
                self._transforms.add(transform, static)
            except ValueError as error:
                names = transform.header.frame_id, transform.child_frame_id
                self._warn(f"the transform '{names[0]}' -> '{names[1]}' is ignored: {error}")

    def _check_heard(self) -> None:
        """Raises InputError where a camera gave no frame."""
        for name, matcher in self._matchers.items():
            if matcher.newest() is not None:
                continue
            received, topics = matcher.counts.received, self._cameras[name]
            for part, topic in (
                ("camera_info", topics.info), ("image", topics.image), ("depth", topics.depth)
            ):  # fmt: skip
                if topic and not received[part]:
                    raise InputError(
                        f"bag '{self._bag.path}' has no messages on '{topic}' of camera '{name}'; "
                        f"it has: {listed(self._bag.topics)}",
                        ErrorCode.NO_IMAGES,
                    )
            gap = matcher.closest_stamps()
            seconds = "more" if gap is None else f"{gap:.3f} s"
            raise InputError(
                f"camera '{name}': no image on '{topics.image}' has depth on '{topics.depth}' of "
                f"its time: they are {seconds} apart, and sync_slop is {self._node.sync_slop} s",
                ErrorCode.NO_IMAGES,
            )

    def _find_world(self) -> None:
        """Without a rig's file, poses are in 'world' or, where TF has none, in the root of TF."""
        frames = self._transforms.frames()
        if self._has_rig or NodeConfig().world_frame in frames:
            self._refer_to(self._node.world_frame)
            return
        newest = (matcher.newest() for matcher in self._matchers.values())
        names = [each.image.header.frame_id.lstrip("/") for each in newest if each is not None]
        roots = {chain(self._transforms.links(), name)[-1] for name in names if name in frames}
        if len(roots) == 1:
            self._refer_to(*roots)

    def _refer_to(self, world: str) -> None:
        """Key frames of before are void where the root of TF was another one."""
        if world != self._world:
            self._world = world
            self._key_frames = self._make_key_frames()

    def _make_key_frames(self) -> dict[str, KeyFrames]:
        return {name: KeyFrames(self._decoders[name], self._most) for name in self._cameras}

    def _choose_key_frames(self, name: str) -> None:
        """Offers the frames whose pose TF has by now."""
        waiting = self._waiting[name]
        self._find_world()
        while waiting:
            frames = waiting[0]
            frame = frames.image.header.frame_id
            try:
                pose = self._transforms.lookup(self._world, frame, frames.stamp_ns)
            except TooEarly:
                pose = None
            except WildSeg3DError:
                return
            waiting.popleft()
            if pose is not None:
                self._robot.note(frames, self._transforms)
                self._key_frames[name].offer(frames, pose)

    def _views_of_moving(self, name: str) -> list[View]:
        kept = self._key_frames[name].kept
        digits = len(str(len(kept)))
        return [
            self._robot.out_of_noted(
                capture(
                    {view: frame.frames},
                    {view: self._decoders[name]},
                    {view: frame.pose},
                    {},
                    self._world,
                ).views[0]
            )
            for i, frame in enumerate(kept, start=1)
            for view in (f"{name}_{i:0{digits}d}",)
        ]

    def _capture(self, names: Sequence[str]) -> Capture:
        """The newest frames of cameras that stand still."""
        recent = {name: self._matchers[name].recent() for name in names}
        self._check_registered(recent)
        while True:
            sets = self._of_one_time(recent)
            poses, unposed = poses_of(sets, self._world, self._transforms)
            # Of the bag's last images TF may not have come any more: those before have theirs.
            late = [n for n, e in unposed.items() if _is_late(e) and len(recent[n]) > 1]
            if not late:
                return capture(sets, self._decoders, poses, unposed, self._world)
            recent |= {n: [s for s in recent[n] if s.stamp_ns < sets[n].stamp_ns] for n in late}
            if not all(recent.values()):
                return capture(sets, self._decoders, poses, unposed, self._world)

    def _check_registered(self, recent: Mapping[str, Sequence[FrameSet]]) -> None:
        """Refuses depth that was found by its name and is of another camera than the image."""
        if self._has_rig:
            return
        for name, sets in recent.items():
            depth, image = sets[0].depth, sets[0].image.header.frame_id
            if depth is not None and depth.header.frame_id not in ("", image):
                raise InputError(
                    f"camera '{name}': depth on '{self._cameras[name].depth}' is of the frame "
                    f"'{depth.header.frame_id}' but the images are of '{image}': it is not "
                    "registered to them; record aligned depth, or name the topics in a rig's "
                    "file (--config)",
                    ErrorCode.BAD_DEPTH,
                )

    def _of_one_time(self, recent: Mapping[str, Sequence[FrameSet]]) -> dict[str, FrameSet]:
        sets = aligned(recent, self._node.camera_slop)
        if sets is not None:
            return sets
        newest = {name: each[0] for name, each in recent.items()}
        stamps = sorted((each.stamp_ns, name) for name, each in newest.items())
        seconds = (stamps[-1][0] - stamps[0][0]) / 1e9
        text = (
            f"the cameras' images are not of one time: the last of '{stamps[0][1]}' is stamped "
            f"{seconds:.3f} s before that of '{stamps[-1][1]}'"
        )
        if self._has_rig:
            raise InputError(
                f"{text}, and camera_slop is {self._node.camera_slop} s; 0 takes the newest of "
                "each",
                ErrorCode.NO_IMAGES,
            )
        self._warn(text)
        return newest


def _is_late(error: WildSeg3DError) -> bool:
    return isinstance(error, Extrapolation) and not isinstance(error, TooEarly)
