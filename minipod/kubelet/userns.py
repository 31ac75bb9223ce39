"""Which ids a pod in a user namespace of its own gets: 65536 that no other pod of the node has (KEP-127; K8S pkg/kubelet/userns).

    <state_dir>/pods/<uid>/userns     in the kubelet's form, written before anything is made with the ids

A pod keeps its ids as long as it has its directory: over restarts of the node's processes and of the machine, for what its containers
wrote belongs to them. The directories are the only record. Where the search begins depends on the pod, so that what
a removed pod may have left behind is not the next one's.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from typing import TYPE_CHECKING

from minipod.errors import Internal, Unavailable
from minipod.spec.sandbox import UserNamespace

if TYPE_CHECKING:
    from minipod.spec.instance import Instance

LENGTH = 1 << 16


def assign(instance: Instance, uid: str) -> UserNamespace:
    """Return the ids of a pod, new ones when it has none. Has no await in it: two pods never ask at once.

    Raises Unavailable when all are taken, Internal for a record that can't be right, OSError.
    """
    pods = f"{instance.state_dir}/pods"
    with contextlib.suppress(FileNotFoundError):
        return _read(f"{pods}/{uid}/userns")
    first = _free(instance, uid, _taken(pods))
    made = UserNamespace(first=first, length=LENGTH)
    os.makedirs(f"{pods}/{uid}", mode=0o750, exist_ok=True)
    _write(f"{pods}/{uid}/userns", made)
    return made


def _taken(pods: str) -> set[int]:
    found = set()
    for uid in os.listdir(pods) if os.path.isdir(pods) else ():
        with contextlib.suppress(FileNotFoundError):
            found.add(_read(f"{pods}/{uid}/userns").first)
    return found


def _free(instance: Instance, uid: str, taken: set[int]) -> int:
    count = instance.userns_pods
    begin = zlib.crc32(uid.encode())
    for n in range(count):
        first = instance.userns_first + (begin + n) % count * LENGTH
        if first not in taken:
            return first
    raise Unavailable(
        f"all {count} ranges of ids for user namespaces are in use",
        hint="delete pods that have ended, or raise userns_pods in the node's settings",
    )


def _read(path: str) -> UserNamespace:
    with open(path, encoding="utf-8") as f:
        text = f.read()
    try:
        raw = json.loads(text)
        (users,), (groups,) = raw["uidMappings"], raw["gidMappings"]
        made = UserNamespace(first=users["hostId"], length=users["length"])
        right = users == groups and users["containerId"] == 0 and made.length == LENGTH
        if not right or made.first < LENGTH or made.first % LENGTH:
            raise ValueError(text)  # noqa: TRY301 one answer for all that is wrong
    except (ValueError, KeyError, TypeError) as e:
        raise Internal(f"{path}: wrong user namespace mapping", hint="delete the pod") from e
    return made


def _write(path: str, made: UserNamespace) -> None:
    mapping = [{"hostId": made.first, "containerId": 0, "length": made.length}]
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as f:
        json.dump({"uidMappings": mapping, "gidMappings": mapping}, f)
        f.flush()
        os.fsync(fd)  # what the containers wrote lives on behind a crash, and belongs to these ids
    os.rename(f"{path}.new", path)
