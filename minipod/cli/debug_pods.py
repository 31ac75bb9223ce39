"""What `minipod debug` makes: an ephemeral container, a copy of a pod, a pod on the node. Pure functions on objects.

Source of the rules: kubectl's debug (k8s.io/kubectl/pkg/cmd/debug): a copy has no labels and no probes, so that no Service finds it and
nothing restarts it; its profiles `general` (ptrace in a pod, all else as the pod is) and `sysadmin` (privileged).
"""

from __future__ import annotations

import copy as copying
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from minipod.errors import FailedPrecondition

Object = dict[str, Any]

ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"  # of generated names: no vowels, no words
PROFILES: Final = ("general", "sysadmin")
PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The flags of the command."""

    image: str
    container: str
    target: str
    copy_to: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    images: tuple[tuple[str, str], ...]  # of --set-image
    pull_policy: str
    profile: str
    share_processes: bool
    stdin: bool
    tty: bool


def wanted(flags: Mapping[str, Any], command: Sequence[str]) -> Wanted:
    """Read the flags. Raises FailedPrecondition for what does not go together."""
    found = Wanted(
        image=flags["image"],
        container=flags["container"],
        target=flags["target"],
        copy_to=flags["copy_to"],
        command=tuple(command),
        env=tuple(_pair("--env", text) for text in flags["env"]),
        images=tuple(_pair("--set-image", text) for text in flags["set_image"]),
        pull_policy=flags["image_pull_policy"],
        profile=flags["profile"],
        share_processes=flags["share_processes"],
        stdin=flags["stdin"],
        tty=flags["tty"],
    )
    if not found.copy_to and not found.image:
        raise FailedPrecondition("you must specify --image", hint="--image=busybox:1.36")
    if not found.copy_to and (found.images or flags["replace"]):
        raise FailedPrecondition("--set-image and --replace may only be used with --copy-to")
    if found.copy_to and found.target:
        raise FailedPrecondition(
            "--target is incompatible with --copy-to", hint="a copy shares all of its processes"
        )
    if found.tty and not found.stdin:
        raise FailedPrecondition("-i/--stdin is required for containers with -t/--tty=true")
    return found


def _pair(option: str, text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise FailedPrecondition(f"{option}: {text!r} is not NAME=VALUE")
    return name, value


def generated(prefix: str) -> str:
    """Return *prefix* and five letters by chance."""
    return f"{prefix}-{''.join(secrets.choice(ALPHABET) for _ in range(5))}"


def ephemeral(pod: Object, asked: Wanted) -> Object:
    """Return the ephemeral container. Raises FailedPrecondition when the target or the name does not fit the pod."""
    names = [c["name"] for c in pod["spec"]["containers"]]
    if asked.target and asked.target not in names:
        raise FailedPrecondition(
            f"container {asked.target} is not valid for pod {pod['metadata']['name']}",
            hint=f"its containers: {', '.join(names)}",
        )
    made = _container(asked, asked.container or generated("debugger"))
    if asked.target:
        made["targetContainerName"] = asked.target
    return made


def copy(pod: Object, asked: Wanted) -> tuple[Object, str]:
    """Return the copy, and the name of the container to attach to. Raises FailedPrecondition."""
    spec = copying.deepcopy(pod["spec"])
    for key in ("nodeName", "ephemeralContainers"):
        spec.pop(key, None)
    for container in (*spec["containers"], *spec.get("initContainers", [])):
        for probe in PROBES:
            container.pop(probe, None)
    if asked.share_processes:
        spec["shareProcessNamespace"] = True
    _set_images(spec, asked)
    name = asked.container
    existing = next((c for c in spec["containers"] if c["name"] == name), None)
    if existing is not None:
        _change(existing, asked)
    elif asked.image:
        name = name or generated("debugger")
        spec["containers"].append(_container(asked, name))
    elif asked.images and not name:
        name = spec["containers"][0]["name"]
    else:
        raise FailedPrecondition("you must specify an existing container or --image")
    metadata = {"name": asked.copy_to, "namespace": pod["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, name


def _set_images(spec: Object, asked: Wanted) -> None:
    images = dict(asked.images)
    listed = (*spec["containers"], *spec.get("initContainers", []))
    if unknown := images.keys() - {c["name"] for c in listed} - {"*"}:
        raise FailedPrecondition(f"--set-image: unable to find container {min(unknown)!r}")
    for container in listed:
        if image := images.get(container["name"], images.get("*")):
            container["image"] = image


def _change(container: Object, asked: Wanted) -> None:
    """Give a container of the copy what was asked for, over its own."""
    if asked.image:
        container["image"] = asked.image
    if asked.pull_policy:
        container["imagePullPolicy"] = asked.pull_policy
    if asked.command:
        container["command"] = list(asked.command)
        container.pop("args", None)
    changed = dict(asked.env)
    if changed:
        kept = [e for e in container.get("env", []) if e["name"] not in changed]
        container["env"] = kept + [{"name": n, "value": v} for n, v in asked.env]
    container["stdin"], container["tty"] = asked.stdin, asked.tty


def on_node(name: str, asked: Wanted) -> Object:
    """Return a pod in the namespaces of the node, its files at /host. `sysadmin` may change them."""
    container = _container(asked, asked.container or "debugger")
    if asked.profile == "general":
        container.pop("securityContext")  # the node's processes are other users'
    container["volumeMounts"] = [{"name": "host-root", "mountPath": "/host"}]
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": generated(f"node-debugger-{name}")},
        "spec": {
            "nodeName": name, "restartPolicy": "Never", "hostIPC": True, "hostNetwork": True, "hostPID": True,
            "tolerations": [{"operator": "Exists"}], "containers": [container],
            "volumes": [{"name": "host-root", "hostPath": {"path": "/"}}],
        },
    }  # fmt: skip


def _container(asked: Wanted, name: str) -> Object:
    made: Object = {
        "name": name, "image": asked.image, "stdin": asked.stdin, "tty": asked.tty,
        "terminationMessagePolicy": "File",
    }  # fmt: skip
    if asked.command:
        made["command"] = list(asked.command)
    if asked.env:
        made["env"] = [{"name": n, "value": v} for n, v in asked.env]
    if asked.pull_policy:
        made["imagePullPolicy"] = asked.pull_policy
    sysadmin = asked.profile == "sysadmin"
    made["securityContext"] = (
        {"privileged": True} if sysadmin else {"capabilities": {"add": ["SYS_PTRACE"]}}
    )
    return made
