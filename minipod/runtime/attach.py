"""A live copy of a container's output, and its stdin: what `attach` gives.

The pump copies into pipes of ours with a bounded buffer (`supervisor.attached`); a client too far behind is cut off, and the log never
waits. The end of an attach is the end of these pipes; one more of them tells the container's end from a client that was too slow (`wait`).
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import uuid
from dataclasses import dataclass

from minipod.aio.fds import Source
from minipod.errors import FailedPrecondition, NotFound
from minipod.runtime.service import ContainerState, ExecSession
from minipod.runtime.state import Container
from minipod.runtime.supervisor_client import SupervisorClient
from minipod.spec.ids import ContainerId
from minipod.supervisor.attached import WHOLE

BUFFER = 1 << 20  # bytes of each pipe: what a client may be behind


@dataclass(frozen=True, slots=True)
class _Attachment:
    container: Container
    console: int  # the pty's master, -1 without a tty
    verdict: int  # what the pump tells at the end
    stdin_once: bool  # and the client has its stdin


class Attachments:
    """The attach verbs."""

    def __init__(self, supervisor: SupervisorClient) -> None:
        self._supervisor = supervisor
        self._sessions: dict[str, _Attachment] = {}

    def __contains__(self, session: object) -> bool:
        return session in self._sessions

    async def attach(self, container: Container, *, stdin: bool) -> ExecSession:
        """Raises FailedPrecondition when the container does not run."""
        spec, container_id = container.record.spec, container.record.id
        if container.state is not ContainerState.RUNNING:
            raise FailedPrecondition(
                f"container {spec.name} is {container.state.value.lower()}, not running"
            )
        held = await self._console(container_id) if stdin or spec.tty else -1
        readers, writers = _pipes(2 if spec.tty else 3)
        try:
            await self._supervisor.request("attach", id=container_id, fds=tuple(writers))
        except BaseException:
            _close(held, *readers)
            raise
        finally:
            _close(*writers)
        session = uuid.uuid4().hex
        self._sessions[session] = _Attachment(
            container, os.dup(held) if spec.tty else -1, readers[0], stdin and spec.stdin_once
        )
        if not stdin:
            _close(held)
        return ExecSession(
            id=session,
            stdin_fd=held if stdin else -1,
            stdout_fd=readers[1],
            stderr_fd=-1 if spec.tty else readers[2],
            attached=True,
        )

    async def _console(self, container: ContainerId) -> int:
        """Return the pty's master or the write end of stdin, -1 when the container has neither."""
        _, fds = await self._supervisor.request("console", id=container)
        if not fds:
            return -1
        os.set_blocking(fds[0], False)
        return fds[0]

    def resize(self, session: str, rows: int, columns: int) -> None:
        """Set the window size of the container's pty."""
        console = self._known(session).console
        if console >= 0:
            fcntl.ioctl(console, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def close_stdin(self, session: str) -> None:
        """The client sends no more: with stdinOnce the container reads the end of its stdin."""
        attachment = self._known(session)
        if attachment.stdin_once:
            try:
                await self._supervisor.request("close_stdin", id=attachment.container.record.id)
            except NotFound:
                pass  # the container is gone, and its stdin with it

    async def wait(self, session: str) -> None:
        """Return when the container has ended; to be asked at the end of its output. Raises FailedPrecondition: it has not."""
        attachment = self._known(session)
        if await Source(attachment.verdict).read() != WHOLE:
            raise FailedPrecondition(
                f"the output of {attachment.container.record.spec.name} was cut off:"
                " its reader was too slow, or the log pump ended",
                hint="the log has all of it",
            )

    async def detach(self, session: str) -> None:
        """The client has gone. Idempotent."""
        if session not in self._sessions:
            return
        try:
            await self.close_stdin(session)
        finally:  # also without a supervisor
            attachment = self._sessions.pop(session)
            _close(attachment.console, attachment.verdict)

    def _known(self, session: str) -> _Attachment:
        try:
            return self._sessions[session]
        except KeyError:
            raise NotFound(f"no attach {session}") from None


def _pipes(number: int) -> tuple[list[int], list[int]]:
    pairs = [os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for _ in range(number)]
    for _, writer in pairs:
        try:
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, BUFFER)
        except OSError:
            continue  # over /proc/sys/fs/pipe-max-size: 64 KiB then
    return [reader for reader, _ in pairs], [writer for _, writer in pairs]


def _close(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)
