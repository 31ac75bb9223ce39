"""runc and crun: an OCI bundle on our unpacked busybox; each container is one `run`, waited for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench, timed
from benchmarks.row import Missing, Once, Side
from minipod.linux import credentials

CGROUP = "mpbench"  # below each hierarchy's root; removed with the side


def config(rootfs: str, command: list[str]) -> dict[str, object]:
    """Return an OCI configuration with what our containers have: capabilities, namespaces, cgroups, /proc, /dev, /sys."""
    names = [f"CAP_{name}" for name in credentials.DEFAULT]
    namespaces = ("pid", "mount", "ipc", "uts", "network", "cgroup")
    mounts = [
        ("/proc", "proc", ["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", ["nosuid", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        ("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777"]),  # noqa: S108
        ("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": command, "cwd": "/", "env": ["PATH=/bin"],
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), names),
        },
        "root": {"path": rootfs, "readonly": True},
        "mounts": [
            {"destination": d, "type": t, "source": t, "options": o} for d, t, o in mounts
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in namespaces],
            "cgroupsPath": f"/{CGROUP}/c",
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    }  # fmt: skip


@contextmanager
def bundle(bench: Bench, command: list[str], program: str) -> Iterator[list[str]]:
    """Yield `PROGRAM --root R` in a directory with a bundle, which becomes the current one. Raises Missing."""
    if shutil.which(program) is None:
        raise Missing(f"{program} is not installed: scripts/bench --with-peers")
    root = tempfile.mkdtemp(dir=bench.directory)
    os.mkdir(f"{root}/bundle")
    with open(f"{root}/bundle/config.json", "w", encoding="utf-8") as f:
        json.dump(config(bench.layer(), command), f)
    try:
        yield [program, "--root", f"{root}/state"]
    finally:
        shutil.rmtree(root)
        remove_cgroup(CGROUP)


def in_bundle(base: list[str]) -> str:
    return f"{os.path.dirname(base[2])}/bundle"


def remove_cgroup(name: str) -> None:
    """Remove an empty cgroup of that name from every hierarchy."""
    for parent in ("", *os.listdir("/sys/fs/cgroup")):
        for directory, _, _ in os.walk(f"/sys/fs/cgroup/{parent}/{name}", topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                continue  # a link to a hierarchy shows the same name twice, or somebody lives there


def cycles(program: str) -> Side:
    """One container from create to delete."""

    @contextmanager
    def side(bench: Bench) -> Iterator[Once]:
        with bundle(bench, ["/bin/true"], program) as base:
            command = [*base, "run", "--bundle", in_bundle(base), "c"]
            try:
                timed(command)
            except RuntimeError as e:
                raise Missing(f"it fails here: {str(e).strip().splitlines()[-1]}") from e
            try:
                yield lambda: {"create, start, exit, delete": timed(command)}
            finally:  # one that was interrupted may still be there
                subprocess.run([*base, "delete", "--force", "c"], capture_output=True, check=False)

    return side


def execs(program: str) -> Side:
    """/bin/true beside a sleeping process."""

    @contextmanager
    def side(bench: Bench) -> Iterator[Once]:
        with bundle(bench, ["sleep", "1000"], program) as base:
            start = [*base, "run", "--detach", "--bundle", in_bundle(base), "c"]
            with open(os.devnull, "r+b") as null:
                done = subprocess.run(start, stdin=null, stdout=null, stderr=null, check=False)
            if done.returncode:
                raise Missing(f"{program} run fails here")
            try:
                yield lambda: {"by command": timed([*base, "exec", "c", "/bin/true"])}
            finally:
                subprocess.run([*base, "delete", "--force", "c"], check=True)

    return side
