"""Tests against the real kernel: each must leave the machine as it found it."""

from __future__ import annotations

import os
import socket
import time

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.requires("root"))


def mounts() -> set[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return {line.split()[4] for line in f}


def cgroups() -> set[str]:
    return {
        path
        for path, _, _ in os.walk("/sys/fs/cgroup")
        if not path.startswith(("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/memory/process_api"))
    }


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def descriptors() -> dict[str, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue  # the fd of the listing itself
    return found


def processes() -> set[int]:
    """Return our own descendants, zombies included."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as f:
                    parents[int(name)] = int(f.read().rpartition(b")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    mine: set[int] = {os.getpid()}
    while more := {p for p, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return mine - {os.getpid()}


def snapshot() -> dict[str, set[str]]:
    return {
        "mounts": mounts(),
        "cgroups": cgroups(),
        "links": links(),
        "descriptors": set(descriptors()),
        "processes": {str(p) for p in processes()},
    }


@pytest.fixture(autouse=True)
def leak_check():
    """Compare fds, mounts, cgroups, links and processes before and after.

    The kernel removes a dropped network namespace's links about 32 ms later, so they get a second.
    """
    before = snapshot()
    yield
    deadline = time.monotonic() + 1.0
    while True:
        after = snapshot()
        left = {k: after[k] - before[k] for k in after if after[k] - before[k]}
        if not left:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {left}")
        time.sleep(0.01)  # asynchronous removal by the kernel: no event says that all of it is done
