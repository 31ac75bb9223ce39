"""Rules of kube-apiserver that clients rely on without naming them: each was found by holding the code against its source.

Here: paths, lists, bodies, what is there from the start, dry runs, deletion. Excluded: what may be written.
"""

from __future__ import annotations

import asyncio
import gzip

import pytest

from minipod.apiserver import call, first_objects, requestinfo
from tests.apiserver import SPACE, Server, config_map, pod

MAPS, PODS = f"{SPACE}/configmaps", f"{SPACE}/pods"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path) as made:
        yield made


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


NEW_EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
NEW_EVENT = {
    "metadata": {"name": "e"}, "eventTime": "2024-01-01T00:00:00.000000Z", "type": "Normal", "reason": "R", "action": "A",
    "reportingController": "example.com/c", "reportingInstance": "c-1", "note": "words",
    "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"eventTime": None}, ["eventTime: Required value"]),
        ({"type": "Odd"}, ["type: Invalid value", "has invalid value: Odd"]),
        ({"reason": ""}, ["reason: Required value"]),
        ({"action": "x" * 129}, ["action: Invalid value", "can have at most 128 characters"]),
        ({"note": "x" * 1025}, ["message: Invalid value", "can have at most 1024 characters"]),
        ({"reportingController": ""}, ["reportingController: Required value", "name part must be non-empty"]),
        ({"reportingInstance": None}, ["reportingInstance: Required value"]),
        ({"deprecatedCount": 3}, ["count: Invalid value", "needs to be unset"]),
        ({"deprecatedSource": {"host": "h"}}, ["source: Invalid value", "needs to be unset"]),
        ({"series": {"count": 1}}, ["should be at least 2", "series.lastObservedTime: Required value"]),
        ({"regarding": {"namespace": "other"}}, []),
    ],
    ids=str,
)  # fmt: skip
async def test_an_event_of_the_new_version_says_everything(server, change, said) -> None:
    answer = await server.call("POST", NEW_EVENTS, {**NEW_EVENT, **change})
    assert answer.status == (422 if said else 201), answer.json
    for words in said:
        assert words in answer.json["message"]


async def test_only_the_series_of_an_event_changes_by_the_new_version(server) -> None:
    """By the old one everything does, and an event of the old one says little."""
    await server.call("POST", NEW_EVENTS, NEW_EVENT)
    merge = "application/merge-patch+json"
    series = {"count": 2, "lastObservedTime": "2024-01-01T00:00:01.000000Z"}
    for patch, status in (
        ({"series": series}, 200),
        ({"series": {"count": 1}}, 422),
        ({"note": "x"}, 422),
    ):
        answer = await server.call("PATCH", f"{NEW_EVENTS}/e", patch, media=merge)
        assert answer.status == status, answer.json
    answer = await server.call("PATCH", f"{SPACE}/events/e", {"message": "x"}, media=merge)
    assert answer.status == 200, answer.json
    old = {"metadata": {"name": "old"}, "involvedObject": {"namespace": "default"}}
    assert (await server.call("POST", f"{SPACE}/events", old)).status == 201


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
