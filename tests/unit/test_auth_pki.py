"""The node's certificates, made by the real process and looked at with cryptography."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from minipod import errors
from minipod.apiserver.auth import certificates, kubeconfig, listen, pki, ports
from minipod.apiserver.auth.authn import certified
from minipod.apiserver.auth.pki import Leaf, Pki
from minipod.spec.instance import Instance

SERVER = Leaf(name="server", common_name="kube-apiserver", hosts=("localhost", "127.0.0.1", "::1"))


@pytest.fixture
def made(tmp_path):
    return Pki(str(tmp_path / "pki"), "test CA")


def loaded(made: Pki, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(made.read(f"{name}.crt"))


async def test_what_is_made_says_what_was_asked_for(made):
    await made.ensure([SERVER, certificates.ADMIN])
    server, admin, ca = (loaded(made, name) for name in ("server", "admin", "ca"))
    hosts = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert hosts.get_values_for_type(x509.DNSName) == ["localhost"]
    assert hosts.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"),
    ]  # fmt: skip
    purposes = [
        c.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value for c in (server, admin)
    ]
    assert list(purposes[0]) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert list(purposes[1]) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = admin.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert [n.value for n in names] == ["system:masters"]
    for certificate in (server, admin):
        certificate.verify_directly_issued_by(ca)


async def test_keys_are_for_root_alone(made):
    await made.ensure([SERVER])
    made.token_key()
    modes = {name: os.stat(made.path(name)).st_mode & 0o777 for name in os.listdir(made.path(""))}
    assert {modes[n] for n in ("ca.key", "server.key", "sa.key")} == {0o600}
    assert os.stat(made.path("")).st_mode & 0o777 == 0o700
    assert not [n for n in modes if n.endswith(".new")]


async def test_a_second_start_makes_nothing(made, monkeypatch):
    await made.ensure([SERVER])

    async def never(*_):
        raise AssertionError("a process was started")

    monkeypatch.setattr(pki, "issue", never)
    await made.ensure([SERVER])


@pytest.mark.parametrize("why", ["names", "end", "ca", "half"])
async def test_a_certificate_is_made_again(made, why):
    """For other names, near its end, by another CA, after a crash between its files; the CA stays."""
    wanted = SERVER
    first = SERVER
    if why == "end":
        first = wanted = Leaf(name="server", common_name="x", hosts=("a",), lifetime=20 * 86400)
    await made.ensure([first])
    before, ca = made.read("server.crt"), made.read("ca.crt")
    if why == "names":
        wanted = Leaf(name="server", common_name="kube-apiserver", hosts=("localhost",))
    if why == "ca":
        os.unlink(made.path("ca.crt"))
    if why == "half":
        os.unlink(made.path("server.json"))
    await made.ensure([wanted])
    assert made.read("server.crt") != before
    assert (made.read("ca.crt") == ca) == (why != "ca")
    loaded(made, "server").verify_directly_issued_by(loaded(made, "ca"))


async def test_what_can_not_be_made_is_an_error(made, monkeypatch):
    monkeypatch.setattr(pki.sys, "executable", "/bin/false")
    with pytest.raises(errors.Internal, match=r"were not made: .* code 1"):
        await made.ensure([SERVER])


def handshake(context, client):
    """Connect on loopback; return the user that the server saw, and the server's certificate that the client saw."""
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with context.wrap_socket(connection, server_side=True) as tls:
                certificate = tls.getpeercert()
                seen.append(certified(certificate) if certificate else None)
                tls.sendall(b"x")

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            socket.create_connection(server.getsockname()) as plain,
            client.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            assert tls.recv(1) == b"x"
            shown = tls.getpeercert(binary_form=True)
        thread.join()
    return seen[0], shown


async def test_a_handshake_tells_the_user(made):
    """A real TLS connection on loopback: the server sees name and groups of the client's certificate."""
    user = Leaf(name="user-jane", common_name="jane", organizations=("dev", "ops"))
    await made.ensure([SERVER, user])
    client = ssl.create_default_context(cafile=made.path("ca.crt"))
    client.load_cert_chain(made.path("user-jane.crt"), made.path("user-jane.key"))
    seen, _ = handshake(listen.context(made), client)
    assert seen.name == "jane"
    assert seen.groups == ("dev", "ops", "system:authenticated")


async def test_a_renewed_certificate_is_shown_from_then_on(made):
    """Without another context, and so without listening anew; the CA is the same, and clients notice nothing."""
    soon = Leaf(name="server", common_name="x", hosts=("localhost",), lifetime=20 * 86400)
    await made.ensure([soon])
    context = listen.context(made)
    client = ssl.create_default_context(cafile=made.path("ca.crt"))
    _, before = handshake(context, client)
    assert made.next_renewal(soon) < time.time()
    await made.ensure([soon])
    listen.load(context, made)
    _, after = handshake(context, client)
    assert after != before


def test_a_certificate_without_a_name_is_nobody():
    with pytest.raises(errors.Unauthorized):
        certified({"subject": ((("organizationName", "system:masters"),),)})


def test_a_taken_port_is_named_before_the_node_starts():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            errors.Unavailable, match=f"127.0.0.1:{port}: address already in use"
        ) as e:
            ports.check(Instance(secure_port=port))
    assert "secure_port" in e.value.hint


def test_addresses_are_loopback_and_gateways_unless_more_is_asked_for():
    assert ports.addresses(Instance())[:2] == ["127.0.0.1", "10.88.0.1"]
    everywhere = ports.addresses(Instance(api_addresses=("0.0.0.0",)))  # noqa: S104
    assert "127.0.0.1" not in everywhere
    assert "0.0.0.0" in everywhere  # noqa: S104


@pytest.mark.parametrize("port", [-1, 65536, "443"])
def test_a_setting_that_is_no_port_is_refused(port):
    with pytest.raises(errors.InvalidSpec, match="secure_port"):
        Instance(secure_port=port)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "x" * 65, "a\n"])
def test_a_user_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(errors.InvalidSpec):
        kubeconfig.make_user(Instance(), name, ())
