"""The manifest directory: each file is one static pod, read again when it changes (inotify, no polling).

K8S pkg/kubelet/config/file_linux.go and common.go. A file that can't be read as a pod is told in the log and as an event of the
node, and stops no other. Files that begin with a dot, and directories, are no manifests. A directory that is removed or renamed while
it is watched holds no pods until there is one of its name again (as for the kubelet), which is looked for once a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable
from typing import Any

from minipod.api import defaults, static
from minipod.api.validation import validate_pod
from minipod.errors import InvalidSpec, MinipodError
from minipod.linux import inotify

logger = logging.getLogger(__name__)

_CHANGES = (
    inotify.IN_CLOSE_WRITE
    | inotify.IN_MOVED_TO
    | inotify.IN_MOVED_FROM
    | inotify.IN_DELETE
    | inotify.IN_DELETE_SELF
    | inotify.IN_MOVE_SELF
)
_RETRY = 1.0  # seconds until a directory that is gone is looked for again


class Manifests:
    """One directory. *changed* is called in the loop when to read it again."""

    def __init__(self, directory: str, node_name: str) -> None:
        self._directory = directory
        self._node_name = node_name
        self._fd = -1
        self._changed: Callable[[], None] = lambda: None

    def watch(self, changed: Callable[[], None]) -> None:
        """Begin; the directory is made when it is missing."""
        os.makedirs(self._directory, mode=0o755, exist_ok=True)
        self._fd = inotify.inotify_init()
        self._changed = changed

        def readable() -> None:
            inotify.drain(self._fd)
            changed()

        asyncio.get_running_loop().add_reader(self._fd, readable)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def read(self) -> tuple[list[dict[str, Any]], list[str]]:
        """(the static pods, what is wrong with which file). Before it is read, it is watched: no change falls in between."""
        pods: dict[tuple[str, str], dict[str, Any]] = {}
        errors = []
        try:
            if self._fd >= 0:
                inotify.inotify_add_watch(self._fd, self._directory, _CHANGES)
            names = sorted(os.listdir(self._directory))
        except OSError as error:
            asyncio.get_running_loop().call_later(_RETRY, self._changed)
            return [], [f"{self._directory}: {error.strerror}: no static pods until it is back"]
        for name in names:
            path = f"{self._directory}/{name}"
            if name.startswith(".") or not os.path.isfile(path):
                continue
            try:
                pod = self._parse(path)
                key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
                if key in pods:
                    raise InvalidSpec(f"pod {key[0]}/{key[1]} is in another file already")
                pods[key] = pod
            except RecursionError:
                errors.append(f"{path}: nested too deeply")
            except (OSError, MinipodError, ValueError) as error:
                words = error.message if isinstance(error, MinipodError) else str(error)
                errors.append(f"{path}: {words}")
        return list(pods.values()), errors

    def _parse(self, path: str) -> dict[str, Any]:
        import yaml  # only nodes with static pods need these

        from minipod.api.yaml_types import Loader, plain

        with open(path, "rb") as file:
            content = file.read()
        try:
            pod = plain(yaml.load(content, Loader))  # noqa: S506 a safe loader
        except yaml.YAMLError as error:
            raise InvalidSpec(" ".join(str(error).split())) from error
        if not isinstance(pod, dict):
            raise InvalidSpec("not a manifest of one pod")
        validate_pod(pod)
        if not pod["metadata"].get("name"):
            raise InvalidSpec(
                "Required value: a static pod is not named by the API", path="metadata.name"
            )
        pod = self._complete(pod, path, content)
        validate_pod(pod)  # again: its name has become longer
        return pod

    def _complete(self, pod: dict[str, Any], path: str, content: bytes) -> dict[str, Any]:
        """What the file leaves open: uid, name with the node's, namespace, defaults."""
        seed = f"host:{self._node_name}file:{path}".encode() + content
        uid = hashlib.md5(seed, usedforsecurity=False).hexdigest()
        metadata = pod["metadata"]
        metadata.update(
            name=f"{metadata['name']}-{self._node_name}",
            namespace=metadata.get("namespace") or "default",
            uid=uid,
        )
        metadata["annotations"] = {
            **(metadata.get("annotations") or {}),
            static.SOURCE: "file",
            static.HASH: uid,
        }
        defaults.apply(pod)
        pod["spec"]["nodeName"] = self._node_name
        pod["status"] = {}
        return pod
