"""Actions of the scene node: feedback, cancellation, errors as results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.action.server import ActionServer, CancelResponse, GoalResponse, ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from wildseg3d_ros.core.errors import Cancelled
from wildseg3d_ros.ros.building.overall import OverallProgress
from wildseg3d_ros.ros.guard import check_lengths, status_of


@dataclass(frozen=True)
class Goal:
    """A goal while it is worked for.

    Attributes:
        request: what was asked for.
        result: to be filled.
        report: tells the caller stage and fraction.
        cancelled: whether to stop.
    """

    request: Any
    result: Any
    report: Callable[[str, float], None]
    cancelled: Callable[[], bool]


class GoalServer:
    """Serves an action in every state of the node.

    Args:
        node: that serves.
        kind: of the action, whose feedback has stage, fraction, overall and seconds_left.
        name: of the action.
        stages: of :class:`OverallProgress`.
        run: works for a goal; what it raises is the status of the result.
        stopping: whether the node stops all that runs.
    """

    def __init__(
        self,
        node: Node,
        kind: Any,
        name: str,
        stages: Sequence[tuple[str, float]],
        run: Callable[[Goal], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._node, self._kind, self._stages = node, kind, stages
        self._run, self._stopping = run, stopping
        self._server = ActionServer(
            node,
            kind,
            name,
            execute_callback=self._execute,
            goal_callback=lambda _: GoalResponse.ACCEPT,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def destroy(self) -> None:
        """Leaves the graph: rclpy's destroy_node leaves an action server in it."""
        self._server.destroy()

    def _execute(self, handle: ServerGoalHandle) -> Any:
        whole, result = OverallProgress(self._stages), self._kind.Result()

        def report(stage: str, fraction: float) -> None:
            overall, left = whole.update(stage, fraction)
            feedback = self._kind.Feedback(
                stage=stage, fraction=fraction, overall=overall, seconds_left=left
            )
            handle.publish_feedback(feedback)  # type: ignore[arg-type]

        def cancelled() -> bool:
            return handle.is_cancel_requested or self._stopping()

        try:
            check_lengths(handle.request)
            self._run(Goal(handle.request, result, report, cancelled))
            handle.succeed()
        except Exception as error:  # noqa: BLE001
            asked = handle.is_cancel_requested
            if isinstance(error, Cancelled) and not asked:
                error = Cancelled("the node stopped the work: it was deactivated or shut down")
            result.status = status_of(error, self._node.get_logger())
            self._end(handle, cancelled=asked and isinstance(error, Cancelled))
        return result

    def _end(self, handle: ServerGoalHandle, cancelled: bool) -> None:
        try:
            handle.canceled() if cancelled else handle.abort()
        except Exception as error:  # noqa: BLE001  the context is gone at shutdown
            self._node.get_logger().debug(f"goal state not set: {error}")
