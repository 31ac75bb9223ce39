"""Our container beside one that runc made from the same settings: descriptors, status and limits of the process are alike."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from minipod.image.store import ImageStore
from minipod.linux import credentials
from tests.node import eventually, sleeper
from tests.root.conftest import INSTANCE

FIELDS = (
    "Umask", "Uid", "Gid", "Groups", "NSpid", "SigBlk", "SigIgn", "ShdPnd", "CapInh", "CapPrm", "CapEff", "CapBnd",
    "CapAmb", "NoNewPrivs",
)  # fmt: skip


def status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        found = dict(re.split(r":\s*", line.rstrip(), maxsplit=1) for line in f)
    chosen = {name: found[name] for name in FIELDS}
    chosen["NSpid"] = chosen["NSpid"].split()[-1]  # the number inside; outside they differ
    return chosen


def limits(pid: int) -> str:
    with open(f"/proc/{pid}/limits", encoding="ascii") as f:
        return f.read()


@pytest.fixture
def runc_pid(node, tmp_path):
    """The pid of `sleep 1000` in a container of runc, from our busybox image."""
    store = ImageStore(f"{node.instance.state_dir}/images")
    (layer,) = store.layers(store.resolve("busybox"))
    capabilities = [f"CAP_{name}" for name in credentials.DEFAULT]
    sets = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    spec = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0, "additionalGids": [0], "umask": 0o022}, "args": ["sleep", "1000"], "cwd": "/",
            "env": ["PATH=/bin"], "capabilities": sets,
        },
        "root": {"path": layer, "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
            "cgroupsPath": f"/{INSTANCE}r/test",
        },
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(spec))
    name, root = f"{INSTANCE}r", str(tmp_path / "root")
    base = ["runc", "--root", root]
    with open(os.devnull, "r+b") as null:
        subprocess.run(
            [*base, "run", "--detach", "--bundle", str(tmp_path), "--pid-file", str(tmp_path / "pid"), name],
            check=True, stdin=null, stdout=null, stderr=null,
        )  # fmt: skip
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: os.readlink(f"/proc/{pid}/exe").startswith("/bin/"))  # else it is runc yet
    yield pid
    subprocess.run([*base, "delete", "--force", name], check=True)
    for base_path in os.listdir("/sys/fs/cgroup"):
        path = f"/sys/fs/cgroup/{base_path}/{name}"
        if os.path.isdir(path):
            os.rmdir(path)
    if os.path.isdir(f"/sys/fs/cgroup/{name}"):
        os.rmdir(f"/sys/fs/cgroup/{name}")


def test_our_process_looks_like_runcs(node, pods, runc_pid: int) -> None:
    """Excluded: seccomp (each has its own filter) and what the kernel counts."""
    pods.append("ours")
    node.pod("ours", sleeper())
    pid = node.containers(node.get("ours"))["app"]["pid"]
    assert status(pid) == status(runc_pid)
    assert limits(pid) == limits(runc_pid)
    assert (
        sorted(os.listdir(f"/proc/{pid}/fd"))
        == sorted(os.listdir(f"/proc/{runc_pid}/fd"))
        == ["0", "1", "2"]
    )
