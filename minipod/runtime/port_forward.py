"""A TCP connection to localhost inside a sandbox: the socket is made in its network namespace, the rest is the caller's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence

from minipod.errors import FailedPrecondition
from minipod.linux import process
from minipod.network.network import Network
from minipod.runtime.state import Container, SandboxRecord
from minipod.spec.sandbox import NamespaceMode

LOCALHOST = ((socket.AF_INET, "127.0.0.1", "IPv4"), (socket.AF_INET6, "::1", "IPv6"))


async def connect(
    sandbox: SandboxRecord, running: Sequence[Container], network: Network, port: int
) -> socket.socket:
    """Return a connected, non-blocking socket. Raises FailedPrecondition with what each family answered."""
    loop = asyncio.get_running_loop()
    said = []
    with contextlib.ExitStack() as stack:
        namespace = -1
        if sandbox.spec.network is NamespaceMode.POD:
            namespace = _namespace(running)
            stack.callback(os.close, namespace)
        for family, address, name in LOCALHOST:
            try:
                made = await network.socket_inside(namespace, family)
            except OSError as e:
                said.append(f"{name}: {(e.strerror or str(e)).lower()}")
                continue
            try:
                await loop.sock_connect(made, (address, port))
            except OSError as e:
                made.close()
                said.append(f"{name}: {os.strerror(e.errno or 0).lower()}")
            except BaseException:
                made.close()
                raise
            else:
                return made
    raise FailedPrecondition(
        f"failed to connect to localhost:{port} inside the pod, {', '.join(said)}"
    )


def _namespace(running: Sequence[Container]) -> int:
    """Open the pod's network namespace by a process that lives in it. Nothing listens where nothing runs."""
    for container in running:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            return _namespace_of(container.pid)
    raise FailedPrecondition("no container of the pod is running")


def _namespace_of(pid: int) -> int:
    with contextlib.ExitStack() as stack:
        pidfd = process.pidfd_open(pid)
        stack.callback(os.close, pidfd)
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, namespace)
            process.pidfd_send_signal(pidfd, 0)  # the pid is still the one that the pidfd means
            undo.pop_all()
        return namespace
