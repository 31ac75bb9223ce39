"""Who reaches the API, over TLS: certificates, kubeconfig, and nobody else."""

from __future__ import annotations

import contextlib
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
        with opener.open(asked, timeout=30) as answer:
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
    from minipod.apiserver.auth.certificates import ADMIN
    from minipod.apiserver.auth.issue import Authority

    Authority(str(tmp_path), "stranger").issue(ADMIN)
    tls.load_cert_chain(tmp_path / "admin.crt", tmp_path / "admin.key")
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
        ask(node, "/api", tls)


def test_kubectl_is_served_as_administrator(kubectl):
    assert "minipod" in json.loads(kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    assert kubectl("get", "--raw", "/readyz") == "ok"


def raw(node, tls, request: bytes) -> tuple[int, bytes]:
    """Send bytes as they are, as a user without roles; return the status and the body. 0: the connection was closed."""
    node.run("kubeconfig", "--user", "ann")
    pki = f"{node.instance.state_dir}/pki"
    tls.load_cert_chain(f"{pki}/user-ann.crt", f"{pki}/user-ann.key")
    with (
        socket.create_connection(("127.0.0.1", node.instance.api_port), timeout=30) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


TRICKS = (
    "/minipod/status", "//minipod/status", "/api/../minipod/status", "/api/%2e%2e/minipod/status", "/apis/..%2fminipod/status",
    "/openapi/./../minipod/status", "https://localhost/minipod/status", "/minipod/status#/version", "/version/../minipod/status",
    "/healthz%2f..%2fminipod%2fstatus", "/api/v1/namespaces/default/../../secrets", "/api/v1/%6eamespaces/default/secrets",
    "/api/v1/namespaces/default/secrets/", "/api//v1/secrets", "/%61pi/v1/secrets", "/api/v1/secrets?watch=true&x=/version",
    "/metrics/probes", "/metrics.k8s.io/../api/v1/secrets", "/api/v1/secrets;/version", "/API/v1/secrets",
)  # fmt: skip


@pytest.mark.parametrize("target", TRICKS)
def test_no_spelling_of_a_path_gets_around_the_roles(node, tls, target):
    """What is authorized is what is dispatched: a user who may only discover gets nothing else, and never a 500."""
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    status, body = raw(node, tls, request)
    assert status in (0, 400, 403, 404), (status, body[:300])


HOSTILE = {
    "an extra without a user": "Impersonate-Extra-x: y",
    "a group without a user": "Impersonate-Group: system:masters",
    "a user": "Impersonate-User: kubernetes-admin",
    "an account": "Impersonate-User: system:serviceaccount:default:default",
    "a user who is no text": "Impersonate-User: a\xffb",
    "half an account": "Impersonate-User: system:serviceaccount:default",
    "an escaped key": "Impersonate-User: x\r\nImpersonate-Extra-%zz%00: y",
    "a basic password": "Authorization: Basic YTpi",
    "nothing after bearer": "Authorization: Bearer",
    "a long token": "Authorization: Bearer " + "a" * 7000,
    "bytes": "Authorization: Bearer \xff\xfe",
    "a client who is no text": "User-Agent: \xff\xfe/1",
    "two lengths": "Content-Length: 1\r\nContent-Length: 2",
}


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE)
def test_no_header_makes_a_user_more(node, tls, header):
    request = (
        f"GET /api/v1/secrets HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n\r\n"
    )
    status, body = raw(node, tls, request.encode("latin-1"))
    assert status in (0, 400, 401, 403), (status, body[:300])


def test_who_says_nothing_does_not_keep_others_waiting(node, tls):
    """A hundred connections that never begin their handshake."""
    address = ("127.0.0.1", node.instance.api_port)
    silent = [socket.create_connection(address) for _ in range(100)]
    try:
        assert ask(node, "/version", tls)[0] == 200
    finally:
        for one in silent:
            one.close()


def test_what_is_no_tls_is_hung_up_on(node, tls):
    with socket.create_connection(("127.0.0.1", node.instance.api_port), timeout=30) as plain:
        plain.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):  # when not all of it had been read
            assert b"200" not in plain.recv(1000)
    assert ask(node, "/version", tls)[0] == 200
