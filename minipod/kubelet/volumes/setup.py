"""The volumes of one pod: made before a container starts, and kept up to date with the objects that they show.

    set_up    objects and tokens are read (async), then directories and files are made, in a thread where that may take its time
    refresh   again for volumes of a running pod whose objects, labels or token changed

Both are idempotent: what is there and right is left alone. A failure is a FailedPrecondition in the kubelet's words.
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

_FOLLOWING = ("configMap", "secret", "downwardAPI", "projected")  # volumes that follow objects
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

    @property
    def refresh_at(self) -> float | None:
        """When a token must be replaced."""
        return self._tokens.refresh_at

    async def set_up(self, pod: Pod, facts: NodeFacts) -> Volumes:
        """Make what is missing; return volumes by name. Raises FailedPrecondition."""
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
        if all(volume["name"] in contents and "configMap" not in volume for volume in pod.volumes):
            # a few small files on a tmpfs: nothing waits for a disk
            return self._make(pod, contents, bound)
        return await asyncio.to_thread(self._make, pod, contents, bound)

    async def refresh(self, pod: Pod, facts: NodeFacts) -> None:
        """Bring the volumes of a running pod that follow objects up to date. Raises FailedPrecondition."""
        await self.set_up(pod, facts)

    async def _files(self, pod: Pod, volume: Raw, facts: NodeFacts) -> Payload | None:
        if not any(kind in volume for kind in _FOLLOWING):
            return None
        objects = await self._objects.read(pod.namespace, references.of_volume(volume))
        tokens = await self._tokens_of(pod, volume)
        known = payloads.Known(objects=objects, tokens=tokens, facts=facts)
        return payloads.of_volume(pod, volume, known)

    async def _tokens_of(self, pod: Pod, volume: Raw) -> Mapping[int, str]:
        found = {}
        for index, part in enumerate((volume.get("projected") or {}).get("sources") or ()):
            if (source := part.get("serviceAccountToken")) is not None:
                try:
                    found[index] = await self._tokens.get(pod, source)
                except MinipodError as error:
                    raise FailedPrecondition(f"failed to fetch token: {error.message}") from error
        return found

    # -- in a thread

    def _make(self, pod: Pod, contents: Mapping[str, Payload], bound: Mapping[str, Raw]) -> Volumes:
        found = {}
        for volume in pod.volumes:
            name = volume["name"]
            try:
                found[name] = self._make_one(pod, volume, contents.get(name), bound.get(name))
            except OSError as error:
                why = f"{error.filename}: {os.strerror(error.errno or 0).lower()}"
                raise mount_failure(name, why) from error
            except FailedPrecondition as error:
                raise mount_failure(name, error.message) from error
        return found

    def _make_one(
        self, pod: Pod, volume: Raw, files: Payload | None, bound: Raw | None
    ) -> MountedVolume:
        name, mapped = volume["name"], self._directory.userns is not None
        if files is not None:
            return MountedVolume(path=self._write(pod, volume, files), readonly=True)
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

    def _write(self, pod: Pod, volume: Raw, files: Payload) -> str:
        name = volume["name"]
        on_disk = "configMap" in volume
        path = (
            self._directory.volume("configmap", name)
            if on_disk
            else self._directory.volume_in_memory(name)
        )
        os.makedirs(path, 0o755, exist_ok=True)
        if os.stat(path).st_mode & 0o777 != 0o777:
            os.chmod(path, 0o777)  # noqa: S103 - the kubelet wraps an emptyDir; it is mounted read-only
        group, userns = group_of(pod), self._directory.userns

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
        return path

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


def group_of(pod: Pod) -> ownership.Group | None:
    """fsGroup and its change policy."""
    gid = pod.security_context.get("fsGroup")
    if gid is None:
        return None
    policy = pod.security_context.get("fsGroupChangePolicy")
    return ownership.Group(gid=int(gid), on_mismatch=policy == "OnRootMismatch")
