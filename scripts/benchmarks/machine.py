"""One line about the machine and the programs that were measured on it."""

from __future__ import annotations

import os
import platform
import subprocess

from minipod.cgroups.hierarchy import detect

PACKAGES = ("runc", "crun", "podman", "containerd", "containernetworking-plugins", "umoci")


def describe() -> str:
    """Return cores, memory, kernel, cgroup mode, python, load, our commit and the peers' versions."""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next(
            (line.split(":")[1].strip() for line in f if line.startswith("model name")), ""
        )
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = int(next(f).split()[1]) >> 20
    commit = _output("git", "rev-parse", "--short", "HEAD")
    parts = [
        f"minipod {commit}",
        f"{os.cpu_count()} cores ({model or platform.machine()})",
        f"{memory} GiB",
        f"Linux {os.uname().release}",
        f"cgroup {detect().mode.value}",
        f"Python {platform.python_version()}",
        f"load {os.getloadavg()[0]:.1f}",
        *(f"{name} {version}" for name in PACKAGES if (version := installed(name))),
    ]
    return ", ".join(parts)


def installed(package: str) -> str:
    """Return the version of a Debian package, "" when it is not installed."""
    words = _output("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}", package).split()
    return words[-1] if words[:1] == ["ii"] else ""


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
