"""Who may ask for certificates, approve and sign them, and the CA's signature; the library for it runs in a process that exits (`sign`).

What kube-apiserver's admission plugins do (plugin/pkg/admission/certificates): a new request is its sender's, for CLIENT never one that
makes an administrator; an approval takes the verb `approve`, a write of the status the verb `sign`, on the resource `signers` by the
signer's name. And what kube-controller-manager's signer does for CLIENT (pkg/controller/certificates/signer).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from minipod.api.certificates import CLIENT, GROUP, RESOURCE
from minipod.api.fields import FieldError, FieldErrors
from minipod.api.validation_certificates import pem_type
from minipod.apiserver.auth import pki
from minipod.apiserver.auth.authorizer import Authorizer
from minipod.apiserver.auth.user import MASTERS, UserInfo
from minipod.apiserver.call import Call
from minipod.apiserver.requestinfo import RequestInfo
from minipod.errors import Forbidden, InvalidSpec

Object = dict[str, Any]

SIGN = "minipod.apiserver.auth.sign"
REQUESTER = ("username", "uid", "groups", "extra")
OPTIONAL_USAGES = ("digital signature", "key encipherment")
LONGEST = pki.YEAR
PEM_MAX = 64 << 10  # bytes: no key that is of use fills more


class Certificates:
    """Implements `minipod.api.certificates.CertificateSigner`; `examine` and `check` guard the API."""

    def __init__(self, directory: str, authorizer: Authorizer) -> None:
        self._directory = directory  # of the CA
        self._authorizer = authorizer

    async def examine(self, call: Call, request: Object) -> None:
        """Look into a new request. Raises FieldErrors for one that can't be read, Forbidden for one that must not be."""
        spec = request.get("spec") or {}
        if pem_type(spec.get("request") or "") != "CERTIFICATE REQUEST":
            return  # validation says so, with all else
        text = base64.b64decode(spec["request"])
        name = request["metadata"].get("name") or ""
        found: Object = {"error": f"more than {PEM_MAX} bytes"}
        if len(text) <= PEM_MAX:
            found = await pki.run(SIGN, {"check": text.decode(errors="replace")})
        if "error" in found:
            wrong = FieldError("spec.request", f"Invalid value: {found['error']}")
            raise FieldErrors(f'CertificateSigningRequest.{GROUP} "{name}"', [wrong])
        if spec.get("signerName") == CLIENT and MASTERS in found["organizations"]:
            words = f"use of {CLIENT} signer with {MASTERS} group is not allowed"
            raise Forbidden(f'{call.resource.qualified} "{name}" is forbidden: {words}')

    def check(self, call: Call, request: Object) -> None:
        """Give a request its sender, and raise Forbidden when a part of it is not for this user to write."""
        if call.resource.plural != RESOURCE:
            return
        user: UserInfo = call.request["user"]
        signer = request["spec"].get("signerName") or ""
        match call.info.subresource:
            case "":  # a new one; of one that is there the specification is kept
                spec = {k: v for k, v in request["spec"].items() if k not in REQUESTER}
                request["spec"] = spec | {k: v for k, v in user.to_object().items() if v}
            case "approval":
                self._require(call, user, "approve", signer)
            case "status":
                self._require(call, user, "sign", signer)

    def _require(self, call: Call, user: UserInfo, verb: str, signer: str) -> None:
        for name in (signer, f"{signer.partition('/')[0]}/*"):
            asked = RequestInfo(
                verb=verb, path="", is_resource=True, group=GROUP, version="v1", resource="signers", name=name
            )  # fmt: skip
            if self._authorizer.allowed(user, asked):
                return
        words = f'user not permitted to {verb} requests with signerName "{signer}"'
        raise Forbidden(f'{call.resource.qualified} "{call.info.name}" is forbidden: {words}')

    async def sign(self, request: bytes, usages: Sequence[str], lifetime: int | None) -> bytes:
        """See `CertificateSigner`."""
        if "client auth" not in usages or set(usages) - {"client auth", *OPTIONAL_USAGES}:
            raise InvalidSpec(f"invalid usage for client certificate: {', '.join(usages)}")
        asked = {
            "sign": request.decode(errors="replace"), "directory": self._directory, "usages": list(usages),
            "lifetime": min(lifetime or LONGEST, LONGEST),
        }  # fmt: skip
        found = await pki.run(SIGN, asked)
        if "error" in found:
            raise InvalidSpec(found["error"])
        return str(found["certificate"]).encode()
