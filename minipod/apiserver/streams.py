"""What the API server needs of the node for logs, exec, attach and port-forward. The daemon implements it over the runtime."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from minipod.runtime.service import ExecSession
from minipod.spec.ids import ContainerId
from minipod.streaming.remotecommand import Sessions

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """The query of GET .../log (core/v1 PodLogOptions)."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    since_time: str = ""  # RFC 3339
    limit_bytes: int | None = None
    stream: str = "All"  # Stdout, Stderr


class NodeStreams(Sessions, Protocol):
    """What the daemon offers. *pod* is the stored object, *container* the name of one of its containers, or its id."""

    def logs(self, pod: Object, query: LogQuery) -> AsyncIterator[bytes]:
        """Yield b"" when the log is found, and then its bytes. Raises FailedPrecondition while there is none."""

    async def running(self, pod: Object, container: str) -> ContainerId:
        """Return the id of the container as it runs now. Raises FailedPrecondition when it does not."""

    async def exec(
        self, container: ContainerId, command: tuple[str, ...], *, tty: bool, stdin: bool
    ) -> ExecSession:
        """Start a command; the fds are the caller's."""

    async def attach(self, container: ContainerId, *, stdin: bool) -> ExecSession:
        """Return a live copy of the container's output; the fds are the caller's."""

    async def port_forward(self, pod: Object, port: int) -> socket.socket:
        """Connect to localhost:*port* in the pod; the socket is the caller's. Raises FailedPrecondition."""
