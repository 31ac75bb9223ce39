"""The controllers over the real store: namespaces, garbage collection, service accounts, cluster roles."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time

import pytest

from minipod.apiserver.auth import roles
from minipod.apiserver.auth.tokens import Tokens
from minipod.apiserver.store_sqlite import SqliteStore
from minipod.controllers.clusterroles import ClusterRoleController
from minipod.controllers.controller import Informers
from minipod.controllers.garbage import GarbageCollector
from minipod.controllers.kinds import Kind, Kinds
from minipod.controllers.namespaces import NamespaceController
from minipod.controllers.serviceaccounts import ServiceAccountController
from minipod.controllers.token_secrets import ACCOUNT, TYPE, TokenSecretController
from minipod.errors import NotFound, Unauthorized

KINDS = Kinds(
    Kind(resource=r, group="", kind=k, namespaced=n)
    for r, k, n in (
        ("pods", "Pod", True), ("configmaps", "ConfigMap", True), ("secrets", "Secret", True),
        ("serviceaccounts", "ServiceAccount", True), ("namespaces", "Namespace", False),
        ("persistentvolumes", "PersistentVolume", False), ("events", "Event", True),
    )
)  # fmt: skip


@pytest.fixture
def store(tmp_path):
    made = SqliteStore(str(tmp_path / "store.db"))
    made.open()
    yield made
    made.close()


@contextlib.asynccontextmanager
async def running(*coroutines):
    tasks = [asyncio.create_task(c) for c in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result


async def until(store, resource, name, test, namespace="a"):
    """Wait until an object is as *test* wants it (None: gone)."""
    _, version = await store.list(resource, namespace or None)

    async def now():
        try:
            return test(await store.get(resource, namespace, name))
        except NotFound:
            return test(None)

    async with asyncio.timeout(30):
        if await now():
            return
        async for _ in store.watch(resource, namespace or None, version):
            if await now():
                return


def gone(obj):
    return obj is None


async def quiet() -> None:
    """Let everything that has something to do do it."""
    for _ in range(50):
        await asyncio.sleep(0)


def obj(kind: str, name: str, *, owners: list[dict] | None = None, **more) -> dict:
    metadata = {"name": name, "namespace": "a"} | more.pop("metadata", {})
    if owners is not None:
        metadata["ownerReferences"] = owners
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}


def ref(owner: dict, *, blocks: bool = False) -> dict:
    metadata = owner["metadata"]
    found = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return found | ({"blockOwnerDeletion": True} if blocks else {})


# -- garbage


@pytest.fixture
async def collected(store):
    """The store, with the garbage collector at work."""
    async with running(GarbageCollector(store, KINDS).run()):
        yield store


async def owner_and_dependent(store, *, blocks=False):
    owner = await store.create("configmaps", "a", obj("ConfigMap", "owner"))
    dependent = obj("Secret", "dependent", owners=[ref(owner, blocks=blocks)])
    await store.create("secrets", "a", dependent)
    await quiet()
    return owner


async def test_dependents_follow_their_owner(collected):
    owner = await owner_and_dependent(collected)
    grandchild = await collected.get("secrets", "a", "dependent")
    await collected.create(
        "configmaps", "a", obj("ConfigMap", "grandchild", owners=[ref(grandchild)])
    )
    await collected.delete("configmaps", "a", owner["metadata"]["name"], propagation="Background")
    await until(collected, "secrets", "dependent", gone)
    await until(collected, "configmaps", "grandchild", gone)


async def test_a_dependent_without_its_owner_goes_at_the_start(store):
    ghost = {"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": "x"}
    await store.create("secrets", "a", obj("Secret", "dependent", owners=[ghost]))
    async with running(GarbageCollector(store, KINDS).run()):
        await until(store, "secrets", "dependent", gone)


async def test_another_object_with_the_owners_name_is_no_owner(collected):
    owner = await collected.create("configmaps", "a", obj("ConfigMap", "owner"))
    stale = ref(owner) | {"uid": "another"}
    await collected.create("secrets", "a", obj("Secret", "dependent", owners=[stale]))
    await until(collected, "secrets", "dependent", gone)


async def test_one_living_owner_is_enough(collected):
    first = await collected.create("configmaps", "a", obj("ConfigMap", "first"))
    second = await collected.create("configmaps", "a", obj("ConfigMap", "second"))
    both = obj("Secret", "dependent", owners=[ref(first), ref(second)])
    await collected.create("secrets", "a", both)
    await quiet()
    await collected.delete("configmaps", "a", "first", propagation="Background")

    def kept(secret):
        return [r["name"] for r in secret["metadata"]["ownerReferences"]] == ["second"]

    await until(collected, "secrets", "dependent", kept)


async def test_an_owner_waits_for_what_blocks_it(collected):
    """Foreground: the dependent has a finalizer, and the owner stays until it is taken away."""
    await owner_and_dependent(collected, blocks=True)
    held = lambda s: {**s, "metadata": {**s["metadata"], "finalizers": ["x/hold"]}}  # noqa: E731
    await collected.mutate("secrets", "a", "dependent", held)
    await collected.delete("configmaps", "a", "owner", propagation="Foreground")
    await until(collected, "secrets", "dependent", lambda s: "deletionTimestamp" in s["metadata"])
    await quiet()
    owner = await collected.get("configmaps", "a", "owner")
    assert owner["metadata"]["finalizers"] == ["foregroundDeletion"]
    free = lambda s: {**s, "metadata": {**s["metadata"], "finalizers": []}}  # noqa: E731
    await collected.mutate("secrets", "a", "dependent", free)
    await until(collected, "configmaps", "owner", gone)


async def test_an_owner_does_not_wait_for_what_does_not_block_it(collected):
    await owner_and_dependent(collected)
    await collected.delete("configmaps", "a", "owner", propagation="Foreground")
    await until(collected, "configmaps", "owner", gone)
    await until(collected, "secrets", "dependent", gone)


async def test_an_orphan_lives_on_without_its_reference(collected):
    await owner_and_dependent(collected)
    await collected.delete("configmaps", "a", "owner", propagation="Orphan")
    await until(collected, "configmaps", "owner", gone)
    dependent = await collected.get("secrets", "a", "dependent")
    assert "ownerReferences" not in dependent["metadata"]


KEPT = {
    "a kind that nobody knows": {"apiVersion": "x.io/v1", "kind": "Thing", "name": "t", "uid": "x"},
}


@pytest.mark.parametrize("reference", KEPT.values(), ids=KEPT)
async def test_what_can_not_be_judged_is_kept(collected, reference):
    await collected.create("secrets", "a", obj("Secret", "dependent", owners=[reference]))
    await quiet()
    assert await collected.get("secrets", "a", "dependent")


async def test_a_clusters_object_can_not_have_an_owner_in_a_namespace(collected):
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "t", "uid": "x"}
    volume = {
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "v", "ownerReferences": [owner]},
    }  # fmt: skip
    await collected.create("persistentvolumes", "", volume)
    await quiet()
    assert await collected.get("persistentvolumes", "", "v")


# -- namespaces


def namespace(name: str) -> dict:
    return {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    }  # fmt: skip


@pytest.fixture
async def emptied(store):
    """The store, with a namespace and its controller."""
    await store.create("namespaces", "", namespace("a"))
    await store.create("namespaces", "", namespace("b"))
    informers = Informers(store)
    controller = NamespaceController(store, informers, KINDS)
    async with running(informers.run(), controller.run()):
        yield store


async def test_a_namespace_takes_everything_in_it_along(emptied):
    await emptied.create("configmaps", "a", obj("ConfigMap", "c"))
    await emptied.create("secrets", "a", obj("Secret", "s"))
    await emptied.create("secrets", "b", obj("Secret", "other", metadata={"namespace": "b"}))
    await emptied.delete("namespaces", "", "a")
    await until(emptied, "namespaces", "a", gone, namespace="")
    for resource in ("configmaps", "secrets"):
        assert (await emptied.list(resource, "a"))[0] == []
    assert await emptied.get("secrets", "b", "other")


async def test_a_namespace_waits_and_says_for_what(emptied):
    held = obj("Secret", "s", metadata={"finalizers": ["x/hold"]})
    await emptied.create("secrets", "a", held)
    await emptied.delete("namespaces", "", "a")

    def says(found):
        told = {c["type"]: c for c in found["status"].get("conditions", [])}
        return (
            found["status"]["phase"] == "Terminating"
            and told
            and told["NamespaceContentRemaining"]["message"]
            == "Some resources are remaining: secrets. has 1 resource instances"
            and told["NamespaceFinalizersRemaining"]["message"].endswith(
                "x/hold in 1 resource instances"
            )
        )

    await until(emptied, "namespaces", "a", says, namespace="")
    free = lambda s: {**s, "metadata": {**s["metadata"], "finalizers": []}}  # noqa: E731
    await emptied.mutate("secrets", "a", "s", free)
    await until(emptied, "namespaces", "a", gone, namespace="")


async def test_a_namespace_waits_for_its_pods_to_end(emptied):
    pod = obj("Pod", "p", spec={"nodeName": "n", "terminationGracePeriodSeconds": 30})
    await emptied.create("pods", "a", pod)
    await emptied.delete("namespaces", "", "a")
    await until(emptied, "pods", "p", lambda p: "deletionTimestamp" in p["metadata"])
    await quiet()
    assert await emptied.get("namespaces", "", "a")
    await emptied.delete("pods", "a", "p", grace_period=0)
    await until(emptied, "namespaces", "a", gone, namespace="")


# -- what every namespace has


@pytest.fixture
async def furnished(store):
    await store.create("namespaces", "", namespace("a"))
    informers = Informers(store)
    controller = ServiceAccountController(store, informers, "PEM")
    async with running(informers.run(), controller.run()):
        await until(store, "serviceaccounts", "default", bool)
        await until(store, "configmaps", "kube-root-ca.crt", bool)
        yield store


async def test_every_namespace_has_an_account_and_the_ca(furnished):
    await furnished.create("namespaces", "", namespace("later"))
    await until(furnished, "serviceaccounts", "default", bool, namespace="later")
    bundle = await furnished.get("configmaps", "a", "kube-root-ca.crt")
    assert bundle["data"] == {"ca.crt": "PEM"}


async def test_they_come_back(furnished):
    before = await furnished.get("serviceaccounts", "a", "default")
    await furnished.delete("serviceaccounts", "a", "default")
    await until(
        furnished,
        "serviceaccounts",
        "default",
        lambda a: a and a["metadata"]["uid"] != before["metadata"]["uid"],
    )
    await furnished.mutate(
        "configmaps", "a", "kube-root-ca.crt", lambda c: {**c, "data": {"ca.crt": "evil"}}
    )
    await until(
        furnished, "configmaps", "kube-root-ca.crt", lambda c: c["data"] == {"ca.crt": "PEM"}
    )


async def test_a_namespace_that_ends_gets_nothing_new(furnished):
    await furnished.delete("namespaces", "", "a")
    await quiet()
    await furnished.delete("serviceaccounts", "a", "default")
    await quiet()
    assert (await furnished.list("serviceaccounts", "a"))[0] == []


# -- secrets with a token


@pytest.fixture
async def tokened(store):
    await store.create("serviceaccounts", "a", obj("ServiceAccount", "bot"))
    informers, tokens = Informers(store), Tokens(store, b"k" * 32, "us", time.time)
    controller = TokenSecretController(store, informers, tokens, "PEM")
    async with running(informers.run(), controller.run()):
        yield store, tokens


def token_secret(name: str, account: str, **more):
    made = obj("Secret", name, type=TYPE, **more)
    made["metadata"]["annotations"] = {ACCOUNT: account}
    return made


async def test_a_token_lives_as_long_as_its_secret(tokened):
    store, tokens = tokened
    await store.create("secrets", "a", token_secret("s", "bot"))
    await until(store, "secrets", "s", lambda s: "data" in s)
    secret = await store.get("secrets", "a", "s")
    data = {k: base64.b64decode(v).decode() for k, v in secret["data"].items()}
    assert (data["ca.crt"], data["namespace"]) == ("PEM", "a")
    user, _ = await tokens.authenticate(data["token"])
    assert user.name == "system:serviceaccount:a:bot"
    await store.delete("secrets", "a", "s")
    with pytest.raises(Unauthorized):
        await tokens.authenticate(data["token"])


async def test_a_token_that_was_taken_out_comes_again(tokened):
    store, _ = tokened
    await store.create("secrets", "a", token_secret("s", "bot", data={"mine": "eA=="}))
    await until(store, "secrets", "s", lambda s: "token" in s["data"])
    await store.mutate("secrets", "a", "s", lambda s: {**s, "data": {"mine": "eA=="}})
    await until(store, "secrets", "s", lambda s: "token" in s["data"])
    assert (await store.get("secrets", "a", "s"))["data"]["mine"] == "eA=="


async def test_a_token_secret_goes_with_its_account(tokened):
    store, _ = tokened
    for name, account in (("s", "bot"), ("nobody", "nosuch")):
        await store.create("secrets", "a", token_secret(name, account))
    await until(store, "secrets", "nobody", gone)
    await until(store, "secrets", "s", lambda s: "data" in s)
    other = obj("Secret", "other", type="Opaque")
    other["metadata"]["annotations"] = {ACCOUNT: "bot"}
    await store.create("secrets", "a", other)
    await store.delete("serviceaccounts", "a", "bot")
    await until(store, "secrets", "s", gone)
    assert "data" not in await store.get("secrets", "a", "other")


# -- cluster roles


async def test_a_role_is_the_sum_of_its_parts(store):
    await roles.bootstrap(store)
    informers = Informers(store)
    controller = ClusterRoleController(store, informers)
    async with running(informers.run(), controller.run()):

        def has(resource):
            return lambda role: any(resource in r["resources"] for r in role["rules"])

        await until(store, "clusterroles", "view", has("pods/log"), namespace="")
        await until(store, "clusterroles", "admin", has("pods/log"), namespace="")  # by way of edit
        part = {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "part", "labels": {roles.aggregation_label("view"): "true"}},
            "rules": [{"verbs": ["get"], "apiGroups": ["x"], "resources": ["things"]}],
        }  # fmt: skip
        await store.create("clusterroles", "", part)
        await until(store, "clusterroles", "admin", has("things"), namespace="")
        await store.delete("clusterroles", "", "part")
        await until(store, "clusterroles", "admin", lambda r: not has("things")(r), namespace="")
