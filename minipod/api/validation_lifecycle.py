"""Hooks, stop signals, restart policies, sidecars and ephemeral containers (validation.go: ValidateLifecycle,
validateInitContainers, validateContainerRestartPolicy, ValidateEphemeralContainers)."""

from __future__ import annotations

import signal
from collections.abc import Callable

from minipod.api.messages import (
    Errors,
    Object,
    forbidden,
    invalid,
    not_found,
    required,
    unsupported,
)

ACTIONS = ("Restart", "RestartAllContainers")
OPERATORS = ("In", "NotIn")
RULES_MAX, VALUES_MAX = 20, 255
SIGNALS = frozenset(
    [s.name for s in signal.Signals]
    + [f"SIGRTMIN+{n}" for n in range(1, 16)]
    + [f"SIGRTMAX-{n}" for n in range(1, 15)]
)
_FOR_SIDECARS = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")


def hooks(
    container: Object, path: str, handler: Callable[[Object, str], Errors], grace: int
) -> Errors:
    """Check postStart, preStop (by *handler*) and stopSignal; *grace* is the pod's, in seconds."""
    lifecycle = container.get("lifecycle") or {}
    for hook in ("postStart", "preStop"):
        if lifecycle.get(hook) is not None:
            yield from handler(lifecycle[hook], f"{path}.lifecycle.{hook}")
            seconds = (lifecycle[hook].get("sleep") or {}).get("seconds", 0)
            if not 0 <= seconds <= max(grace, 0):
                words = (
                    f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                )
                yield invalid(f"{path}.lifecycle.{hook}.sleep", seconds, words)
    wanted = lifecycle.get("stopSignal")
    if wanted and wanted not in SIGNALS:
        yield unsupported(f"{path}.lifecycle.stopSignal", wanted, sorted(SIGNALS))


def restart_policy(container: Object, path: str, *, init: bool) -> Errors:
    """Check the container's own policy and its rules; only a sidecar may have probes during initialization."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or []
    if init and policy != "Always":
        for field in _FOR_SIDECARS:
            if container.get(field) is not None:
                words = "must not be set for init containers without restartPolicy=Always"
                yield forbidden(f"{path}.{field}", words)
    if rules and not policy:
        yield required(
            f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"
        )
    if rules and init and policy == "Always":
        words = "restart rules are not allowed for sidecar containers"
        yield forbidden(f"{path}.restartPolicyRules", words)
    if len(rules) > RULES_MAX:
        words = f"must have at most {RULES_MAX} items"
        yield invalid(f"{path}.restartPolicyRules", len(rules), words)
    for i, rule in enumerate(rules):
        yield from _rule(rule, f"{path}.restartPolicyRules[{i}]")


def _rule(rule: Object, path: str) -> Errors:
    if rule.get("action") not in ACTIONS:
        yield unsupported(f"{path}.action", rule.get("action") or "", ACTIONS)
    codes = rule.get("exitCodes")
    if codes is None:
        yield required(f"{path}.exitCodes", "must be specified")
        return
    if codes.get("operator") not in OPERATORS:
        yield unsupported(f"{path}.exitCodes.operator", codes.get("operator") or "", OPERATORS)
    values = codes.get("values") or []
    if not values:
        yield required(f"{path}.exitCodes.values", "must have at least one value")
    elif len(values) > VALUES_MAX:
        yield invalid(
            f"{path}.exitCodes.values", len(values), f"must have at most {VALUES_MAX} items"
        )
    for i, value in enumerate(values):
        if not 0 <= value <= 255:
            yield invalid(f"{path}.exitCodes.values[{i}]", value, "must be between 0 and 255")


def ephemeral(spec: Object, container: Object, path: str) -> Errors:
    """Check what is special about an ephemeral container."""
    target = container.get("targetContainerName")
    names = {c.get("name") for g in ("containers", "initContainers") for c in spec.get(g) or []}
    if target and target not in names:
        yield not_found(f"{path}.targetContainerName", target)
    for i, mount in enumerate(container.get("volumeMounts") or []):
        for field in ("subPath", "subPathExpr"):
            if mount.get(field):
                at = f"{path}.volumeMounts[{i}].{field}"
                yield forbidden(at, "cannot be set for an Ephemeral Container")
