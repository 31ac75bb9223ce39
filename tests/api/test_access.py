"""Who reaches the API, over TLS: certificates, kubeconfig, and nobody else."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import urllib.error
import urllib.request

import pytest


@pytest.fixture
def tls(node):
    """What a client that trusts the node's CA has."""
    return ssl.create_default_context(cafile=f"{node.instance.state_dir}/pki/ca.crt")


def ask(node, path, tls, *, host="127.0.0.1", token=""):
    """Return the status and the object that a GET answers."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asked = urllib.request.Request(
        f"https://{host}:{node.instance.api_port}{path}", headers=headers
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)
    )
    try:
        with opener.open(asked, timeout=10) as answer:
            body = answer.read()
            return answer.status, body
    except urllib.error.HTTPError as e:
        with e:
            return e.code, json.loads(e.read())


def test_the_kubeconfig_is_for_its_owner_alone(node):
    path = node.run("kubeconfig").stdout.strip()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_the_certificate_is_good_for_every_address(node, tls):
    for host in (
        "127.0.0.1",
        "localhost",
        node.instance.gateways[0],
        f"[{node.instance.gateways[1]}]",
    ):
        status, _ = ask(node, "/version", tls, host=host)
        assert status == 200, host


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version"])
def test_health_and_version_are_for_everyone(node, tls, path):
    assert ask(node, path, tls)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/apis",
        "/api/v1/pods",
        "/openapi/v3",
        "/minipod/status",
        "/nothing",
        "/healthz/../api",
    ],
)
def test_everything_else_wants_credentials(node, tls, path):
    status, answer = ask(node, path, tls)
    assert (status, answer["reason"]) == (401, "Unauthorized")


def test_a_wrong_token_is_refused_also_where_none_is_needed(node, tls):
    assert ask(node, "/version", tls, token="x.y.z")[0] == 401  # noqa: S106 no password


def test_nothing_listens_elsewhere(node):
    """Every other address of the machine refuses the port."""
    for family, address in ((socket.AF_INET, "127.0.0.2"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as tried:
            assert tried.connect_ex((address, node.instance.api_port)) != 0, address


def test_a_certificate_of_another_ca_is_refused(node, tls, tmp_path):
    """The handshake fails: nothing is asked, nothing answered."""
    from minipod.apiserver.auth.issue import Authority
    from minipod.apiserver.auth.listen import ADMIN

    Authority(str(tmp_path), "stranger").issue(ADMIN)
    tls.load_cert_chain(tmp_path / "admin.crt", tmp_path / "admin.key")
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
        ask(node, "/api", tls)


def test_kubectl_is_served_as_administrator(kubectl):
    assert "minipod" in json.loads(kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    assert kubectl("get", "--raw", "/readyz") == "ok"
