"""JSON Web Tokens signed with HS256 (RFC 7515, RFC 7518 3.2), with the standard library alone.

A symmetric key, since the only one who verifies them is who signs them: this API server. An asymmetric algorithm would serve others
who fetch our public key (OIDC discovery), which this node does not offer, and would keep `cryptography` (15 MB) in the daemon.
Others verify a token by TokenReview. The algorithm is fixed: a header that names another one ("none") is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

Claims = dict[str, Any]

MAX = 16 << 10  # bytes of a token; ours have below one KB


class BadToken(ValueError):
    """Not a token that *key* signed."""


def sign(claims: Claims, key: bytes) -> str:
    """Return the compact form."""
    parts = b".".join((_encode({"alg": "HS256", "typ": "JWT"}), _encode(claims)))
    return (parts + b"." + _base64(_signature(parts, key))).decode()


def verify(token: str, key: bytes) -> Claims:
    """Return the claims of a token that *key* signed; what they say is the caller's to check. Raises BadToken."""
    if len(token) > MAX or "=" in token:
        raise BadToken("not a JSON Web Token")
    try:
        parts, _, signature = token.encode("ascii").rpartition(b".")
        header, _, payload = parts.partition(b".")
        given = _decode(signature)
        if not hmac.compare_digest(given, _signature(parts, key)):
            raise BadToken("the token's signature is not ours")
        if json.loads(_decode(header)).get("alg") != "HS256":
            raise BadToken("the token's algorithm is not HS256")
        claims = json.loads(_decode(payload))
    except (ValueError, binascii.Error) as e:  # UnicodeError and JSONDecodeError are ValueErrors
        raise e if isinstance(e, BadToken) else BadToken("not a JSON Web Token") from e
    if not isinstance(claims, dict):
        raise BadToken("the token's claims are no object")
    return claims


def _signature(parts: bytes, key: bytes) -> bytes:
    return hmac.digest(key, parts, hashlib.sha256)


def _encode(value: Claims) -> bytes:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(value: bytes) -> bytes:
    return base64.urlsafe_b64encode(value).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    """Decode base64url without padding; other alphabets are errors (one token has one spelling)."""
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
