"""Who sends the tasks of a simulation, and insists where that makes no second task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskq import TaskQ
from taskq.contract.message import Message, Send
from taskq.errors import EnqueueError, SendError

from .plan import Plan

if TYPE_CHECKING:
    from .world import World

RESEND_AFTER: Final = 0.3


class Producer:
    """Sends plans. It knows no task, so that it can send what does not fit."""

    def __init__(self, world: World) -> None:
        self._world = world
        # A deadline so near that a send is tried once: to try again is the world's business.
        self._app = TaskQ(
            "producer", broker="world://producer", clock=world.clock, plugins=world.plugins,
            enqueue_timeout=0.001, task_max_deliveries=world.max_deliveries,
        )  # fmt: skip

    def send(self, plan: Plan) -> None:
        """Send a task, now or again later."""
        world, referee = self._world, self._world.referee
        before = plan.id in referee.known
        try:
            self._hand_over(plan)
        except EnqueueError as error:
            world.log("producer", "could not send", plan.id)
            known = plan.id in referee.known
            referee.check(before or not (error.unsent and known), "unsent is not sent", plan.id)
            referee.check(known or not error.sent, "sent is sent", plan.id)
            if error.unsent or (plan.keeps and not world.apart):
                world.later(RESEND_AFTER, lambda: self.send(plan))
        else:
            world.log("producer", "sends", plan.id, plan.task)
            referee.check(plan.id in referee.known, "sent is sent", plan.id)

    def _hand_over(self, plan: Plan) -> None:
        if plan.task == "garbage":
            message = Message(plan.id, plan.queue, b"{", max_deliveries=self._world.max_deliveries)
            try:
                self._app.broker.send([Send(message)])
            except SendError as error:
                raise EnqueueError(unsent=error.unsent, unknown=error.unknown) from error
            return
        misfit = plan.task == "misfit"
        self._app.send_task(
            "plain" if misfit else plan.task,
            [1] if misfit else [],
            task_id=plan.id,
            queue=plan.queue,
            priority=plan.priority,
            countdown=plan.countdown,
            expires=plan.ttl,
        )
