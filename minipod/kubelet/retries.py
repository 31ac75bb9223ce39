"""When one pod is looked at again because something of it failed: the earliest of the times that were asked for since `clear`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.status import Waiting

_ERROR = 10.0  # seconds, times jitter (backOffPeriod, K8S pkg/kubelet/kubelet.go)
_PULL_SHOWN = 1.0  # seconds: an ErrImagePull turns to ImagePullBackOff after that


class Retries:
    """See the module."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.due: float | None = None  # seconds since the epoch

    def clear(self) -> None:
        """Begin anew: everything is tried now."""
        self.due = None

    def after_error(self) -> None:
        """Look again after the usual time."""
        self._ask(self._usual())

    def after_failed_start(self, waiting: Waiting, pull_due: float | None) -> None:
        """Look again after the usual time, or when the image may be pulled again, at *pull_due*."""
        now, due = self._context.clock(), self._usual()
        if waiting.reason == "ImagePullBackOff" and pull_due is not None:
            due = pull_due
        elif pull_due is not None and pull_due > now:
            due = now + _PULL_SHOWN
        self._ask(due)

    def _usual(self) -> float:
        return self._context.clock() + _ERROR * self._context.jitter()

    def _ask(self, due: float) -> None:
        self.due = min(due, self.due or due)
