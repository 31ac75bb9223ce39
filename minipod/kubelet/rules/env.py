"""A container's environment: service links, envFrom, env, $(VAR) expansion, and the fields that it may name.

K8S third_party/forked/golang/expansion and pkg/kubelet/kubelet_pods.go makeEnvironmentVariables. A
missing source is a CreateContainerConfigError, raised as InvalidSpec with the kubelet's words.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minipod.errors import InvalidSpec
from minipod.kubelet.rules.quantity import divided
from minipod.kubelet.rules.references import CONFIG_MAPS, SECRETS, Objects, content

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from minipod.kubelet.rules.pods import Container, Pod, Raw

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")
_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What env sources say about the node and the sandbox."""

    node_name: str = ""
    host_ip: str = ""
    pod_ips: tuple[str, ...] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What an environment is made from, beside the pod."""

    facts: NodeFacts
    objects: Objects = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)  # service links
    # (volume, path) -> what an env file says
    files: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """All variables, in order; *skipped* are (source, invalid names) of envFrom."""

    variables: dict[str, str]
    skipped: tuple[tuple[str, tuple[str, ...]], ...] = ()


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$$` is `$`, `$(X)` the value of X or, unknown, left as it is."""

    def replacement(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else known.get(name, match.group(0))

    return _REFERENCE.sub(replacement, text)


def expand_known(text: str, known: Mapping[str, str]) -> tuple[str, list[str]]:
    """Expand *text*; return it and the names that are not known (subPathExpr refuses those)."""
    names = [m.group(1) for m in _REFERENCE.finditer(text) if m.group(1) is not None]
    return expand(text, known), [name for name in names if name not in known]


def environment(pod: Pod, container: Container, sources: Sources) -> Environment:
    """All variables of *container*; later ones see earlier ones. Raises InvalidSpec.

    env over envFrom over service links, and within each the later over the earlier.
    """
    skipped: list[tuple[str, tuple[str, ...]]] = []
    found: dict[str, str] = {}
    for index, entry in enumerate(container.env_from):
        path = f"{container.cause}.envFrom[{index}]"
        found |= _from_object(pod, entry, sources, skipped, path)
    for index, entry in enumerate(container.env):
        source = entry.get("valueFrom")
        path = f"{container.cause}.env[{index}]"
        name = entry["name"]
        if source:
            value = _from_source(pod, container, source, sources, path)
            if value is None:
                continue  # optional, and not there
        else:
            value = expand(entry.get("value", ""), {**sources.links, **found})
        found.pop(name, None)
        found[name] = value
    links = {k: v for k, v in sources.links.items() if k not in found}
    return Environment(variables={**links, **found}, skipped=tuple(skipped))


def _from_object(
    pod: Pod, entry: Raw, sources: Sources, skipped: list[tuple[str, tuple[str, ...]]], path: str
) -> dict[str, str]:
    of_map = entry.get("configMapRef") is not None
    resource = CONFIG_MAPS if of_map else SECRETS
    ref = entry["configMapRef"] if of_map else entry["secretRef"]
    values = _values(resource, ref, sources.objects, path)
    prefix = entry.get("prefix") or ""
    named = {prefix + key: value for key, value in values.items()}
    wrong = tuple(sorted(key for key in named if not _NAME.fullmatch(key)))
    if wrong:
        kind = "configMap" if of_map else "secret"
        skipped.append((f"{kind} {pod.namespace}/{ref['name']}", wrong))
    return {key: value for key, value in sorted(named.items()) if key not in wrong}


def _values(resource: str, ref: Raw, objects: Objects, path: str) -> dict[str, str]:
    obj = objects.get((resource, ref["name"]))
    if obj is None:
        if ref.get("optional"):
            return {}
        kind = "configmap" if resource == CONFIG_MAPS else "secret"
        raise InvalidSpec(f'{kind} "{ref["name"]}" not found', path=path)
    if resource == CONFIG_MAPS:
        return dict(obj.get("data") or {})  # binaryData has no text
    return {k: v.decode("utf-8", "surrogateescape") for k, v in content(obj, resource).items()}


def field_value(pod: Pod, path: str, facts: NodeFacts) -> str:
    """The value of a downward field. Raises InvalidSpec for one that is not supported."""
    if (match := _SUBSCRIPT.fullmatch(path)) is not None:
        return str((pod.labels if match[1] == "labels" else pod.annotations).get(match[2], ""))
    values: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: pod.name,
        "metadata.namespace": lambda: pod.namespace,
        "metadata.uid": lambda: pod.uid,
        "spec.nodeName": lambda: pod.node_name or facts.node_name,
        "spec.serviceAccountName": lambda: pod.service_account_name,
        "status.hostIP": lambda: facts.host_ip,
        "status.hostIPs": lambda: facts.host_ip,
        "status.podIP": lambda: facts.pod_ips[0] if facts.pod_ips else "",
        "status.podIPs": lambda: ",".join(facts.pod_ips),
    }
    if path not in values:
        raise InvalidSpec(f"unsupported fieldPath: {path}")
    return values[path]()


