"""Names of other objects in a pod's spec, and what stands beside them: what Kubernetes refuses (validation.go: ValidatePodSpec,
validatePodHostName, ValidatePreemptionPolicy, validateOverhead)."""

from __future__ import annotations

from minipod.api import quantity
from minipod.api.messages import Errors, Object, choice, forbidden, invalid, subdomain_words

_SUBDOMAINS = (
    "nodeName", "serviceAccountName", "priorityClassName", "runtimeClassName", "hostnameOverride",
)  # fmt: skip
_HOSTNAME_MAX = 64  # what sethostname(2) takes


def pod(spec: Object) -> Errors:
    """Names, the preemption policy, the overhead."""
    for field in _SUBDOMAINS:
        value = spec.get(field)
        if value and (words := subdomain_words(value)):
            yield invalid(f"spec.{field}", value, words)
    yield from choice(spec, "preemptionPolicy", "spec", ("PreemptLowerPriority", "Never"))
    for name, value in (spec.get("overhead") or {}).items():
        if quantity.parse(str(value)) < 0:
            words = "must be greater than or equal to 0"
            yield invalid(f"spec.overhead[{name}]", str(value), words)
    yield from _hostname_override(spec)


def _hostname_override(spec: Object) -> Errors:
    override = spec.get("hostnameOverride")
    if not override:
        return
    if len(override) > _HOSTNAME_MAX:
        words = f"must be no more than {_HOSTNAME_MAX} characters"
        yield invalid("spec.hostnameOverride", override, words)
    for other in ("setHostnameAsFQDN", "hostNetwork"):
        if spec.get(other):
            words = f"may not be set when `{other}` is true"
            yield forbidden("spec.hostnameOverride", words)
