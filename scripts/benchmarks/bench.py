"""What the rows of one run share: a node of ours, a private directory, and the images for the peers.

The node and its state have names of this process and vanish with it; so does the directory.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.row import Missing
from minipod import config
from minipod.cli.client import Client
from minipod.daemon.node import reset_node, start_node
from minipod.image.store import ImageStore

MINIPOD = f"{os.path.dirname(sys.executable)}/minipod"
IMAGE = "docker.io/library/busybox:1.36"
PAUSE = "registry.k8s.io/pause:3.9"
DISK, MEMORY = "/var/tmp", "/dev/shm"  # noqa: S108 mkdtemp makes its own there
MAX_PODS = 500  # a node takes 110 otherwise, as a kubelet does
EXITS_ON_TERM = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]


class Bench:
    """The context of one run of the harness; `close` takes everything away. *quick* makes each row small."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self._open()

    def _open(self) -> None:
        self._stack = ExitStack()
        self.directory = self._temporary(DISK)
        self._memory = ""
        self._node: Node | None = None
        self._shared: dict[str, Any] = {}

    def _temporary(self, where: str) -> str:
        made = tempfile.mkdtemp(prefix=f"minipod-bench-{os.getpid()}-", dir=where)
        self._stack.callback(shutil.rmtree, made, ignore_errors=True)
        return made

    def close(self) -> None:
        self._stack.close()

    def start_over(self) -> None:
        """Take away everything that rows share: one of them has failed, and nobody knows what it left."""
        self.close()
        self._open()

    def memory(self) -> str:
        """Return a directory on a tmpfs, where no disk is measured."""
        self._memory = self._memory or self._temporary(MEMORY)
        return self._memory

    def few(self, many: int, quick: int = 2) -> int:
        """Return how many of something a row shall make."""
        return quick if self.quick else many

    def node(self) -> Node:
        """Return the running node, started at the first call."""
        if self._node is None:
            node = self._stack.enter_context(fresh_node(f"b{os.getpid():x}"))
            node.minipod("image", "build")
            self._node = node
        return self._node

    def shared(self, name: str, make: Any) -> Any:
        """Return what *make*, a context manager, gives: once for all rows. Raises Missing each time when it did once."""
        if name not in self._shared:
            try:
                self._shared[name] = self._stack.enter_context(make(self))
            except Missing as why:
                self._shared[name] = why
        if isinstance(found := self._shared[name], Missing):
            raise Missing(str(found))
        return found

    def layer(self) -> str:
        """Return the unpacked busybox: a root file system for those that take a directory."""
        store = self.store()
        (layer,) = store.layers(store.resolve(IMAGE))
        return layer

    def store(self) -> ImageStore:
        """Return our image store; its directory is an OCI image layout."""
        return ImageStore(f"{self.node().instance.state_dir}/images")

    def archive(self) -> str:
        """Return our images as one OCI archive, for the peers."""
        path = f"{self.directory}/images.tar"
        if not os.path.exists(path):
            root = f"{self.node().instance.state_dir}/images"
            members = ("oci-layout", "index.json", "blobs")
            subprocess.run(["tar", "-C", root, "-cf", path, *members], check=True)
        return path


class Node:
    """A node of ours, driven over its API; the client's process is in no figure that does not say so."""

    def __init__(self, name: str) -> None:
        self.instance = dataclasses.replace(config.load(name=name).instance, max_pods=MAX_PODS)
        self.client = Client(self.instance)
        self.kubectl = ["kubectl", "--kubeconfig", self.instance.kubeconfig]
        self.pods = self.client.path("pods", "default")

    def minipod(self, *words: str) -> str:
        command = [MINIPOD, "--instance", self.instance.name, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def create(self, name: str, command: list[str] = EXITS_ON_TERM, **spec: Any) -> dict[str, Any]:
        """POST a pod of one busybox, with more of a *spec*; return it."""
        body = manifest(name, command)
        body["spec"].update(spec)
        return self.client.request("POST", self.pods, body=body)

    def events(self, since: str) -> Iterator[dict[str, Any]]:
        """Watch all pods from that version on."""
        return self.client.watch(self.pods, {"resourceVersion": since})

    def version(self) -> str:
        """Return the version of the list of pods as it is now."""
        version: str = self.client.request("GET", self.pods)["metadata"]["resourceVersion"]
        return version

    def await_ready(self, names: set[str], since: str) -> None:
        """Return when all of them have been seen Ready. Raises RuntimeError when one has failed."""
        left = set(names)
        for event in self.events(since):
            pod = event["object"]
            name, status = pod["metadata"]["name"], pod.get("status", {})
            if name in left and status.get("phase") == "Failed":
                raise RuntimeError(f"pod {name} failed: {status.get('message', '')}")
            if event["type"] != "DELETED" and ready(pod):
                left.discard(name)
            if not left:
                return

    def delete(self, names: set[str], *, force: bool = False) -> float:
        """DELETE them; return the milliseconds until all are seen gone."""
        since, left = self.version(), set(names)
        begin = time.time()
        body = {"gracePeriodSeconds": 0} if force else {}
        for name in names:
            self.client.request("DELETE", f"{self.pods}/{name}", body=body)
        for event in self.events(since):
            if event["type"] == "DELETED":
                left.discard(event["object"]["metadata"]["name"])
            if not left:
                break
        return (time.time() - begin) * 1e3

    def executed_at(self, pod: dict[str, Any]) -> float:
        """Return when its container executed its command, by the supervisor's clock."""
        started: float = self._state(pod)["started_at"]
        return started

    def await_trap(self, pod: dict[str, Any]) -> None:
        """Return when its process handles SIGTERM: before, pid 1 of a pid namespace does not hear it."""
        path, bit = f"/proc/{self._state(pod)['pid']}/status", 1 << signal.SIGTERM - 1
        while True:
            with open(path, encoding="ascii") as f:
                caught = next(line.split()[1] for line in f if line.startswith("SigCgt:"))
            if int(caught, 16) & bit:
                return
            time.sleep(0.001)

    def _state(self, pod: dict[str, Any]) -> dict[str, Any]:
        path = f"/minipod/pods/{pod['metadata']['uid']}"
        (container,) = self.client.request("GET", path)["containers"]
        state = f"{self.instance.run_dir}/containers/{container['id']}/state.json"
        with open(state, encoding="utf-8") as f:
            found: dict[str, Any] = json.load(f)
        return found


@contextmanager
def fresh_node(name: str) -> Iterator[Node]:
    """Start a node of that name; take it away again."""
    node = Node(name)
    try:
        start_node(node.instance)
        yield node
    finally:
        reset_node(node.instance)


def manifest(name: str, command: list[str]) -> dict[str, Any]:
    """Return the pod that everyone is given."""
    container = {"name": "c", "image": IMAGE, "command": command}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [container]},
    }  # fmt: skip


def ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def pss(pids: list[int]) -> int:
    """Return the proportional set size of processes together, in bytes."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    return total << 10


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that ended."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return sum(int(n) for n in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def ms(action: Callable[[], Any]) -> float:
    """Return the milliseconds that *action* takes."""
    begin = time.perf_counter()
    action()
    return (time.perf_counter() - begin) * 1e3


def timed(command: list[str], **options: Any) -> float:
    """Run a command; return its milliseconds. Raises CalledProcessError with its stderr."""
    begin = time.perf_counter()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
    )
    took = (time.perf_counter() - begin) * 1e3
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}\n{done.stderr}")
    return took
