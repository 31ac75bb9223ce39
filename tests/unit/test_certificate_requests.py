"""Certificate signing requests: the rules, their parts over HTTP, the signer, who signs and who cleans up.

Who may approve is asked with the real kubectl (tests/api/test_certificates.py).
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from minipod.api import validation_certificates as rules
from minipod.api.certificates import CLIENT, RESOURCE
from minipod.api.fields import FieldErrors
from minipod.apiserver.auth import sign
from minipod.apiserver.auth.certificates import ADMIN
from minipod.apiserver.auth.issue import Authority
from minipod.apiserver.auth.signing import Certificates
from minipod.apiserver.store_sqlite import SqliteStore
from minipod.controllers import certificates
from minipod.controllers.certificates import CertificateController, standing
from minipod.controllers.controller import Informers
from minipod.errors import InvalidSpec
from tests.apiserver import Server

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


def pem(key=None, organization: str = "dev") -> bytes:
    """Make a PKCS #10 request of ann's."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    names = [(NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, "ann")]
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)
    return made.public_bytes(serialization.Encoding.PEM)


PEM = pem()


def request(name: str = "ann", text: bytes = PEM, **spec) -> dict:
    return {
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(text).decode(), "signerName": CLIENT, "usages": ["client auth"], **spec,
        },
    }  # fmt: skip


def condition(kind: str, status: str = "True", **more) -> dict:
    return {"type": kind, "status": status, **more}


def with_status(**status) -> dict:
    return request() | {"status": status}


