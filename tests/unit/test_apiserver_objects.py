"""The verbs on objects over HTTP: what every kind shares."""

from __future__ import annotations

import io

import pytest

from tests.apiserver import SPACE, Server, config_map

MAPS, PODS = f"{SPACE}/configmaps", f"{SPACE}/pods"


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path) as made:
        yield made


async def test_an_object_is_made_read_changed_and_deleted(server) -> None:
    made = await server.call("POST", MAPS, config_map("a", k="1"))
    assert made.status == 201
    metadata = made.json["metadata"]
    assert metadata["uid"]
    assert metadata["namespace"] == "default"
    assert (await server.call("POST", MAPS, config_map("a"))).json["reason"] == "AlreadyExists"
    changed = {**made.json, "data": {"k": "2"}}
    put = await server.call("PUT", f"{MAPS}/a", changed)
    assert int(put.json["metadata"]["resourceVersion"]) > int(metadata["resourceVersion"])
    stale = await server.call("PUT", f"{MAPS}/a", changed)
    assert (stale.status, stale.json["reason"]) == (409, "Conflict")
    assert "please apply your changes to the latest version" in stale.json["message"]
    assert (await server.call("GET", f"{MAPS}/a")).json["data"] == {"k": "2"}
    gone = await server.call("DELETE", f"{MAPS}/a")
    assert (gone.json["kind"], gone.json["status"]) == ("Status", "Success")
    missing = await server.call("GET", f"{MAPS}/a")
    assert missing.json["message"] == 'configmaps "a" not found'
    assert missing.json["details"] == {"name": "a", "kind": "configmaps"}


async def test_an_update_that_changes_nothing_is_no_new_version(server) -> None:
    made = (await server.call("POST", MAPS, config_map("a", k="1"))).json
    again = (await server.call("PUT", f"{MAPS}/a", made)).json
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_a_name_is_generated(server) -> None:
    obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"generateName": "x-"}}
    names = {(await server.call("POST", MAPS, obj)).json["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(n.startswith("x-") and len(n) == 7 for n in names)


async def test_a_dry_run_writes_nothing(server) -> None:
    assert (await server.call("POST", f"{MAPS}?dryRun=All", config_map("a"))).status == 201
    assert (await server.call("GET", f"{MAPS}/a")).status == 404
    await server.call("POST", MAPS, config_map("a", k="1"))
    patch = {"data": {"k": "2"}}
    dry = await server.call(
        "PATCH", f"{MAPS}/a?dryRun=All", patch, media="application/merge-patch+json"
    )
    assert dry.json["data"] == {"k": "2"}
    await server.call("DELETE", f"{MAPS}/a?dryRun=All")
    assert (await server.call("GET", f"{MAPS}/a")).json["data"] == {"k": "1"}


async def test_unknown_fields_are_told_dropped_or_refused(server) -> None:
    bad = {**config_map("a"), "dataa": {"k": "1"}, "immutabel": True}
    strict = await server.call("POST", f"{MAPS}?fieldValidation=Strict", bad)
    assert strict.status == 400
    words = 'strict decoding error: unknown field "dataa" (did you mean "data"?), unknown field "immutabel"'
    assert words in strict.json["message"]
    warned = await server.call("POST", f"{MAPS}?fieldValidation=Warn", bad)
    assert warned.status == 201
    assert 'unknown field \\"dataa\\"' in warned.headers.getall("Warning")[0]
    assert "dataa" not in warned.json
    quiet = await server.call("PUT", f"{MAPS}/a?fieldValidation=Ignore", bad)
    assert "Warning" not in quiet.headers
    twice = (
        b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"b"},"data":{"k":"1","k":"2"}}'
    )
    told = await server.call("POST", f"{MAPS}?fieldValidation=Strict", twice)
    assert 'duplicate field "k"' in told.json["message"]


