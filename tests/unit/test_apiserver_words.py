"""What kubectl prints: the words and details of small answers that a person meets, as kube-apiserver gives them."""

from __future__ import annotations

import pytest

from minipod.apiserver.patch import JSON_PATCH
from tests.apiserver import SPACE, Server, config_map


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"op": "replace", "path": "/metadata/labels/a", "value": "1"}, "path does not exist"),
        ({"op": "test", "path": "/data/k", "value": "2"}, "testing value /data/k failed"),
    ],
    ids=["no such path", "a test that fails"],
)
async def test_a_json_patch_that_does_not_fit_says_why(server, operation, words) -> None:
    """kubectl prints a 422's message only when its details name no object."""
    await server.call("POST", f"{SPACE}/configmaps", config_map("c", k="1"))
    told = await server.call("PATCH", f"{SPACE}/configmaps/c", [operation], media=JSON_PATCH)
    assert (told.status, told.json["reason"]) == (422, "Invalid")
    assert words in told.json["message"]
    assert not told.json.get("details")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"metadata": {"name": "c", "labels": 5}}, "number 5 into Go struct field metadata.labels of type map[string]string"),
        ({"metadata": {"name": "c", "finalizers": "x"}}, "string into Go struct field metadata.finalizers of type []string"),
        ({"metadata": {"name": "c"}, "data": {"a": 5}}, "number 5 into Go struct field data[a] of type string"),
    ],
)  # fmt: skip
async def test_a_value_of_another_type_is_told_in_gos_words(server, changed, words) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", **changed}
    told = await server.call("POST", f"{SPACE}/configmaps", body)
    assert told.status == 400
    assert f"json: cannot unmarshal {words}" in told.json["message"]


@pytest.mark.parametrize(
    "form", ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"]
)
async def test_a_kind_of_which_there_are_none_says_so_of_each_name(server, form) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    told = await server.call("GET", f"{path}/web", accept=form)
    assert (told.status, told.json["message"]) == (404, 'deployments.apps "web" not found')
    assert told.json["details"] == {"name": "web", "group": "apps", "kind": "deployments"}
    assert (await server.call("GET", path)).json["items"] == []


async def test_the_root_lists_paths_that_lead_somewhere(server) -> None:
    paths = (await server.call("GET", "/")).json["paths"]
    assert {"/api/v1", "/apis/rbac.authorization.k8s.io/v1", "/healthz/ping", "/version"} <= set(
        paths
    )
    for path in paths:
        assert (await server.call("GET", path)).status == 200, path


@pytest.mark.parametrize("name", ["healthz", "livez", "readyz"])
async def test_health_lists_its_checks_when_asked(server, name) -> None:
    assert (await server.call("GET", f"/{name}")).body == b"ok"
    assert (await server.call("GET", f"/{name}/ping?verbose")).body == b"ok"
    verbose = (await server.call("GET", f"/{name}?verbose")).body.decode()
    assert verbose == f"[+]ping ok\n{name} check passed\n"
    assert (await server.call("GET", f"/{name}/nope")).status == 404


async def test_one_priority_class_is_the_default(server) -> None:
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"

    def made(name: str, **more: object) -> dict[str, object]:
        return {"metadata": {"name": name}, "value": 5, **more}

    assert (await server.call("POST", path, made("one", globalDefault=True))).status == 201
    told = await server.call("POST", path, made("two", globalDefault=True))
    words = "PriorityClass one is already marked as default. Only one default can exist"
    assert told.status == 403
    assert told.json["message"] == f'priorityclasses.scheduling.k8s.io "two" is forbidden: {words}'
    assert (await server.call("POST", path, made("two"))).status == 201
    told = await server.call("PUT", f"{path}/two", made("two", globalDefault=True))
    assert (told.status, words in told.json["message"]) == (403, True)
    again = await server.call(
        "PUT", f"{path}/one", made("one", globalDefault=True, description="d")
    )
    assert again.status == 200


@pytest.mark.parametrize(
    ("finalizer", "right"), [("orphan", True), ("example.com/hold", True), ("hold", False)]
)
async def test_a_finalizer_is_a_standard_one_or_fully_qualified(server, finalizer, right) -> None:
    body = config_map("c")
    body["metadata"]["finalizers"] = [finalizer]
    told = await server.call("POST", f"{SPACE}/configmaps?dryRun=All", body)
    assert told.status == (201 if right else 422)
    if not right:
        (cause,) = told.json["details"]["causes"]
        assert cause["field"] == "metadata.finalizers[0]"
        assert "neither a standard finalizer name nor is it fully qualified" in cause["message"]


@pytest.mark.parametrize(("scheduler", "warned"), [("default-scheduler", False), ("mine", True)])
async def test_a_pod_that_was_read_from_an_api_warns_of_nothing(server, scheduler, warned) -> None:
    """`kubectl debug --copy-to` sends the defaults along."""
    body = {
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"},
        "spec": {
            "schedulerName": scheduler, "preemptionPolicy": "PreemptLowerPriority",
            "containers": [{"name": "c", "image": "i"}],
        },
    }  # fmt: skip
    account = {"metadata": {"name": "default"}}
    assert (await server.call("POST", f"{SPACE}/serviceaccounts", account)).status == 201
    told = await server.call("POST", f"{SPACE}/pods", body)
    assert told.status == 201
    assert ("spec.schedulerName: ignored" in told.headers.get("Warning", "")) == warned
    assert "preemptionPolicy" not in told.headers.get("Warning", "")