WRONG = {
    "no PEM": ({"request": "AAAA"}, "spec.request: Invalid value: PEM block type must be CERTIFICATE REQUEST"),
    "another PEM": (
        {"request": base64.b64encode(PEM.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE")).decode()},
        "spec.request: Invalid value: PEM block type must be CERTIFICATE REQUEST",
    ),
    "no usages": ({"usages": []}, "spec.usages: Required value"),
    "a usage twice": ({"usages": ["client auth"] * 2}, 'spec.usages[1]: Duplicate value: "client auth"'),
    "an unknown usage": ({"usages": ["x"]}, 'spec.usages[0]: Unsupported value: "x"'),
    "no signer": ({"signerName": ""}, "spec.signerName: Required value"),
    "a signer without a path": ({"signerName": "example.com"}, "must be a fully qualified domain and path"),
    "a signer of one segment": ({"signerName": "com/x"}, "a domain with at least two segments"),
    "the legacy signer": ({"signerName": "kubernetes.io/legacy-unknown"}, "the legacy signerName is not allowed"),
    "a long signer": ({"signerName": f"example.com/{'x' * 571}"}, "Too long: may not be more than 571 bytes"),
    "a short time": ({"expirationSeconds": 599}, "599: may not specify a duration less than 600 seconds (10 minutes)"),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_request_is_refused_in_kubernetes_words(spec, words) -> None:
    (found,) = rules.validate(request(**spec))
    assert words in str(found)


def test_a_long_text_of_beginnings_is_read_soon() -> None:
    text = base64.b64encode(b"-----BEGIN A-----\n" * 80_000).decode()
    before = time.process_time()
    assert rules.pem_type(text) == ""
    assert time.process_time() - before < 1.0


CONDITIONS = {
    "no type": ([condition("")], "status.conditions[0].type: Required value"),
    "no status": ([condition("x", "")], "status.conditions[0].status: Required value"),
    "approved is no question": ([condition("Approved", "False")], 'status.conditions[0].status: Unsupported value: "False"'),
    "twice": ([condition("x")] * 2, 'status.conditions[1].type: Duplicate value: "x"'),
    "both": ([condition("Denied"), condition("Approved")], "Approved and Denied conditions are mutually exclusive"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "words"), CONDITIONS.values(), ids=CONDITIONS.keys())
def test_wrong_conditions_are_refused(given, words) -> None:
    (found,) = rules.validate(with_status(conditions=given))
    assert words in str(found)


CERTIFICATE = base64.b64encode(PEM.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE")).decode()
APPROVED = with_status(conditions=[condition("Approved")])
CHANGES = {
    "take an approval back": ("approval", APPROVED, request(), 'may not remove a condition of type "Approved"'),
    "approve by the status": ("status", request(), APPROVED, 'may not add a condition of type "Approved"'),
    "another certificate": (
        "status", with_status(certificate=CERTIFICATE), with_status(certificate=CERTIFICATE + "AAAA"),
        "status.certificate: Forbidden: updates may not modify existing certificate content",
    ),
    "no certificate": (
        "status", request(), with_status(certificate="AAAA"),
        "status.certificate: Invalid value: PEM block type must be CERTIFICATE",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "current", "wanted", "words"), CHANGES.values(), ids=CHANGES.keys()
)
def test_what_was_decided_stays(part, current, wanted, words) -> None:
    (found,) = rules.validate_part(wanted, current, part)
    assert words in str(found)


async def test_each_path_changes_its_own_part(tmp_path) -> None:
    async with Server(tmp_path) as server:
        made = await server.call("POST", PATH, APPROVED)
        assert made.status == 201
        assert "status" not in made.json
        other = request(signerName="example.com/x") | {"status": {"certificate": CERTIFICATE}}
        spec = made.json["spec"]
        plain = await server.call("PUT", f"{PATH}/ann", other)
        assert (plain.json["spec"], plain.json.get("status")) == (spec, None)
        body = other | APPROVED | {"spec": other["spec"]}
        body["status"] = {**body["status"], "certificate": CERTIFICATE}
        approved = (await server.call("PUT", f"{PATH}/ann/approval", body)).json
        assert approved["spec"] == spec
        assert "certificate" not in approved["status"]
        (found,) = approved["status"]["conditions"]
        assert found["type"] == "Approved"
        assert found["lastUpdateTime"] == found["lastTransitionTime"]
        body["status"]["conditions"] = approved["status"]["conditions"]
        issued = (await server.call("PUT", f"{PATH}/ann/status", body)).json
        assert issued["status"]["certificate"] == CERTIFICATE
        assert issued["status"]["conditions"] == [found]
        table = "application/json;as=Table;v=v1;g=meta.k8s.io"
        (row,) = (await server.call("GET", PATH, accept=table)).json["rows"]
        assert row["cells"][2:] == [CLIENT, "", "<none>", "Approved,Issued"]


# -- the signer


@pytest.fixture
def authority(tmp_path):
    """A CA in a directory of its own."""
    made = Authority(str(tmp_path), "test CA")
    made.issue(ADMIN)
    return made


KEYS = {
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "ECDSA": lambda: ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("make", KEYS.values(), ids=KEYS.keys())
async def test_a_client_gets_what_it_asked_for(tmp_path, authority, make) -> None:
    key = make()
    signer = Certificates(str(tmp_path), None)
    text = await signer.sign(pem(key), ["client auth", "digital signature"], 3600)
    found = x509.load_pem_x509_certificate(text)
    found.verify_directly_issued_by(authority.certificate)
    assert found.public_key() == key.public_key()
    assert found.subject.rfc4514_string() == "CN=ann,O=dev"
    ends = found.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(minutes=55) < ends <= dt.timedelta(hours=1)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (
        True,
        False,
        False,
    )
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


async def test_a_key_without_usages_of_its_own_may_open_a_connection(tmp_path, authority) -> None:
    """OpenSSL refuses a client whose key usage lacks the signature; without any it takes it."""
    text = await Certificates(str(tmp_path), None).sign(PEM, ["client auth"], None)
    found = x509.load_pem_x509_certificate(text)
    with pytest.raises(x509.ExtensionNotFound):
        found.extensions.get_extension_for_class(x509.KeyUsage)
    year = found.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=364) < year <= dt.timedelta(days=365)


@pytest.mark.parametrize("usages", [["server auth", "client auth"], ["digital signature"], []])
async def test_usages_of_no_client_are_not_signed(tmp_path, usages) -> None:
    with pytest.raises(InvalidSpec, match="invalid usage for client certificate"):
        await Certificates(str(tmp_path), None).sign(PEM, usages, None)


def forged() -> bytes:
    """A request whose signature is another one's."""
    lines = PEM.decode().split("\n")
    raw = bytearray(base64.b64decode("".join(lines[1:-2])))
    raw[-1] ^= 1
    body = base64.b64encode(raw).decode()
    return f"{lines[0]}\n{body}\n{lines[-2]}\n".encode()


BAD = {
    "not ASN.1": (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "malformed"),
    "a forged signature": (forged(), "does not fit its key"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD.keys())
def test_what_can_not_be_signed_says_why(text, words) -> None:
    assert words in sign.answer({"check": text.decode()})["error"]


def test_a_request_tells_the_groups_that_it_asks_for() -> None:
    found = sign.answer({"check": pem(organization="system:masters").decode()})
    assert found == {"organizations": ["system:masters"]}


async def test_a_request_that_is_too_long_is_not_looked_into(tmp_path) -> None:
    class Call:  # what `examine` needs of one: nothing, for such a request
        pass

    long = PEM.replace(b"-----\n", b"-----\n" + b" " * (64 << 10), 1)
    with pytest.raises(FieldErrors, match="more than 65536 bytes"):
        await Certificates(str(tmp_path), None).examine(Call(), request(text=long))


# -- the controller

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC).timestamp()


def decided(kind: str, **status) -> dict:
    made = with_status(
        conditions=[condition(kind, lastUpdateTime="2026-05-01T12:00:00Z")], **status
    )
    made["metadata"]["creationTimestamp"] = "2026-05-01T11:00:00Z"
    return made


STANDING = {
    "pending": ({}, False, NOW - 3600 + 86400),
    "approved": (decided("Approved"), True, float("inf")),
    "issued": (decided("Approved", certificate=CERTIFICATE), False, NOW + 3600),
    "denied": (decided("Denied"), False, NOW + 3600),
    "failed": (decided("Failed"), False, NOW + 3600),
}


@pytest.mark.parametrize(("more", "unsigned", "ends"), STANDING.values(), ids=STANDING.keys())
def test_requests_go_after_a_while(more, unsigned, ends) -> None:
    made = decided("x") | {"status": {}} | more
    found = standing(made)
    assert (found.unsigned, found.ends) == (unsigned, ends)


def test_a_request_for_another_signer_is_left_to_it() -> None:
    made = decided("Approved")
    made["spec"]["signerName"] = "example.com/x"
    assert not standing(made).unsigned


class Signer:
    """Signs all but who asks for a server's certificate."""

    async def sign(self, request: bytes, usages, lifetime: int | None) -> bytes:
        if "server auth" in usages:
            raise InvalidSpec("no servers")
        return b"signed " + request[:10]


async def test_what_is_approved_is_signed_or_fails_and_what_is_old_goes(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(certificates, "PENDING", 0.2)
    store = SqliteStore(str(tmp_path / "store.db"))
    store.open()
    for name, usage in (("good", "client auth"), ("bad", "server auth"), ("old", "client auth")):
        await store.create(RESOURCE, "", request(name, usages=[usage]))
    stamp = condition("Approved", lastUpdateTime=dt.datetime.now(dt.UTC).isoformat())
    approved = {"conditions": [stamp]}
    for name in ("good", "bad"):
        await store.mutate(RESOURCE, "", name, lambda o: {**o, "status": approved}, "status")
    informers, version = Informers(store), store.version
    controller = CertificateController(store, informers, Signer(), time.time)
    tasks = [asyncio.create_task(c) for c in (informers.run(), controller.run())]
    heard = {}
    async with asyncio.timeout(20):
        async for event in store.watch(RESOURCE, None, version):
            heard[event.name] = event
            if len(heard) == 3:
                break
    assert heard["old"].type == "DELETED"
    good, bad = heard["good"].object, heard["bad"].object
    assert base64.b64decode(good["status"]["certificate"]) == b"signed " + PEM[:10]
    failed = bad["status"]["conditions"][1]
    assert (failed["type"], failed["reason"], failed["message"]) == (
        "Failed",
        "SignerValidationFailure",
        "no servers",
    )
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    store.close()
