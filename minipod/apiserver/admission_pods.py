"""Admission of pods beyond their own fields: the service account, the priority, the runtime class, limit ranges (plugin/pkg/admission/*).

Reads the store. What is refused is a 403 in the words of Kubernetes' plugins.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from minipod import errors
from minipod.api import quantity, schema
from minipod.apiserver import admission_runtime, lifecycle
from minipod.apiserver.first_objects import PRIORITIES
from minipod.apiserver.status import ApiError
from minipod.apiserver.store_sqlite import SqliteStore

Object = dict[str, Any]

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 a path, no password
TOKEN_LIFETIME = 3607  # seconds, as Kubernetes asks
ROOT_CA = "kube-root-ca.crt"
LIMIT_ANNOTATION = "kubernetes.io/limit-ranger"


def forbidden(kind: str, obj: Object, words: str) -> ApiError:
    """Return the refusal of an object."""
    name = obj["metadata"].get("name") or obj["metadata"].get("generateName") or ""
    return ApiError(403, f'{kind} "{name}" is forbidden: {words}')


def containers(pod: Object) -> list[Object]:
    """Return init and app containers."""
    spec = pod["spec"]
    return [*(spec.get("initContainers") or []), *spec["containers"]]


class PodPlugins:
    """`admit` completes a new pod."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def admit(self, pod: Object) -> bool:
        """Run them in Kubernetes' order; return whether amounts were filled in, which may not fit the given ones. Raises ApiError 403."""
        filled = self._limit_ranges(pod)
        self._service_account(pod)
        self._priority(pod)
        self._runtime_class(pod)
        return filled

    # -- runtime class

    def _runtime_class(self, pod: Object) -> None:
        name = pod["spec"].get("runtimeClassName")
        found = None
        if name:
            try:
                found = self._store.load(("runtimeclasses", "", name))
            except errors.NotFound:
                words = f'pod rejected: RuntimeClass "{name}" not found'
                raise forbidden("pods", pod, words) from None
        if words := admission_runtime.merge(pod, found):
            raise forbidden("pods", pod, words)

    # -- service account

    def _service_account(self, pod: Object) -> None:
        spec, namespace = pod["spec"], pod["metadata"]["namespace"]
        asked = spec.get("serviceAccountName") or spec.get("serviceAccount")
        name = asked or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        try:
            account = self._store.load(("serviceaccounts", namespace, name))
        except errors.NotFound:
            if not asked or name == "default":  # it comes with the namespace, in a moment
                return
            words = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden("pods", pod, words) from None
        if account.get("imagePullSecrets") and not spec.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        automount = spec.get(
            "automountServiceAccountToken", account.get("automountServiceAccountToken", True)
        )
        if (
            automount
            and "projected" in schema.types()["Volume"].fields
            and self._has_root_ca(namespace)
        ):
            _mount_token(pod)

    def _has_root_ca(self, namespace: str) -> bool:
        return self._store.storage.get(("configmaps", namespace, ROOT_CA)) is not None

    # -- priority

    def _priority(self, pod: Object) -> None:
        spec = pod["spec"]
        name, policy = spec.get("priorityClassName", ""), "PreemptLowerPriority"
        value = PRIORITIES.get(name, 0)
        if name not in PRIORITIES:
            found = self._priority_class(name)
            if found is not None:
                value, policy = found.get("value", 0), found.get("preemptionPolicy", policy)
                spec["priorityClassName"] = found["metadata"]["name"]
            elif name:
                raise forbidden("pods", pod, f"no PriorityClass with name {name} was found")
        if spec.get("priority") not in (None, value):
            words = (
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority admission"
                f" controller computed {value} from the given PriorityClass name"
            )
            raise forbidden("pods", pod, words)
        spec["priority"], spec["preemptionPolicy"] = value, policy

    def check_default(self, made: Object) -> None:
        """Refuse a second priority class that is everybody's (plugin/pkg/admission/priority)."""
        found = self._priority_class("") if made.get("globalDefault") else None
        if found is not None and found["metadata"]["name"] != made["metadata"].get("name"):
            words = f"PriorityClass {found['metadata']['name']} is already marked as default. Only one default can exist"
            raise forbidden("priorityclasses.scheduling.k8s.io", made, words)

    def _priority_class(self, name: str) -> Object | None:
        if name:
            data = self._store.storage.get(("priorityclasses", "", name))
            return self._store.load(("priorityclasses", "", name)) if data else None
        found = [c for c in self._store.every("priorityclasses", None) if c.get("globalDefault")]
        return min(found, key=lambda c: int(c.get("value", 0)), default=None)

    # -- limit ranges

    def _limit_ranges(self, pod: Object) -> bool:
        ranges = self._store.every("limitranges", pod["metadata"]["namespace"])
        limits = [x for r in ranges for x in (r.get("spec") or {}).get("limits") or []]
        said: list[str] = []
        for limit in limits:
            if limit.get("type") == "Container":
                said += [text for c in containers(pod) for text in _default(c, limit)]
        if said:
            annotations = pod["metadata"].setdefault("annotations", {})
            annotations[LIMIT_ANNOTATION] = "LimitRanger plugin set: " + "; ".join(said)
        found = [text for limit in limits for text in _violations(pod, limit)]
        if found:
            raise forbidden("pods", pod, found[0] if len(found) == 1 else f"[{', '.join(found)}]")
        return bool(said)

    def check_claim(self, claim: Object) -> None:
        """Hold a PersistentVolumeClaim against the limit ranges. Raises ApiError 403."""
        requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
        found = []
        for item in self._store.every("limitranges", claim["metadata"]["namespace"]):
            for limit in (item.get("spec") or {}).get("limits") or []:
                if limit.get("type") == "PersistentVolumeClaim":
                    found += list(_bounds(limit, requests, requests, "PersistentVolumeClaim"))
        if found:
            words = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
            raise forbidden("persistentvolumeclaims", claim, words)


