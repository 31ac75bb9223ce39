"""Rules of kube-apiserver that clients rely on without naming them: each was found by holding the code against its source."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from minipod.apiserver import call, first_objects, requestinfo
from tests.apiserver import SPACE, Server, config_map

MAPS, PODS = f"{SPACE}/configmaps", f"{SPACE}/pods"
MERGE, STRATEGIC, APPLY = (
    "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml",
)  # fmt: skip
ACCESS = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path) as made:
        yield made


def pod(name: str = "p", **container: object) -> dict:
    spec = {"containers": [{"name": "app", "image": "busybox:1.36", **container}]}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec}


def names(answer) -> list[str]:
    return [i["metadata"]["name"] for i in answer.json["items"]]


# -- paths


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{MAPS}/a"),
        ("POST", "/api/v1/namespaces/default"),
        ("PUT", MAPS),
        ("PATCH", MAPS),
    ],
)
async def test_collections_are_written_by_post_and_objects_by_put(server, method, path) -> None:
    """A name in the path of a create would be held against a role's resourceNames, and another one be made."""
    told = await server.call(method, path, config_map("b"), media=MERGE)
    assert (told.status, told.json["reason"]) == (405, "MethodNotAllowed")


async def test_a_refusal_names_the_object_also_where_the_path_does_not(server) -> None:
    await server.call("POST", MAPS, config_map("a"))
    told = (await server.call("POST", MAPS, config_map("a"))).json
    assert told["details"] == {"name": "a", "kind": "configmaps"}


