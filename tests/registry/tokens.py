"""A token server (distribution/docs/spec/auth/token.md) that docker-registry trusts, and the test's certificate authority."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from tests.registry.server import PASSWORD, USER


class Authority:
    """A certificate authority and one certificate for 127.0.0.1, signed by it; files below *directory*."""

    def __init__(self, directory: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        root_key = ec.generate_private_key(ec.SECP256R1())
        root = _certificate(name, name, root_key, root_key, ca=True)
        leaf_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        self.leaf = _certificate(leaf_name, name, self.key, root_key, ca=False)
        self.ca, self.certificate = directory / "ca.pem", directory / "leaf.pem"
        self.key_file = directory / "leaf.key"
        pem = serialization.Encoding.PEM
        self.ca.write_bytes(root.public_bytes(pem))
        self.certificate.write_bytes(self.leaf.public_bytes(pem))
        self.key_file.write_bytes(
            self.key.private_bytes(
                pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _certificate(subject, issuer, key, signer, *, ca: bool) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    alternative = x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(alternative, critical=False)
        .sign(signer, hashes.SHA256())
    )


class TokenServer:
    """Gives tokens to alice, by password or by her identity token, and to nobody else unless *anonymous*.

    `lifetimes` are the lifetimes in seconds of the next tokens; 3600 when the list is empty.
    """

    IDENTITY = "alices-identity-token"

    def __init__(self, authority: Authority, *, anonymous: bool = False) -> None:
        self._authority = authority
        self.anonymous = anonymous
        self.lifetimes: list[int] = []
        self.asked: list[tuple[str, list[str]]] = []  # method, scopes
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                known = self.headers.get("Authorization") == f"Basic {expected}"
                bare = "Authorization" not in self.headers
                self.reply("GET", query, allowed=known or (bare and owner.anonymous))

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                known = form.get("refresh_token") == [owner.IDENTITY]
                self.reply("POST", form, allowed=known)

            def reply(self, method: str, query: dict[str, list[str]], *, allowed: bool) -> None:
                scopes = [s for text in query.get("scope", []) for s in text.split()]
                owner.asked.append((method, scopes))
                body = owner.token(query["service"][0], scopes) if allowed else b"{}"
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def settings(self) -> dict[str, Any]:
        """docker-registry's `auth`."""
        port = self._server.server_address[1]
        return {
            "token": {
                "realm": f"http://127.0.0.1:{port}/token", "service": "test", "issuer": "tests",
                "rootcertbundle": str(self._authority.ca),
            }
        }  # fmt: skip

    def token(self, service: str, scopes: list[str]) -> bytes:
        lifetime = self.lifetimes.pop(0) if self.lifetimes else 3600
        now = int(time.time())
        access = [
            {"type": kind, "name": name, "actions": actions.split(",")}
            for kind, name, actions in (scope.split(":") for scope in scopes)
        ]
        der = self._authority.leaf.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": "tests", "sub": USER, "aud": service, "exp": now + lifetime, "nbf": now - 10_000,
            "iat": now - 10_000, "jti": str(time.monotonic_ns()), "access": access,
        }  # fmt: skip
        signed = f"{_encode(header)}.{_encode(claims)}"
        signature = self._authority.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(signature)
        token = f"{signed}.{_url64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
        return json.dumps({"token": token, "expires_in": max(lifetime, 1)}).encode()

    def __enter__(self) -> TokenServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _encode(value: dict[str, Any]) -> str:
    return _url64(json.dumps(value).encode())


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
