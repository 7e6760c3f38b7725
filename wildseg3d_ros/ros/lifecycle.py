"""A managed node whose transitions say what they do, how long it took and why they failed.

rclpy swallows what a transition raises, without a word. Here it is logged, what was half done is
undone, and the reason is kept for the replies of a node that is not active.
"""

from __future__ import annotations

import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.lifecycle.node import LifecycleNodeMixin
from rclpy.node import Node

from wildseg3d_ros.core.errors import Cancelled, ErrorCode, WildSeg3DError


class ManagedNode(LifecycleNodeMixin, Node, ABC):
    """Calls :meth:`configure`, :meth:`activate`, :meth:`deactivate` and :meth:`cleanup`.

    A WildSeg3DError of one of the first two leaves the node in the state that it was in.

    Attributes:
        problem: what kept the node from becoming active.
    """

    def __init__(self, name: str, **options: object) -> None:
        Node.__init__(self, name, **options)  # type: ignore[arg-type]
        # Reentrant: the state can be asked for while a transition loads models.
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self.problem: WildSeg3DError | None = None
        self._started = threading.Event()
        self._started.set()

    @abstractmethod
    def configure(self) -> None:
        """Loads what takes long and makes the publishers."""

    @abstractmethod
    def activate(self) -> None:
        """Begins to listen."""

    @abstractmethod
    def deactivate(self) -> None:
        """Ends what runs and stops listening. Called again, it does nothing."""

    @abstractmethod
    def cleanup(self) -> None:
        """Frees all that :meth:`configure` took. Called again, it does nothing."""

    @property
    def state(self) -> str:
        """Label of the lifecycle state: unconfigured, inactive, active, configuring, ..."""
        return self._state_machine.current_state[1]

    def autostart(self) -> None:
        """Configures and activates the node as soon as it is spun."""
        self._started.clear()
        # A guard condition and not a timer: with simulated time a timer waits for /clock.
        self.create_guard_condition(self._start, MutuallyExclusiveCallbackGroup()).trigger()

    def wait_until_started(self, cancelled: Callable[[], bool]) -> None:
        """Waits while :meth:`autostart` is under way.

        Raises:
            Cancelled: the caller asked to stop.
        """
        while not self._started.wait(0.05):
            if cancelled():
                raise Cancelled("cancelled by the caller while the node was starting")

    def require_active(self) -> None:
        """Raises the reason why the node does not answer, unless it is active.

        Raises:
            WildSeg3DError: what kept it from becoming active, with its code; else NOT_ACTIVE.
        """
        state, problem = self.state, self.problem
        if state == "active":
            return
        command = f"ros2 lifecycle set {self.get_fully_qualified_name()}"
        way = f"{command} activate"
        if state == "unconfigured":
            way = f"{command} configure && {way}"
        if state == "finalized":
            text = "the node was shut down; start its process again"
        elif state not in ("unconfigured", "inactive"):
            text = f"the node is {state}; ask again when it is active"
        elif problem is not None:
            raise WildSeg3DError(f"the node is {state}: {problem}; then run `{way}`", problem.code)
        else:
            text = f"the node is {state}; run `{way}`"
        raise WildSeg3DError(text, ErrorCode.NOT_ACTIVE)

    def leave(self) -> None:
        """Goes through the shutdown transition, from whatever state the node is in."""
        self._started.wait(5.0)
        if self.state in ("unconfigured", "inactive", "active"):
            self.trigger_shutdown()

    def destroy_node(self) -> None:
        """Leaves the graph. rclpy's own leaves the state machine, which holds the node in it."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def _start(self) -> None:
        try:
            if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                self.trigger_activate()
        except Exception:  # noqa: BLE001  a callback that raises ends the node
            self.get_logger().error(f"autostart failed:\n{traceback.format_exc()}")
        finally:
            self._started.set()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See :class:`rclpy.lifecycle.LifecycleNode`, as for all that follow."""
        done = self._run("configure", self.configure, undo=self.cleanup)
        return super().on_configure(state) if done == TransitionCallbackReturn.SUCCESS else done

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publishers first: what is heard right away can be answered."""
        done = super().on_activate(state)
        if done == TransitionCallbackReturn.SUCCESS:
            done = self._run("activate", self.activate, undo=self.deactivate)
            if done != TransitionCallbackReturn.SUCCESS:
                super().on_deactivate(state)
        return done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publishers last."""
        done = self._run("deactivate", self.deactivate)
        return super().on_deactivate(state) if done == TransitionCallbackReturn.SUCCESS else done

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leaves nothing of a scene or a model in memory."""
        return self._run("cleanup", self.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From every state."""
        return self._run(f"shutdown ({state.label})", self._free)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a defect: everything is freed, and the node can be configured again."""
        return self._run(f"recovery from an error ({state.label})", self._free)

    def _free(self) -> None:
        self.deactivate()
        self.cleanup()

    def _run(
        self, name: str, step: Callable[[], None], undo: Callable[[], None] | None = None
    ) -> TransitionCallbackReturn:
        logger, start = self.get_logger(), time.monotonic()
        logger.info(f"{name}: begins")
        try:
            try:
                step()
            except WildSeg3DError as error:
                if undo is None:
                    raise
                self.problem = error
                logger.error(f"{name}: failed: {error.code.name}: {error}")
                undo()
                return TransitionCallbackReturn.FAILURE
        except Exception as error:  # noqa: BLE001  rclpy would swallow it
            self.problem = WildSeg3DError(
                f"defect in '{name}': {type(error).__name__}: {error}; the log has the traceback"
            )
            logger.error(f"{name}: defect:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR
        if undo is not None:
            self.problem = None
        logger.info(f"{name}: done in {time.monotonic() - start:.1f} s")
        return TransitionCallbackReturn.SUCCESS