async def test_a_version_of_nothing_and_one_of_the_future(server) -> None:
    zero = {**config_map("a"), "metadata": {"name": "a", "resourceVersion": "0"}}
    assert (await server.call("POST", MAPS, zero)).status == 201
    assert (await server.call("PUT", f"{MAPS}/a", {**zero, "data": {"k": "v"}})).status == 200
    assert (await server.call("GET", f"{MAPS}/a?resourceVersion=1")).status == 200
    told = await server.call("GET", f"{MAPS}/a?resourceVersion={server.store.version + 1}")
    assert (told.status, told.json["reason"]) == (504, "Timeout")
    assert (await server.call("GET", f"{MAPS}/a?resourceVersion=x")).status == 400


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("metadata.name=a", "a"), ("metadata.name==a", "a"), ("metadata.namespace=n,metadata.name=a", "a"),
        ("metadata.name!=a", ""), ("x=metadata.name=a", ""), ("metadata.name=a\\,b", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_list_of_one_name_is_about_that_name(selector: str, name: str) -> None:
    """A role for one object allows to watch it."""
    parts = ("api", "v1", "namespaces", "default", "configmaps")
    assert requestinfo.parse("GET", parts, {"fieldSelector": selector}).name == name
    assert requestinfo.parse("DELETE", parts, {"fieldSelector": selector}).name == ""


# -- lists


async def test_an_exact_list_is_of_the_version_that_was_asked_for(server) -> None:
    version = (await server.call("POST", MAPS, config_map("a"))).json["metadata"]["resourceVersion"]
    await server.call("POST", f"{SPACE}/secrets", {"metadata": {"name": "s"}})  # another kind
    for query in (f"resourceVersion={version}&resourceVersionMatch=Exact", f"resourceVersion={version}&limit=5"):  # fmt: skip
        found = await server.call("GET", f"{MAPS}?{query}")
        assert (names(found), found.json["metadata"]["resourceVersion"]) == (["a"], version)
    newer = await server.call(
        "GET", f"{MAPS}?resourceVersion={version}&resourceVersionMatch=NotOlderThan"
    )
    assert int(newer.json["metadata"]["resourceVersion"]) > int(version)
    await server.call("POST", MAPS, config_map("b"))
    told = await server.call("GET", f"{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact")
    assert (told.status, told.json["reason"]) == (410, "Expired")


async def test_a_page_has_the_version_of_the_first_one(server) -> None:
    for name in "ab":
        await server.call("POST", MAPS, config_map(name))
    first = (await server.call("GET", f"{MAPS}?limit=1")).json["metadata"]
    query = f"continue={first['continue']}&resourceVersion={first['resourceVersion']}"
    assert (await server.call("GET", f"{MAPS}?{query}")).status == 400
    other = await server.call("GET", f"{SPACE}/secrets?continue={first['continue']}")
    assert (other.status, other.json["reason"]) == (410, "Expired")  # a token of another list


async def test_fields_are_selected_by_the_names_of_the_version_that_is_asked(server) -> None:
    event = {
        "metadata": {"name": "e"}, "reason": "R", "reportingComponent": "c",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
    }  # fmt: skip
    await server.call("POST", f"{SPACE}/events", event)
    new = "/apis/events.k8s.io/v1/namespaces/default/events"
    for selector in ("regarding.name=p,regarding.kind=Pod", "reportingController=c", "reason!=X"):
        assert names(await server.call("GET", f"{new}?fieldSelector={selector}")) == ["e"]
    assert names(await server.call("GET", f"{new}?fieldSelector=regarding.name=q")) == []
    assert (await server.call("GET", f"{new}?fieldSelector=involvedObject.name%3Dp")).status == 400
    watching = await server.watch(f"{new}?watch=1&fieldSelector=regarding.name%3Dp")
    assert await watching.some(1) == [("ADDED", "e")]
    watching.close()


async def test_a_truth_that_is_not_there_is_false_for_selectors(server) -> None:
    await server.call("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}})
    await server.call(
        "POST", "/api/v1/nodes", {"metadata": {"name": "n2"}, "spec": {"unschedulable": True}}
    )
    for value, found in (("false", ["n1"]), ("true", ["n2"])):
        answer = await server.call("GET", f"/api/v1/nodes?fieldSelector=spec.unschedulable={value}")
        assert names(answer) == found


async def test_a_table_holds_what_kubernetes_knows(server) -> None:
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    assert (await server.call("GET", f"{MAPS}?includeObject=All", accept=table)).status == 400


# -- writes

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


# -- bodies, headers


async def test_a_client_whose_name_is_no_text_is_called_by_what_can_be_shown(server) -> None:
    """Header bytes that are no UTF-8 were an error of the server's own, when they came back in its words."""
    head = f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    body = b'{"metadata":{"name":"a"},"data":{"k":"v"}}'
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    for agent, code, manager in ((b"\xff\xfeodd\t/1", 201, "odd"), (b"\xff", 409, "odd")):
        reader, writer = await asyncio.open_unix_connection(server.socket)
        writer.write(head + b"User-Agent: " + agent + b"\r\n\r\n" + body)
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        assert int(answer.split()[1]) == code, answer
        found = (await server.call("GET", f"{MAPS}/a")).json["metadata"]["managedFields"]
        assert [m["manager"] for m in found] == [manager]


async def test_a_body_that_does_not_come_is_not_waited_for(server, monkeypatch) -> None:
    monkeypatch.setattr(call, "BODY_TIME", 0.1)

    async def slow():
        yield b"{"
        await asyncio.sleep(30)

    async with server.session.post(f"http://x{MAPS}", data=slow()) as answer:
        assert answer.status == 504
        assert (await answer.json())["reason"] == "Timeout"


async def test_a_compressed_body_is_measured_by_what_it_holds(server) -> None:
    bomb = gzip.compress(b" " * (50 << 20) + b"{}", 9)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with server.session.post(f"http://x{MAPS}", data=bomb, headers=headers) as answer:
        assert answer.status == 413


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


# -- what is there from the start, dry runs, deletion


async def test_what_the_system_needs_is_there_and_stays(server) -> None:
    await first_objects.make(server.store)
    await first_objects.make(server.store)  # again, at the second start
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    system = ["system-cluster-critical", "system-node-critical"]
    assert names(await server.call("GET", classes)) == system
    assert (await server.call("DELETE", f"{classes}/{system[0]}")).status == 403
    assert (await server.call("DELETE", classes)).status == 403
    assert (await server.call("DELETE", "/api/v1/namespaces/kube-system")).status == 403
    assert names(await server.call("GET", classes)) == system


async def test_no_dry_run_leaves_a_trace(server) -> None:
    """No version is spent, and no watcher hears of it."""
    await server.call("POST", PODS, pod())
    made = (await server.call("POST", MAPS, config_map("a", k="1"))).json
    before = server.store.version
    dry = "dryRun=All&fieldManager=m"
    changed, eviction = (
        {**made, "data": {"k": "2"}},
        {"metadata": {"name": "p"}, "kind": "Eviction"},
    )
    status = {"status": {"phase": "Failed"}}
    for method, path, body, media in (
        ("POST", f"{MAPS}?{dry}", config_map("b"), "application/json"),
        ("POST", f"{MAPS}?{dry}", {"metadata": {"generateName": "b-"}}, "application/json"),
        ("PUT", f"{MAPS}/a?{dry}", changed, "application/json"),
        ("PATCH", f"{MAPS}/a?{dry}", {"data": {"k": "2"}}, MERGE),
        ("PATCH", f"{MAPS}/a?{dry}&force=true", config_map("a", k="2"), APPLY),
        ("PATCH", f"{MAPS}/b?{dry}", config_map("b", k="2"), APPLY),
        ("PATCH", f"{PODS}/p/status?{dry}", status, MERGE),
        ("POST", f"{PODS}/p/eviction?{dry}", eviction, "application/json"),
        ("DELETE", f"{MAPS}/a?{dry}", None, ""),
        ("DELETE", f"{MAPS}/a", {"dryRun": ["All"], "propagationPolicy": "Foreground"}, "application/json"),
        ("DELETE", f"{MAPS}?{dry}", None, ""),
        ("DELETE", f"{PODS}/p?{dry}", None, ""),
    ):  # fmt: skip
        answer = await server.call(method, path, body, media=media)
        assert answer.status in (200, 201), (method, path, answer.body)
    assert server.store.version == before
    assert (await server.call("GET", f"{MAPS}/a")).json == made


@pytest.mark.parametrize(
    "options", [{"preconditions": {"uid": 5}}, {"gracePeriodSeconds": "x"}, {"dryRun": "All"}, {"kind": "Pod"}]
)  # fmt: skip
async def test_options_of_a_deletion_have_their_types(server, options: dict) -> None:
    await server.call("POST", MAPS, config_map("a"))
    assert (await server.call("DELETE", f"{MAPS}/a", options)).status == 400
    assert (await server.call("GET", f"{MAPS}/a")).status == 200


async def test_a_graceful_deletion_waits_for_its_end_and_for_finalizers(server) -> None:
    made = pod()
    made["metadata"]["finalizers"] = ["example.com/hold"]
    await server.call("POST", PODS, made)
    marked = (await server.call("DELETE", f"{PODS}/p")).json["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 30
    shorter = (await server.call("DELETE", f"{PODS}/p?gracePeriodSeconds=5")).json["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    assert shorter["deletionTimestamp"] < marked["deletionTimestamp"]
    longer = (await server.call("DELETE", f"{PODS}/p?gracePeriodSeconds=50")).json["metadata"]
    assert longer["deletionGracePeriodSeconds"] == 5
    ended = (await server.call("DELETE", f"{PODS}/p?gracePeriodSeconds=0")).json["metadata"]
    assert (ended["deletionGracePeriodSeconds"], ended["finalizers"]) == (0, ["example.com/hold"])
    free = {"metadata": {"finalizers": None}}
    assert (await server.call("PATCH", f"{PODS}/p", free, media=MERGE)).status == 200
    assert (await server.call("GET", f"{PODS}/p")).status == 404
