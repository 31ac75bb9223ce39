"""The real kubectl, in every version that this machine has."""

from __future__ import annotations

import concurrent.futures
import copy
import functools
import glob
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from tests.node import sleeper


def binaries() -> dict[str, str]:
    """Return version -> path: those of MINIPOD_TEST_KUBECTL (paths with : between), else kubectl on PATH and its siblings kubectl.1.NN."""
    if listed := os.environ.get("MINIPOD_TEST_KUBECTL"):
        paths = listed.split(":")
    else:
        found = shutil.which("kubectl")
        if found is None:
            return {}
        siblings = sorted(glob.glob(f"{os.path.dirname(os.path.realpath(found))}/kubectl.1.[0-9]*"))
        paths = siblings or [found]
    return {_version(path): path for path in paths}


def _version(path: str) -> str:
    command = [path, "version", "--client", "-o", "json"]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    version = answer["clientVersion"]
    return f"{version['major']}.{version['minor'].rstrip('+')}"


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls that do not depend on each other at once; return what they return, in their order."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [f.result() for f in [pool.submit(call) for call in calls]]


class Kubectl:
    """One kubectl with one kubeconfig, and a home of its own for its caches."""

    def __init__(self, version: str, path: str, kubeconfig: str, home: str) -> None:
        self.version = tuple(int(n) for n in version.split("."))
        self.path = path
        self.kubeconfig = kubeconfig
        self.home = home
        self.namespace = ""  # where it works; "": default
        self.env: dict[str, str] = {}  # more of the environment

    def within(self, namespace: str) -> Kubectl:
        """Return the same kubectl for one namespace."""
        made = copy.copy(self)
        made.namespace, made.env = namespace, {}
        return made

    def words(self, *words: str) -> list[str]:
        """Return its command line."""
        place = ("-n", self.namespace) if self.namespace else ()
        return [self.path, "--kubeconfig", self.kubeconfig, *place, *words]

    def run(
        self, *words: str, check: bool = True, text: str | None = None, timeout: float = 50.0
    ) -> subprocess.CompletedProcess[str]:
        """Run it; raise AssertionError with its output when it fails and *check*."""
        env = {
            "HOME": self.home,
            "TMPDIR": self.home,  # what `kubectl edit` could not apply
            "PATH": os.environ["PATH"],
            **self.env,
        }
        done = subprocess.run(
            self.words(*words),
            input=text, capture_output=True, text=True, check=False, timeout=timeout, env=env,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(
                f"kubectl {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def __call__(self, *words: str, text: str | None = None) -> str:
        """Run it and return what it printed."""
        return self.run(*words, text=text).stdout

    def get(self, *words: str) -> Any:
        """Return the object that `kubectl get` prints."""
        return json.loads(self("get", *words, "-o", "json"))

    def fails(self, *words: str, text: str | None = None) -> str:
        """Run what must fail, and return what it printed on stderr."""
        done = self.run(*words, check=False, text=text)
        assert done.returncode, f"kubectl {' '.join(words)} did not fail: {done.stdout}"
        return done.stderr

    def as_user(self, kubeconfig: str) -> Kubectl:
        """Return the same kubectl with another kubeconfig."""
        return Kubectl(".".join(map(str, self.version)), self.path, kubeconfig, self.home)

    def each(self, lines: Iterable[str]) -> list[str]:
        """Run commands that do not depend on each other at once, a line of words each; return what they printed."""
        return together(*(functools.partial(self, *line.split()) for line in lines))


# -- manifests for it


def config_map(name: str, **data: str) -> str:
    labels = {"app": "web", "tier": name}
    return yaml.safe_dump(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}
    )  # fmt: skip


def pod(name: str, **more: object) -> str:
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [sleeper("app", image="busybox:1.36")],
        **more,
    }
    return yaml.safe_dump(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    )
