"""Security contexts, namespaces and sysctls: what Kubernetes refuses (ValidatePodSecurityContext, ValidateSecurityContext)."""

from __future__ import annotations

import re

from minipod.api.fields import FieldError
from minipod.api.messages import (
    Errors,
    Object,
    choice,
    descending_path,
    duplicate,
    forbidden,
    in_range,
    invalid,
    required,
    unsupported,
)

_PROFILE_MAX = 4095  # bytes of an AppArmor profile's name
PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_ID_MAX = (1 << 31) - 1
_SYSCTL = re.compile(r"([a-z0-9][-_a-z0-9]*[./])*[a-z0-9][-_a-z0-9]*", re.IGNORECASE)
_SYSCTL_WORDS = (
    "must have at most 253 characters and match regex"
    " ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
)
NET_PREFIX, IPC_PREFIXES = "net.", ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")


def pod(spec: Object) -> Errors:
    """The pod's security context, and the namespaces that it asks for."""
    context, path = spec.get("securityContext") or {}, "spec.securityContext"
    yield from _identity(context, path)
    yield from in_range(context, "fsGroup", path, 0, _ID_MAX)
    for i, group in enumerate(context.get("supplementalGroups") or []):
        if not 0 <= group <= _ID_MAX:
            words = f"must be between 0 and {_ID_MAX}, inclusive"
            yield invalid(f"{path}.supplementalGroups[{i}]", group, words)
    yield from choice(context, "fsGroupChangePolicy", path, ("Always", "OnRootMismatch"))
    yield from choice(context, "supplementalGroupsPolicy", path, ("Merge", "Strict"))
    yield from _sysctls(spec, context.get("sysctls") or [], f"{path}.sysctls")
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        words = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield invalid("spec.shareProcessNamespace", True, words)
    if spec.get("hostUsers") is False:
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                yield forbidden(f"spec.{field}", "when `pod.Spec.HostUsers` is false")
    os = spec.get("os")
    if os is not None:
        if not os.get("name"):
            yield required("spec.os.name")
        else:
            yield from choice(os, "name", "spec.os", ("linux", "windows"))


def container(item: Object, path: str, *, host_users: bool = True) -> Errors:
    context, at = item.get("securityContext") or {}, f"{path}.securityContext"
    yield from _identity(context, at)
    yield from choice(context, "procMount", at, ("Default", "Unmasked"))
    if host_users and context.get("procMount") == "Unmasked":
        yield invalid(f"{at}.procMount", "Unmasked", "`hostUsers` must be false to use `Unmasked`")
    if context.get("allowPrivilegeEscalation") is not False:
        return
    if context.get("privileged"):
        words = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        yield invalid(at, "allowPrivilegeEscalation", words)
    added = (context.get("capabilities") or {}).get("add") or []
    if any(name in ("CAP_SYS_ADMIN", "SYS_ADMIN") for name in added):
        words = (
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
        )
        yield invalid(at, "allowPrivilegeEscalation", words)


def _identity(context: Object, path: str) -> Errors:
    for field in ("runAsUser", "runAsGroup"):
        yield from in_range(context, field, path, 0, _ID_MAX)
    for field, words in (("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")):
        profile = context.get(field)
        if profile is not None:
            yield from _profile(profile, f"{path}.{field}", words)


def _profile(profile: Object, path: str, what: str) -> Errors:
    kind, name = profile.get("type"), profile.get("localhostProfile")
    if not kind:
        field = path.rpartition(".")[2]
        yield required(f"{path}.type", f"type is required when {field} is set")
        return
    if kind not in PROFILES:
        yield unsupported(f"{path}.type", kind, PROFILES)
    if kind == "Localhost":
        if not name:
            yield required(f"{path}.localhostProfile", f"must be set when {what} type is Localhost")
        elif what == "seccomp":
            yield from descending_path(name, f"{path}.localhostProfile")
        elif name != name.strip():
            words = "must not be padded with whitespace"
            yield invalid(f"{path}.localhostProfile", name, words)
        elif len(name) > _PROFILE_MAX:
            words = f"Too long: may not be more than {_PROFILE_MAX} bytes"
            yield FieldError(f"{path}.localhostProfile", words, "FieldValueTooLong")
    elif name:
        words = f"can only be set when {what} type is Localhost"
        yield invalid(f"{path}.localhostProfile", name, words)


def _sysctls(spec: Object, listed: list[Object], path: str) -> Errors:
    taken: set[str] = set()
    for i, sysctl in enumerate(listed):
        at, name = f"{path}[{i}].name", (sysctl.get("name") or "").replace("/", ".")
        if not name:
            yield required(at)
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            yield invalid(at, name, _SYSCTL_WORDS)
        elif name in taken:
            yield duplicate(at, name)
        elif name.startswith(NET_PREFIX) and spec.get("hostNetwork"):
            yield invalid(at, name, "may not be specified when 'hostNetwork' is true")
        elif name.startswith(IPC_PREFIXES) and spec.get("hostIPC"):
            yield invalid(at, name, "may not be specified when 'hostIPC' is true")
        taken.add(name)
