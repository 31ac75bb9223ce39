"""The daemon's side of probing: which probes exist, what they told, one connection to the prober.

Owns the last known result of each probe, so that a prober that died starts from there. A new connection begins with a `sync`
of the pods that exist: the prober keeps the counters of those whose targets the daemon does not know yet. Results wake the
pod's worker through a callback; what they mean is decided in `kubelet.rules`. Questions are answered in their order.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from minipod.errors import Unavailable
from minipod.kubelet.probe.targets import Command, Look, News, Report, Target
from minipod.kubelet.rules.observed import ProbeResults
from minipod.kubelet.rules.probe import ProbeKind, ProbeResult
from minipod.spec import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger(__name__)

_LINE_LIMIT = 16 << 20
_ANSWERED = 5.0  # seconds for the answer to a question
_RETRY = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between attempts to reach a restarting prober


@dataclass(slots=True, kw_only=True)
class _PodProbes:
    targets: tuple[Target, ...] = ()
    results: dict[tuple[str, ProbeKind], tuple[str, ProbeResult]] = field(default_factory=dict)


class ProbeManager:
    """What the kubelet knows of its probes."""

    def __init__(
        self,
        path: str,
        *,
        on_change: Callable[[Report], None],
        on_attempt: Callable[[Report], None],
    ) -> None:
        self._path = path
        self._on_change = on_change
        self._on_attempt = on_attempt
        self._pods: dict[str, _PodProbes] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._questions: deque[asyncio.Future[str]] = deque()

    def expect(self, uid: str) -> None:
        """The pod exists; its targets come later."""
        self._pods.setdefault(uid, _PodProbes())

    def set_pod(self, uid: str, targets: Iterable[Target]) -> None:
        """These are the pod's probes now; tells the prober only what is new."""
        pod = self._pods.setdefault(uid, _PodProbes())
        wanted = tuple(self._with_known(pod, target) for target in targets)
        if [_unseeded(t) for t in wanted] == [_unseeded(t) for t in pod.targets]:
            return
        pod.targets = wanted
        self._send(Command(uids=(uid,), targets=wanted))

    def remove_pod(self, uid: str) -> None:
        """Forget the pod's probes."""
        pod = self._pods.pop(uid, None)
        if pod is not None:
            self._send(Command(uids=(uid,)))

    def seed(
        self, uid: str, container: str, container_id: str, *, ready: bool, started: bool
    ) -> None:
        """Remember what the stored status said, for a node whose prober died with the daemon."""
        results = self._pods.setdefault(uid, _PodProbes()).results
        for kind, good in ((ProbeKind.READINESS, ready), (ProbeKind.STARTUP, started)):
            if good:
                results.setdefault((container, kind), (container_id, ProbeResult.SUCCESS))

    def results(self, uid: str) -> ProbeResults:
        """What is known, by container id."""
        pod = self._pods.get(uid)
        by_kind: dict[ProbeKind, dict[str, ProbeResult]] = {kind: {} for kind in ProbeKind}
        for (_, kind), (container_id, result) in (pod.results if pod else {}).items():
            by_kind[kind][container_id] = result
        return ProbeResults(
            readiness=by_kind[ProbeKind.READINESS],
            liveness=by_kind[ProbeKind.LIVENESS],
            startup=by_kind[ProbeKind.STARTUP],
        )

    async def metrics(self) -> str:
        """The prober's counters, in Prometheus' text format. Raises Unavailable."""
        return await self._ask("metrics")

    async def look(self, uid: str) -> tuple[Look, ...]:
        """The probes of a pod as they are now. Raises Unavailable."""
        return codec.loads(tuple[Look, ...], await self._ask(f"probes {uid}"))

    async def run(self) -> None:
        """Keep connected until cancelled."""
        tries = 0
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(
                    self._path, limit=_LINE_LIMIT
                )
            except OSError:
                await asyncio.sleep(_RETRY[min(tries, len(_RETRY) - 1)])
                tries += 1
                continue
            tries = 0
            try:
                await self._talk(reader)
            finally:
                self._writer.close()
                self._writer = None
                self._lost_questions()
            logger.warning("the prober went away; connecting again")

    async def _talk(self, reader: asyncio.StreamReader) -> None:
        self._send(Command(sync=True, alive=tuple(self._pods)))
        for uid, pod in self._pods.items():
            if pod.targets:
                pod.targets = tuple(self._with_known(pod, target) for target in pod.targets)
                self._send(Command(uids=(uid,), targets=pod.targets))
        try:
            while line := await reader.readline():
                news = codec.loads(News, line)
                for report in news.reports:
                    self._receive(report)
                if news.answer is not None and self._questions:
                    question = self._questions.popleft()
                    if not question.done():
                        question.set_result(news.answer)
        except OSError:
            return

    async def _ask(self, question: str) -> str:
        if self._writer is None:
            raise Unavailable("the prober is being started again", hint="try again in a second")
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._questions.append(answer)
        self._send(Command(ask=question))
        try:
            async with asyncio.timeout(_ANSWERED):
                return await answer
        except TimeoutError:
            raise Unavailable("the prober does not answer") from None

    def _lost_questions(self) -> None:
        while self._questions:
            question = self._questions.popleft()
            if not question.done():
                question.set_exception(Unavailable("the prober went away"))

    def _receive(self, report: Report) -> None:
        pod = self._pods.get(report.pod_uid)
        if pod is None:
            return
        key, value = (report.container, report.kind), (report.container_id, report.result)
        changed = pod.results.get(key) != value
        pod.results[key] = value
        if report.attempt is not None:
            self._on_attempt(report)
        if changed:
            self._on_change(report)

    @staticmethod
    def _with_known(pod: _PodProbes, target: Target) -> Target:
        container_id, result = pod.results.get((target.container, target.kind), ("", None))
        known = result if container_id and container_id == target.container_id else None
        return replace(target, known=known)

    def _send(self, command: Command) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(codec.dumps(command) + b"\n")


def _unseeded(target: Target) -> Target:
    return replace(target, known=None)
