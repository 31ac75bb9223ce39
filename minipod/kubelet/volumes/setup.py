"""The volumes of one pod: made before a container starts, and kept up to date with the objects that they show.

    begin     objects are read (async), then directories and files are made, in a thread where that may take its time
    fill      tokens are minted, and the files of volumes in memory written: a container is set up with their directories before
    refresh   both again for volumes of a running pod whose objects, labels or token changed

All are idempotent: what is there and right is left alone. A failure is a FailedPrecondition in the kubelet's words.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from minipod.errors import FailedPrecondition, InvalidSpec, MinipodError
from minipod.kubelet.rules import payload as payloads
from minipod.kubelet.rules import references
from minipod.kubelet.volumes import atomic, claims, empty_dir, host_path, ownership
from minipod.kubelet.volumes.mounted import MountedVolume, mount_failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from minipod.kubelet.objects import ObjectReader
    from minipod.kubelet.rules.env import NodeFacts
    from minipod.kubelet.rules.payload import Payload
    from minipod.kubelet.rules.pods import Pod, Raw
    from minipod.kubelet.tokens import PodTokens
    from minipod.kubelet.volumes.directory import PodDirectory

_IN_MEMORY = ("secret", "downwardAPI", "projected")  # volumes that no disk may keep
_FOLLOWING = ("configMap", *_IN_MEMORY)  # volumes that follow objects
Volumes = dict[str, MountedVolume]


class PodVolumes:
    """The volumes of one pod."""

    def __init__(
        self,
        directory: PodDirectory,
        objects: ObjectReader,
        tokens: PodTokens,
        memory_capacity: int,
    ) -> None:
        self._directory = directory
        self._objects = objects
        self._tokens = tokens
        self._memory_capacity = memory_capacity
        self._unwritten: dict[str, Payload] = {}  # of volumes in memory, by name

    @property
    def refresh_at(self) -> float | None:
        """When a token must be replaced."""
        return self._tokens.refresh_at

    async def set_up(self, pod: Pod, facts: NodeFacts) -> Volumes:
        """Make what is missing; return volumes by name. Raises FailedPrecondition."""
        made = await self.begin(pod, facts)
        await self.fill(pod)
        return made

    async def begin(self, pod: Pod, facts: NodeFacts) -> Volumes:
        """Do the same but for the files that `fill` writes before a container starts. Raises FailedPrecondition."""
        self._unwritten = {}
        if not pod.volumes:
            return {}
        contents: dict[str, Payload] = {}
        bound: dict[str, Raw] = {}
        for volume in pod.volumes:
            name = volume["name"]
            try:
                files = await self._files(pod, volume, facts)
                found = await claims.bound_volume(self._objects, pod, volume, facts.node_name)
            except (FailedPrecondition, InvalidSpec) as error:
                raise mount_failure(name, error.message) from error
            if files is not None:
                contents[name] = files
            if found is not None:
                bound[name] = found
        if all(map(_in_memory, pod.volumes)):
            made = self._make(pod, contents, bound)  # nothing waits for a disk
        else:
            made = await asyncio.to_thread(self._make, pod, contents, bound)
        self._unwritten = {v["name"]: contents[v["name"]] for v in pod.volumes if _in_memory(v)}
        if _mounts_parts(pod):  # which must be there when a container is set up
            await self.fill(pod)
        return made

    async def fill(self, pod: Pod) -> None:
        """Write what `begin` has left: a few small files on a tmpfs. Raises FailedPrecondition."""
        unwritten, self._unwritten = self._unwritten, {}
        for volume in pod.volumes:
            if (files := unwritten.get(volume["name"])) is None:
                continue
            try:
                self._write(pod, volume, await self._with_tokens(pod, volume, files))
            except OSError as error:
                raise mount_failure(volume["name"], _words(error)) from error
            except FailedPrecondition as error:
                raise mount_failure(volume["name"], error.message) from error

    async def refresh(self, pod: Pod, facts: NodeFacts) -> None:
        """Bring the volumes of a running pod that follow objects up to date. Raises FailedPrecondition."""
        await self.set_up(pod, facts)

    async def _files(self, pod: Pod, volume: Raw, facts: NodeFacts) -> Payload | None:
        if not any(kind in volume for kind in _FOLLOWING):
            return None
        objects = await self._objects.read(pod.namespace, references.of_volume(volume))
        return payloads.of_volume(pod, volume, payloads.Known(objects=objects, facts=facts))

    async def _with_tokens(self, pod: Pod, volume: Raw, files: Payload) -> Payload:
        found = dict(files)
        for path, file in files.items():
            if file.token is not None:
                source = volume["projected"]["sources"][file.token]["serviceAccountToken"]
                try:
                    token = await self._tokens.get(pod, source)
                except MinipodError as error:
                    raise FailedPrecondition(f"failed to fetch token: {error.message}") from error
                found[path] = replace(file, data=token.encode())
        return found

    # -- in a thread

    def _make(self, pod: Pod, contents: Mapping[str, Payload], bound: Mapping[str, Raw]) -> Volumes:
        found = {}
        for volume in pod.volumes:
            name = volume["name"]
            try:
                found[name] = self._make_one(pod, volume, contents.get(name), bound.get(name))
            except OSError as error:
                raise mount_failure(name, _words(error)) from error
            except FailedPrecondition as error:
                raise mount_failure(name, error.message) from error
        return found

    def _make_one(
        self, pod: Pod, volume: Raw, files: Payload | None, bound: Raw | None
    ) -> MountedVolume:
        name, mapped = volume["name"], self._directory.userns is not None
        if files is not None:
            path = self._made_directory(volume)
            if not _in_memory(volume):
                self._write(pod, volume, files)
            return MountedVolume(path=path, readonly=True)
        if bound is not None:
            path = claims.path_of(bound)
            if "local" in bound["spec"]:
                self._give(pod, path, fresh=True)
            claim = volume.get("persistentVolumeClaim") or {}
            readonly = bool(claim.get("readOnly"))
            return MountedVolume(path=path, readonly=readonly, mapped=mapped)
        if (source := volume.get("hostPath")) is not None:
            return MountedVolume(path=host_path.check(source), mapped=mapped)
        if "emptyDir" in volume:
            return self._empty_dir(pod, name, volume["emptyDir"] or {})
        if (image := volume.get("image")) is not None:
            return MountedVolume(image=image["reference"], readonly=True)
        kind = next((key for key in volume if key != "name"), "nothing")
        raise FailedPrecondition(f"volume type {kind} is not supported")

    def _empty_dir(self, pod: Pod, name: str, source: Raw) -> MountedVolume:
        """One on a disk is id-mapped; a file system of its own can't be everywhere (tmpfs: Linux 6.3), and has the pod's owners itself."""
        path, userns = self._directory.volume("empty-dir", name), self._directory.userns
        fresh, on_disk = not os.path.isdir(path), not source.get("medium")
        first = userns.first if userns is not None and not on_disk else 0
        empty_dir.make(path, pod, source, self._memory_capacity, first)
        self._give(pod, path, fresh=fresh, by=first)
        return MountedVolume(path=path, mapped=userns is not None and on_disk)

    def _path(self, volume: Raw) -> str:
        name = volume["name"]
        if _in_memory(volume):
            return self._directory.volume_in_memory(name)
        return self._directory.volume("configmap", name)

    def _made_directory(self, volume: Raw) -> str:
        path = self._path(volume)
        os.makedirs(path, 0o755, exist_ok=True)
        if os.stat(path).st_mode & 0o777 != 0o777:
            os.chmod(path, 0o777)  # noqa: S103 - the kubelet wraps an emptyDir; it is mounted read-only
        return path

    def _write(self, pod: Pod, volume: Raw, files: Payload) -> None:
        path, group, userns = self._path(volume), group_of(pod), self._directory.userns

        def own(directory: str) -> None:
            if group is not None:
                ownership.give(directory, group, readonly=True)
            if userns is not None:
                ownership.shift(directory, userns.first)

        if atomic.write(path, files, own):
            if group is not None:
                os.chown(path, -1, group.gid)
            self._directory.give(path, 0 if group is None else group.gid)
            for entry in os.scandir(path) if userns is not None else ():
                if entry.is_symlink():
                    self._directory.give(entry.path)

    def _give(self, pod: Pod, path: str, *, fresh: bool, by: int = 0) -> None:
        """An emptyDir is given to the pod's group once: later its files are the containers' business.

        The host's id of the group is *by* above the pod's.
        """
        group = group_of(pod)
        if group is not None and fresh:
            ownership.give(path, replace(group, gid=group.gid + by))


def follows(pod: Pod) -> bool:
    """Whether a volume of the pod shows what may change."""
    return any(kind in volume for volume in pod.volumes for kind in _FOLLOWING)


def _in_memory(volume: Raw) -> bool:
    return any(kind in volume for kind in _IN_MEMORY)


def _mounts_parts(pod: Pod) -> bool:
    """Whether a container mounts something that is in a volume."""
    mounts = (mount for container in pod.all_containers for mount in container.volume_mounts)
    return any(mount.get("subPath") or mount.get("subPathExpr") for mount in mounts)


def _words(error: OSError) -> str:
    return f"{error.filename}: {os.strerror(error.errno or 0).lower()}"


def group_of(pod: Pod) -> ownership.Group | None:
    """fsGroup and its change policy."""
    gid = pod.security_context.get("fsGroup")
    if gid is None:
        return None
    policy = pod.security_context.get("fsGroupChangePolicy")
    return ownership.Group(gid=int(gid), on_mismatch=policy == "OnRootMismatch")
