"""Binds PersistentVolumeClaims to PersistentVolumes, makes directories for claims of our class, and takes them back
(pkg/controller/volume/{persistentvolume,pvcprotection,ephemeral}).

    claim  Pending --a volume that fits, or a new directory--> Bound --deleted, no pod uses it--> gone
    volume Available --bound--> Bound --its claim is gone--> Released (Retain), or removed with its directory (Delete)

The class `standard` is the default; its volumes are directories below <state_dir>/claims: no size limit is enforced on them. Volumes
made by hand (hostPath, local) are bound by class, modes, size, selector. A claim that a pod uses stays until the pod is gone, a volume
until its claim is (finalizers kubernetes.io/pvc-protection, pv-protection). Volumes of kind `ephemeral` get a claim that their pod owns.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from typing import Any, NamedTuple

from minipod.api import placement, quantity
from minipod.api.informer import Change
from minipod.api.placement import NodeFacts
from minipod.api.store import Object, Store
from minipod.controllers.controller import Controller, Informers
from minipod.controllers.selectors import matches
from minipod.errors import AlreadyExists, NotFound

CLASS = "standard"
PROVISIONER = "minipod.io/directory"
CLAIMS, VOLUMES, CLASSES = "persistentvolumeclaims", "persistentvolumes", "storageclasses"
PROTECTION = {CLAIMS: "kubernetes.io/pvc-protection", VOLUMES: "kubernetes.io/pv-protection"}
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_BY = "pv.kubernetes.io/provisioned-by"
_OVER = ("Succeeded", "Failed")


class Key(NamedTuple):
    """What to look at: a claim, a volume (namespace ""), or a pod for its ephemeral volumes."""

    kind: str
    namespace: str
    name: str


def _version(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])


def _used(pod: Object) -> tuple[frozenset[str], bool] | None:
    """Remember which claims a pod uses while it is not over, and whether some are its own."""
    if (pod.get("status") or {}).get("phase") in _OVER:
        return None
    names = claims_of(pod)
    own = any("ephemeral" in v for v in pod["spec"].get("volumes") or ())
    return (frozenset(names), own) if names else None


def claims_of(pod: Object) -> set[str]:
    """Return the names of the claims that a pod mounts."""
    found = set()
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            found.add(volume["persistentVolumeClaim"]["claimName"])
        elif "ephemeral" in volume:
            found.add(f"{pod['metadata']['name']}-{volume['name']}")
    return found


def fits(
    volume: Object, claim: Object, wanted_class: str, nodes: tuple[NodeFacts, ...] = ()
) -> bool:
    """Whether *volume* can serve *claim* on one of *nodes* (findMatchingVolume). Pure."""
    spec, want = volume["spec"], claim["spec"]
    holder = spec.get("claimRef")
    reserved = holder is not None and not (
        holder.get("namespace") == claim["metadata"]["namespace"]
        and holder.get("name") == claim["metadata"]["name"]
        and holder.get("uid") in (None, "", claim["metadata"]["uid"])
    )
    if reserved or volume["metadata"].get("deletionTimestamp"):
        return False
    if want.get("volumeName") not in (None, "", volume["metadata"]["name"]):
        return False
    required = (spec.get("nodeAffinity") or {}).get("required")
    if required is not None and nodes and not any(placement.selects(required, n) for n in nodes):
        return False
    modes = set(want.get("accessModes") or ()) <= set(spec.get("accessModes") or ())
    selector = want.get("selector")
    labelled = selector is None or matches(selector, volume["metadata"].get("labels") or {})
    same = (spec.get("storageClassName") or "") == wanted_class
    return modes and labelled and same and _size(spec.get("capacity")) >= _asked(claim)


def _size(amounts: dict[str, Any] | None) -> int:
    return quantity.whole(str((amounts or {}).get("storage", "0")))


def _asked(claim: Object) -> int:
    return _size((claim["spec"].get("resources") or {}).get("requests"))


class VolumeController(Controller[Key]):
    """See the module."""

    name = "volumes"

    def __init__(self, store: Store, informers: Informers, directory: str) -> None:
        super().__init__()
        self._store = store
        self._directory = directory
        self._claims = informers.of(CLAIMS, _version)
        self._volumes = informers.of(VOLUMES, _version)
        self._pods = informers.of("pods", _used)
        self._nodes = informers.of("nodes", placement.node_facts)
        self._claims.subscribe(self._claim_changed)
        self._volumes.subscribe(self._volume_changed)
        self._pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)

    async def run(self) -> None:
        with contextlib.suppress(AlreadyExists):
            await self._store.create(CLASSES, "", storage_class())
        await super().run()

    # -- what happened

    def _claim_changed(self, change: Change[str]) -> None:
        self.enqueue(Key(CLAIMS, *change.key))
        if change.new is None:
            for key, _ in self._volumes.items():  # noqa: PERF102 an informer, no dict
                self.enqueue(Key(VOLUMES, *key))

    def _volume_changed(self, change: Change[str]) -> None:
        if change.new is None:
            return
        self.enqueue(Key(VOLUMES, *change.key))
        if change.old is None:  # somebody may wait for it
            for key, _ in self._claims.items():  # noqa: PERF102 an informer, no dict
                self.enqueue(Key(CLAIMS, *key))

    def _node_changed(self, change: Change[NodeFacts]) -> None:
        if change.new != change.old:  # a volume may be for nodes with another label
            for key, _ in self._claims.items():  # noqa: PERF102 an informer, no dict
                self.enqueue(Key(CLAIMS, *key))

    def _pod_changed(self, change: Change[tuple[frozenset[str], bool]]) -> None:
        namespace, name = change.key
        if change.new is not None and change.new[1] and change.old is None:
            self.enqueue(Key("pods", namespace, name))
        for claim in (change.new or change.old or (frozenset(), False))[0]:
            self.enqueue(Key(CLAIMS, namespace, claim))

    async def reconcile(self, key: Key) -> None:
        if key.kind == "pods":
            await self._own_claims(key.namespace, key.name)
        elif key.kind == CLAIMS:
            await self._claim(key.namespace, key.name)
        else:
            await self._volume(key.name)

    # -- claims

    async def _claim(self, namespace: str, name: str) -> None:
        claim = await self._store.get(CLAIMS, namespace, name)
        if claim["metadata"].get("deletionTimestamp"):
            if not self._in_use(namespace, name):
                await self._release(CLAIMS, claim)
            return
        if PROTECTION[CLAIMS] not in (claim["metadata"].get("finalizers") or ()):
            claim = await self._protect(CLAIMS, claim, on=True)
        if (claim.get("status") or {}).get("phase") == "Bound":
            return
        wanted = await self._class(claim)
        volumes, _ = await self._store.list(VOLUMES, None)
        nodes = tuple(node for _, node in self._nodes.items())
        found = sorted(
            (v for v in volumes if fits(v, claim, wanted, nodes)),
            key=lambda v: _size(v["spec"]["capacity"]),
        )
        if found:
            await self._bind(found[0], claim)
        elif await self._provisions(wanted) and not claim["spec"].get("volumeName"):
            await self._bind(await self._provision(claim, wanted), claim)

    def _in_use(self, namespace: str, name: str) -> bool:
        return any(name in used for _, (used, _own) in self._pods.items(namespace))

    async def _protect(self, resource: str, obj: Object, *, on: bool) -> Object:
        finalizer, metadata = PROTECTION[resource], obj["metadata"]

        def change(obj: Object) -> Object:
            kept = [f for f in obj["metadata"].get("finalizers") or () if f != finalizer]
            obj["metadata"]["finalizers"] = [*kept, finalizer] if on else kept
            return obj

        return await self._store.mutate(
            resource, metadata.get("namespace", ""), metadata["name"], change
        )

    async def _release(self, resource: str, obj: Object) -> None:
        """Let it go: it is deleted, or is being deleted and waits for us."""
        metadata = obj["metadata"]
        await self._protect(resource, obj, on=False)
        with contextlib.suppress(NotFound):
            await self._store.delete(
                resource, metadata.get("namespace", ""), metadata["name"], grace_period=None, uid=metadata["uid"]
            )  # fmt: skip

    async def _class(self, claim: Object) -> str:
        """Return the class that the claim names; none named is the default one."""
        named = claim["spec"].get("storageClassName")
        if named is not None:
            return str(named)
        classes, _ = await self._store.list(CLASSES, None)
        marked = [
            c for c in classes if (c["metadata"].get("annotations") or {}).get(_DEFAULT) == "true"
        ]
        return str(marked[0]["metadata"]["name"]) if marked else ""

    async def _provisions(self, name: str) -> bool:
        if not name:
            return False
        try:
            found = await self._store.get(CLASSES, "", name)
        except NotFound:
            return False
        return bool(found.get("provisioner") == PROVISIONER)

    async def _provision(self, claim: Object, wanted: str) -> Object:
        metadata = claim["metadata"]
        name = f"pvc-{metadata['uid']}"
        path = self._path(name)
        await asyncio.to_thread(_make_directory, path)
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": name,
                "annotations": {_BY: PROVISIONER},
                "finalizers": [PROTECTION[VOLUMES]],
            },
            "spec": {
                "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
                "accessModes": claim["spec"].get("accessModes") or ["ReadWriteOnce"],
                "hostPath": {"path": path, "type": ""},
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": wanted,
                "volumeMode": "Filesystem",
            },
            "status": {"phase": "Pending"},
        }
        try:
            return await self._store.create(VOLUMES, "", volume)
        except AlreadyExists:
            return await self._store.get(VOLUMES, "", name)

    async def _bind(self, volume: Object, claim: Object) -> None:
        """Both refer to each other; the volume first, so that nobody else takes it."""
        metadata, name = claim["metadata"], volume["metadata"]["name"]
        reference = {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": metadata["namespace"],
            "name": metadata["name"], "uid": metadata["uid"],
        }  # fmt: skip
        await self._change(VOLUMES, "", name, {"claimRef": reference}, {"phase": "Bound"})
        bound = {
            "phase": "Bound",
            "accessModes": volume["spec"].get("accessModes") or [],
            "capacity": volume["spec"].get("capacity") or {},
        }
        own = {"volumeName": name, "storageClassName": volume["spec"].get("storageClassName") or ""}
        await self._change(CLAIMS, metadata["namespace"], metadata["name"], own, bound)

    async def _change(
        self, resource: str, namespace: str, name: str, spec: Object, status: Object
    ) -> None:
        await self._store.mutate(
            resource, namespace, name, lambda o: {**o, "spec": {**o["spec"], **spec}}
        )
        await self._store.mutate(
            resource, namespace, name,
            lambda o: {**o, "status": {**(o.get("status") or {}), **status}}, "status",
        )  # fmt: skip

    async def _own_claims(self, namespace: str, name: str) -> None:
        """Make the claims of a pod's ephemeral volumes; they go with it."""
        pod = await self._store.get("pods", namespace, name)
        owner = {
            "apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod["metadata"]["uid"],
            "controller": True, "blockOwnerDeletion": True,
        }  # fmt: skip
        for volume in pod["spec"].get("volumes") or ():
            if (source := volume.get("ephemeral")) is not None:
                template = source["volumeClaimTemplate"]
                metadata = {**(template.get("metadata") or {}), "name": f"{name}-{volume['name']}"}
                claim = {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {**metadata, "ownerReferences": [owner]},
                    "spec": {"volumeMode": "Filesystem", **template["spec"]},
                    "status": {"phase": "Pending"},
                }
                with contextlib.suppress(AlreadyExists):
                    await self._store.create(CLAIMS, namespace, claim)

    # -- volumes

    async def _volume(self, name: str) -> None:
        volume = await self._store.get(VOLUMES, "", name)
        holder = volume["spec"].get("claimRef") or {}
        phase = (volume.get("status") or {}).get("phase")
        bound = bool(holder.get("uid")) and await self._exists(holder)
        if volume["metadata"].get("deletionTimestamp"):
            if not bound:
                await self._remove(volume)
            return
        if PROTECTION[VOLUMES] not in (volume["metadata"].get("finalizers") or ()):
            volume = await self._protect(VOLUMES, volume, on=True)
        if bound:
            return
        if not holder.get("uid"):
            if phase != "Available":
                await self._change(VOLUMES, "", name, {}, {"phase": "Available"})
        elif self._is_deleted_with_claim(volume):
            await self._remove(volume)
        elif phase != "Released":
            await self._change(VOLUMES, "", name, {}, {"phase": "Released"})

    async def _remove(self, volume: Object) -> None:
        if self._is_deleted_with_claim(volume):
            path = self._path(volume["metadata"]["name"])
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        await self._release(VOLUMES, volume)

    def _is_deleted_with_claim(self, volume: Object) -> bool:
        policy = volume["spec"].get("persistentVolumeReclaimPolicy")
        return policy == "Delete" and self._is_ours(volume)

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _is_ours(self, volume: Object) -> bool:
        """Whether we made it: what it says of itself is not enough to remove a directory of the node."""
        name, source = volume["metadata"]["name"], volume["spec"].get("hostPath") or {}
        said = (volume["metadata"].get("annotations") or {}).get(_BY)
        return said == PROVISIONER and source.get("path") == self._path(name)

    async def _exists(self, holder: Object) -> bool:
        try:
            claim = await self._store.get(CLAIMS, holder["namespace"], holder["name"])
        except NotFound:
            return False
        return bool(claim["metadata"]["uid"] == holder["uid"])


def storage_class() -> Object:
    """Return the default class."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {_DEFAULT: "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


def _make_directory(path: str) -> None:
    os.makedirs(path, 0o777, exist_ok=True)
    os.chmod(path, 0o777)  # noqa: S103 any user of a pod may write, as in other local provisioners
