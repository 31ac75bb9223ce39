"""`python -m minipod.apiserver.auth.issue`: make certificates, then exit and give the memory back.

Standard input is JSON: directory, ca_name, leaves (fields of `pki.Leaf`). The CA is made when its certificate is not there. Keys are
ECDSA on P-256: 1 ms, where RSA of 2048 bits takes 50 ms to make. The order of files is that of `pki`: key, certificate, then the
JSON that vouches for them.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import sys
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from minipod.apiserver.auth.pki import YEAR, Leaf, vouch, write_private

CA_LIFETIME = 10 * YEAR
SKEW = dt.timedelta(hours=1)  # a clock that is set back a little must not void what was made

Key = ec.EllipticCurvePrivateKey


class Authority:
    """The CA: loaded, or made when it has a name."""

    def __init__(self, directory: str, name: str = "") -> None:
        self._directory = directory
        self._now = dt.datetime.now(dt.UTC)
        if name and not os.path.exists(f"{directory}/ca.crt"):
            self._make(name)
        with open(f"{directory}/ca.key", "rb") as f:
            key = serialization.load_pem_private_key(f.read(), None)
        if not isinstance(key, Key):
            raise TypeError(f"{directory}/ca.key is no ECDSA key")
        self.key = key
        with open(f"{directory}/ca.crt", "rb") as f:
            self.certificate = x509.load_pem_x509_certificate(f.read())

    @property
    def identifier(self) -> x509.AuthorityKeyIdentifier:
        """How certificates of its name it: by key id, which strict verifiers ask for (RFC 5280, 4.2.1.1)."""
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

    def _make(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, subject, key, CA_LIFETIME)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        builder = builder.add_extension(usage(certificates=True), True)
        write_private(f"{self._directory}/ca.key", _key_pem(key))
        certificate = builder.sign(key, hashes.SHA256())
        write_private(f"{self._directory}/ca.crt", pem(certificate), 0o644)

    def issue(self, leaf: Leaf) -> None:
        """Make one certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in leaf.organizations]
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name))
        issuer = self.certificate.subject
        builder = self._builder(x509.Name(names), issuer, key, leaf.lifetime)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(usage(), True)
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        if leaf.hosts:
            purpose = ExtendedKeyUsageOID.SERVER_AUTH
            hosts = x509.SubjectAlternativeName([_host(h) for h in leaf.hosts])
            builder = builder.add_extension(hosts, False)
        certificate = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False).sign(
            self.key, hashes.SHA256()
        )
        base = f"{self._directory}/{leaf.name}"
        if os.path.exists(f"{base}.json"):
            os.unlink(f"{base}.json")
        write_private(f"{base}.key", _key_pem(key))
        write_private(f"{base}.crt", pem(certificate), 0o644)
        not_after = certificate.not_valid_after_utc.timestamp()
        voucher = vouch(leaf, pem(self.certificate), not_after)
        write_private(f"{base}.json", voucher.encode())

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: Key, lifetime: int
    ) -> x509.CertificateBuilder:
        """Begin a certificate; its authority is named by key id, which strict verifiers ask for (RFC 5280, 4.2.1.1)."""
        authority = key if subject == issuer else self.key
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - SKEW)
            .not_valid_after(self._now + dt.timedelta(seconds=lifetime))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False
            )
        )


def usage(
    *, digital_signature: bool = True, key_encipherment: bool = False, certificates: bool = False
) -> x509.KeyUsage:
    """Return what a key may be used for."""
    return x509.KeyUsage(
        digital_signature=digital_signature, key_encipherment=key_encipherment,
        key_cert_sign=certificates, crl_sign=certificates,
        content_commitment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def main(request: dict[str, Any]) -> None:
    """Make everything that the request asks for."""
    authority = Authority(request["directory"], request["ca_name"])
    for fields in request["leaves"]:
        lists = {k: tuple(v) for k, v in fields.items() if isinstance(v, list)}
        authority.issue(Leaf(**(fields | lists)))


if __name__ == "__main__":
    main(json.load(sys.stdin))
    print("{}")  # noqa: T201 the answer
