"""Which volume serves which claim and what goes with one. Excluded: binding and provisioning on a node (tests/root/test_claims.py)."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.api.placement import NodeFacts
from minipod.apiserver.store_sqlite import SqliteStore
from minipod.controllers.controller import Informers
from minipod.controllers.volumes import (
    CLAIMS,
    CLASSES,
    PROVISIONER,
    VOLUMES,
    Key,
    VolumeController,
    claims_of,
    fits,
    storage_class,
)
from minipod.errors import NotFound
from tests.fakes.store import FakeStore

CLAIM = {
    "metadata": {"name": "data", "namespace": "default", "uid": "1"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def volume(labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    base = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
        "storageClassName": "hand",
    }
    return {"metadata": {"name": "pv", "labels": labels or {}}, "spec": {**base, **spec}}


def holder(**more: str) -> dict[str, str]:
    return {"namespace": "default", "name": "data", **more}


@pytest.mark.parametrize(
    ("candidate", "claim_spec", "wanted"),
    [
        (volume(), {}, True),
        (volume(capacity={"storage": "1Mi"}), {}, False),
        (volume(storageClassName="other"), {}, False),
        (volume(), {"accessModes": ["ReadWriteMany"]}, False),
        (volume(claimRef=holder(uid="1")), {}, True),
        (volume(claimRef=holder()), {}, True),  # kept for a claim of this name
        (volume(claimRef=holder(uid="2")), {}, False),
        (volume(claimRef={"namespace": "default", "name": "other"}), {}, False),
        (volume({"disk": "fast"}), {"selector": {"matchLabels": {"disk": "fast"}}}, True),
        (volume(), {"selector": {"matchLabels": {"disk": "fast"}}}, False),
        (volume(), {"volumeName": "pv"}, True),
        (volume(), {"volumeName": "another"}, False),
    ],
)
def test_a_volume_fits_a_claim(
    candidate: dict[str, Any], claim_spec: dict[str, Any], wanted: bool
) -> None:
    claim = {**CLAIM, "spec": {**CLAIM["spec"], **claim_spec}}
    assert fits(candidate, claim, "hand") == wanted


HERE = {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]}}  # fmt: skip


@pytest.mark.parametrize(("labels", "wanted"), [({"disk": "ssd"}, True), ({"disk": "hdd"}, False)])
def test_a_volume_fits_on_the_nodes_that_it_is_for(labels: dict[str, str], wanted: bool) -> None:
    node = NodeFacts(name="here", labels=labels)
    assert fits(volume(nodeAffinity=HERE), CLAIM, "hand", (node,)) == wanted


def test_the_claims_of_a_pod_are_those_it_names_and_those_it_owns() -> None:
    volumes = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "ephemeral": {}}, {"name": "c", "emptyDir": {}},
    ]  # fmt: skip
    assert claims_of({"metadata": {"name": "web"}, "spec": {"volumes": volumes}}) == {
        "data",
        "web-b",
    }


@pytest.mark.parametrize("named", ["elsewhere", "claims/other", "claims/lies/../../elsewhere"])
async def test_only_directories_of_our_making_are_removed(tmp_path, named: str) -> None:
    """A volume may say of itself that it is ours, and name any directory of the node."""
    directories = {
        n: tmp_path / n for n in ("elsewhere", "claims/other", "claims/lies", "claims/v")
    }
    for path in directories.values():
        path.mkdir(parents=True)
    store = FakeStore()
    controller = VolumeController(store, Informers(store), str(tmp_path / "claims"))
    for name, where in (("lies", named), ("v", "claims/v")):
        spec = {
            "persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": f"{tmp_path}/{where}"},
            "claimRef": {"namespace": "n", "name": "gone", "uid": "u"},
        }  # fmt: skip
        metadata = {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}}
        await store.create(VOLUMES, "", {"metadata": metadata, "spec": spec})
        await controller.reconcile(Key(VOLUMES, "", name))
    assert [n for n, path in directories.items() if not path.exists()] == ["claims/v"]
    assert store.objects[VOLUMES, "", "lies"]["status"]["phase"] == "Released"


async def test_a_volume_stays_until_its_claim_is_gone(tmp_path) -> None:
    """Deleted first it would leave its directory behind, and a claim that is bound to nothing."""
    store = SqliteStore(str(tmp_path / "store.db"))
    store.open()
    try:
        controller = VolumeController(store, Informers(store), str(tmp_path / "claims"))
        await store.create(CLASSES, "", storage_class())
        metadata = {"name": "data", "namespace": "a"}
        await store.create(CLAIMS, "a", {"metadata": metadata, "spec": CLAIM["spec"]})
        await controller.reconcile(Key(CLAIMS, "a", "data"))
        name = (await store.get(CLAIMS, "a", "data"))["spec"]["volumeName"]
        await store.delete(VOLUMES, "", name)
        await controller.reconcile(Key(VOLUMES, "", name))
        assert (await store.get(VOLUMES, "", name))["metadata"]["deletionTimestamp"]
        assert (tmp_path / "claims" / name).is_dir()
        await store.delete(CLAIMS, "a", "data")
        await controller.reconcile(Key(CLAIMS, "a", "data"))
        await controller.reconcile(Key(VOLUMES, "", name))
        for resource, namespace, gone in ((CLAIMS, "a", "data"), (VOLUMES, "", name)):
            with pytest.raises(NotFound):
                await store.get(resource, namespace, gone)
        assert not (tmp_path / "claims" / name).exists()
    finally:
        store.close()
