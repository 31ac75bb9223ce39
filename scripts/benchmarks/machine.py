"""What was measured, and where: our commit, and one line about the machine and the peers on it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from functools import cache

from minipod.cgroups.hierarchy import Mode, detect

PACKAGES = (
    "runc", "crun", "podman", "containerd", "containernetworking-plugins", "umoci", "skopeo", "docker-registry",
)  # fmt: skip

EMULATED = "emulated by qemu"
BARE = "v2 without controllers"  # a hybrid machine's unified tree, alone: see scripts/unified


@cache
def describe() -> str:
    """Return cores, memory, kernel, cgroup mode, python and the peers' versions."""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next(
            (line.split(":")[1].strip() for line in f if line.startswith("model name")), ""
        )
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = int(next(f).split()[1]) >> 20
    parts = [
        f"{os.cpu_count()} cores ({model or platform.machine()})",
        f"{memory} GiB",
        f"Linux {os.uname().release}",
        f"cgroup {cgroups()}",
        *([EMULATED] if model.startswith("QEMU") else []),
        f"Python {platform.python_version()}",
        *(f"{name} {version}" for name in PACKAGES if (version := installed(name))),
        *([f"kubectl {version}"] if (version := kubectl()) else []),
    ]
    return ", ".join(parts)


def cgroups() -> str:
    """Return the mode of the cgroup trees that are mounted here."""
    found = detect()
    bare = found.mode is Mode.V2 and not {"cpu", "memory", "pids"} & found.controllers
    return BARE if bare else found.mode.value


def commit() -> str:
    """Return the short hash of what is measured; "+" behind it where files differ from it."""
    if told := os.environ.get("MINIPOD_COMMIT"):
        return told
    changed = _output("git", "status", "--porcelain", "--untracked-files=no", "minipod")
    return _output("git", "rev-parse", "--short", "HEAD") + ("+" if changed else "")


def installed(package: str) -> str:
    """Return the version of a Debian package, "" when it is not installed."""
    words = _output("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}", package).split()
    return words[-1] if words[:1] == ["ii"] else ""


def kubectl() -> str:
    """Return the version of the kubectl on PATH, "" where there is none."""
    if shutil.which("kubectl") is None:
        return ""
    told = _output("kubectl", "version", "--client", "--output", "json")
    version: str = json.loads(told)["clientVersion"]["gitVersion"] if told else ""
    return version


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
