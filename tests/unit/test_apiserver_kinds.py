"""What kinds show and say: the cells of tables, the words of kubectl explain; and templates of pods, which several kinds have."""

from __future__ import annotations

import pytest

from minipod.api import descriptions, types
from minipod.apiserver import kinds
from tests.apiserver import SPACE, Server

MAPS, PODS = f"{SPACE}/configmaps", f"{SPACE}/pods"
ACCESS = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path) as made:
        yield made


# -- templates and tables


async def test_the_template_of_a_pod_is_held_against_a_pods_rules(server) -> None:
    made = {"metadata": {"name": "t"}, "template": {"spec": {"containers": [{"name": "A", "image": "i"}]}}}  # fmt: skip
    told = await server.call("POST", f"{SPACE}/podtemplates", made)
    assert [c["field"] for c in told.json["details"]["causes"]] == ["template.spec.containers[0].name"]  # fmt: skip
    made["template"]["spec"]["containers"][0]["name"] = "a"
    spec = (await server.call("POST", f"{SPACE}/podtemplates", made)).json["template"]["spec"]
    assert (spec["restartPolicy"], spec["containers"][0]["imagePullPolicy"]) == ("Always", "Always")


ROWS = [
    ("/api/v1/nodes", {"spec": {"unschedulable": True}}, "Unknown,SchedulingDisabled <none>"),
    (f"{SPACE}/secrets", {"stringData": {"a": "b"}}, "Opaque 1"),
    ("/apis/scheduling.k8s.io/v1/priorityclasses", {"value": 0, "globalDefault": True}, "0 true"),
    ("/apis/storage.k8s.io/v1/storageclasses", {"provisioner": "a/b"}, "a/b Delete Immediate false"),
    (f"{SPACE}/persistentvolumeclaims", {"spec": {"accessModes": ["ReadWriteMany", "ReadWriteOnce"],
     "storageClassName": "s", "resources": {"requests": {"storage": "1Gi"}}}}, "Pending    s <unset>"),
    ("/api/v1/persistentvolumes", {"spec": {"accessModes": ["ReadWriteMany", "ReadWriteOnce"], "capacity": {"storage": "1Gi"},
     "hostPath": {"path": "/x"}, "claimRef": {"namespace": "n", "name": "c"}}}, "1Gi RWO,RWX Retain Pending n/c  <unset> "),
    (f"{ACCESS}/rolebindings", {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
     {"kind": "User", "name": "v"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}, "Role/r AGE u, v  n/s"),
    ("/apis/node.k8s.io/v1/runtimeclasses", {"handler": "h"}, "h"),
    (f"{SPACE}/podtemplates", {"template": {"metadata": {"labels": {"k": "v"}}, "spec": {"containers": [
     {"name": "a", "image": "x:1"}, {"name": "b", "image": "y:1"}]}}}, "a,b x:1,y:1 k=v"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "obj", "cells"), ROWS, ids=[r[0].rpartition("/")[2] for r in ROWS])  # fmt: skip
async def test_the_cells_of_a_kind_are_kubernetes(server, path, obj, cells) -> None:
    made = await server.call("POST", path, {"metadata": {"name": "x"}, **obj})
    assert made.status == 201, made.json
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    shown = (await server.call("GET", f"{path}/x", accept=table)).json
    ages = [i for i, c in enumerate(shown["columnDefinitions"]) if c["name"] == "Age"]
    row = ["AGE" if i in ages else str(c) for i, c in enumerate(shown["rows"][0]["cells"])]
    assert " ".join(row).startswith(f"x {cells}")


# -- descriptions


def reached() -> set[str]:
    """Return the names of the types of all kinds that can be made."""
    waiting = [r.type for r in kinds.RESOURCES if r.type and "create" in r.verbs]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        kind = types.lookup(name) if name not in found else ""
        if isinstance(kind, types.Type):
            found.add(name)
            elements = [f.element.removeprefix("[]") for f in kind.fields.values()]
            waiting += [e for e in elements if e not in types.SCALARS]
    return found


def test_every_type_and_field_says_what_it_is() -> None:
    silent = [name for name in reached() if not descriptions.of_type(name)]
    for name in reached():
        kind = types.object_type(name)
        silent += [
            f"{name}.{f}" for f, k in kind.fields.items() if not descriptions.of_field(name, k)
        ]
    assert not silent


def test_what_is_described_is_there() -> None:
    for name, field in descriptions.words():
        if name != descriptions.ANY:
            assert field in ("", *types.object_type(name).fields), (name, field)
