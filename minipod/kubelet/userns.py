"""Which ids a pod in a user namespace of its own gets: 65536 that no other pod of the machine has (KEP-127; K8S pkg/kubelet/userns).

    <state_dir>/pods/<uid>/userns     in the kubelet's form, written before anything is made with the ids
    /run/minipod-userns/<node>        a link to <state_dir>/pods, so that the machine's other nodes find them

A pod keeps its ids as long as it has its directory: over restarts of the node's processes and of the machine, for what its containers
wrote belongs to them. The directories are the only record. Where the search begins depends on the pod, so that what
a removed pod may have left behind is not the next one's.

The ranges of two nodes are apart unless their names lead to the same ones (`config`) or their settings overlap. Then the links keep their
pods apart: whoever looks for ids reads the records of all nodes, under one lock. A node has its link from its first such pod on until
it is reset; after the machine's start, from the first that starts again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import zlib
from collections.abc import Iterator
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
    with _nodes(instance) as nodes:
        with contextlib.suppress(FileNotFoundError):
            return _read(f"{pods}/{uid}/userns")
        taken = _taken(pods)
        for other in os.listdir(nodes):
            if other != instance.name:
                with contextlib.suppress(Internal):  # that node's affair
                    taken |= _taken(f"{nodes}/{other}")
        made = UserNamespace(first=_free(instance, uid, taken), length=LENGTH)
        os.makedirs(f"{pods}/{uid}", mode=0o750, exist_ok=True)
        _write(f"{pods}/{uid}/userns", made)
    return made


def forget(instance: Instance) -> None:
    """Take the node's link away, when it is reset."""
    with _locked(instance) as nodes:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{nodes}/{instance.name}")
        with contextlib.suppress(OSError):  # others are in it
            os.rmdir(nodes)


@contextlib.contextmanager
def _nodes(instance: Instance) -> Iterator[str]:
    """Yield the directory of all nodes' links, locked, with this node's in it."""
    with _locked(instance) as nodes:
        with contextlib.suppress(FileExistsError):
            os.symlink(f"{instance.state_dir}/pods", f"{nodes}/{instance.name}")
        yield nodes


@contextlib.contextmanager
def _locked(instance: Instance) -> Iterator[str]:
    nodes = f"{instance.run_root}/minipod-userns"  # no node's: their names have no dash
    while True:
        os.makedirs(nodes, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(nodes, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                break
            os.close(fd)  # another took it away before we had it
    try:
        yield nodes
    finally:
        os.close(fd)


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
