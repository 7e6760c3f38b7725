"""What asks, builds, edits, captures, saves, restarts and configures one node at the same time."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from checks import Checks, check_refusal
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from random_requests import RandomRequests
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from wildseg3d_msgs.srv import ListObjects, Undo
from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.ros.client import SceneClient
from wildseg3d_ros.scene.file.snapshot import load_scene

_NAMES = {
    Transition.TRANSITION_CONFIGURE: "configure",
    Transition.TRANSITION_ACTIVATE: "activate",
    Transition.TRANSITION_DEACTIVATE: "deactivate",
    Transition.TRANSITION_CLEANUP: "clean up",
}


@dataclass
class Journal:
    """What all actors did.

    Attributes:
        seconds: that calls took, by kind.
        outcomes: how they ended, by kind and code.
        faults: what was wrong.
        requests: how many requests are to be made yet.
    """

    requests: int
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    outcomes: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def one_more(self) -> bool:
        """Takes one of the requests; False where all were made."""
        with self._lock:
            self.requests -= 1
            if self.requests % 500 == 0:
                print(f"{self.requests} to go", file=sys.stderr, flush=True)
            return self.requests >= 0

    def call(self, kind: str, act: Callable[[], int]) -> None:
        """Times a call, which returns the code that it ended with, and keeps what it raises."""
        start, code = time.monotonic(), -1
        try:
            code = act()
        except WildSeg3DError as error:
            code = int(error.code)
            if code == ErrorCode.INTERNAL:
                self.fault(f"{kind}: {error}")
        except Exception:  # noqa: BLE001  an answer that is wrong, or none
            self.fault(f"{kind}: {traceback.format_exc()}")
        with self._lock:
            self.seconds[kind].append(time.monotonic() - start)
            name = ErrorCode(code).name if code in set(ErrorCode) else "FAULT"
            self.outcomes[kind, "OK" if code == ErrorCode.OK else name] += 1

    def fault(self, text: str) -> None:
        """Keeps what was wrong."""
        print(text, file=sys.stderr, flush=True)
        with self._lock:
            self.faults.append(text)


class Actor:
    """Does one kind of thing again and again, in a thread of its own, as a client of its own.

    Args:
        journal, checks: shared by all.
        seed: of what it does.
        pause: seconds between two calls, on average.
    """

    timeout = 60.0

    def __init__(self, journal: Journal, checks: Checks, seed: int, pause: float) -> None:
        self.journal, self.checks = journal, checks
        self.random, self.requests = Random(seed), RandomRequests(seed)
        self._pause, self._stop = pause, threading.Event()
        self.client = SceneClient(timeout=self.timeout)
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def join(self) -> None:
        """Waits until it is done by itself."""
        self._thread.join()

    def end(self) -> None:
        """Ends after the call that runs."""
        self._stop.set()
        self._thread.join()
        self.client.close()

    def _run(self) -> None:
        while not self._stop.wait(self._pause * self.random.uniform(0.0, 2.0)):
            if not self.step():
                return

    def step(self) -> bool:
        """One call; returns whether to go on."""
        raise NotImplementedError

    def call(self, kind: str, act: Callable[[], object]) -> None:
        """A call of the client, which raises what the node refuses."""

        def acted() -> int:
            act()
            return ErrorCode.OK

        self.journal.call(kind, acted)


class Asker(Actor):
    """Look-ups, until all requests were made."""

    def step(self) -> bool:
        if not self.journal.one_more():
            return False
        kind = self.random.choices(("segment", "describe", "list"), (6, 3, 1))[0]
        self.journal.call(kind, getattr(self, f"_{kind}"))
        return True

    def _segment(self) -> int:
        request = self.requests.segment()
        reply = self.client._call(self.client._segment, request)
        return self._checked(reply, lambda: self.checks.segment(request, reply, time.time_ns()))

    def _describe(self) -> int:
        request = self.requests.describe()
        reply = self.client._call(self.client._describe, request)
        check = self.checks.description
        return self._checked(reply, lambda: check(request, reply, time.time_ns()))

    def _list(self) -> int:
        request = ListObjects.Request(target_frame=self.requests.frame())
        reply = self.client._call(self.client._list, request)

        def check() -> None:
            if reply.scene_id in self.checks.built:
                assert [each.id for each in reply.objects] == [1, 2]

        return self._checked(reply, check)

    def _checked(self, reply, check: Callable[[], None]) -> int:
        if reply.status.code == ErrorCode.OK:
            check()
        else:
            check_refusal(reply.status.code, reply.status.message)
        if reply.status.code in (ErrorCode.NOT_ACTIVE, ErrorCode.NO_SCENE):
            time.sleep(0.5)  # not all requests are to be made of a node that is down
        return reply.status.code


class Builder(Actor):
    """Builds of all cameras or some, a third of them cancelled."""

    def step(self) -> bool:
        cancel = self.random.random() < 0.3
        cameras = self.random.choice(((), (), ("front", "left"), ("front",), ("back",)))

        def build() -> None:
            until = time.monotonic() + self.random.uniform(0.0, 0.3)
            cancelled = (lambda: time.monotonic() > until) if cancel else None
            report = self.client.build(cameras, cancelled=cancelled)
            assert report.objects == 2, report
            self.checks.built.add(report.scene_id)

        self.call("build", build)
        return True


class Editor(Actor):
    """Adds, refines and takes back."""

    def step(self) -> bool:
        what = self.random.choice(("add", "refine", "undo", "undo"))
        if what == "undo":
            self.call("undo", lambda: self.client._ask(self.client._undo, Undo.Request()))
            return True
        # What is pointed at is made by hand: the client's own way is to be used.
        click = self.requests.click()
        clicks = [(click.camera, click.u, click.v, click.label)]
        if what == "add":
            self.call("edit", lambda: self.client.add_object(clicks))
        else:
            number = self.requests.object_id()
            self.call("edit", lambda: self.client.refine_object(number, clicks))
        return True


class Capturer(Actor):
    """Captures, lists and drops views."""

    def step(self) -> bool:
        what = self.random.choice(("capture", "capture", "list", "drop"))
        names = self.random.choice(([], [self.requests.camera()]))
        if what == "capture":
            self.call("capture_views", lambda: self.client.capture_views(names))
        elif what == "list":
            self.call("list_views", self.client.list_views)
        else:
            self.call("drop_views", lambda: self.client.drop_views(names))
        return True


class Filer(Actor):
    """Saves and loads scenes, under names that are good, bad or lead out of the folder."""

    folder = Path()

    def step(self) -> bool:
        name = self.random.choice(("a.ws3d", "b/c.ws3d", "", "../x.ws3d", "/etc/passwd", "notes"))
        what = self.random.choice(("save_scene", "load_scene", "save_poses"))
        if what == "save_scene":
            self.call(what, lambda: self._save(name))
        elif what == "load_scene":
            self.call(what, lambda: self.client.load_scene(name))
        else:
            self.call(what, lambda: self.client.save_poses(f"{name}.yaml" if name else ""))
        return True

    def _save(self, name: str) -> None:
        path = Path(self.client.save_scene(name))
        assert path.is_relative_to(self.folder)
        load_scene(path)


class Manager(Actor):
    """Deactivates and activates the node, cleans it up and configures it; sets parameters."""

    timeout = 600.0  # the build process, which gives way to all others, loads its models

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        node = self.client.node
        self._change = node.create_client(ChangeState, "wildseg3d/change_state")
        self._set = node.create_client(SetParameters, "wildseg3d/set_parameters")

    def step(self) -> bool:
        if self.random.random() < 0.3:
            down = [Transition.TRANSITION_DEACTIVATE]
            up = [Transition.TRANSITION_ACTIVATE]
            if self.random.random() < 0.15:
                down.append(Transition.TRANSITION_CLEANUP)
                up.insert(0, Transition.TRANSITION_CONFIGURE)
            for number in (*down, *up):
                self.call(_NAMES[number], lambda number=number: self._transition(number))
                time.sleep(0.1)
            return True
        name, values = self.random.choice(
            (
                ("target_frame", ("", "world", "nowhere")),
                ("scene_cloud_voxel", (0.0, 0.005, -1.0)),
                ("camera_slop", (0.5, 1.0, "much")),
                ("max_captured_views", (2, 40, -3)),
                ("join_captured_views", (False, 7)),
                ("masks.backend", ("geometric", "nobodys")),
                ("nothing_like_it", (1,)),
            )
        )
        value = self.random.choice(values)
        self.call("parameters", lambda: self._parameter(name, value))
        if name == "target_frame":
            self.call("parameters", lambda: self._parameter(name, ""))
        return True

    def _transition(self, number: int) -> None:
        request = ChangeState.Request(transition=Transition(id=number))
        assert self.client._call(self._change, request).success, f"transition {number} failed"

    def _parameter(self, name: str, value: object) -> None:
        parameter = Parameter(name, value=value).to_parameter_msg()
        reply = self.client._call(self._set, SetParameters.Request(parameters=[parameter]))
        (result,) = reply.results
        assert result.successful or result.reason, "refused without a reason"