async def test_wrong_types_and_unknown_fields_hide_no_other_error(server) -> None:
    pod = {
        "metadata": {"name": "Bad_Name", "labels": {"a": 5, "no good": "x"}},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": 5}],
            "containers": [
                {"name": "a", "image": 7, "imagee": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                {"name": "a", "image": "busybox", "resources": {"limits": {"cpu": "-1"}}},
                {"name": "b", "image": "busybox", "livenessProbe": {"httpGet": "x"}},
            ],
        },
    }  # fmt: skip
    told = await server.call("POST", f"{PODS}?fieldValidation=Strict", pod)
    assert told.status == 400
    causes = told.json["details"]["causes"]
    assert sorted(c["field"] for c in causes if c["field"]) == [
        "metadata.labels", "metadata.name", "spec.containers[1].name", "spec.containers[1].resources.limits[cpu]",
    ]  # fmt: skip
    words = [c["message"] for c in causes if not c["field"]]
    assert [w.split(" of type")[0].split()[-1] for w in words[:-1]] == [
        "metadata.labels[a]", "spec.volumes[0].emptyDir", "spec.containers[0].image", "spec.containers[2].livenessProbe.httpGet",
    ]  # fmt: skip
    assert words[-1].startswith('unknown field "spec.containers[0].imagee"')
    assert all(w in told.json["message"] for w in words)
    assert (await server.call("GET", PODS)).json["items"] == []


@pytest.mark.parametrize("bad", [[], "x", 5])
async def test_metadata_or_spec_of_another_type_is_a_400(server, bad: object) -> None:
    for pod in ({"metadata": bad, "spec": {}}, {"metadata": {"name": "a"}, "spec": bad}):
        told = await server.call("POST", PODS, pod)
        assert (told.status, told.json["reason"]) == (400, "BadRequest")


