"""Who may do what, asked and tried with the real kubectl: roles, tokens, impersonation, escalation."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.node import eventually

TOKEN = "service-account-token"  # noqa: S105 a type, no password
LOGIN = "You must be logged in to the server"  # what kubectl makes of a 401


@pytest.fixture
def space(new_space):
    """The name of a namespace of the test's own."""
    return new_space.namespace


@pytest.fixture
def ann(node, newest):
    """The newest kubectl, as a user without roles, by a certificate of her own."""
    return newest.as_user(node.run("kubeconfig", "--user", "ann", "--group", "dev").stdout.strip())


@pytest.fixture
def with_token(newest, tmp_path):
    """Return the newest kubectl with nothing but a token."""

    def make(token):
        with open(newest.kubeconfig, encoding="utf-8") as f:
            config = yaml.safe_load(f)
        config["users"][0]["user"] = {"token": token}
        path = tmp_path / "token.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return newest.as_user(str(path))

    return make


def test_a_user_may_what_his_role_says(newest, ann, space):
    refused = ann.fails("get", "pods", "-n", space)
    assert (
        f'User "ann" cannot list resource "pods" in API group "" in the namespace "{space}"'
        in refused
    )
    assert ann.run("auth", "can-i", "list", "pods", "-n", space, check=False).stdout == "no\n"
    newest("create", "rolebinding", "b", "--clusterrole=view", "--user=ann", "-n", space)
    assert "No resources found" in ann.run("get", "pods", "-n", space).stderr
    assert ann("auth", "can-i", "list", "pods", "-n", space) == "yes\n"
    assert "forbidden" in ann.fails("get", "secrets", "-n", space)
    assert "forbidden" in ann.fails("get", "pods", "-n", "default")
    assert "forbidden" in ann.fails("create", "configmap", "c", "-n", space)
    newest("delete", "rolebinding", "b", "-n", space)
    assert "forbidden" in ann.fails("get", "pods", "-n", space)


def test_a_group_is_bound_like_a_user(newest, ann, space):
    newest("create", "rolebinding", "b", "--clusterrole=edit", "--group=dev", "-n", space)
    assert "created" in ann("create", "configmap", "c", "--from-literal=a=b", "-n", space)


def test_an_apply_that_creates_needs_the_right_to_create(newest, ann, space):
    newest("create", "role", "r", "--verb=get,patch", "--resource=configmaps", "-n", space)
    newest("create", "rolebinding", "b", "--role=r", "--user=ann", "-n", space)
    wanted = json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}, "data": {"a": "b"}}
    )
    apply = ("apply", "--server-side", "--validate=false", "-n", space, "-f", "-")
    refused = ann.run(*apply, text=wanted, check=False)
    assert 'User "ann" cannot create resource "configmaps"' in refused.stderr
    newest("create", "configmap", "made", "-n", space)
    assert "serverside-applied" in ann(*apply, text=wanted)


def test_a_role_of_ones_own(newest, ann, space):
    newest(
        "create",
        "role",
        "r",
        "--verb=get",
        "--resource=configmaps",
        "--resource-name=kube-root-ca.crt",
        "-n",
        space,
    )
    newest("create", "rolebinding", "b", "--role=r", "--user=ann", "-n", space)
    assert "kube-root-ca.crt" in ann("get", "configmap", "kube-root-ca.crt", "-n", space)
    assert "forbidden" in ann.fails("get", "configmap", "other", "-n", space)
    assert "forbidden" in ann.fails("get", "configmaps", "-n", space)


