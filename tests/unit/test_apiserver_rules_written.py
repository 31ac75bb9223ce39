"""Rules of kube-apiserver that clients rely on without naming them: each was found by holding the code against its source.

Here: what a write must obey, in objects of every kind, in their parts, in pods.
"""

from __future__ import annotations

import pytest

from tests.apiserver import SPACE, Server, config_map, pod

MAPS, PODS = f"{SPACE}/configmaps", f"{SPACE}/pods"
MERGE, STRATEGIC, APPLY = (
    "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml",
)  # fmt: skip
ACCESS = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path) as made:
        yield made


WRONG_CHANGES = [
    (f"{ACCESS}/roles", {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
     {"rules": [{"apiGroups": [""], "resources": ["pods"]}]}),
    (f"{SPACE}/limitranges", {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}},
     {"spec": {"limits": [{"type": "Pod", "default": {"cpu": "1"}}]}}),
    ("/apis/coordination.k8s.io/v1/namespaces/default/leases", {"spec": {"leaseDurationSeconds": 1}},
     {"spec": {"leaseDurationSeconds": 0}}),
    ("/api/v1/nodes", {}, {"spec": {"taints": [{"key": "k", "effect": "Burn"}]}}),
    (MAPS, {}, {"data": {"a/b": "x"}}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "made", "wrong"), WRONG_CHANGES, ids=[w[0].rpartition("/")[2] for w in WRONG_CHANGES])  # fmt: skip
async def test_a_change_must_obey_the_rules_of_a_new_object(server, path, made, wrong) -> None:
    obj = {"metadata": {"name": "x"}, **made}
    assert (await server.call("POST", path, obj)).status == 201
    told = await server.call("PATCH", f"{path}/x", wrong, media=MERGE)
    assert (told.status, told.json["reason"]) == (422, "Invalid")


async def test_a_field_given_twice_in_a_patch_is_told(server) -> None:
    await server.call("POST", MAPS, config_map("a"))
    twice = b'{"data":{"k":"1","k":"2"}}'
    told = await server.call("PATCH", f"{MAPS}/a?fieldValidation=Strict", twice, media=MERGE)
    assert (told.status, 'duplicate field "k"' in told.json["message"]) == (400, True)
    warned = await server.call("PATCH", f"{MAPS}/a", twice, media=MERGE)
    assert 'duplicate field \\"k\\"' in warned.headers.getall("Warning")[0]


async def test_an_apply_with_the_uid_of_an_object_that_is_gone_makes_no_other(server) -> None:
    config = {**config_map("a"), "metadata": {"name": "a", "uid": "gone"}}
    told = await server.call("PATCH", f"{MAPS}/a?fieldManager=m", config, media=APPLY)
    assert (told.status, told.json["reason"]) == (409, "Conflict")
    assert "no existing object was found" in told.json["message"]
    assert (await server.call("GET", f"{MAPS}/a")).status == 404


async def test_what_a_limit_range_fills_in_must_fit_what_was_given(server) -> None:
    limit = {"type": "Container", "defaultRequest": {"cpu": "1"}, "default": {"cpu": "2"}}
    item = {"metadata": {"name": "l"}, "spec": {"limits": [limit]}}
    await server.call("POST", f"{SPACE}/limitranges", item)
    told = await server.call("POST", PODS, pod(resources={"requests": {"cpu": "3"}}))
    assert told.status == 422
    assert [c["field"] for c in told.json["details"]["causes"]] == ["spec.containers[0].resources.requests"]  # fmt: skip


# -- parts


@pytest.mark.parametrize("part", ["status", "resize", "ephemeralcontainers"])
async def test_a_part_changes_nothing_else(server, part) -> None:
    """Who may only write a part must not get at labels, finalizers or owners by it."""
    made = (await server.call("POST", PODS, pod())).json
    wanted = {
        **made,
        "metadata": {
            **made["metadata"], "labels": {"a": "b"}, "annotations": {"a": "b"}, "finalizers": ["a.b/c"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}],
        },
    }  # fmt: skip
    told = await server.call("PUT", f"{PODS}/p/{part}", wanted)
    assert told.status == 200
    for name in ("labels", "annotations", "finalizers", "ownerReferences"):
        assert name not in told.json["metadata"]


async def test_a_resize_counts_in_the_generation_and_a_status_does_not(server) -> None:
    await server.call("POST", PODS, pod(resources={"requests": {"cpu": "1"}}))
    cpu = {"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "2"}}}]}}
    resized = await server.call("PATCH", f"{PODS}/p/resize", cpu, media=STRATEGIC)
    assert resized.json["metadata"]["generation"] == 2
    told = await server.call(
        "PATCH", f"{PODS}/p/status", {"status": {"message": "m"}}, media=STRATEGIC
    )
    assert told.json["metadata"]["generation"] == 2
    assert {(m["manager"], m.get("subresource")) for m in told.json["metadata"]["managedFields"]} >= {
        ("Python", "resize"), ("Python", "status"),
    }  # fmt: skip


# -- pods


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"tolerations": [{"key": "k", "operator": "Burn"}]}, "spec.tolerations[0].operator"),
        ({"containers": [{"name": "app", "image": " a"}]}, "spec.containers[0].image"),
        ({"containers": [{"name": "app", "image": ""}]}, "spec.containers[0].image"),
    ],
)
async def test_what_may_change_in_a_pod_is_held_against_the_rules(server, spec, field) -> None:
    await server.call("POST", PODS, pod())
    told = await server.call("PATCH", f"{PODS}/p", {"spec": spec}, media=STRATEGIC)
    assert told.status == 422
    assert [c["field"] for c in told.json["details"]["causes"]] == [field]


VOLUMES = [
    ({}, {"emptyDir": {}}),
    ({"emptyDir": None}, {"emptyDir": {}}),
    ({"configMap": {"name": "c"}}, {"configMap": {"name": "c", "defaultMode": 420}}),
    ({"image": {"reference": "a:1"}}, {"image": {"reference": "a:1", "pullPolicy": "IfNotPresent"}}),
    ({"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}},
     {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}], "defaultMode": 420}}),
    ({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
     {"projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}], "defaultMode": 420}}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "kept"), VOLUMES, ids=[str(v[0])[:30] for v in VOLUMES])
async def test_volumes_get_their_defaults(server, given: dict, kept: dict) -> None:
    made = pod()
    made["spec"]["volumes"] = [{"name": "v", **given}]
    answer = await server.call("POST", PODS, made)
    assert answer.json["spec"]["volumes"] == [{"name": "v", **kept}]
    labelled = await server.call("PATCH", f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}}, media=MERGE)  # fmt: skip
    assert labelled.status == 200


async def test_a_pod_from_a_time_with_fewer_defaults_can_be_labelled(server) -> None:
    old = (await server.call("POST", PODS, pod())).json
    old["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "c"}}]
    await server.store.mutate("pods", "default", "p", lambda _: old)
    labelled = await server.call("PATCH", f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}}, media=MERGE)  # fmt: skip
    assert labelled.status == 200


async def test_a_generated_name_is_there_before_the_rules(server) -> None:
    made = await server.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "n-"}})
    metadata = made.json["metadata"]
    assert metadata["labels"] == {"kubernetes.io/metadata.name": metadata["name"]}
    dry = await server.call("POST", f"{MAPS}?dryRun=All", {"metadata": {"generateName": "n-"}})
    assert len(dry.json["metadata"]["name"]) == 7
