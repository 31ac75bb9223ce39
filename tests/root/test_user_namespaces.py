"""hostUsers: false, asked of the kernel: what a pod is inside of its user namespace, and what that is on the host.

Excluded: what validation refuses (unit tests), the failing of each step (test_node_faults).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minipod.spec.sandbox import UserNamespace
from tests.node import sleeper


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def ids(pid: int) -> UserNamespace:
    inside, first, length = Path(f"/proc/{pid}/uid_map").read_text(encoding="ascii").split()
    assert inside == "0"
    return UserNamespace(first=int(first), length=int(length))


@pytest.fixture
def place():
    """A directory on a disk: tmpfs can't be id-mapped before Linux 6.3."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def volumes(place: Path) -> dict[str, Any]:
    return {
        "volumes": [
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "host", "hostPath": {"path": str(place)}},
            {"name": "about", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}, "mode": 0o400}]}},
            {"name": "image", "image": {"reference": "busybox:1.36"}},
        ]
    }  # fmt: skip


MOUNTS = [{"name": n, "mountPath": f"/{n}"} for n in ("disk", "memory", "host", "about", "image")]


@pytest.mark.smoke
def test_a_pod_has_users_and_namespaces_of_its_own(node, pods, place) -> None:
    pods.append("own")
    (place / "theirs").touch()
    os.chown(place / "theirs", 1000, 1000)
    spec = volumes(place) | {"shareProcessNamespace": True}
    container = sleeper(
        volumeMounts=MOUNTS, livenessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1}
    )
    pod = node.pod("own", container, hostUsers=False, **spec)
    pid = node.containers(pod)["app"]["pid"]
    userns = ids(pid)
    assert userns.length == 65536
    assert status(pid)["Uid"].split() == [str(userns.first)] * 4
    for kind in ("user", "net", "ipc", "uts", "pid", "mnt", "cgroup"):
        assert namespace(pid, kind) != namespace(os.getpid(), kind)
    script = (
        "id -u; hostname; cat /proc/self/uid_map | tr -s ' '; stat -c %u / /etc/hosts /etc/resolv.conf /dev/shm /disk /memory"
        " /host /host/theirs /about/name /image/bin/busybox; cat /about/name; echo; for d in / /disk /memory /host /dev/shm;"
        " do touch $d/made && stat -c %u:%g $d/made; done; chown 7:8 /disk/made /host/made; echo x > /dev/null;"
        " echo '# more' >> /etc/hosts; echo said > /dev/termination-log; echo 1 > /dev/stderr"
    )
    said = node.exec("own", "sh", "-c", script).split("\n")
    assert said[:3] == ["0", "own", f" 0 {userns.first} 65536"]
    assert said[3:13] == ["0", "0", "0", "0", "0", "0", "0", "1000", "0", "0"]
    assert said[13:19] == ["own", *["0:0"] * 5]
    # The host's owners: on id-mapped mounts what the pod calls them, elsewhere the pod's own.
    made = os.stat(place / "made")
    assert (made.st_uid, made.st_gid) == (7, 8)
    upper = f"{node.instance.state_dir}/containers/{node.containers(pod)['app']['id']}/upper/made"
    assert os.stat(upper).st_uid == userns.first
    assert "nobody" not in node.exec("own", "ps", "-o", "user,pid,args")
