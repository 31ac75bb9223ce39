"""RBAC's rules as tables, and the authorizer over a store."""

from __future__ import annotations

import asyncio

import pytest

from minipod.apiserver.auth import rbac
from minipod.apiserver.auth.authorizer import Authorizer
from minipod.apiserver.auth.rbac import Rule
from minipod.apiserver.auth.user import MASTERS, UserInfo
from minipod.apiserver.requestinfo import RequestInfo
from tests.fakes.store import FakeStore


def about(
    verb: str, target: str, *, group: str = "", name: str = "", namespace: str = ""
) -> RequestInfo:
    resource, _, subresource = target.partition("/")
    return RequestInfo(
        verb=verb, path="/x", is_resource=True, group=group, version="v1", namespace=namespace,
        resource=resource, subresource=subresource, name=name,
    )  # fmt: skip


def path(verb: str, where: str) -> RequestInfo:
    return RequestInfo(verb=verb, path=where)


def rule(verbs: str, resources: str, groups: str = "", names: str = "") -> Rule:
    return Rule(
        verbs=tuple(verbs.split()), resources=tuple(resources.split()),
        groups=tuple(groups.split()) or ("",), names=tuple(names.split()),
    )  # fmt: skip


def urls(verbs: str, paths: str) -> Rule:
    return Rule(verbs=tuple(verbs.split()), paths=tuple(paths.split()))


ALLOWS = {
    "the verb and the resource": (rule("get list", "pods"), about("list", "pods"), True),
    "another verb": (rule("get", "pods"), about("delete", "pods"), False),
    "any verb": (rule("*", "pods"), about("delete", "pods"), True),
    "another resource": (rule("get", "pods"), about("get", "secrets"), False),
    "any resource": (rule("get", "*"), about("get", "secrets"), True),
    "any resource: its subresources too": (rule("get", "*"), about("get", "pods/log"), True),
    "a resource does not give its subresources": (rule("get", "pods"), about("get", "pods/log"), False),
    "a subresource": (rule("get", "pods/log"), about("get", "pods/log"), True),
    "a subresource does not give its resource": (rule("get", "pods/log"), about("get", "pods"), False),
    "a subresource of anything": (rule("get", "*/scale"), about("get", "deployments/scale"), True),
    "a subresource of anything: another one": (rule("get", "*/scale"), about("get", "pods/log"), False),
    "pods/* means nothing": (rule("get", "pods/*"), about("get", "pods/log"), False),
    "another group": (rule("get", "jobs", "apps"), about("get", "jobs", group="batch"), False),
    "any group": (rule("get", "jobs", "*"), about("get", "jobs", group="batch"), True),
    "a name": (rule("get", "pods", names="a b"), about("get", "pods", name="b"), True),
    "another name": (rule("get", "pods", names="a b"), about("get", "pods", name="c"), False),
    "a name does not allow to list": (rule("list", "pods", names="a"), about("list", "pods"), False),
    "a path": (urls("get", "/healthz"), path("get", "/healthz"), True),
    "another path": (urls("get", "/healthz"), path("get", "/healthz/etcd"), False),
    "paths below": (urls("get", "/healthz/*"), path("get", "/healthz/etcd"), True),
    "paths below are not the path": (urls("get", "/healthz/*"), path("get", "/healthz"), False),
    "any path": (urls("get", "*"), path("get", "/metrics"), True),
    "a rule about resources says nothing about paths": (rule("*", "*", "*"), path("get", "/x"), False),
    "a rule about paths says nothing about resources": (urls("*", "*"), about("get", "pods"), False),
}  # fmt: skip


@pytest.mark.parametrize(("given", "asked", "expected"), ALLOWS.values(), ids=ALLOWS)
def test_a_rule_allows(given, asked, expected):
    assert rbac.allows(given, asked) is expected


