"""Logs, exec, attach and port-forward for the API server: from a pod and a container's name to the runtime's container."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from minipod.api import static
from minipod.apiserver.streams import LogQuery
from minipod.errors import FailedPrecondition
from minipod.runtime import logs
from minipod.runtime.runtime import Runtime
from minipod.runtime.service import ContainerState, ContainerStatus, ExecSession, SandboxState
from minipod.spec.ids import ContainerId

Object = dict[str, Any]

ID_PREFIX = "minipod://"  # of a containerID in a pod's status
DRAIN = 10.0  # seconds
STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


class Streams:
    """See `minipod.apiserver.streams.NodeStreams`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    # -- logs

    async def logs(self, pod: Object, query: LogQuery) -> AsyncIterator[bytes]:
        name = query.container
        wanted = log_instance(pod, name, previous=query.previous)
        found = await self._instances(pod, name)
        container = next((c for c in found if c.id == wanted), None)
        if container is None and not query.previous and found:
            container = found[0]  # started since the status was written
        if container is None:
            raise FailedPrecondition(no_log(pod, name, previous=query.previous))
        if container.state is ContainerState.EXITED:
            await self._last_words(container)
        options = logs.LogOptions(
            follow=query.follow,
            timestamps=query.timestamps,
            tail_lines=query.tail_lines,
            since=since(query),
            limit_bytes=query.limit_bytes,
            stream="" if query.stream == "All" else query.stream.lower(),
        )
        text = logs.read(
            container.log_path,
            options,
            lambda: self._runtime.log_finished(container.id),
            lambda: self._runtime.log_drained(container.id),
        )
        async for chunk in text:
            yield chunk

    async def _last_words(self, container: ContainerStatus) -> None:
        """Wait until the log pump has written what a container said before its end, as containerd does before it tells of that.

        A pump that can't write (a disk that hangs) does not hold up the rest of the log for longer than DRAIN.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                await self._runtime.log_drained(container.id)

    # -- sessions

    async def running(self, pod: Object, container: str) -> ContainerId:
        found = self._runtime.newest_container(static.node_uid(pod), container)
        if found is None or found.state is not ContainerState.RUNNING:
            raise FailedPrecondition(f'container not found ("{container}")')  # a kubelet's words
        return found.record.id

    async def exec(
        self, container: ContainerId, command: tuple[str, ...], *, tty: bool, stdin: bool
    ) -> ExecSession:
        return await self._runtime.exec(container, command, tty=tty, stdin=stdin)

    async def attach(self, container: ContainerId, *, stdin: bool) -> ExecSession:
        return await self._runtime.attach(container, stdin=stdin)

    async def exec_wait(self, session: str) -> int:
        return await self._runtime.exec_wait(session)

    async def exec_resize(self, session: str, rows: int, columns: int) -> None:
        await self._runtime.exec_resize(session, rows, columns)

    async def exec_kill(self, session: str, signal: int) -> None:
        await self._runtime.exec_kill(session, signal)

    async def attach_wait(self, session: str) -> None:
        await self._runtime.attach_wait(session)

    async def close_stdin(self, session: str) -> None:
        await self._runtime.close_stdin(session)

    async def detach(self, session: str) -> None:
        await self._runtime.detach(session)

    async def port_forward(self, pod: Object, port: int) -> socket.socket:
        for sandbox in await self._runtime.list_pod_sandboxes(static.node_uid(pod)):
            if sandbox.state is SandboxState.READY:
                return await self._runtime.port_forward(sandbox.id, port)
        raise FailedPrecondition("the pod is not running")

    async def _instances(self, pod: Object, name: str) -> list[ContainerStatus]:
        """Return the container's instances, the newest first."""
        listed = await self._runtime.list_containers(static.node_uid(pod))
        return [c for c in listed if c.spec.name == name]


def _status(pod: Object, name: str) -> Object:
    listed = (s for key in STATUSES for s in pod.get("status", {}).get(key) or [])
    return next((s for s in listed if s["name"] == name), {})


def log_instance(pod: Object, name: str, *, previous: bool) -> str:
    """Return the id of the instance whose log is meant, "" for none (validateContainerLogStatus, pkg/kubelet/kubelet_pods.go)."""
    status = _status(pod, name)
    state, last = status.get("state", {}), status.get("lastState", {}).get("terminated", {})
    ended = last.get("containerID", "")
    if previous:
        found = ended
    elif "running" in state:
        found = status.get("containerID", "")
    else:
        found = state.get("terminated", {}).get("containerID", "") or ended
    return str(found).removeprefix(ID_PREFIX)


def no_log(pod: Object, name: str, *, previous: bool) -> str:
    """Say why there is no log, in a kubelet's words."""
    of = f'container "{name}" in pod "{pod["metadata"]["name"]}"'
    if previous:
        return f"previous terminated {of} not found"
    reason = _status(pod, name).get("state", {}).get("waiting", {}).get("reason", "")
    why = {
        "ErrImagePull": ": image can't be pulled",
        "ImagePullBackOff": ": trying and failing to pull image",
        "": " - no logs yet",
    }.get(reason, f": {reason}")
    return f"{of} is waiting to start{why}"


def since(query: LogQuery) -> str:
    """Return the earliest stamp that is wanted, as the log writes it."""
    if query.since_seconds is not None:
        try:
            moment = datetime.now(UTC) - timedelta(seconds=query.since_seconds)
        except OverflowError:
            return ""  # since before there were years
    elif query.since_time:
        try:
            moment = datetime.fromisoformat(query.since_time).astimezone(UTC)
        except (ValueError, OverflowError) as e:
            raise FailedPrecondition(f"sinceTime: {e}") from e
    else:
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
