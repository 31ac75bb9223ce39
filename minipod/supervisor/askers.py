"""Who waits for a process: for a container to be ready or to have executed its command, for an exec's end. Each is answered exactly once.

A client that has gone is answered nothing; what was being made for it is given up by `setups`.
"""

from __future__ import annotations

from minipod.supervisor import protocol
from minipod.supervisor.children import Process
from minipod.supervisor.server import Client, Supervisor


class Askers:
    """The requests that are not answered yet, by process; one for each."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._s = supervisor
        self._waiting: dict[int, tuple[Process, Client, int]] = {}  # by id() of the process

    def add(self, made: Process, client: Client, n: int) -> None:
        """Answer *client*'s request *n* when *made* gets to where the request wants it."""
        self._waiting[id(made)] = (made, client, n)

    def answer(
        self, made: Process, answer: protocol.Message, held: list[int] | None = None
    ) -> None:
        """Answer who waits for *made*, with copies of the descriptors *held*."""
        self._reply(made, {"ok": answer}, held)

    def answer_error(self, made: Process, error: dict[str, object]) -> None:
        self._reply(made, {"error": error})

    def _reply(
        self, made: Process, outcome: protocol.Message, held: list[int] | None = None
    ) -> None:
        if (waiting := self._waiting.pop(id(made), None)) is not None:
            _, client, n = waiting
            self._s.reply(client, {"n": n, **outcome}, held)

    def forget(self, made: Process) -> None:
        """Answer nobody. Idempotent."""
        self._waiting.pop(id(made), None)

    def of(self, client: Client) -> list[Process]:
        """Return the processes for which *client* waits."""
        return [made for made, waits, _ in self._waiting.values() if waits is client]