UNCOVERED = {
    "the same": ([rule("get", "pods")], [rule("get", "pods")], 0),
    "less": ([rule("get list", "pods secrets")], [rule("get", "pods")], 0),
    "a verb more": ([rule("get", "pods")], [rule("get list", "pods")], 1),
    "two rules together": ([rule("get", "pods"), rule("list", "pods")], [rule("get list", "pods")], 0),
    "everything covers": ([rule("*", "*", "*")], [rule("get", "pods/log secrets", "apps")], 0),
    "everything is not covered": ([rule("get", "*", "*")], [rule("*", "*", "*")], 1),
    "all names cover one": ([rule("get", "pods")], [rule("get", "pods", names="a")], 0),
    "one name does not cover all": ([rule("get", "pods", names="a")], [rule("get", "pods")], 1),
    "one name does not cover another": ([rule("get", "pods", names="a")], [rule("get", "pods", names="a b")], 1),
    "*/scale covers": ([rule("get", "*/scale")], [rule("get", "pods/scale")], 0),
    "pods does not cover pods/log": ([rule("get", "pods")], [rule("get", "pods/log")], 1),
    "paths": ([urls("get", "/a/*")], [urls("get", "/a/b")], 0),
    "paths above": ([urls("get", "/a/b")], [urls("get", "/a/*")], 1),
    "resources do not cover paths": ([rule("*", "*", "*")], [urls("get", "/a")], 1),
    "nothing covers nothing": ([], [], 0),
}  # fmt: skip


@pytest.mark.parametrize(("owned", "wanted", "missing"), UNCOVERED.values(), ids=UNCOVERED)
def test_what_is_granted_must_be_owned(owned, wanted, missing):
    assert len(rbac.uncovered(owned, wanted)) == missing


def test_a_rule_survives_a_round_trip():
    obj = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}
    assert Rule.parse(obj).to_object() == obj


# -- the authorizer


def role(name: str, namespace: str = "", *rules: dict) -> tuple[str, str, dict]:
    kind = "roles" if namespace else "clusterroles"
    return (
        kind,
        namespace,
        {"metadata": {"name": name, "namespace": namespace}, "rules": list(rules)},
    )


def binding(name: str, namespace: str, ref: str, *subjects: dict) -> tuple[str, str, dict]:
    kind, target = ref.split("/")
    obj = {
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"kind": kind, "name": target},
        "subjects": list(subjects),
    }
    return ("rolebindings" if namespace else "clusterrolebindings"), namespace, obj


READ = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
ANN = UserInfo(name="ann", groups=("dev",))


@pytest.fixture
async def following():
    """A store, and an authorizer that follows it."""
    store = FakeStore()
    authorizer = Authorizer(store)
    task = asyncio.create_task(authorizer.run())
    await authorizer.synced()
    yield store, authorizer
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def read() -> None:
    """Let the authorizer read its watches: turns of the loop, no time, of which a loaded machine takes any amount for one turn."""
    for _ in range(20):
        await asyncio.sleep(0)


async def put(store: FakeStore, *objects: tuple[str, str, dict]) -> None:
    for kind, namespace, obj in objects:
        await store.create(kind, namespace, obj)
    await read()


async def may(following, user: UserInfo, namespace: str) -> bool:
    return bool(following[1].allowed(user, about("get", "pods", namespace=namespace)))


SUBJECTS = {
    "a user": ({"kind": "User", "name": "ann"}, ANN),
    "a group": ({"kind": "Group", "name": "dev"}, ANN),
    "a service account": (
        {"kind": "ServiceAccount", "name": "bot", "namespace": "a"},
        UserInfo(name="system:serviceaccount:a:bot"),
    ),
}


@pytest.mark.parametrize(("subject", "user"), SUBJECTS.values(), ids=SUBJECTS)
async def test_a_cluster_binding_holds_everywhere(following, subject, user):
    await put(following[0], role("r", "", READ), binding("b", "", "ClusterRole/r", subject))
    assert await may(following, user, "a")
    assert await may(following, user, "b")
    assert not await may(following, UserInfo(name="eve"), "a")


@pytest.mark.parametrize("ref", ["ClusterRole/r", "Role/r"])
async def test_a_binding_holds_in_its_namespace(following, ref):
    user = {"kind": "User", "name": "ann"}
    await put(following[0], role("r", "", READ), role("r", "a", READ), binding("b", "a", ref, user))
    assert await may(following, ANN, "a")
    assert not await may(following, ANN, "b")
    assert not await may(following, ANN, "")


async def test_what_is_taken_away_is_gone(following):
    user = {"kind": "User", "name": "ann"}
    await put(following[0], role("r", "", READ), binding("b", "", "ClusterRole/r", user))
    await following[0].delete("clusterrolebindings", "", "b", grace_period=None)
    await read()
    assert not await may(following, ANN, "a")


async def test_a_binding_waits_for_its_role(following):
    user = {"kind": "User", "name": "ann"}
    await put(following[0], binding("b", "", "ClusterRole/r", user))
    assert not await may(following, ANN, "a")
    await put(following[0], role("r", "", READ))
    assert await may(following, ANN, "a")


async def test_masters_need_no_role(following):
    assert await may(following, UserInfo(name="root", groups=(MASTERS,)), "a")
