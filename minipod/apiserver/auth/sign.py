"""`python -m minipod.apiserver.auth.sign`: look into a PKCS #10 request, or sign it; then exit and give the memory back.

Standard input and output are one JSON object each (`pki.run`); what is wrong with the request is {"error": words}.

    {"check": PEM}                                      -> {"organizations": [...]}
    {"sign": PEM, "directory", "usages", "lifetime"}    -> {"certificate": PEM}

The certificate has the request's subject, key and alternative names, and the usages that were asked for
(pkg/controller/certificates/authority/policies.go).
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from minipod.apiserver.auth.issue import SKEW, Authority, pem, usage

Object = dict[str, Any]
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


def load(text: str) -> x509.CertificateSigningRequest:
    """Return the request when its signature is right. Raises ValueError."""
    try:
        request = x509.load_pem_x509_csr(text.encode())
        right = request.is_signature_valid
        # Parsed when they are asked for; what can't be is an error here and not when it is signed.
        _ = request.subject, request.extensions, request.public_key()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm, x509.DuplicateExtension) as e:
        raise ValueError("malformed certificate request") from e
    if not right:
        raise ValueError("the signature of the certificate request does not fit its key")
    return request


def organizations(request: x509.CertificateSigningRequest) -> list[str]:
    """Return the groups that a client would be in."""
    found = request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return [str(attribute.value) for attribute in found]


def sign(authority: Authority, request: x509.CertificateSigningRequest, asked: Object) -> str:
    """Return the certificate (PEM). Raises ValueError."""
    key = request.public_key()
    if not isinstance(key, PublicKey):
        raise ValueError("the key is neither RSA, ECDSA nor Ed25519")  # noqa: TRY004 the request's fault
    ca = authority.certificate
    now = dt.datetime.now(dt.UTC)
    ends = min(now + dt.timedelta(seconds=asked["lifetime"]), ca.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(ca.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        .add_extension(authority.identifier, False)
    )
    if (allowed := _usage(asked["usages"])) is not None:
        builder = builder.add_extension(allowed, True)
    for extension in request.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            builder = builder.add_extension(extension.value, extension.critical)
    return pem(builder.sign(authority.key, hashes.SHA256())).decode()


def _usage(usages: list[str]) -> x509.KeyUsage | None:
    """Return what the key may be used for, of what was asked; None for whatever: nothing was, and a key for nothing opens no connection."""
    signs, enciphers = "digital signature" in usages, "key encipherment" in usages
    if not signs and not enciphers:
        return None
    return usage(digital_signature=signs, key_encipherment=enciphers)


def answer(asked: Object) -> Object:
    """Return what the request comes to."""
    try:
        if "check" in asked:
            return {"organizations": organizations(load(asked["check"]))}
        authority = Authority(asked["directory"])
        return {"certificate": sign(authority, load(asked["sign"]), asked)}
    except ValueError as e:
        return {"error": str(e)}


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
