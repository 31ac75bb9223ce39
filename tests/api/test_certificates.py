"""A user gets a certificate the usual way: a request, `kubectl certificate approve`, a kubeconfig; by every kubectl."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess

import pytest

from tests.node import eventually

SIGNER = "kubernetes.io/kube-apiserver-client"


@pytest.fixture
def key(tmp_path):
    """The path of a new key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which people make keys with")
    path = tmp_path / "key"
    subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path], check=True
    )
    return path


def request(key, name: str, subject: str) -> str:
    """Return the manifest of a request as people make it."""
    command = ["openssl", "req", "-new", "-key", key, "-subj", subject]
    pem = subprocess.run(command, check=True, capture_output=True).stdout
    spec = {
        "request": base64.b64encode(pem).decode(),
        "signerName": SIGNER,
        "usages": ["client auth"],
    }
    return json.dumps(
        {
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name}, "spec": {**spec, "username": "forged"},
        }
    )  # fmt: skip


def test_a_user_gets_a_certificate_by_every_kubectl(kubectl, key, tmp_path):
    version = ".".join(map(str, kubectl.version))
    name, user = f"by-{version}", f"ann{version}"
    kubectl("create", "-f", "-", text=request(key, name, f"/O=dev/CN={user}"))
    assert kubectl.get("csr", name)["spec"]["username"] == "kubernetes-admin"
    assert "Pending" in kubectl("get", "csr", name)
    kubectl("certificate", "approve", name)
    eventually(lambda: "Approved,Issued" in kubectl("get", "csr", name))
    certificate = tmp_path / "crt"
    certificate.write_bytes(base64.b64decode(kubectl.get("csr", name)["status"]["certificate"]))
    config = str(tmp_path / "config")
    shutil.copy(kubectl.kubeconfig, config)
    ann = kubectl.as_user(config)
    files = (f"--client-certificate={certificate}", f"--client-key={key}")
    ann("config", "set-credentials", "ann", *files, "--embed-certs=true")
    ann("config", "set-context", "--current", "--user=ann")
    assert f'User "{user}" cannot list resource "pods"' in ann.fails("get", "pods")
    assert "forbidden" in ann.fails("get", "csr")
    kubectl("delete", "csr", name)


def test_who_approves_needs_the_right_to_it(node, newest, key):
    user = "approver"
    ann = newest.as_user(node.run("kubeconfig", "--user", user).stdout.strip())
    newest("create", "-f", "-", text=request(key, "asked", "/CN=bob"))
    verbs = (
        "--verb=get,list,update",
        "--resource=certificatesigningrequests",
        "--resource=certificatesigningrequests/approval",
    )
    newest("create", "clusterrole", "asks", *verbs)
    newest("create", "clusterrolebinding", "asks", "--clusterrole=asks", f"--user={user}")
    eventually(lambda: ann.run("get", "csr", "asked", check=False).returncode == 0)
    refused = ann.fails("certificate", "approve", "asked")
    assert f'user not permitted to approve requests with signerName "{SIGNER}"' in refused
    rule = {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["signers"],
        "verbs": ["approve"],
        "resourceNames": [SIGNER],
    }
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "approves"},
        "rules": [rule],
    }
    newest("create", "-f", "-", text=json.dumps(role))
    newest("create", "clusterrolebinding", "approves", "--clusterrole=approves", f"--user={user}")
    eventually(lambda: ann.run("certificate", "approve", "asked", check=False).returncode == 0)
    assert "already" in newest.fails("certificate", "deny", "asked")
    for words in (
        "csr/asked",
        "clusterrole/asks",
        "clusterrole/approves",
        "clusterrolebinding/asks",
        "clusterrolebinding/approves",
    ):
        newest("delete", words)


def test_nobody_becomes_administrator_by_a_request(newest, key):
    refused = newest.fails(
        "create", "-f", "-", text=request(key, "root", "/O=system:masters/CN=ann")
    )
    assert f"use of {SIGNER} signer with system:masters group is not allowed" in refused
    assert "not found" in newest.fails("get", "csr", "root")


def test_a_request_that_is_none_is_refused(newest, key):
    text = json.loads(request(key, "junk", "/CN=ann"))
    text["spec"]["request"] = base64.b64encode(
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
    ).decode()
    refused = newest.fails("create", "-f", "-", text=json.dumps(text))
    assert (
        'The CertificateSigningRequest "junk" is invalid: spec.request: Invalid value: malformed'
        in refused
    )
