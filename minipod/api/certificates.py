"""Certificate signing requests (certificates.k8s.io/v1): their names, their states, and who signs them.

The node's CA signs for one signer: CLIENT, whose certificates are client certificates for the API. `apiserver.auth.signing` implements
`CertificateSigner`, `controllers.certificates` asks it, the composition root hands it over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

RESOURCE, GROUP = "certificatesigningrequests", "certificates.k8s.io"
CLIENT = "kubernetes.io/kube-apiserver-client"
APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
FINAL = (APPROVED, DENIED, FAILED)  # conditions that are never taken back

# RFC 5280, 4.2.1.3 and 4.2.1.12, in Kubernetes' words.
KEY_USAGES = (
    "signing", "digital signature", "content commitment", "key encipherment", "key agreement", "data encipherment",
    "cert sign", "crl sign", "encipher only", "decipher only",
)  # fmt: skip
EXTENDED_USAGES = (
    "any", "server auth", "client auth", "code signing", "email protection", "s/mime", "ipsec end system",
    "ipsec tunnel", "ipsec user", "timestamping", "ocsp signing", "microsoft sgc", "netscape sgc",
)  # fmt: skip
USAGES = (*KEY_USAGES, *EXTENDED_USAGES)


class CertificateSigner(Protocol):
    """Signs for CLIENT."""

    async def sign(self, request: bytes, usages: Sequence[str], lifetime: int | None) -> bytes:
        """Return the certificate (PEM) for a PKCS #10 request (PEM); *lifetime* in seconds, None: the longest, a year.

        Raises InvalidSpec when the signer does not make such certificates, Internal when it can't now.
        """


def conditions(request: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return its conditions of one type."""
    found = (request.get("status") or {}).get("conditions") or []
    return [c for c in found if c.get("type") == kind]
