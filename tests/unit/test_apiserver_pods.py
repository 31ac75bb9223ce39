"""Admission and sub-resources of pods, a new kind in one entry with its scale, discovery and OpenAPI; all over HTTP."""

from __future__ import annotations

import pytest

from minipod.apiserver.resources import SCALE, STATUS, Resource
from tests.apiserver import NODE, SPACE, Server

PODS = f"{SPACE}/pods"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


REPLICA_SET = Resource(
    plural="replicasets",
    kind="ReplicaSet",
    type="apps.v1.ReplicaSet",
    group="apps",
    short_names=("rs",),
    has_generation=True,
    subresources=(STATUS, SCALE),
)


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path, REPLICA_SET) as made:
        yield made


def pod(name: str = "p", resources: dict | None = None, **spec) -> dict:
    container = {"name": "c", "image": "i", **({"resources": resources} if resources else {})}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container], **spec},
    }  # fmt: skip


async def make(server, kind: str, name: str, path: str = SPACE, **fields) -> None:
    group = {"PriorityClass": "scheduling.k8s.io/v1"}.get(kind, "v1")
    body = {"apiVersion": group, "kind": kind, "metadata": {"name": name}, **fields}
    plural = kind.lower() + ("es" if kind.endswith("s") else "s")
    answer = await server.call("POST", f"{path}/{plural}", body)
    assert answer.status == 201, answer.body


async def test_a_pod_gets_its_node_priority_and_account(server) -> None:
    made = (await server.call("POST", PODS, pod())).json
    spec = made["spec"]
    assert (spec["nodeName"], spec["priority"], spec["serviceAccountName"]) == (NODE, 0, "default")
    assert made["status"] == {"phase": "Pending"}
    fields = made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert "f:nodeName" not in fields  # the system added it: it is nobody's


async def test_a_limit_range_fills_in_and_refuses(server) -> None:
    limit = {
        "type": "Container",
        "default": {"cpu": "500m"},
        "defaultRequest": {"cpu": "100m"},
        "max": {"cpu": "1"},
    }
    await make(server, "LimitRange", "l", spec={"limits": [limit]})
    made = (await server.call("POST", PODS, pod())).json
    resources = made["spec"]["containers"][0]["resources"]
    assert resources == {"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}
    assert (
        "cpu limit for container c" in made["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    )
    told = await server.call("POST", PODS, pod("q", {"limits": {"cpu": "2"}}))
    assert (told.status, told.json["reason"]) == (403, "Forbidden")
    assert (
        told.json["message"]
        == 'pods "q" is forbidden: maximum cpu usage per Container is 1, but limit is 2'
    )


async def test_priority_comes_from_a_class(server) -> None:
    path = "/apis/scheduling.k8s.io/v1"
    await make(server, "PriorityClass", "high", path, value=7)
    await make(server, "PriorityClass", "usual", path, value=3, globalDefault=True)
    for asked, value in ((None, 3), ("high", 7), ("system-node-critical", 2_000_001_000)):
        more = {"priorityClassName": asked} if asked else {}
        made = (await server.call("POST", PODS, pod(f"p{value}", **more))).json
        assert made["spec"]["priority"] == value
    told = await server.call("POST", PODS, pod(priorityClassName="nosuch"))
    assert told.json["message"].endswith("no PriorityClass with name nosuch was found")
    assert (await server.call("POST", PODS, pod(priority=9))).status == 403


async def test_a_named_service_account_must_exist(server) -> None:
    told = await server.call("POST", PODS, pod(serviceAccountName="nosuch"))
    assert told.status == 403
    assert 'serviceaccount "nosuch" not found' in told.json["message"]
    await make(server, "ServiceAccount", "sa", imagePullSecrets=[{"name": "s"}])
    made = (await server.call("POST", PODS, pod(serviceAccountName="sa"))).json
    assert made["spec"]["imagePullSecrets"] == [{"name": "s"}]


async def test_eviction_is_a_graceful_deletion(server) -> None:
    await server.call("POST", PODS, pod())
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "p", "namespace": "default"},
    }
    assert (await server.call("POST", f"{PODS}/p/eviction", body)).status == 201
    assert (await server.call("GET", f"{PODS}/p")).json["metadata"][
        "deletionGracePeriodSeconds"
    ] == 30
    assert (await server.call("POST", f"{PODS}/x/eviction", body)).status in (400, 404)


async def test_a_pod_is_deleted_gracefully_then_at_once(server) -> None:
    await server.call("POST", PODS, pod())
    first = (await server.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 20})).json
    assert first["metadata"]["deletionGracePeriodSeconds"] == 20
    longer = (await server.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 25})).json
    assert longer["metadata"]["deletionGracePeriodSeconds"] == 20
    shorter = (await server.call("DELETE", f"{PODS}/p?gracePeriodSeconds=5")).json
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    await server.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 0})
    assert (await server.call("GET", f"{PODS}/p")).status == 404


