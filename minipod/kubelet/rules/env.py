"""A container's environment: $(VAR) expansion, fieldRef, resourceFieldRef.

K8S third_party/forked/golang/expansion and pkg/kubelet/kubelet_pods.go makeEnvironmentVariables. A
missing source is a CreateContainerConfigError, raised as InvalidSpec with the kubelet's words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minipod.errors import InvalidSpec
from minipod.kubelet.rules.quantity import divided

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from minipod.kubelet.rules.pods import Container, Pod, Raw

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")
_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What env sources say about the node and the sandbox."""

    node_name: str = ""
    host_ip: str = ""
    pod_ips: tuple[str, ...] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)


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


def environment(pod: Pod, container: Container, facts: NodeFacts) -> dict[str, str]:
    """All variables of *container*, in order; later ones see earlier ones. Raises InvalidSpec."""
    found: dict[str, str] = {}
    for index, entry in enumerate(container.env):
        source = entry.get("valueFrom")
        path = f"{container.cause}.env[{index}]"
        if source:
            found[entry["name"]] = _from_source(pod, container, source, facts, path)
        else:
            found[entry["name"]] = expand(entry.get("value", ""), found)
    return found


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


def resource_value(container: Container, ref: Raw, facts: NodeFacts) -> str:
    """resourceFieldRef; a limit that is not set is what the node can give."""
    kind, _, name = str(ref["resource"]).partition(".")
    amounts = container.limits if kind == "limits" else container.requests
    amount = amounts.get(name)
    if amount is None:
        amount = facts.allocatable.get(name, "0") if kind == "limits" else "0"
    return str(divided(amount, ref.get("divisor") or "1"))


def _from_source(pod: Pod, container: Container, source: Raw, facts: NodeFacts, path: str) -> str:
    if ref := source.get("fieldRef"):
        return field_value(pod, ref["fieldPath"], facts)
    if ref := source.get("resourceFieldRef"):
        owner = ref.get("containerName") or container.name
        of = next((c for c in pod.all_containers if c.name == owner), container)
        return resource_value(of, ref, facts)
    kind = "configmap" if "configMapKeyRef" in source else "secret"
    ref = source.get("configMapKeyRef") or source.get("secretKeyRef") or {}
    if ref.get("optional"):
        return ""
    raise InvalidSpec(f'{kind} "{ref.get("name", "")}" not found', path=path)
