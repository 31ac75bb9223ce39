"""Ports, DNS and host names: what Kubernetes refuses (validation.go: validateContainerPorts, validatePodDNSConfig, ValidateHostAliases)."""

from __future__ import annotations

from minipod.api.fields import FieldError
from minipod.api.messages import (
    LABEL,
    LABEL_WORDS,
    PORT_NAME,
    PORT_NAME_WORDS,
    PORT_WORDS,
    QUALIFIED,
    QUALIFIED_WORDS,
    SUBDOMAIN,
    SUBDOMAIN_WORDS,
    Errors,
    Object,
    choice,
    duplicate,
    invalid,
    ip,
    required,
)

_MAX_NAMESERVERS, _MAX_SEARCHES, _MAX_SEARCH_CHARS = 3, 32, 2048
PROTOCOLS = ("TCP", "UDP", "SCTP")


def pod(spec: Object) -> Errors:
    for field in ("hostname", "subdomain"):
        value = spec.get(field)
        if value and not LABEL.fullmatch(value):
            yield invalid(f"spec.{field}", value, LABEL_WORDS)
    yield from _dns(spec)
    for i, alias in enumerate(spec.get("hostAliases") or []):
        at = f"spec.hostAliases[{i}]"
        yield from ip(alias.get("ip") or "", f"{at}.ip")
        for j, name in enumerate(alias.get("hostnames") or []):
            if not SUBDOMAIN.fullmatch(name):
                yield invalid(f"{at}.hostnames[{j}]", name, SUBDOMAIN_WORDS)
    for i, gate in enumerate(spec.get("readinessGates") or []):
        kind = gate.get("conditionType") or ""
        if not QUALIFIED.fullmatch(kind):
            yield invalid(f"spec.readinessGates[{i}].conditionType", kind, QUALIFIED_WORDS)
    yield from _host_ports(spec)


def _dns(spec: Object) -> Errors:
    config, path = spec.get("dnsConfig") or {}, "spec.dnsConfig"
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if spec.get("dnsPolicy") == "None" and not servers:
        words = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        yield required(f"{path}.nameservers", words)
    if len(servers) > _MAX_NAMESERVERS:
        words = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        yield invalid(f"{path}.nameservers", str(servers), words)
    for i, server in enumerate(servers):
        yield from ip(server, f"{path}.nameservers[{i}]")
    if len(searches) > _MAX_SEARCHES:
        words = f"must not have more than {_MAX_SEARCHES} search paths"
        yield invalid(f"{path}.searches", str(searches), words)
    if len(" ".join(searches)) > _MAX_SEARCH_CHARS:
        words = f"must not have more than {_MAX_SEARCH_CHARS} characters (including spaces) in the search list"
        yield invalid(f"{path}.searches", str(searches), words)
    for i, search in enumerate(searches):
        name = search.removesuffix(".").replace("_", "a")
        if search != "." and not SUBDOMAIN.fullmatch(name):
            yield invalid(f"{path}.searches[{i}]", search, SUBDOMAIN_WORDS)
    for i, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            yield required(f"{path}.options[{i}]", "must not be empty")


def ports(container: Object, path: str, *, host_network: bool) -> Errors:
    names: set[str] = set()
    for i, port in enumerate(container.get("ports") or []):
        at, number, name = f"{path}.ports[{i}]", port.get("containerPort"), port.get("name")
        if name and (len(name) > 15 or not PORT_NAME.fullmatch(name)):
            yield invalid(f"{at}.name", name, PORT_NAME_WORDS)
        elif name and name in names:
            yield duplicate(f"{at}.name", name)
        names.add(name or "")
        if number is None:
            yield required(f"{at}.containerPort")
        elif not 1 <= number <= 65535:
            yield invalid(f"{at}.containerPort", number, PORT_WORDS)
        yield from choice(port, "protocol", at, PROTOCOLS)
        yield from _host_port(port, at, host_network=host_network)


def _host_port(port: Object, at: str, *, host_network: bool) -> Errors:
    number = port.get("hostPort")
    if port.get("hostIP"):
        yield from ip(port["hostIP"], f"{at}.hostIP")
    if port.get("hostIP") == "::1":
        words = "not supported by minipod: Linux routes nothing from ::1 to a pod"
        yield FieldError(f"{at}.hostIP", words, "FieldValueNotSupported")
    if not number:
        return
    if not 1 <= number <= 65535:
        yield invalid(f"{at}.hostPort", number, PORT_WORDS)
    elif host_network and number != port.get("containerPort"):
        words = "must match `containerPort` when `hostNetwork` is true"
        yield invalid(f"{at}.hostPort", number, words)


def _host_ports(spec: Object) -> Errors:
    """No two containers want the same port of the node (checkHostPortConflicts)."""
    for group in ("containers", "initContainers"):
        yield from _conflicts(spec.get(group) or [], f"spec.{group}")


def _conflicts(containers: list[Object], path: str) -> Errors:
    taken: set[str] = set()
    for i, container in enumerate(containers):
        for j, port in enumerate(container.get("ports") or []):
            if not port.get("hostPort"):
                continue
            wanted = (
                f"{port.get('protocol') or 'TCP'}/{port.get('hostIP') or ''}/{port['hostPort']}"
            )
            if wanted in taken:
                yield duplicate(f"{path}[{i}].ports[{j}].hostPort", wanted)
            taken.add(wanted)