async def test_a_bound_pod_is_not_bound_again(server) -> None:
    await server.call("POST", PODS, pod())
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": NODE},
    }
    told = await server.call("POST", f"{PODS}/p/binding", body)
    assert (told.status, told.json["reason"]) == (409, "Conflict")


async def test_a_resize_changes_cpu_and_memory_alone(server) -> None:
    await server.call(
        "POST", PODS, pod(resources={"requests": {"cpu": "1"}, "limits": {"cpu": "2"}})
    )
    to = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]}}
    made = await server.call("PATCH", f"{PODS}/p/resize", to, media=STRATEGIC)
    assert made.json["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "500m"}
    other = {"spec": {"containers": [{"name": "c", "image": "other"}]}}
    told = await server.call("PATCH", f"{PODS}/p/resize", other, media=STRATEGIC)
    assert "only cpu and memory resources are mutable" in told.json["message"]
    none = {"spec": {"containers": [{"name": "c", "resources": {"$patch": "replace"}}]}}
    told = await server.call("PATCH", f"{PODS}/p/resize", none, media=STRATEGIC)
    assert "QOS Class may not change" in told.json["message"]
    assert (
        "resources.requests: Forbidden: resource requests cannot be removed" in told.json["message"]
    )
    assert (await server.call("PATCH", f"{PODS}/p", to, media=STRATEGIC)).status == 200  # as it is
    more = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}}
    assert (await server.call("PATCH", f"{PODS}/p", more, media=STRATEGIC)).status == 422


async def test_the_status_has_a_path_of_its_own(server) -> None:
    made = (await server.call("POST", PODS, pod())).json
    both = {"status": {"phase": "Running"}, "metadata": {"labels": {"a": "b"}}}
    there = (await server.call("PATCH", f"{PODS}/p/status", both, media=MERGE)).json
    assert there["status"]["phase"] == "Running"
    assert "labels" not in there["metadata"]
    here = (
        await server.call(
            "PATCH", f"{PODS}/p", {**both, "status": {"phase": "Failed"}}, media=MERGE
        )
    ).json
    assert here["status"]["phase"] == "Running"
    assert here["metadata"]["labels"] == {"a": "b"}
    assert here["metadata"]["uid"] == made["metadata"]["uid"]


async def test_a_kind_of_one_entry_has_everything(server) -> None:
    """Create, generation, scale, status, table, discovery, OpenAPI, server-side apply."""
    sets = "/apis/apps/v1/namespaces/default/replicasets"
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r"}, "spec": spec}
    apply = await server.call(
        "PATCH", f"{sets}/r?fieldManager=me", body, media="application/apply-patch+yaml"
    )
    assert (apply.status, apply.json["metadata"].get("generation")) == (201, 1), apply.body
    scale = (await server.call("GET", f"{sets}/r/scale")).json
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 0, "selector": "a=b"})
    patched = await server.call("PATCH", f"{sets}/r/scale", {"spec": {"replicas": 5}}, media=MERGE)
    assert patched.json["spec"] == {"replicas": 5}
    stale = await server.call("PUT", f"{sets}/r/scale", scale, media="")
    assert stale.status == 409
    assert (
        await server.call("PATCH", f"{sets}/r/scale", {"spec": {"replicas": -1}}, media=MERGE)
    ).status == 422
    current = (await server.call("GET", f"{sets}/r")).json
    assert (current["metadata"]["generation"], current["spec"]["replicas"]) == (2, 5)
    found = (await server.call("GET", "/apis/apps/v1")).json["resources"]
    mine = [r["name"] for r in found if r["name"].startswith("replicasets")]
    assert mine == ["replicasets", "replicasets/status", "replicasets/scale"]
    schema = (await server.call("GET", "/openapi/v3/apis/apps/v1")).json["components"]["schemas"]
    assert "replicas" in schema["io.k8s.api.apps.v1.ReplicaSetSpec"]["properties"]


