"""Tests against the real kernel: each must leave the machine as it found it."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time

import pytest

from minipod import config
from tests.node import PATIENCE, name_of_this_run, prepared, started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.requires("root"))


# Every run has a node of its own name, so that two runs at once do not see each other's traces.
INSTANCE = name_of_this_run()
RUN = re.compile(r"\bt[0-9a-f]+x")


# Below these every run and every node has a directory of its own name.
SHARED = ("/run/", "/var/lib/", "/var/log/", "/var/tmp/", f"{tempfile.gettempdir()}/")
# Other nodes' veths; those of CNI and Docker; the bridge of the benchmarks' peers.
FOREIGN = re.compile("mp[0-9a-f]{12}$|veth[0-9a-f]{7,8}$|mpbench|docker|br-|cni")
BRIDGE = "02:6d:00:00:00:01"  # the address of every node's bridge
temporary: list[str] = []  # this run's directory for temporary files, once there is one


def pytest_sessionstart(session: pytest.Session) -> None:
    factory = session.config._tmp_path_factory
    temporary.append(f"{factory.getbasetemp()}/")


def _of_this_run(path: str) -> bool:
    return f"/{INSTANCE}" in path or path.startswith(tuple(temporary))


def _of_another_run(name: str) -> bool:
    found = RUN.search(name)
    return found is not None and found[0] != INSTANCE


def mounts() -> set[str]:
    """Return the mounts of this run, and those that are below no directory of any run or node."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        points = {line.split()[4] for line in f}
    return {p for p in points if _of_this_run(p) or not p.startswith(SHARED)}


def cgroups() -> set[str]:
    """Return the cgroups of this run's node, in every hierarchy."""
    return {
        path
        for path, _, _ in os.walk("/sys/fs/cgroup")
        # The node's tiers stay, made by the first pod of each class.
        if f"/{INSTANCE}" in path
        and not path.endswith(("/kubepods", "/kubepods/besteffort", "/kubepods/burstable"))
    }


def links() -> set[str]:
    """Return the machine's links but for those of other nodes, of other engines' containers, and of sandboxes that wait for a pod."""
    instance = config.load(name=INSTANCE).instance
    veth = instance.link_prefix
    names = {name for _, name in socket.if_nameindex()}
    names -= {f"{veth}{sandbox[:8]}" for sandbox in prepared(instance)}
    return {n for n in names if n.startswith((veth, INSTANCE)) or not _of_another_node(n)}


def _of_another_node(link: str) -> bool:
    if _of_another_run(link) or FOREIGN.match(link):
        return True
    try:
        with open(f"/sys/class/net/{link}/address", encoding="ascii") as f:
            return f.read().strip() == BRIDGE
    except OSError:
        return True  # gone


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
def leak_check(request):
    """Compare fds, mounts, cgroups, links and processes before and after.

    Pods are deleted by force: the kubelet removes them behind the answer, and the kernel removes the links of a dropped
    network namespace later still, so what is left gets its time to go.
    """
    if "node" in request.fixturenames:
        request.getfixturevalue("node")  # its own traces are checked when the module ends
    before = snapshot()
    yield
    await_nothing_left(before)


def await_nothing_left(before: dict[str, set[str]], *kinds: str) -> None:
    """Wait until all is gone that was not there *before*, of these kinds or of all."""
    deadline = time.monotonic() + 40.0 * PATIENCE
    while True:
        after = snapshot()
        left = {k: after[k] - before[k] for k in kinds or after if after[k] - before[k]}
        if not left:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {left}")
        time.sleep(0.01)  # asynchronous removal by the kernel: no event says that all of it is done


@pytest.fixture(scope="session")
def settings(tmp_path_factory):
    """The settings file of this run's node: what hangs is given up soon."""
    path = tmp_path_factory.mktemp("settings") / "minipod.toml"
    registries = tmp_path_factory.mktemp("registries")  # none: not those of the machine
    deadline = f"setup_deadline = {10 * PATIENCE:g}"
    lines = (deadline, "eviction_interval = 0.5", f'registries = "{registries}"')
    path.write_text("\n".join((f"[instance.{INSTANCE}]", *lines, "")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIPOD_CONFIG", str(path))
        yield path


def _scope(fixture_name: str, config: pytest.Config) -> str:
    """How long a node lives: the modules of the smoke selection share one, since in a VM each takes half a minute."""
    return "session" if config.option.markexpr == "smoke" else "module"


@pytest.fixture(scope=_scope)
def node(settings):
    """A running node of its own; gone without a trace afterwards."""
    before = snapshot()
    with started(INSTANCE) as made:
        yield made
    await_nothing_left(before, "mounts", "cgroups", "links")


@pytest.fixture
def pods(node, leak_check):
    """The names of a test's pods: deleted when it ends, before the leak check looks."""
    names: list[str] = []
    yield names
    if names:
        node.delete(*names)


@pytest.fixture
def forget(node):
    """The names of a test's images: removed when it ends; their pods must be gone by then."""
    names: list[str] = []
    yield names
    for name in names:
        node.run("image", "rm", name, check=False)
