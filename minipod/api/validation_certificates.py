"""Validation of certificate signing requests, in Kubernetes' words (pkg/apis/certificates/validation/validation.go).

Not here: whether what is signed is right. Parsing a certificate needs a library that the daemon does without (`apiserver.auth.signing`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from minipod.api.certificates import APPROVED, DENIED, FINAL, USAGES, conditions
from minipod.api.fields import FieldError
from minipod.api.messages import SUBDOMAIN, duplicate, forbidden, invalid, required, unsupported

Object = dict[str, Any]
Errors = Iterator[FieldError]

SHORTEST = 600  # seconds
SIGNER_MAX = 571  # characters: a namespace, a name, and two dots
_BEGIN = re.compile(rb"-----BEGIN ([^\r\n]+?)-----\s")
_PATH = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([./:][a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.IGNORECASE
)
_CONDITIONS = "status.conditions"


def validate(request: Object) -> Errors:
    """Yield what is wrong with a new one, or one that was changed."""
    spec = request.get("spec") or {}
    if pem_type(spec.get("request") or "") != "CERTIFICATE REQUEST":
        words = "PEM block type must be CERTIFICATE REQUEST"
        yield FieldError("spec.request", f"Invalid value: {words}")
    yield from _usages(spec.get("usages") or [])
    yield from _signer(spec.get("signerName") or "")
    lifetime = spec.get("expirationSeconds")
    if lifetime is not None and lifetime < SHORTEST:
        words = f"may not specify a duration less than {SHORTEST} seconds (10 minutes)"
        yield invalid("spec.expirationSeconds", lifetime, words)
    yield from _conditions((request.get("status") or {}).get("conditions") or [])


def pem_type(encoded: str) -> str:
    """Return the type of the first PEM block (RFC 7468) of base64 text; "" when there is none. Looks at each byte once or twice."""
    try:
        text = base64.b64decode(encoded)
    except (binascii.Error, ValueError):
        return ""
    found = _BEGIN.search(text)
    if found is None or text.find(b"-----END %b-----" % found[1], found.end()) < 0:
        return ""
    return found[1].decode(errors="replace")


def _usages(usages: list[str]) -> Errors:
    if not usages:
        yield required("spec.usages")
    for i, usage in enumerate(usages):
        if usage not in USAGES:
            yield unsupported(f"spec.usages[{i}]", usage, tuple(sorted(USAGES)))
        if usage in usages[:i]:
            yield duplicate(f"spec.usages[{i}]", usage)


def _signer(name: str) -> Errors:
    path = "spec.signerName"
    domain, slash, rest = name.partition("/")
    if not name:
        yield required(path)
    elif not slash:
        words = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        yield invalid(path, name, words)
    elif not SUBDOMAIN.fullmatch(domain) or "." not in domain or not _PATH.fullmatch(rest):
        yield invalid(path, name, "should be a domain with at least two segments, and a path")
    elif name == "kubernetes.io/legacy-unknown":
        yield invalid(path, name, "the legacy signerName is not allowed via this API version")
    if len(name) > SIGNER_MAX:
        yield FieldError(
            path, f"Too long: may not be more than {SIGNER_MAX} bytes", "FieldValueTooLong"
        )


def _conditions(given: list[Object]) -> Errors:
    seen: set[str] = set()
    for i, condition in enumerate(given):
        path, kind = f"{_CONDITIONS}[{i}]", condition.get("type") or ""
        status = condition.get("status") or ""
        choices = ("True",) if kind in FINAL else ("False", "True", "Unknown")
        if not kind:
            yield required(f"{path}.type")
        if not status:
            yield required(f"{path}.status")
        elif status not in choices:
            yield unsupported(f"{path}.status", status, choices)
        if kind in seen:
            yield duplicate(f"{path}.type", kind)
        seen.add(kind)
        if {APPROVED, DENIED} <= seen and kind in (APPROVED, DENIED):
            yield invalid(
                f"{path}.type", kind, "Approved and Denied conditions are mutually exclusive"
            )


def validate_part(wanted: Object, current: Object, part: str) -> Errors:
    """Yield what a write of *part* (approval, status) may not change, and what is wrong with what it leaves."""
    yield from validate(wanted)
    for kind in FINAL:
        before, after = conditions(current, kind), conditions(wanted, kind)
        if len(after) < len(before):
            words = f'updates may not remove a condition of type "{kind}"'
            yield forbidden(_CONDITIONS, words)
        elif len(after) > len(before) and part == "status" and kind in (APPROVED, DENIED):
            yield forbidden(_CONDITIONS, f'updates may not add a condition of type "{kind}"')
    old, new = ((i.get("status") or {}).get("certificate") or "" for i in (current, wanted))
    if new == old:
        return
    if old:
        yield forbidden("status.certificate", "updates may not modify existing certificate content")
    elif pem_type(new) != "CERTIFICATE":
        yield FieldError("status.certificate", "Invalid value: PEM block type must be CERTIFICATE")