def _mount_token(pod: Object) -> None:
    """Mount the account's token into every container that has nothing there."""
    spec = pod["spec"]
    name = lifecycle.generated_name("kube-api-access-")
    mounted = False
    for container in containers(pod):
        mounts = container.get("volumeMounts") or []
        if all(m.get("mountPath") != TOKEN_PATH for m in mounts):
            container["volumeMounts"] = [
                *mounts,
                {"name": name, "readOnly": True, "mountPath": TOKEN_PATH},
            ]
            mounted = True
    if mounted:
        sources = [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_LIFETIME, "path": "token"}},
            {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
            ]}},
        ]  # fmt: skip
        volume = {"name": name, "projected": {"sources": sources, "defaultMode": 420}}
        spec["volumes"] = [*(spec.get("volumes") or []), volume]


def _default(container: Object, limit: Object) -> Iterator[str]:
    """Fill in a container's requests and limits; say what."""
    resources = container.setdefault("resources", {})
    for group, source, word in (
        ("limits", "default", "limit"), ("requests", "defaultRequest", "request"),
    ):  # fmt: skip
        given = resources.get(group) or {}
        added = {k: v for k, v in (limit.get(source) or {}).items() if k not in given}
        if added:
            resources[group] = {**given, **added}
            yield f"{', '.join(sorted(added))} {word} for container {container['name']}"


def _violations(pod: Object, limit: Object) -> Iterator[str]:
    kind = limit.get("type", "")
    if kind == "Container":
        for container in containers(pod):
            resources = container.get("resources") or {}
            yield from _bounds(
                limit, resources.get("requests") or {}, resources.get("limits") or {}, kind
            )
    elif kind == "Pod":
        yield from _bounds(limit, _total(pod, "requests"), _total(pod, "limits"), kind)


def _total(pod: Object, group: str) -> Object:
    """Return what a pod asks for: its containers' sum, or its largest init container (PodRequests)."""
    names = {n for c in containers(pod) for n in (c.get("resources") or {}).get(group) or {}}

    def amount(container: Object, name: str) -> Fraction:
        return quantity.parse(((container.get("resources") or {}).get(group) or {}).get(name, "0"))

    total: Object = {}
    for name in names:
        apps = sum((amount(c, name) for c in pod["spec"]["containers"]), Fraction(0))
        inits = [amount(c, name) for c in pod["spec"].get("initContainers") or []]
        most = max([apps, *inits])
        total[name] = quantity.canonical(f"{int(most * 1000)}m")
    return total


def _bounds(limit: Object, requests: Object, limits: Object, kind: str) -> Iterator[str]:
    for name, low in (limit.get("min") or {}).items():
        asked = requests.get(name)
        if asked is None:
            yield f"minimum {name} usage per {kind} is {low}.  No request is specified"
        elif quantity.parse(asked) < quantity.parse(low):
            yield f"minimum {name} usage per {kind} is {low}, but request is {asked}"
    for name, high in (limit.get("max") or {}).items():
        most = limits.get(name)
        if most is None:
            yield f"maximum {name} usage per {kind} is {high}.  No limit is specified"
        elif quantity.parse(most) > quantity.parse(high):
            yield f"maximum {name} usage per {kind} is {high}, but limit is {most}"
    for name, ratio in (limit.get("maxLimitRequestRatio") or {}).items():
        asked, most = requests.get(name), limits.get(name)
        if not asked or not most or not quantity.parse(asked):
            yield f"{name} max limit to request ratio per {kind} is {ratio}, but no request is specified or request is 0"
        elif (found := quantity.parse(most) / quantity.parse(asked)) > quantity.parse(ratio):
            yield f"{name} max limit to request ratio per {kind} is {ratio}, but provided ratio is {float(found):f}"
