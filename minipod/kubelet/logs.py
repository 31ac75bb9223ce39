"""The kubelet's side of container logs: names, rotation, compression, symlinks.

    <log_dir>/<ns>_<pod>_<uid>/<container>/<attempt>.log                     written by the runtime
                                           <attempt>.log.<stamp>             the newest rotated one
                                           <attempt>.log.<stamp>.gz          the older ones
    <link_dir>/<pod>_<ns>_<container>-<id>.log -> the log                    for log collectors

container_log_manager.go (K8S pkg/kubelet/logs): a log above 10 MiB is rotated, five files are kept,
all but the newest rotated one are compressed. Here the log pump tells when a log has grown that far
(CONTAINER_LOG_FULL), nobody looks every ten seconds; a kubelet that starts looks once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from minipod.errors import FailedPrecondition, MinipodError
from minipod.runtime.log_files import rotated
from minipod.runtime.service import ContainerState

if TYPE_CHECKING:
    from minipod.kubelet.rules.observed import Instance
    from minipod.kubelet.rules.pods import Pod
    from minipod.runtime.service import ContainerStatus, RuntimeService

logger = logging.getLogger(__name__)

_NAME_MAX = 255  # bytes of a file name
_ATTEMPT = re.compile(r"(\d+)\.log")


def next_attempt(directory: str) -> int:
    """One more than the highest attempt that has a log, for a container whose status was lost."""
    try:
        found = [_ATTEMPT.match(name) for name in os.listdir(directory)]
    except FileNotFoundError:
        return 0
    return max((int(m[1]) + 1 for m in found if m), default=0)


def link_name(pod: Pod, container: str, container_id: str) -> str:
    """The symlink's name, cut to what a file system takes (legacyLogSymlink)."""
    name = f"{pod.name}_{pod.namespace}_{container}-{container_id}"
    return name[: _NAME_MAX - len(".log")] + ".log"


def link(directory: str, pod: Pod, container: str, container_id: str, path: str) -> None:
    """Make the symlink of one instance."""
    os.makedirs(directory, mode=0o755, exist_ok=True)
    at = f"{directory}/{link_name(pod, container, container_id)}"
    try:
        os.symlink(path, at)
    except FileExistsError:
        os.unlink(at)
        os.symlink(path, at)


def unlink(directory: str, pod: Pod, instance: Instance) -> None:
    """Remove the symlink of one instance. Idempotent."""
    try:
        os.unlink(f"{directory}/{link_name(pod, instance.name, instance.id)}")
    except FileNotFoundError:
        return


def unlink_dead(directory: str) -> None:
    """Remove the symlinks whose log is gone; the directory is everybody's, and somebody else may be quicker."""
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        path = f"{directory}/{name}"
        if os.path.islink(path) and not os.path.exists(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def remove(directory: str, links: str, pod: Pod, instance: Instance) -> None:
    """Remove the log of an instance that is no more: the file, what was rotated, the symlink.

    *directory* is the container's. Idempotent.
    """
    path = f"{directory}/{instance.restart_count}.log"
    unlink(links, pod, instance)
    found = rotated(path) if os.path.isdir(directory) else []
    for name in (path, *found):
        try:
            os.unlink(name)
        except FileNotFoundError:
            continue


class LogRotator:
    """Rotates the logs of the node's running containers."""

    def __init__(self, runtime: RuntimeService, *, max_bytes: int, max_files: int) -> None:
        self._runtime = runtime
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._compressing = asyncio.Lock()  # one at a time: nobody waits for it

    async def check_all(self) -> None:
        """Rotate what grew while nobody listened."""
        for status in await self._runtime.list_containers():
            await self.check(status)

    async def check(self, status: ContainerStatus) -> None:
        """Rotate the log if it is due; what goes wrong is logged, the container writes on."""
        path = status.log_path
        if status.state is not ContainerState.RUNNING or not self._is_due(path):
            return
        try:
            fresh = await self._rotate(status)
            async with self._compressing:
                for name in rotated(path):
                    if name != fresh and not name.endswith(".gz"):
                        await compress(name)
        except (MinipodError, OSError):
            logger.exception("log %s can't be rotated", path)

    def _is_due(self, path: str) -> bool:
        try:
            return 0 < self._max_bytes <= os.stat(path).st_size
        except OSError:
            return False

    async def _rotate(self, status: ContainerStatus) -> str:
        path = status.log_path
        older = rotated(path)
        # The live file and the one that is rotated now are two of those to keep.
        keep = max(0, self._max_files - 2)
        for surplus in older[: max(0, len(older) - keep)]:
            os.unlink(surplus)
        fresh = _next_name(path, f"{datetime.now(UTC):%Y%m%d-%H%M%S}", older)
        os.rename(path, fresh)
        try:
            await self._runtime.reopen_container_log(status.id)
        except MinipodError:
            os.rename(fresh, path)
            raise
        return fresh


def _next_name(path: str, stamp: str, older: list[str]) -> str:
    """The name of the file that is rotated now; it sorts after *older*, also within one second."""
    fresh = f"{path}.{stamp}"
    newest = older[-1].removesuffix(".gz") if older else ""
    if not newest.startswith(fresh):
        return fresh
    return f"{fresh}.{int(newest[len(fresh) + 1 :] or 0) + 1:03d}"


async def compress(path: str) -> None:
    """gzip *path* at idle priority of processor and disk: whatever else runs goes first."""
    words = ("chrt", "--idle", "0", "ionice", "--class", "idle", "gzip", "--force", path)
    process = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.DEVNULL)
    if await process.wait() and os.path.exists(path):  # else it was surplus meanwhile
        raise FailedPrecondition(f"gzip {path}: exit code {process.returncode}")