def volume_field(pod: Pod, path: str, facts: NodeFacts) -> str:
    """A downward field as a file: whole maps are sorted lines of `key="value"`, quoted as Go does."""
    if path in ("metadata.labels", "metadata.annotations"):
        entries = pod.labels if path == "metadata.labels" else pod.annotations
        return "\n".join(
            f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in sorted(entries.items())
        )
    return field_value(pod, path, facts)


def resource_of(pod: Pod, ref: Raw, facts: NodeFacts, default: Container | None = None) -> str:
    """resourceFieldRef, of the container that it names."""
    owner = ref.get("containerName")
    found = next((c for c in pod.all_containers if c.name == owner), default)
    if found is None:
        raise InvalidSpec(f"container {owner} not found")
    return resource_value(found, ref, facts)


def resource_value(container: Container, ref: Raw, facts: NodeFacts) -> str:
    """resourceFieldRef; a limit that is not set is what the node can give."""
    kind, _, name = str(ref["resource"]).partition(".")
    amounts = container.limits if kind == "limits" else container.requests
    amount = amounts.get(name)
    if amount is None:
        amount = facts.allocatable.get(name, "0") if kind == "limits" else "0"
    divisor = str(ref.get("divisor") or "1")
    return str(divided(amount, "1" if divisor == "0" else divisor))


def _from_source(
    pod: Pod, container: Container, source: Raw, sources: Sources, path: str
) -> str | None:
    if ref := source.get("fieldRef"):
        return field_value(pod, ref["fieldPath"], sources.facts)
    if ref := source.get("resourceFieldRef"):
        return resource_of(pod, ref, sources.facts, container)
    if ref := source.get("fileKeyRef"):
        return _from_file(ref, sources, path)
    of_map = source.get("configMapKeyRef") is not None
    resource = CONFIG_MAPS if of_map else SECRETS
    ref = source["configMapKeyRef"] if of_map else source["secretKeyRef"]
    value = _values(resource, ref, sources.objects, path).get(ref["key"])
    if value is None and not ref.get("optional"):
        kind = "ConfigMap" if of_map else "Secret"
        words = f"couldn't find key {ref['key']} in {kind} {pod.namespace}/{ref['name']}"
        raise InvalidSpec(words, path=path)
    return value


def _from_file(ref: Raw, sources: Sources, path: str) -> str | None:
    value = sources.files.get((ref["volumeName"], ref["path"]), {}).get(ref["key"])
    if value is None and not ref.get("optional"):
        words = (
            f"couldn't find key {ref['key']} in file {ref['path']} of volume {ref['volumeName']}"
        )
        raise InvalidSpec(words, path=path)
    return value


def parse_env_file(text: str) -> dict[str, str]:
    """NAME=value lines (KEP-3721): comments and empty lines go, quotes around a value too."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name and not name.startswith("#"):
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            found[name.strip()] = value
    return found


def service_links(services: list[Raw], master: Raw | None, *, enabled: bool) -> dict[str, str]:
    """Docker-style variables of the namespace's services; those of `kubernetes` always (envvars.FromServices)."""
    found: dict[str, str] = {}
    chosen = [s for s in services if enabled or s["metadata"]["name"] == "kubernetes"]
    names = {s["metadata"]["name"] for s in chosen}
    if master is not None and "kubernetes" not in names:
        chosen = [master, *chosen]
    for service in chosen:
        address = service["spec"].get("clusterIP")
        ports = service["spec"].get("ports") or []
        if address and address != "None" and ports:
            found |= _links_of(service["metadata"]["name"], address, ports)
    return found


def _links_of(name: str, address: str, ports: list[Raw]) -> dict[str, str]:
    prefix = name.upper().replace("-", "_")
    shown = f"[{address}]" if ":" in address else address
    found = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            key = port["name"].upper().replace("-", "_")
            found[f"{prefix}_SERVICE_PORT_{key}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol = port.get("protocol") or "TCP"
        url = f"{protocol.lower()}://{shown}:{port['port']}"
        if index == 0:
            found[f"{prefix}_PORT"] = url
        base = f"{prefix}_PORT_{port['port']}_{protocol}"
        found |= {
            base: url, f"{base}_PROTO": protocol.lower(), f"{base}_PORT": str(port["port"]),
            f"{base}_ADDR": address,
        }  # fmt: skip
    return found
