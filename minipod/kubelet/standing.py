"""How a pod stands with its node: admitted, refused or waiting for room, evicted, resized.

    admitted --eviction, preemption--> ends, Failed          spec asks for other amounts --node has them--> granted
    waiting  --room-----------------> admitted                                           --else--> PodResizePending

Owns what the node has *granted* the pod (KEP-1287): its containers run, and start again, with that, whatever the spec asks for
meanwhile. A restarted kubelet reads it from the status (allocatedResources, resources).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.kubelet import explaining
from minipod.kubelet.admission import Preempts
from minipod.kubelet.resizing import Resizer
from minipod.kubelet.rules import amounts, conditions, preemption
from minipod.kubelet.rules.eviction import Eviction

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.amounts import Amounts
    from minipod.kubelet.rules.conditions import Condition
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.rules.pods import Pod
    from minipod.kubelet.stopping import Stopper


class Standing:
    """See the module; one for each pod."""

    def __init__(self, context: Context, stopper: Stopper) -> None:
        self._context = context
        self._resizer = Resizer(context, stopper)
        self._granted: dict[str, Amounts] | None = None
        self._asked: object = None  # the containers of the last look
        self._pending: Condition | None = None
        # reason and message of a pod that failed as a whole
        self.failed: tuple[str, str] | None = None
        self.eviction: Eviction | None = None

    # -- admission

    def admitted(self, pod: Pod) -> bool:
        """Whether the node runs the pod; when not, it has `failed`, or waits until others are gone."""
        if self.failed is not None:
            return True
        verdict = self._context.admission.admit(pod)
        if verdict is None:
            return True
        if isinstance(verdict, Preempts):
            for victim in verdict.victims:
                self._context.evict(victim.uid, preempted())
            names = ", ".join(victim.full_name for victim in verdict.victims)
            self._note(pod, "Preempting", f"waits for the end of {names}")
            return False
        message = f"Pod was rejected: {verdict.message}"
        self.failed = (verdict.reason, message)
        self._context.recorder.warning(pod, verdict.reason, verdict.message)
        self._note(pod, verdict.reason, message)
        return False

    def _note(self, pod: Pod, reason: str, message: str) -> None:
        """For `minipod why`."""
        record = explaining.held_up(pod, reason, message, self._context.clock())
        self._context.journal.write(record)

    def evict(self, eviction: Eviction) -> None:
        """The pod must go; the first reason counts."""
        self.eviction = self.eviction or eviction

    # -- resize

    def granted(self, pod: Pod) -> Pod:
        """The pod with the amounts that it may use."""
        if self._granted is None or pod.containers is self._asked:
            return pod
        return amounts.replaced(pod, self._granted)

    def settle(self, pod: Pod) -> None:
        """Ask the node for what the spec says now, if that is not what it granted."""
        if pod.containers is self._asked:
            return
        wanted = amounts.of_pod(pod)
        if self._granted is None:
            self._granted = amounts.stored(pod) or wanted
        self._granted = {**wanted, **self._granted}  # with containers that came later
        if not amounts.differ(wanted, self._granted):
            self._asked, self._pending = pod.containers, None
            return
        refusal = self._context.admission.resize(pod)
        if refusal is None:
            self._granted, self._asked, self._pending = wanted, pod.containers, None
            return
        pending = conditions.Condition(
            type="PodResizePending", status=True, reason=refusal.reason, message=refusal.message
        )
        if pending != self._pending:
            words = f"Pod resize {refusal.reason.lower()}: {refusal.message}"
            self._context.recorder.warning(pod, f"Resize{refusal.reason}", words)
        self._pending = pending

    async def resize(self, pod: Pod, observed: Observed, ip: str) -> bool:
        """Bring what runs to the granted amounts; False when that is to be tried again."""
        return await self._resizer.resize(pod, observed, ip)

    # -- status

    def conditions(self, pod: Pod, observed: Observed) -> tuple[Condition, ...]:
        """The conditions that follow from all this."""
        found = []
        if self._pending is not None:
            found.append(self._pending)
        if amounts.resizing(pod, observed):
            error = self._resizer.error
            found.append(
                conditions.Condition(
                    type="PodResizeInProgress", status=True, reason="Error" if error else "", message=error
                )
            )  # fmt: skip
        if self.eviction is not None and self.eviction.disruption and self.failed:
            found.append(conditions.disruption(self.eviction.disruption))
        return tuple(found)


def preempted() -> Eviction:
    """How a pod ends that makes room for a critical one: with its own grace period."""
    return Eviction(
        reason="Preempting",
        message=preemption.MESSAGE,
        disruption=preemption.DISRUPTION,
        grace=None,
    )