@pytest.mark.parametrize(
    "time", ["9999-99-99T99:99:99Z", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00+99:99"]
)
async def test_a_time_that_is_none_is_refused(server, time: str) -> None:
    """It would be read by a controller later, which would end the daemon."""
    event = {
        "metadata": {"name": "e"}, "involvedObject": {"namespace": "default", "kind": "Pod", "name": "p"}, "lastTimestamp": time,
    }  # fmt: skip
    told = await server.call("POST", f"{SPACE}/events", event)
    assert told.status == 400
    assert "lastTimestamp: parsing time" in told.json["message"]


async def test_a_grace_period_of_ages_is_cut(server) -> None:
    containers = [{"name": "app", "image": "busybox"}]
    pod = {"metadata": {"name": "p"}, "spec": {"containers": containers, "terminationGracePeriodSeconds": (1 << 63) - 1}}  # fmt: skip
    assert (await server.call("POST", PODS, pod)).status == 201
    gone = await server.call("DELETE", f"{PODS}/p")
    assert gone.status == 200
    assert gone.json["metadata"]["deletionGracePeriodSeconds"] == (1 << 31) - 1


async def test_all_errors_are_told_at_once_with_their_fields(server) -> None:
    bad = config_map("Bad_Name", labels={"no good": "x" * 64})
    bad["data"] = {"a/b": "1"}
    told = (await server.call("POST", MAPS, bad)).json
    assert (told["code"], told["reason"]) == (422, "Invalid")
    fields = [c["field"] for c in told["details"]["causes"]]
    assert fields == ["metadata.name", "metadata.labels", "metadata.labels", "data[a/b]"]
    assert told["details"]["kind"] == "ConfigMap"


async def test_an_object_waits_for_its_finalizers(server) -> None:
    obj = config_map("a")
    obj["metadata"]["finalizers"] = ["example.com/hold"]
    await server.call("POST", MAPS, obj)
    marked = (await server.call("DELETE", f"{MAPS}/a")).json
    assert marked["metadata"]["deletionTimestamp"]
    merge = "application/merge-patch+json"
    more = {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}
    assert (await server.call("PATCH", f"{MAPS}/a", more, media=merge)).status == 422
    none = {"metadata": {"finalizers": None}}
    assert (await server.call("PATCH", f"{MAPS}/a", none, media=merge)).status == 200
    assert (await server.call("GET", f"{MAPS}/a")).status == 404


async def test_a_deletion_means_the_object_that_its_preconditions_name(server) -> None:
    made = (await server.call("POST", MAPS, config_map("a"))).json
    for wrong in ({"uid": "x"}, {"resourceVersion": "1"}):
        for query in ("", "?dryRun=All"):
            told = await server.call("DELETE", f"{MAPS}/a{query}", {"preconditions": wrong})
            assert told.status == 409
        assert "Precondition failed" in told.json["message"]
    right = {"uid": made["metadata"]["uid"]}
    assert (await server.call("DELETE", f"{MAPS}/a", {"preconditions": right})).status == 200


async def test_propagation_becomes_the_collectors_finalizer(server) -> None:
    for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
        await server.call("POST", MAPS, config_map("a"))
        kept = (await server.call("DELETE", f"{MAPS}/a", {"propagationPolicy": policy})).json
        assert kept["metadata"]["finalizers"] == [finalizer]
        none = {"metadata": {"finalizers": None}}
        await server.call("PATCH", f"{MAPS}/a", none, media="application/merge-patch+json")
    assert (await server.call("DELETE", f"{MAPS}/a", {"propagationPolicy": "Burn"})).status == 422


async def test_a_collection_is_deleted_by_selector(server) -> None:
    for name, app in (("a", "x"), ("b", "y"), ("c", "x")):
        await server.call("POST", MAPS, config_map(name, labels={"app": app}))
    gone = await server.call("DELETE", f"{MAPS}?labelSelector=app%3Dx")
    assert [i["metadata"]["name"] for i in gone.json["items"]] == ["a", "c"]
    left = (await server.call("GET", MAPS)).json["items"]
    assert [i["metadata"]["name"] for i in left] == ["b"]


async def test_a_list_comes_in_pages_of_one_moment(server) -> None:
    for name in "abcde":
        await server.call("POST", MAPS, config_map(name))
    first = (await server.call("GET", f"{MAPS}?limit=2")).json
    assert first["metadata"]["remainingItemCount"] == 3
    await server.call("DELETE", f"{MAPS}/d")
    await server.call("POST", MAPS, config_map("cc"))
    second = (
        await server.call("GET", f"{MAPS}?limit=9&continue={first['metadata']['continue']}")
    ).json
    assert [i["metadata"]["name"] for i in second["items"]] == ["c", "d", "e"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    for i in range(20):  # other lists push the snapshot out
        await server.call("PUT", f"{MAPS}/a", config_map("a", k=str(i)))
        await server.call("GET", f"{MAPS}?limit=1")
    told = await server.call("GET", f"{MAPS}?continue={first['metadata']['continue']}")
    assert (told.status, told.json["reason"]) == (410, "Expired")
    onward = (await server.call("GET", f"{MAPS}?continue={told.json['metadata']['continue']}")).json
    assert [i["metadata"]["name"] for i in onward["items"]] == ["c", "cc", "e"]
    assert (await server.call("GET", f"{MAPS}?continue=burn")).status == 400


async def test_events_are_one_kind_under_two_names(server) -> None:
    event = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "n", "reason": "R",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "type": "Normal",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i", "action": "A",
    }  # fmt: skip
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    assert (await server.call("POST", path, event)).json["note"] == "n"
    core = (await server.call("GET", f"{SPACE}/events?fieldSelector=involvedObject.name%3Dp")).json[
        "items"
    ]
    assert (core[0]["message"], core[0]["involvedObject"]["name"]) == ("n", "p")
    change = {"metadata": {"labels": {"l": "m"}}}
    patched = await server.call("PATCH", f"{path}/e", change, media="application/merge-patch+json")
    assert (patched.json["note"], patched.json["metadata"]["labels"]) == ("n", {"l": "m"})
    core = (await server.call("GET", f"{SPACE}/events/e")).json
    assert (core["message"], core["metadata"]["labels"]) == ("n", {"l": "m"})


WRONG = [
    ("POST", MAPS, b"", 400),
    ("POST", MAPS, b"{", 400),
    ("POST", MAPS, b"[]", 400),
    ("POST", MAPS, b'"\xff"', 400),
    ("POST", MAPS, b"[" * 5000 + b"]" * 5000, 400),
    ("POST", MAPS, b'{"a":' * 200 + b"1" + b"}" * 200, 400),
    ("POST", MAPS, b'{"metadata":{"name":"a","generation":' + b"9" * 400 + b"}}", 400),
    ("POST", MAPS, b'{"metadata":{"name":"a","generation":1e999}}', 400),
    ("POST", MAPS, b'{"metadata":{"name":"a","generation":NaN}}', 400),
    ("POST", MAPS, b'{"metadata":{"name":"a"},"data":{"k":1}}', 400),
    ("POST", MAPS, b'{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a"}}', 400),
    ("POST", MAPS, b'{"metadata":{"name":"a","namespace":"other"}}', 400),
    ("POST", MAPS, b'{"metadata":{"name":"a","resourceVersion":"5"}}', 400),
    ("POST", MAPS, b'{"metadata":{"name":"../a"}}', 422),
    ("POST", "/api/v1/namespaces/nosuch/configmaps", b'{"metadata":{"name":"a"}}', 404),
    ("POST", "/api/v1/configmaps", b"{}", 405),
    ("POST", f"{MAPS}?dryRun=Some", b'{"metadata":{"name":"a"}}', 422),
    ("POST", f"{MAPS}?fieldValidation=Some", b'{"metadata":{"name":"a"}}', 422),
    ("PATCH", f"{MAPS}/a", b"{}", 415),
    ("GET", f"{SPACE}/nosuch", None, 404),
    ("GET", f"{MAPS}/..%2f..%2fa", None, 404),
    ("GET", f"{MAPS}/a/nosuch", None, 404),
    ("GET", f"{MAPS}/a/b/c/d", None, 404),
    ("GET", "/api/v1/namespaces/default/nodes", None, 404),
    ("GET", "/apis/nosuch/v1", None, 404),
    ("GET", f"{MAPS}?limit=x", None, 400),
    ("GET", f"{MAPS}?labelSelector=a%20b", None, 400),
    ("GET", f"{MAPS}?fieldSelector=spec.x%3D1", None, 400),
    ("GET", f"{MAPS}?resourceVersion=999999999", None, 504),
    ("GET", f"{MAPS}?resourceVersionMatch=Exact", None, 422),
    ("GET", f"{MAPS}?watch=1&resourceVersion=999999999", None, 504),
    ("OPTIONS", f"{MAPS}/a", None, 405),
    ("DELETE", "/api/v1/namespaces", None, 405),
    ("GET", "/burn", None, 404),
    ("GET", "/%ff", None, 400),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    WRONG,
    ids=[f"{w[0]} {w[1][-50:]} {str(w[2])[:40]}" for w in WRONG],
)
async def test_what_is_wrong_is_told_as_a_status(server, method, path, body, code) -> None:
    told = await server.call(method, path, body)
    assert (told.status, told.json["kind"], told.json["code"]) == (code, "Status", code)
    assert "Traceback" not in told.json["message"]


async def test_a_body_over_the_limit_is_a_413(server) -> None:
    told = await server.call("POST", MAPS, io.BytesIO(b" " * (3 << 20) + b"{}"))
    assert (told.status, told.json["reason"]) == (413, "RequestEntityTooLarge")


async def test_yaml_comes_in_and_goes_out(server) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {k: 'v'}\n"
    assert (await server.call("POST", MAPS, text, media="application/yaml")).status == 201
    shown = await server.call("GET", f"{MAPS}/y", accept="application/yaml")
    assert b"k: v" in shown.body
    laughs = b"a: &a [x]\nb: &b [*a,*a]\nmetadata: {name: z}"
    assert (await server.call("POST", MAPS, laughs, media="application/yaml")).status == 400
    assert (
        await server.call("GET", f"{MAPS}/y", accept="application/vnd.kubernetes.protobuf")
    ).status == 406


async def test_half_a_surrogate_pair_is_no_defect(server) -> None:
    odd = b'{"metadata":{"name":"odd"},"data":{"k":"\\ud800"}}'
    assert (await server.call("POST", MAPS, odd)).json["data"] == {"k": "\ufffd"}
