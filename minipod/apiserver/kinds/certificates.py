"""Certificate signing requests (pkg/registry/certificates/certificates/strategy.go)."""

from __future__ import annotations

from typing import Any

from minipod.api import validation_certificates as rules
from minipod.api.certificates import APPROVED, DENIED, FAILED, GROUP, RESOURCE, conditions
from minipod.api.meta import now
from minipod.apiserver.resources import STATUS, Resource, Strategy, Subresource
from minipod.apiserver.table import AGE, NAME, Column, field, human, printer

Object = dict[str, Any]


def _prepare_part(wanted: Object, current: Object, part: str) -> None:
    """Let a write of a part change that alone: of a request only what became of it, of an approval only the conditions."""
    wanted["spec"] = current["spec"]
    before, given = current.get("status") or {}, wanted.get("status") or {}
    status = given if part == "status" else {**before, "conditions": given.get("conditions") or []}
    wanted["status"] = {name: value for name, value in status.items() if value}
    since = {
        (c["type"], c["status"]): c["lastTransitionTime"]
        for c in before.get("conditions") or []
        if c.get("lastTransitionTime")
    }
    for condition in wanted["status"].get("conditions") or []:
        condition["lastUpdateTime"] = condition.get("lastUpdateTime") or now()
        kind = (condition.get("type"), condition.get("status"))
        kept = condition.get("lastTransitionTime") or since.get(kind) or now()
        condition["lastTransitionTime"] = kept


def _duration(request: Object) -> str:
    seconds = field(request, "spec.expirationSeconds")
    return human(seconds) if seconds else "<none>"


def _condition(request: Object) -> str:
    denied, approved = conditions(request, DENIED), conditions(request, APPROVED)
    words = ["Denied" if denied else "Approved" if approved else "Pending"]
    if conditions(request, FAILED):
        words.append("Failed")
    if field(request, "status.certificate"):
        words.append("Issued")
    return ",".join(words)


RESOURCES = (
    Resource(
        plural=RESOURCE,
        kind="CertificateSigningRequest",
        type="certificates.v1.CertificateSigningRequest",
        group=GROUP,
        namespaced=False,
        short_names=("csr",),
        subresources=(STATUS, Subresource(name="approval")),
        fields=("spec.signerName",),
        kept=("spec",),
        strategy=Strategy(
            name="path",
            validate=rules.validate,
            prepare_part=_prepare_part,
            validate_part=rules.validate_part,
        ),
        printer=printer(
            NAME, AGE, Column("SignerName", "spec.signerName"), Column("Requestor", "spec.username"),
            Column("RequestedDuration", _duration), Column("Condition", _condition),
        ),
    ),
)  # fmt: skip