def test_who_am_i(newest, ann):
    mine = json.loads(newest("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert mine["username"] == "kubernetes-admin"
    assert "system:masters" in mine["groups"]
    hers = json.loads(ann("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert hers == {"username": "ann", "groups": ["dev", "system:authenticated"]}


def test_what_may_i(newest, ann, space):
    assert "selfsubjectaccessreviews" in ann("auth", "can-i", "--list", "-n", space)
    assert newest("auth", "can-i", "*", "*") == "yes\n"
    assert ann.run("auth", "can-i", "*", "*", check=False).stdout == "no\n"
    assert ann("auth", "can-i", "get", "/healthz") == "yes\n"
    assert ann.run("auth", "can-i", "get", "/metrics", check=False).stdout == "no\n"


def test_acting_for_someone_else(newest, ann, space):
    for extra in ((), ("--as-group", "system:masters")):
        expected = "yes\n" if extra else "no\n"
        asked = newest.run("auth", "can-i", "get", "nodes", "--as", "bob", *extra, check=False)
        assert asked.stdout == expected
    account = f"system:serviceaccount:{space}:default"
    seen = json.loads(newest("auth", "whoami", "-o", "json", "--as", account))["status"]["userInfo"]
    assert f"system:serviceaccounts:{space}" in seen["groups"]
    assert 'cannot impersonate resource "users"' in ann.fails("get", "pods", "--as", "bob")


def test_nobody_grants_what_he_does_not_have(newest, ann, space):
    newest("create", "rolebinding", "b", "--clusterrole=admin", "--user=ann", "-n", space)
    ann("create", "role", "fine", "--verb=get", "--resource=pods", "-n", space)
    ann("create", "rolebinding", "fine", "--clusterrole=view", "--user=bob", "-n", space)
    refused = ann.fails("create", "role", "more", "--verb=get", "--resource=nodes", "-n", space)
    assert "attempting to grant RBAC permissions not currently held" in refused
    assert "not currently held" in ann.fails(
        "create", "rolebinding", "more", "--clusterrole=cluster-admin", "--user=ann", "-n", space
    )
    told = ann.fails("create", "rolebinding", "x", "--clusterrole=later", "--user=ann", "-n", space)
    assert '"later" not found' in told  # it could become anything
    patch = '[{"op":"add","path":"/rules/0/resources/-","value":"nodes"}]'
    assert "not currently held" in ann.fails(
        "patch", "role", "fine", "--type=json", "-p", patch, "-n", space
    )
    newest("create", "role", "more", "--verb=bind,escalate", "--resource=roles", "-n", space)
    newest("create", "rolebinding", "more", "--role=more", "--user=ann", "-n", space)
    ann("create", "role", "nodes", "--verb=get", "--resource=nodes", "-n", space)
    ann("create", "rolebinding", "nodes", "--role=nodes", "--user=ann", "-n", space)


def test_a_token_is_its_account(newest, with_token, space):
    token = newest("create", "token", "default", "-n", space).strip()
    bot = with_token(token)
    name = f"system:serviceaccount:{space}:default"
    assert json.loads(bot("auth", "whoami", "-o", "json"))["status"]["userInfo"]["username"] == name
    assert name in bot.fails("get", "configmaps", "-n", space)
    newest(
        "create",
        "rolebinding",
        "b",
        "--clusterrole=view",
        f"--serviceaccount={space}:default",
        "-n",
        space,
    )
    assert "kube-root-ca.crt" in bot("get", "configmaps", "-n", space)
    newest("delete", "serviceaccount", "default", "-n", space)
    assert LOGIN in bot.fails("get", "configmaps", "-n", space)


def test_a_secret_can_hold_a_token(newest, with_token, space):
    """The old way, for who needs a token without an end: kubectl shows it, and it ends with the secret."""
    annotations = {"kubernetes.io/service-account.name": "default"}
    metadata = {"name": "held", "namespace": space, "annotations": annotations}
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    newest("create", "-f", "-", text=json.dumps({**made, "type": f"kubernetes.io/{TOKEN}"}))
    newest("wait", "secret/held", "--for=jsonpath={.data.token}", "--timeout=30s", "-n", space)
    assert "held" in newest("describe", "serviceaccount", "default", "-n", space)
    shown = newest("describe", "secret", "held", "-n", space)
    token = shown.partition("token:")[2].split()[0]
    assert f"system:serviceaccount:{space}:default" in with_token(token)("auth", "whoami")
    newest("delete", "secret", "held", "-n", space)
    assert LOGIN in with_token(token).fails("auth", "whoami")


def test_a_token_for_others_is_reviewed_for_them(newest, with_token, space):
    token = newest(
        "create", "token", "default", "--audience=vault", "--duration=10m", "-n", space
    ).strip()
    assert LOGIN in with_token(token).fails("get", "configmaps", "-n", space)

    def review(**spec):
        body = {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, **spec},
        }  # fmt: skip
        return json.loads(newest("create", "-f", "-", "-o", "json", text=json.dumps(body)))[
            "status"
        ]

    assert not review().get("authenticated")
    assert review(audiences=["vault", "x"])["audiences"] == ["vault"]


def test_a_token_that_can_not_be_is_refused(newest, space):
    short = newest.fails("create", "token", "default", "--duration=1m", "-n", space)
    assert 'TokenRequest.authentication.k8s.io "" is invalid' in short
    assert "spec.expirationSeconds: Invalid value: 60: may not specify a duration less" in short
    assert "not found" in newest.fails("create", "token", "nobody", "-n", space)
    bound = ("--bound-object-kind=Pod", "--bound-object-name=none")
    assert 'pods "none" not found' in newest.fails(
        "create", "token", "default", *bound, "-n", space
    )


def test_access_of_others_is_reviewed(newest, space):
    newest("create", "rolebinding", "b", "--clusterrole=view", "--user=ann", "-n", space)

    def allowed(kind, user, **attributes):
        body = {
            "apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": {"namespace": space},
            "spec": {"user": user, "resourceAttributes": {"namespace": space, "resource": "pods", **attributes}},
        }  # fmt: skip
        if kind == "SubjectAccessReview":
            del body["metadata"]
        made = newest("create", "-f", "-", "-o", "json", "-n", space, text=json.dumps(body))
        return json.loads(made)["status"]["allowed"]

    for kind in ("SubjectAccessReview", "LocalSubjectAccessReview"):
        assert allowed(kind, "ann", verb="get")
        assert not allowed(kind, "ann", verb="delete")
        assert not allowed(kind, "bob", verb="get")


def test_the_default_roles_are_there(newest):
    names = {r["metadata"]["name"] for r in newest.get("clusterroles")["items"]}
    assert {
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:discovery",
        "system:basic-user",
    } <= names
    rules = lambda: newest.get("clusterrole", "admin").get("rules")  # noqa: E731
    # A controller adds them up.
    eventually(lambda: any("rolebindings" in rule["resources"] for rule in rules() or ()))


def test_every_kubectl_asks_in_its_own_way(kubectl):
    """Some send protobuf, some an older version of the review."""
    assert kubectl("auth", "can-i", "create", "pods") == "yes\n"
    bob = ("--as", "bob")
    assert kubectl.run("auth", "can-i", "create", "pods", *bob, check=False).stdout == "no\n"
    assert "selfsubjectrulesreviews" in kubectl("auth", "can-i", "--list", *bob)
    if kubectl.version >= (1, 27):  # older ones have no such verbs
        assert "bob" in kubectl("auth", "whoami", *bob)
        assert kubectl("create", "token", "default").count(".") == 2


def test_a_role_of_others_and_reconciliation(newest, tmp_path):
    """auth reconcile adds what is missing; a role with an aggregationRule follows its parts, and the user with it."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "sum"},
    }
    rule = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
    part = {**role, "metadata": {"name": "part", "labels": {"sum": "yes"}}, "rules": [rule]}
    path = tmp_path / "part.json"
    newest("create", "clusterrole", "sum", "--aggregation-rule=sum=yes")
    newest("create", "clusterrolebinding", "sum", "--clusterrole=sum", "--user=zoe")
    try:
        for i, verb in enumerate(("get", "list")):
            rule["verbs"] = [verb]
            path.write_text(json.dumps(part))
            assert "reconciled" in newest("auth", "reconcile", "-f", str(path))
            told = f"--for=jsonpath={{.rules[{i}].verbs[0]}}={verb}"
            newest("wait", "clusterrole/sum", told, "--timeout=30s")
        rights = newest.get("clusterrole", "sum")["rules"]
        assert sorted(v for r in rights for v in r["verbs"]) == ["get", "list"]
        assert newest("auth", "can-i", "list", "nodes", "--as", "zoe").endswith("yes\n")
    finally:
        newest("delete", "clusterrole", "sum", "part", "--ignore-not-found")
        newest("delete", "clusterrolebinding", "sum")
