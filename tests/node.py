"""A real node for tests, driven as a person would: by the command line, and looked at through /proc.

What every test does (make a pod, wait for it, delete it, ask for the node's status) calls the verbs' own functions: three starts of a
python for each test would be a third of the whole suite, and in an emulated machine each takes four seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from minipod import config
from minipod.cli.apply import apply_object
from minipod.cli.client import Client
from minipod.cli.delete import delete_all
from minipod.cli.wait import await_one
from minipod.daemon.node import node_status
from minipod.spec.instance import Instance

PATIENCE = float(os.environ.get("MINIPOD_TEST_PATIENCE", "1"))  # a factor for a slow machine
MINIPOD = f"{os.path.dirname(sys.executable)}/minipod"


# Of nodes that may run side by side: the kernel's tests', the API's, the CRI's, the little one that evicts.
KINDS = ("", "k", "c", "l")


def name_of_this_run() -> str:
    """Return a name for this process's node, which others follow by one of KINDS.

    A node's subnet and port derive from the checksum of its name (minipod/config.py). Two processes of one run never have the same.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 2
    for n in range(4096):
        name = f"t{os.getpid():x}{n:03x}x"
        rests = {zlib.crc32(f"{name}{kind}".encode()) % 8 for kind in KINDS}
        if len(rests) == len(KINDS) and all(rest // 4 == worker for rest in rests):
            return name
    raise AssertionError


class Node:
    """One instance of its own name; `pod` applies a manifest made of a few words."""

    def __init__(self, name: str) -> None:
        self.instance = config.load(name=name).instance
        self.client = Client(self.instance)
        self.command = [MINIPOD, "--instance", name]  # and a verb

    def run(
        self, *words: str, check: bool = True, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a verb; raise AssertionError with its output when it fails and *check*. Its --timeout is that of a quick machine."""
        if words[0] == "wait" and not any(w.startswith("--timeout=") for w in words):
            words = (*words, "--timeout=30s")
        patient = [re.sub(r"^--timeout=(\d+)s$", _patient, word) for word in words]
        done = subprocess.run(
            [*self.command, *patient],
            input=text, capture_output=True, text=True, check=False, timeout=100 * PATIENCE,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(
                f"minipod {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def status(self) -> dict[str, Any]:
        """Return what the daemon says of itself."""
        found = node_status(self.instance)
        assert found["running"]
        return found

    def is_up(self) -> bool:
        """Whether its daemon answers."""
        return bool(node_status(self.instance)["running"])

    def pod(
        self,
        name: str,
        *containers: dict[str, Any],
        wait: str = "condition=Ready",
        annotations: dict[str, str] | None = None,
        **spec: Any,
    ) -> dict[str, Any]:
        """Apply a pod and wait for it; return it."""
        listed = [{"image": "busybox:1.36", **c} for c in containers]
        manifest = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations or {}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": listed, **spec},
        }  # fmt: skip
        apply_object(self.client, manifest, "default")
        if wait:
            self.wait(name, wait)
        return self.get(name)

    def get(self, name: str) -> dict[str, Any]:
        return self.client.request("GET", f"/api/v1/namespaces/default/pods/{name}")

    def wait(self, pod: str, what: str, seconds: float = 60.0) -> None:
        """Wait as `minipod wait pod/POD --for=WHAT` does."""
        deadline = time.monotonic() + seconds * PATIENCE
        await_one(self.client, "pods", "default", pod, what, deadline)

    def delete(self, *names: str) -> None:
        """Delete pods by force; return when they are gone, as `minipod delete --force --grace-period=0` does."""
        targets = [("pods", "default", name) for name in names]
        delete_all(self.client, targets, 0, wait=True, ignore=True, quiet=True)

    def containers(self, pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return what the runtime knows: pid, cgroup, log of each container by name, the newest instance."""
        found = self.client.request("GET", f"/minipod/pods/{pod['metadata']['uid']}")["containers"]
        return {c["name"]: c for c in reversed(found)}

    def exec(self, pod: str, *command: str, container: str = "", check: bool = True) -> str:
        chosen = ("-c", container) if container else ()
        return self.run("exec", pod, *chosen, "--", *command, check=check).stdout

    def events(self, pod: str) -> list[tuple[str, str, str]]:
        """Return type, reason and message of a pod's events so far; the node writes them a moment after what they tell of."""
        found = self.client.request("GET", "/api/v1/namespaces/default/events")["items"]
        return [
            (e["type"], e["reason"], e["message"])
            for e in found
            if e["involvedObject"]["name"] == pod
        ]

    def await_event(self, pod: str, *, reason: str = "", words: str = "") -> str:
        """Wait for an event of that reason and with these words; return its message."""
        return eventually(
            lambda: next(
                (m for _, r, m in self.events(pod) if reason in ("", r) and words in m), None
            )
        )

    def log(self, pod: str, container: str = "") -> str:
        """Return what a container has said so far, without a process as `minipod logs` is one."""
        query = {"container": container} if container else {}
        path = f"/api/v1/namespaces/default/pods/{pod}/log"
        return self.client.open("GET", path, query=query).read().decode()

    def await_log(self, pod: str, *words: str, container: str = "") -> str:
        """Wait until a log has all these words; return it. That a container runs does not say how far its command is."""
        return eventually(lambda: _with(words, self.log(pod, container)))

    def state(self, pod: str, index: int = 0) -> dict[str, Any]:
        return self.get(pod)["status"]["containerStatuses"][index]["state"]


def prepared(instance: Instance) -> set[str]:
    """Return the ids of the sandboxes that wait for a pod, the one that is being made included."""
    found, directory = set(), f"{instance.run_dir}/sandboxes"
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        if name.endswith(".json"):
            with contextlib.suppress(FileNotFoundError), open(f"{directory}/{name}", "rb") as f:
                record = json.load(f)
                if not record["spec"]["metadata"]["uid"]:
                    found.add(record["id"])
    return found


def _patient(found: re.Match[str]) -> str:
    return f"--timeout={int(found[1]) * PATIENCE:g}s"


def _with(words: tuple[str, ...], text: str) -> str:
    return text if all(word in text for word in words) else ""


def started(name: str) -> contextlib.AbstractContextManager[Node]:
    """A node that runs, with the built-in images; gone afterwards."""
    return running(Node(name))


@contextlib.contextmanager
def running(node: Node) -> Iterator[Node]:
    """`started`, of one whose commands are another's."""
    try:
        node.run("image", "build")
        node.run("up")
        yield node
    finally:
        node.run("reset", "-y")


def sleeper(name: str = "app", **more: Any) -> dict[str, Any]:
    return {"name": name, "command": ["sleep", "1000"], **more}


def shell(script: str, name: str = "app", **more: Any) -> dict[str, Any]:
    return {"name": name, "command": ["sh", "-c", script], **more}


def python(script: str) -> tuple[dict, list]:
    """A container with this machine's Python in it, read-only, and its volumes."""
    places = [p for p in ("/usr", "/lib", "/lib64", sys.prefix) if os.path.isdir(p)]
    mounts = [{"name": f"v{i}", "mountPath": p, "readOnly": True} for i, p in enumerate(places)]
    volumes = [{"name": f"v{i}", "hostPath": {"path": p}} for i, p in enumerate(places)]
    command = [sys.executable, "-c", script]
    return {"name": "app", "command": command, "volumeMounts": mounts}, volumes


def eventually(holds: Callable[[], Any], seconds: float = 40.0) -> Any:
    """Ask until it holds, and return that; a machine may be loaded, so no test waits for a time instead."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not after {seconds * PATIENCE:g} s"
        time.sleep(0.01)
    return found