async def test_tables_hold_what_was_asked_for(server) -> None:
    await server.call("POST", PODS, pod())
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    for include, kind in (("Metadata", "PartialObjectMetadata"), ("Object", "Pod"), ("None", None)):
        shown = (await server.call("GET", f"{PODS}?includeObject={include}", accept=table)).json
        assert shown["rows"][0].get("object", {}).get("kind") == kind
        assert shown["rows"][0]["cells"][:4] == ["p", "0/1", "Pending", "0"]
    partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    shown = (await server.call("GET", PODS, accept=partial)).json
    assert (shown["kind"], "spec" in shown["items"][0]) == ("PartialObjectMetadataList", False)


async def test_discovery_is_plain_or_aggregated(server) -> None:
    plain = (await server.call("GET", "/apis")).json
    assert "rbac.authorization.k8s.io" in [g["name"] for g in plain["groups"]]
    for version in ("v2", "v2beta1"):
        asked = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
        answer = await server.call("GET", "/api", accept=asked)
        assert answer.headers["Content-Type"].endswith(f"v={version};as=APIGroupDiscoveryList")
        (core,) = answer.json["items"]
        pods = next(r for r in core["versions"][0]["resources"] if r["resource"] == "pods")
        assert pods["shortNames"] == ["po"]
        assert {s["subresource"] for s in pods["subresources"]} >= {
            "log",
            "exec",
            "eviction",
            "status",
        }


async def test_openapi_may_be_kept(server) -> None:
    index = (await server.call("GET", "/openapi/v3")).json["paths"]
    where = index["api/v1"]["serverRelativeURL"]
    document = await server.call("GET", where)
    assert document.headers["Cache-Control"] == "public, immutable"
    patch = document.json["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]
    assert "fieldValidation" in [p["name"] for p in patch["parameters"]]
    assert STRATEGIC in patch["requestBody"]["content"]
    containers = document.json["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"][
        "containers"
    ]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    headers = {"If-None-Match": document.headers["Etag"]}
    async with server.session.get(f"http://x{where}", headers=headers) as again:
        assert again.status == 304
    async with server.session.get(
        "http://x/openapi/v3/api/v1?hash=old", allow_redirects=False
    ) as old:
        assert (old.status, old.headers["Location"]) == (301, where)


async def test_every_reference_of_openapi_leads_somewhere(server) -> None:
    def references(value):
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    whole = (await server.call("GET", "/openapi/v2")).json
    missing = {
        r for r in references(whole) if r.removeprefix("#/definitions/") not in whole["definitions"]
    }
    assert not missing


async def test_an_object_that_its_columns_do_not_expect_has_a_row_all_the_same(server) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "odd"}}
    await server.call("POST", "/api/v1/nodes", node)
    odd = {"status": {"conditions": [{"status": "True"}]}}
    assert (await server.call("PATCH", "/api/v1/nodes/odd/status", odd, media=MERGE)).status == 200
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    shown = await server.call("GET", "/api/v1/nodes", accept=table)
    assert (shown.status, shown.json["rows"][0]["cells"][0]) == (200, "odd")
    times = {"metadata": {"name": "x"}, "firstTimestamp": "2026-13-45T00:00:00Z"}
    told = await server.call("POST", f"{SPACE}/events", times)
    assert (told.status, "parsing time" in told.json["message"]) == (400, True)


@pytest.mark.parametrize("claim", ["kubernetes.io/config.mirror", "kubernetes.io/config.source"])
async def test_no_client_calls_a_pod_static(server, claim: str) -> None:
    """The mirror's annotation names the pod whose containers an exec enters: another namespace's, if anybody could write it."""
    value = "file" if claim.endswith("source") else "another-pods-uid"
    containers = [{"name": "a", "image": "busybox"}]
    plain = {"metadata": {"name": "plain"}, "spec": {"containers": containers}}
    claiming = {"metadata": {"name": "claiming", "annotations": {claim: value}}, "spec": {"containers": containers}}  # fmt: skip
    told = await server.call("POST", PODS, claiming)
    assert (told.status, told.json["details"]["causes"][0]["field"]) == (422, f"metadata.annotations[{claim}]")  # fmt: skip
    assert (await server.call("POST", PODS, plain)).status == 201
    patch = {"metadata": {"annotations": {claim: value}}}
    for part in ("", "/status", "/resize", "/ephemeralcontainers"):
        await server.call("PATCH", f"{PODS}/plain{part}", patch, media="application/merge-patch+json")  # fmt: skip
        pod = (await server.call("GET", f"{PODS}/plain")).json
        assert claim not in (pod["metadata"].get("annotations") or {}), part
