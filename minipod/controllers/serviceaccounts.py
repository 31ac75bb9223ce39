"""What every namespace has: the service account `default`, and the config map `kube-root-ca.crt` by which pods trust the API server
(pkg/controller/serviceaccount, pkg/controller/certificates/rootcacertpublisher).
Made when missing; the config map also when it was changed.
"""

from __future__ import annotations

import contextlib

from minipod.api.informer import Change
from minipod.api.store import Object, Store
from minipod.controllers.controller import Controller, Informers
from minipod.errors import AlreadyExists

ACCOUNT = "default"
CONFIG_MAP = "kube-root-ca.crt"
ABOUT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal"
    " service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)


def active(namespace: Object) -> bool | None:
    """Remember namespaces that take new content."""
    return None if namespace["metadata"].get("deletionTimestamp") else True


def _account(account: Object) -> bool | None:
    return True if account["metadata"]["name"] == ACCOUNT else None


def _bundle(config_map: Object) -> str | None:
    found = config_map["metadata"]["name"] == CONFIG_MAP
    return str((config_map.get("data") or {}).get("ca.crt", "")) if found else None


class ServiceAccountController(Controller[str]):
    """Keys are names of namespaces."""

    name = "serviceaccounts"

    def __init__(self, store: Store, informers: Informers, ca: str) -> None:
        super().__init__()
        self._store = store
        self._ca = ca
        self._namespaces = informers.of("namespaces", active)
        self._accounts = informers.of("serviceaccounts", _account)
        self._bundles = informers.of("configmaps", _bundle)
        self._namespaces.subscribe(lambda change: self.enqueue(change.key[1]))
        self._accounts.subscribe(self._changed)
        self._bundles.subscribe(self._changed)

    def _changed(self, change: Change[bool] | Change[str]) -> None:
        self.enqueue(change.key[0])

    async def reconcile(self, key: str) -> None:
        if self._namespaces.get("", key) is None:
            return
        if self._accounts.get(key, ACCOUNT) is None:
            await self._create("serviceaccounts", key, {"kind": "ServiceAccount"}, ACCOUNT)
        bundle = self._bundles.get(key, CONFIG_MAP)
        if bundle is None:
            made: Object = {"kind": "ConfigMap", "data": {"ca.crt": self._ca}}
            made["metadata"] = {"annotations": {"kubernetes.io/description": ABOUT}}
            await self._create("configmaps", key, made, CONFIG_MAP)
        elif bundle != self._ca:
            data = {"ca.crt": self._ca}
            await self._store.mutate("configmaps", key, CONFIG_MAP, lambda c: {**c, "data": data})

    async def _create(self, resource: str, namespace: str, obj: Object, name: str) -> None:
        metadata = {**obj.get("metadata", {}), "name": name, "namespace": namespace}
        with contextlib.suppress(AlreadyExists):  # its event is on the way
            await self._store.create(
                resource, namespace, {"apiVersion": "v1", **obj, "metadata": metadata}
            )
