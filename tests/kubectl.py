"""The real kubectl, in every version that this machine has."""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
from typing import Any


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


class Kubectl:
    """One kubectl with one kubeconfig, and a home of its own for its caches."""

    def __init__(self, version: str, path: str, kubeconfig: str, home: str) -> None:
        self.version = tuple(int(n) for n in version.split("."))
        self.path = path
        self.kubeconfig = kubeconfig
        self.home = home
        self.env: dict[str, str] = {}  # more of the environment

    def run(
        self, *words: str, check: bool = True, text: str | None = None, timeout: float = 50.0
    ) -> subprocess.CompletedProcess[str]:
        """Run it; raise AssertionError with its output when it fails and *check*."""
        env = {
            "KUBECONFIG": self.kubeconfig,
            "HOME": self.home,
            "TMPDIR": self.home,  # what `kubectl edit` could not apply
            "PATH": os.environ["PATH"],
            **self.env,
        }
        done = subprocess.run(
            [self.path, *words],
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
