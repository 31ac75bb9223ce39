"""Which volume a pod's claim gives it. Excluded: how claims are bound (controllers), and mounts (tests/root/test_claims.py)."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.errors import FailedPrecondition
from minipod.kubelet.objects import ObjectReader
from minipod.kubelet.rules.pods import compile_pod
from minipod.kubelet.volumes.claims import bound_volume
from tests.fakes.store import FakeStore

VOLUME = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}
POD = compile_pod(
    {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "a", "image": "i"}], "volumes": [VOLUME]},
    }
)  # fmt: skip


async def bound(ref: dict[str, Any] | None) -> str:
    store = FakeStore()
    claim = {"metadata": {"name": "c", "namespace": "n"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}  # fmt: skip
    made = await store.create("persistentvolumeclaims", "n", claim)
    if ref == {"ours": True}:
        ref = {"namespace": "n", "name": "c", "uid": made["metadata"]["uid"]}
    spec = {"hostPath": {"path": "/x"}, **({"claimRef": ref} if ref else {})}
    await store.create("persistentvolumes", "", {"metadata": {"name": "pv"}, "spec": spec})
    found = await bound_volume(ObjectReader(store), POD, VOLUME, "node")
    assert found is not None
    return str(found["metadata"]["name"])


async def test_the_volume_that_names_the_claim_is_the_claims() -> None:
    assert await bound({"ours": True}) == "pv"


async def test_a_volume_for_other_nodes_is_not_mounted_here() -> None:
    store = FakeStore()
    claim = {"metadata": {"name": "c", "namespace": "n"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}  # fmt: skip
    uid = (await store.create("persistentvolumeclaims", "n", claim))["metadata"]["uid"]
    term = {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}
    spec = {"local": {"path": "/x"}, "claimRef": {"uid": uid}, "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}  # fmt: skip
    await store.create("persistentvolumes", "", {"metadata": {"name": "pv"}, "spec": spec})
    await store.create("nodes", "", {"metadata": {"name": "node", "labels": {}}})
    with pytest.raises(FailedPrecondition, match="had volume node affinity conflict"):
        await bound_volume(ObjectReader(store), POD, VOLUME, "node")
    await store.mutate("nodes", "", "node", lambda n: {**n, "metadata": {"name": "node", "labels": {"disk": "x"}}})  # fmt: skip
    assert await bound_volume(ObjectReader(store), POD, VOLUME, "node") is not None


@pytest.mark.parametrize("ref", [None, {"name": "c", "uid": "another-namespaces"}, {"name": "c", "uid": "before"}])  # fmt: skip
async def test_a_volume_of_somebody_else_is_not_given_to_who_names_it(ref: dict[str, str] | None) -> None:  # fmt: skip
    with pytest.raises(FailedPrecondition, match="is not bound to PVC n/c"):
        await bound(ref)
