"""Logs, exec and attach for the API server: from a pod and a container's name to the runtime's container."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from minipod.apiserver.streams import LogQuery
from minipod.errors import FailedPrecondition, NotFound
from minipod.runtime import logs
from minipod.runtime.runtime import Runtime
from minipod.runtime.service import ContainerStatus, ExecSession

Object = dict[str, Any]


class Streams:
    """See `minipod.apiserver.streams.NodeStreams`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def logs(self, pod: Object, query: LogQuery) -> AsyncIterator[bytes]:
        name = choose_container(pod, query.container)
        found = await self._instances(pod, name)
        if query.previous:
            found = found[1:]
            if not found:
                raise FailedPrecondition(
                    f'previous terminated container "{name}" in pod "{pod["metadata"]["name"]}" not found'
                )
        if not found:
            raise FailedPrecondition(
                f'container "{name}" in pod "{pod["metadata"]["name"]}" is waiting to start'
            )
        container = found[0]
        options = logs.LogOptions(
            follow=query.follow,
            timestamps=query.timestamps,
            tail_lines=query.tail_lines,
            since=since(query),
            limit_bytes=query.limit_bytes,
        )
        text = logs.read(
            container.log_path,
            options,
            lambda: self._runtime.log_finished(container.id),
            lambda: self._runtime.log_drained(container.id),
        )
        async for chunk in text:
            yield chunk

    async def exec(
        self, pod: Object, container: str, command: tuple[str, ...], *, tty: bool, stdin: bool
    ) -> ExecSession:
        found = await self._running(pod, container)
        return await self._runtime.exec(found.id, command, tty=tty, stdin=stdin)

    async def attach(self, pod: Object, container: str, *, stdin: bool) -> ExecSession:
        return await self._runtime.attach((await self._running(pod, container)).id, stdin=stdin)

    async def exec_wait(self, session: str) -> int:
        return await self._runtime.exec_wait(session)

    async def exec_resize(self, session: str, rows: int, columns: int) -> None:
        await self._runtime.exec_resize(session, rows, columns)

    async def exec_kill(self, session: str, signal: int) -> None:
        await self._runtime.exec_kill(session, signal)

    async def _instances(self, pod: Object, name: str) -> list[ContainerStatus]:
        """Return the container's instances, the newest first."""
        listed = await self._runtime.list_containers(pod["metadata"]["uid"])
        return [c for c in listed if c.spec.name == name]

    async def _running(self, pod: Object, container: str) -> ContainerStatus:
        name = choose_container(pod, container)
        found = await self._instances(pod, name)
        if not found or found[0].state.value != "RUNNING":
            raise FailedPrecondition(f'container "{name}" is not running')
        return found[0]


def choose_container(pod: Object, wanted: str) -> str:
    """Return the container that is meant; the first, or the annotated one, when none is named."""
    spec, metadata = pod["spec"], pod["metadata"]
    groups = ("initContainers", "containers", "ephemeralContainers")
    names = [c["name"] for group in groups for c in spec.get(group) or []]
    if not wanted:
        default = (metadata.get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
        return default or str(spec["containers"][0]["name"])
    if wanted not in names:
        raise NotFound(
            f"container {wanted} is not valid for pod {metadata['name']}",
            hint=f"its containers: {', '.join(names)}",
        )
    return wanted


def since(query: LogQuery) -> str:
    """Return the earliest stamp that is wanted, as the log writes it."""
    if query.since_seconds is not None:
        moment = datetime.now(UTC) - timedelta(seconds=query.since_seconds)
    elif query.since_time:
        try:
            moment = datetime.fromisoformat(query.since_time).astimezone(UTC)
        except ValueError as e:
            raise FailedPrecondition(f"sinceTime: {e}") from e
    else:
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
