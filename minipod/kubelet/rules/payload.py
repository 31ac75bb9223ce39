"""The files of configMap, secret, downwardAPI and projected volumes, from objects as values. Pure.

K8S pkg/volume/{configmap,secret,downwardapi,projected}, MakePayload. What is missing raises FailedPrecondition in the kubelet's words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from minipod.errors import FailedPrecondition
from minipod.kubelet.rules import env
from minipod.kubelet.rules.references import CONFIG_MAPS, SECRETS, Objects, content

if TYPE_CHECKING:
    from minipod.kubelet.rules.pods import Pod, Raw

DEFAULT_MODE = 0o644
_WORDS = {
    CONFIG_MAPS: ("configmap", "configmap references non-existent config key"),
    SECRETS: ("secret", "references non-existent secret key"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file; *uid* None: root's. *token*: the index of the projected source whose token its data will be, minted when it is written."""

    data: bytes
    mode: int
    uid: int | None = None
    token: int | None = None


Payload = dict[str, File]  # path below the volume -> file


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a volume may be made from: objects, what the node knows."""

    objects: Objects
    facts: env.NodeFacts


def of_volume(pod: Pod, volume: Raw, known: Known) -> Payload | None:
    """The files of *volume*; None for one that has other content. Raises FailedPrecondition."""
    if (source := volume.get("configMap")) is not None:
        return _object(CONFIG_MAPS, source["name"], source, known, mode=_mode(source))
    if (source := volume.get("secret")) is not None:
        return _object(SECRETS, source["secretName"], source, known, mode=_mode(source))
    if (source := volume.get("downwardAPI")) is not None:
        return _downward(pod, source, known, mode=_mode(source))
    if (source := volume.get("projected")) is not None:
        return _projected(pod, source, known)
    return None


def _mode(source: Raw) -> int:
    mode = source.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)


def _projected(pod: Pod, source: Raw, known: Known) -> Payload:
    files: Payload = {}
    mode = _mode(source)
    for index, part in enumerate(source.get("sources") or ()):
        if (one := part.get("configMap")) is not None:
            files |= _object(CONFIG_MAPS, one["name"], one, known, mode=mode)
        elif (one := part.get("secret")) is not None:
            files |= _object(SECRETS, one["name"], one, known, mode=mode)
        elif (one := part.get("downwardAPI")) is not None:
            files |= _downward(pod, one, known, mode=mode)
        elif (one := part.get("serviceAccountToken")) is not None:
            token = File(data=b"", mode=mode, token=index)
            files[one["path"]] = _for_whom(pod, token)
    return files


def _for_whom(pod: Pod, token: File) -> File:
    """A token is for its pod's users: 0600 with a group or one user, by whom it can be read then."""
    users = {
        {**pod.security_context, **c.security_context}.get("runAsUser") for c in pod.all_containers
    }
    if pod.security_context.get("fsGroup") is not None:
        return replace(token, mode=0o600)
    if len(users) == 1 and (user := users.pop()) is not None:
        return replace(token, mode=0o600, uid=int(user))
    return token


def _object(resource: str, name: str, source: Raw, known: Known, *, mode: int) -> Payload:
    kind, no_key = _WORDS[resource]
    optional = bool(source.get("optional"))
    found = known.objects.get((resource, name))
    if found is None:
        if optional:
            return {}
        raise FailedPrecondition(f'{kind} "{name}" not found')
    values = content(found, resource)
    items = source.get("items")
    if not items:
        return {key: File(data=data, mode=mode) for key, data in values.items()}
    files: Payload = {}
    for item in items:
        data = values.get(item["key"])
        if data is not None:
            own = item.get("mode")
            files[item["path"]] = File(data=data, mode=mode if own is None else int(own))
        elif not optional:
            raise FailedPrecondition(f"{no_key}: {item['key']}")
    return files


def _downward(pod: Pod, source: Raw, known: Known, *, mode: int) -> Payload:
    files: Payload = {}
    for item in source.get("items") or ():
        own = item.get("mode")
        if (ref := item.get("fieldRef")) is not None:
            text = env.volume_field(pod, ref["fieldPath"], known.facts)
        else:
            ref = item["resourceFieldRef"]
            text = env.resource_of(pod, ref, known.facts)
        files[item["path"]] = File(data=text.encode(), mode=mode if own is None else int(own))
    return files
